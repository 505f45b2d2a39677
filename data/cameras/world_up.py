"""Estimate the up direction of a world from its cameras.

Cameras are usually held level, so their right axes are perpendicular to up. Up is therefore the direction
perpendicular to all right axes, with the sign of the images' up. It is determined if there are enough views
and only one direction fits; a direction close to a world axis is snapped to that axis.
"""

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

LEVEL = 0.15  # RMS component of right axes along up; below, hand-held cameras count as level
EXACTLY_LEVEL = 0.05  # the same, for an up direction that is not a world axis
CLEAR = 2.0  # factor by which any other direction must fit worse
MARKED = 0.3  # least mean component of the cameras' up axes along up
ROLLED = 0.3  # RMS component of right axes along z above which z is not up
NUM_VIEWS = 3  # with fewer views a direction may fit by chance
AXES = {"x": 0, "y": 1, "z": 2}


def find_up(cam_to_world: Float[Tensor, "n 4 4"]) -> Float[Tensor, "3"] | None:
    """Return the up direction (unit vector) of a world from OpenCV cameras, or None if undetermined.

    If the cameras are level about z and another axis, it is z.
    """
    right, up = cam_to_world[:, :3, 0].double(), -cam_to_world[:, :3, 1].double().mean(dim=0)
    tilt = right.square().mean(dim=0).sqrt()
    if len(right) < NUM_VIEWS or not cam_to_world.isfinite().all():
        return None
    if tilt[2] <= LEVEL:
        downwards = up[2] < -MARKED
        return _axis(2, -1.0 if downwards else 1.0)
    best = int(tilt[:2].argmin())
    if tilt[best] <= LEVEL and tilt[2] >= CLEAR * tilt[best] and abs(up[best]) >= MARKED:
        return _axis(best, math.copysign(1.0, up[best]))
    squares, directions = torch.linalg.eigh(right.T @ right / len(right))
    level = directions[:, 0] * torch.sign(directions[:, 0] @ up)
    clear = squares[0] <= EXACTLY_LEVEL**2 and squares[1] >= ROLLED**2
    return level if clear and level @ up >= MARKED else None


def is_z_up(cam_to_world: Float[Tensor, "n 4 4"]) -> bool:
    """Whether cameras are consistent with a world whose z axis is up."""
    up = find_up(cam_to_world)
    if up is not None:
        return bool(up[2] > 0.99)
    if not cam_to_world.isfinite().all():
        return True
    rolled = cam_to_world[:, 2, 0].square().mean().sqrt() >= ROLLED
    return not rolled and bool(-cam_to_world[:, 2, 1].mean() > -MARKED)


def turn_upright(cam_to_world: Float[Tensor, "n 4 4"], up: Float[Tensor, "3"]) -> Float[Tensor, "n 4 4"]:
    """Rotate the world by the smallest angle that maps the unit vector `up` to z."""
    x, y, z = up.double().tolist()
    if z < -1 + 1e-9:  # half a turn, about x
        turn = torch.diag(torch.tensor([1.0, -1.0, -1.0]))
    else:
        share = 1 / (1 + z)
        turn = torch.tensor(
            [[1 - share * x * x, -share * x * y, -x], [-share * x * y, 1 - share * y * y, -y], [x, y, z]]
        )
    turned = cam_to_world.clone()
    turned[:, :3] = turn.to(cam_to_world) @ cam_to_world[:, :3]
    return turned


def name_of(up: Sequence[float] | Float[Tensor, "3"]) -> str:
    """Name a direction: an axis, such as -y, or its three components."""
    values = [float(value) for value in up]
    for name, place in AXES.items():
        if abs(values[place]) > 0.9999:
            return name if values[place] > 0 else f"-{name}"
    return "({})".format(", ".join(f"{value:.2f}" for value in values))


def _axis(place: int, sign: float) -> Float[Tensor, "3"]:
    axis = torch.zeros(3, dtype=torch.float64)
    axis[place] = sign
    return axis
