"""Normalise camera poses from structure from motion: origin, up direction and scale.

Structure from motion recovers a scene up to a similarity, which is fixed here from the cameras alone:

* the origin is the point closest to all optical axes (least squares);
* z is the mean up direction of the images;
* x is the right axis of the first camera, projected onto the ground plane;
* the mean distance of the cameras from the origin is 1.3 units, as for the SRN cars.

The result does not depend on the similarity of the input.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from data.cameras.pinhole import seen_radius
from data.cameras.poses import SRN_RADIUS

PARALLEL = 1e-4  # smallest eigenvalue, per camera, below which the axes are considered parallel
OFF_CENTRE = 0.5  # mean distance of the axes from the object, as a fraction of the visible radius


def normalise_world(
    cam_to_world: Float[Tensor, "n 4 4"],
    name: str,
    *,
    distance: float = SRN_RADIUS,
    up: Float[Tensor, "3"] | None = None,
) -> Float[Tensor, "n 4 4"]:
    """Return the cameras in the normalised world, at a mean `distance`; `up` if the up direction is known.

    Raises ValueError, starting with `name`, if the cameras do not determine that world.
    """
    poses = cam_to_world.double()
    right = poses[0, :3, 0]
    up = -poses[:, :3, 1].mean(dim=0) if up is None else up.to(poses)
    level = right - (right @ up) / (up @ up).clamp_min(1e-12) * up
    if up.norm() < 0.1 or level.norm() < 0.1:
        raise ValueError(
            f"{name}: the images do not agree on an up direction, or the first lies on its side; turn them "
            "upright and reconstruct again"
        )
    z, x = up / up.norm(), level / level.norm()
    to_world = torch.stack([x, torch.linalg.cross(z, x), z])
    positions = poses[:, :3, 3] - focus(poses, name)
    scale = distance / positions.norm(dim=-1).mean()
    normalised = poses.clone()
    normalised[:, :3, :3] = to_world @ poses[:, :3, :3]
    normalised[:, :3, 3] = scale * positions @ to_world.T
    return normalised.to(cam_to_world)


def focus(cam_to_world: Float[Tensor, "n 4 4"], name: str) -> Float[Tensor, "3"]:
    """Return the point with the least sum of squared distances to the optical axes.

    Raises ValueError, starting with `name`, if the axes are parallel.
    """
    across = _across(cam_to_world)
    total = across.sum(dim=0)
    if torch.linalg.eigvalsh(total)[0] < PARALLEL * len(cam_to_world):
        raise ValueError(
            f"{name}: the cameras are parallel, so the position of the object is unknown; add views "
            "from other sides"
        )
    return torch.linalg.solve(total, (across @ cam_to_world[:, :3, 3:])[..., 0].sum(dim=0))


def looks_at_origin(cam_to_world: Float[Tensor, "n 4 4"], intrinsics: Float[Tensor, "n 3 3"]) -> bool:
    """Whether the cameras look at an object at the world origin, within half of the radius they see."""
    beside = (_across(cam_to_world) @ cam_to_world[:, :3, 3:])[..., 0].norm(dim=-1)
    ahead = -(cam_to_world[:, :3, 2] * cam_to_world[:, :3, 3]).sum(dim=-1) > 0
    return bool(ahead.all() and beside.mean() <= OFF_CENTRE * seen_radius(cam_to_world, intrinsics).mean())


def _across(cam_to_world: Float[Tensor, "n 4 4"]) -> Float[Tensor, "n 3 3"]:
    """Return the projections onto the planes perpendicular to the optical axes."""
    axis = cam_to_world[:, :3, 2]
    return torch.eye(3).to(axis) - axis[:, :, None] * axis[:, None, :]
