"""A world for cameras that come without one: where the object is, which way is up, how long a unit is.

Structure from motion knows a scene up to a similarity. The rule here decides it from the cameras alone:

* the origin is the point nearest to all optical axes, in least squares;
* z is the mean of the directions that are up in the pictures;
* x is what is right in the first picture, made level;
* the cameras are 1.3 units from the origin on the mean, like those of the SRN cars.

So a world that was moved, turned or scaled before gives the same cameras.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from data.cameras.pinhole import seen_radius
from data.cameras.poses import SRN_RADIUS

PARALLEL = 1e-4  # smallest eigenvalue, per camera, below which axes do not meet anywhere
OFF_CENTRE = 0.5  # of the seen radius, by which axes may miss an object on the mean


def normalise_world(
    cam_to_world: Float[Tensor, "n 4 4"],
    name: str,
    *,
    distance: float = SRN_RADIUS,
    up: Float[Tensor, "3"] | None = None,
) -> Float[Tensor, "n 4 4"]:
    """The same cameras in the world of the module's rule, at a mean `distance`; `up` where that is known.

    Raises ValueError, beginning with `name`, if the cameras do not determine it.
    """
    poses = cam_to_world.double()
    right = poses[0, :3, 0]
    up = -poses[:, :3, 1].mean(dim=0) if up is None else up.to(poses)
    level = right - (right @ up) / (up @ up).clamp_min(1e-12) * up
    if up.norm() < 0.1 or level.norm() < 0.1:
        raise ValueError(
            f"{name}: the pictures do not agree about what is up, or the first lies on its side; turn them "
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
    """The point with the least sum of squared distances to the optical axes.

    Raises ValueError, beginning with `name`, if the axes are parallel, so that there is none.
    """
    across = _across(cam_to_world)
    total = across.sum(dim=0)
    if torch.linalg.eigvalsh(total)[0] < PARALLEL * len(cam_to_world):
        raise ValueError(
            f"{name}: the cameras look in parallel, so that nothing tells where the object is; add views "
            "from other sides"
        )
    return torch.linalg.solve(total, (across @ cam_to_world[:, :3, 3:])[..., 0].sum(dim=0))


def looks_at_origin(cam_to_world: Float[Tensor, "n 4 4"], intrinsics: Float[Tensor, "n 3 3"]) -> bool:
    """Whether cameras look at an object at the world's origin, give or take half of what they see of it."""
    beside = (_across(cam_to_world) @ cam_to_world[:, :3, 3:])[..., 0].norm(dim=-1)
    ahead = -(cam_to_world[:, :3, 2] * cam_to_world[:, :3, 3]).sum(dim=-1) > 0
    return bool(ahead.all() and beside.mean() <= OFF_CENTRE * seen_radius(cam_to_world, intrinsics).mean())


def _across(cam_to_world: Float[Tensor, "n 4 4"]) -> Float[Tensor, "n 3 3"]:
    """Projections onto the planes that the optical axes are perpendicular to."""
    axis = cam_to_world[:, :3, 2]
    return torch.eye(3).to(axis) - axis[:, :, None] * axis[:, None, :]
