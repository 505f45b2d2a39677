"""Camera-to-world poses: look-at, orbits, spirals and the SRN test path."""

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from data.cameras.pinhole import Cameras

SRN_RADIUS = 1.3  # scene units, camera distance of the SRN cars


def look_at(
    eye: Float[Tensor, "*batch 3"], target: Float[Tensor, "*batch 3"], up: Sequence[float] = (0.0, 0.0, 1.0)
) -> Float[Tensor, "*batch 4 4"]:
    """Return the camera-to-world pose at `eye` that looks at `target`, with `up` pointing up in the image.

    If the view direction is parallel to `up`, the image's right is the world's y axis, or z if `up` is y.
    Raises ValueError if eye and target coincide.
    """
    forward = target - eye
    length = forward.norm(dim=-1, keepdim=True)
    if bool((length == 0).any()):
        raise ValueError("look_at: eye and target coincide, so the camera has no direction; move one of them")
    forward = forward / length
    upward = eye.new_tensor(list(up)) / math.hypot(*up)
    right = torch.linalg.cross(forward, upward.expand_as(forward))
    # Fallback axis at the poles: not parallel to `up`, made perpendicular to the view direction.
    spare = eye.new_tensor([0.0, 0.0, 1.0] if abs(upward[1]) > 0.8 else [0.0, 1.0, 0.0])
    spare = spare - (spare * forward).sum(dim=-1, keepdim=True) * forward
    right = torch.where(right.norm(dim=-1, keepdim=True) < 1e-6, spare, right)
    right = right / right.norm(dim=-1, keepdim=True)
    return _pose(right, torch.linalg.cross(forward, right), forward, eye)


def orbit(
    azimuth_rad: Float[Tensor, "*batch"], elevation_rad: Float[Tensor, "*batch"], radius: float = SRN_RADIUS
) -> Float[Tensor, "*batch 4 4"]:
    """Return poses on a sphere, looking at the origin; azimuth from x towards y, elevation from the ground.

    The roll follows the azimuth, so the poles are not singular.
    """
    cos_a, sin_a, cos_e, sin_e = (
        azimuth_rad.cos(),
        azimuth_rad.sin(),
        elevation_rad.cos(),
        elevation_rad.sin(),
    )
    outward = torch.stack([cos_e * cos_a, cos_e * sin_a, sin_e], dim=-1)
    right = torch.stack([-sin_a, cos_a, torch.zeros_like(sin_a)], dim=-1)
    return _pose(right, torch.linalg.cross(-outward, right), -outward, radius * outward)


def srn_test_path(num: int = 251, radius: float = SRN_RADIUS) -> Float[Tensor, "n 4 4"]:
    """Return the SRN test spiral: view i = 0..250 at elevation 0.36 i deg and azimuth 20 - 0.08 i rad.

    View 64 is the usual input view. For other `num` the same curve is sampled evenly.
    """
    index = torch.linspace(0, 250, num, dtype=torch.float64)
    return orbit(20 - 0.08 * index, torch.deg2rad(0.36 * index), radius).float()


def spiral(num: int = 40, radius: float = SRN_RADIUS) -> Float[Tensor, "n 4 4"]:
    """Return a spiral of two turns, with elevation from -10 towards 60 degrees (end excluded)."""
    turn = torch.linspace(0, 4 * math.pi, num + 1, dtype=torch.float64)[:-1]
    elevation = torch.linspace(-10, 60, num + 1, dtype=torch.float64)[:-1]
    return orbit(math.pi / 2 - turn, torch.deg2rad(elevation), radius).float()


def turntable(
    num: int = 40, elevation_deg: float = 20.0, radius: float = SRN_RADIUS
) -> Float[Tensor, "n 4 4"]:
    """Return one turn at constant elevation (end excluded)."""
    azimuth = torch.linspace(0, 2 * math.pi, num + 1, dtype=torch.float64)[:-1]
    return orbit(azimuth, torch.full_like(azimuth, math.radians(elevation_deg)), radius).float()


def circle(cam_to_world: Float[Tensor, "4 4"], num: int = 40) -> Float[Tensor, "n 4 4"]:
    """Rotate a pose once around the world's z axis; the first is the pose itself (end excluded)."""
    angle = torch.linspace(0, 2 * math.pi, num + 1, dtype=torch.float64)[:-1]
    turn = torch.eye(4, dtype=torch.float64).repeat(num, 1, 1)
    turn[:, 0, 0] = turn[:, 1, 1] = angle.cos()
    turn[:, 1, 0], turn[:, 0, 1] = angle.sin(), -angle.sin()
    return (turn @ cam_to_world.double()).to(cam_to_world)


def _pose(right: Tensor, down: Tensor, forward: Tensor, position: Tensor) -> Tensor:
    columns = torch.stack([right, down, forward, position], dim=-1)
    bottom = position.new_tensor([0.0, 0.0, 0.0, 1.0]).expand(*position.shape[:-1], 1, 4)
    return torch.cat([columns, bottom], dim=-2)


GOLDEN_ANGLE_RAD = math.pi * (3 - math.sqrt(5))


def sphere_directions(num: int) -> Float[Tensor, "n 3"]:
    """Return unit vectors evenly spread over the sphere: the Fibonacci lattice, from the top down."""
    index = torch.arange(num, dtype=torch.float64)
    height = 1 - (2 * index + 1) / num
    across = (1 - height**2).sqrt()
    angle = GOLDEN_ANGLE_RAD * index
    return torch.stack([across * angle.cos(), across * angle.sin(), height], dim=-1).float()


def axes(num: int) -> Float[Tensor, "n 3"]:
    """Return unit vectors that, together with their opposites, evenly cover the sphere."""
    return sphere_directions(2 * num)[:num]


def cameras_all_round(like: Cameras, num: int) -> Cameras:
    """Return `num` cameras [1, n] that look at the origin from all sides, otherwise like `like`."""
    outward = sphere_directions(num).to(like.near)
    azimuth, elevation = torch.atan2(outward[:, 1], outward[:, 0]), torch.asin(outward[:, 2])
    poses = orbit(azimuth, elevation, float(like.positions.norm()))
    alike = like.apply(lambda tensor: tensor.expand(1, num, *tensor.shape))
    return Cameras(poses[None], alike.intrinsics, alike.near, alike.far)
