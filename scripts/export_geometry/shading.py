"""Where a fog has its surface: the share of the light from all sides that no longer reaches a point.

Models that know little of an object know it as fog, of whose density no level is a surface: what looks solid
is many thin layers behind each other. Light tells: by emission and absorption, as the renderer has it, a
share of it has ended before it gets to a point, and with light from everywhere that share is 0 in the open
and 1 within what is solid. Just before a solid, it is the share of directions in which walls stand: 0.5 at a
flat wall, 1 - theta / 360 degrees in the angle theta that two long walls leave open. So a level L is the wall
itself only where that angle is at least 360 (1 - L) degrees; narrower notches and deep hollows are filled.
Axes: n points of the lattice along x, y and z.
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
    """`num` points a side that fill the cube from -radius to radius round the origin, faces included."""

    radius: float  # scene units
    num: int

    @property
    def spacing(self) -> float:
        """Scene units from a point to the next."""
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
        """Values between the points of the lattice (trilinear); beyond its faces, those of the faces."""
        place = (points / self.radius).flip(-1)[None, None, None]
        found = F.grid_sample(values[None, None], place, align_corners=True, padding_mode="border")
        return found[0, 0, 0, 0]


def shade(
    density: Float[Tensor, "n n n"], lattice: Lattice, axes: Float[Tensor, "d 3"]
) -> Float[Tensor, "n n n"]:
    """Share, 0 to 1, of the light that has ended before it reaches each point: a mean over both directions
    along all `axes` (unit vectors).

    Density is per scene unit, and must be 0 outside the sphere that fits into the lattice.
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
    """A rotation that brings the z axis to `axis`."""
    spare = torch.eye(3).to(axis)[int(axis.abs().argmin())]
    right = torch.linalg.cross(axis, spare)
    right = right / right.norm()
    return torch.stack([right, torch.linalg.cross(axis, right), axis], dim=-1)
