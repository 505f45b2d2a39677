"""Directions evenly spread over the sphere, for whoever must look from all sides. z is up."""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from data.cameras import Cameras, orbit

GOLDEN_ANGLE_RAD = math.pi * (3 - math.sqrt(5))


def sphere_directions(num: int) -> Float[Tensor, "n 3"]:
    """Unit vectors that share the sphere in equal parts: the Fibonacci lattice, from the top downwards."""
    index = torch.arange(num, dtype=torch.float64)
    height = 1 - (2 * index + 1) / num
    across = (1 - height**2).sqrt()
    angle = GOLDEN_ANGLE_RAD * index
    return torch.stack([across * angle.cos(), across * angle.sin(), height], dim=-1).float()


def axes(num: int) -> Float[Tensor, "n 3"]:
    """Unit vectors of which no two are opposite, that together with their opposites share the sphere."""
    return sphere_directions(2 * num)[:num]


def cameras_all_round(like: Cameras, num: int) -> Cameras:
    """`num` cameras [1, n] that look at the origin from all sides, otherwise as the one camera `like`."""
    outward = sphere_directions(num).to(like.near)
    azimuth, elevation = torch.atan2(outward[:, 1], outward[:, 0]), torch.asin(outward[:, 2])
    poses = orbit(azimuth, elevation, float(like.positions.norm()))
    alike = like.apply(lambda tensor: tensor.expand(1, num, *tensor.shape))
    return Cameras(poses[None], alike.intrinsics, alike.near, alike.far)
