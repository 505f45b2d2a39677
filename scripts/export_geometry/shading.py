"""The occluded share of the light from all sides, whose level sets give fog a surface.

The volumes of undertrained models are fog: no level set of the density is a surface, because what looks solid
consists of many thin layers. With light from all sides, absorbed as in the renderer, the share that is
occluded before it reaches a point is 0 in free space and 1 inside solids. Just outside a solid, it is the
share of directions that hit a wall: 0.5 at a flat wall, and 1 - theta / 360 degrees between two long walls
with an opening of theta. So a level L follows the walls only where the opening is at least 360 (1 - L)
degrees; narrower notches and deep hollows are filled. Axes: n points of the grid along x, y and z.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

CHUNK = 2**17  # points that are resampled at the same time


@dataclass(frozen=True)
class Lattice:
    """A grid of `num` points per side over the cube from -radius to radius, including its faces."""

    radius: float  # scene units
    num: int

    @property
    def spacing(self) -> float:
        """The grid step in scene units."""
        return 2 * self.radius / (self.num - 1)

    def points(self, device: torch.device, chunk: int) -> Iterator[Float[Tensor, "m 3"]]:
        """All points, at most `chunk` at a time, in the order of a tensor with axes x, y, z."""
        for start in range(0, self.num**3, chunk):
            index = torch.arange(start, min(start + chunk, self.num**3), device=device)
            place = torch.stack(
                [index // self.num**2, index // self.num % self.num, index % self.num], dim=-1
            )
            yield place * self.spacing - self.radius

    def at(self, values: Float[Tensor, "n n n"], points: Float[Tensor, "m 3"]) -> Float[Tensor, "m"]:
        """Interpolate values trilinearly; points outside the grid get the values at its faces."""
        place = (points / self.radius).flip(-1)[None, None, None]
        found = F.grid_sample(values[None, None], place, align_corners=True, padding_mode="border")
        return found[0, 0, 0, 0]


def occlusion(
    density: Float[Tensor, "n n n"], lattice: Lattice, axes: Float[Tensor, "d 3"]
) -> Float[Tensor, "n n n"]:
    """Share, 0 to 1, of the light that is occluded at each point: a mean over both directions along all
    `axes` (unit vectors).

    Density is per scene unit, and must be 0 outside the sphere inscribed in the grid.
    """
    total = torch.zeros_like(density).flatten()
    for axis in axes:
        rotation = _turn_to(axis)
        turned = torch.cat(
            [lattice.at(density, points @ rotation.T) for points in lattice.points(density.device, CHUNK)]
        ).unflatten(0, density.shape)
        before = (turned.cumsum(dim=2) - turned / 2) * lattice.spacing  # optical thickness
        behind = turned.sum(dim=2, keepdim=True) * lattice.spacing - before
        ended = (-torch.expm1(-before) - torch.expm1(-behind)) / 2
        total += torch.cat(
            [lattice.at(ended, points @ rotation) for points in lattice.points(density.device, CHUNK)]
        )
    return (total / len(axes)).unflatten(0, density.shape)


def _turn_to(axis: Float[Tensor, "3"]) -> Float[Tensor, "3 3"]:
    """A rotation from the z axis to `axis`."""
    spare = torch.eye(3).to(axis)[int(axis.abs().argmin())]
    right = torch.linalg.cross(axis, spare)
    right = right / right.norm()
    return torch.stack([right, torch.linalg.cross(axis, right), axis], dim=-1)
