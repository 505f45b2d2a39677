"""Halves of the patches that must not see each other: which patch is in which, and how tokens are dealt out.

Axes: b scene, v view, l patch, row-major.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

# The six ways to choose two of the four quadrants (top left, top right, bottom left, bottom right).
PATTERNS = ((0, 0, 1, 1), (0, 1, 0, 1), (0, 1, 1, 0), (1, 0, 0, 1), (1, 0, 1, 0), (1, 1, 0, 0))


@dataclass(frozen=True)
class Halves:
    """Two halves of equally many patches in every scene; `ids` 0 or 1."""

    ids: Int[Tensor, "b l"]

    @property
    def order(self) -> Int[Tensor, "b l"]:
        """Patches of half 0, then those of half 1, each row-major."""
        return self.ids.argsort(dim=1, stable=True)

    def divide(self, tokens: Float[Tensor, "b v l c"]) -> Float[Tensor, "n v m c"]:
        """Each half as a sequence of its own: n = 2 b, m = l / 2."""
        order = self.order[:, None, :, None].expand(-1, tokens.shape[1], -1, tokens.shape[3])
        halves = tokens.gather(2, order).unflatten(2, (2, -1))
        return halves.transpose(1, 2).flatten(0, 1)

    def unite(self, tokens: Float[Tensor, "n v m c"]) -> Float[Tensor, "b v l c"]:
        """The inverse of `divide`."""
        tokens = tokens.unflatten(0, (-1, 2)).transpose(1, 2).flatten(2, 3)
        place = self.order.argsort(dim=1)[:, None, :, None]
        return tokens.gather(2, place.expand(-1, tokens.shape[1], -1, tokens.shape[3]))

    @property
    def inverse(self) -> "Halves":
        """The same with the halves exchanged."""
        return Halves(1 - self.ids)


def quadrant_halves(patterns: Int[Tensor, "b"], rows: int, columns: int) -> Halves:
    """Halves of a grid of patches, by numbers of `PATTERNS`. Rows and columns must be even."""
    if rows % 2 or columns % 2:
        raise ValueError(
            f"a picture of {rows} x {columns} patches has no equal quadrants; choose data.image_size as an "
            "even multiple of model.network.patch"
        )
    quadrants = torch.tensor(PATTERNS, device=patterns.device)[patterns].unflatten(1, (2, 2))
    grid = quadrants.repeat_interleave(rows // 2, dim=1).repeat_interleave(columns // 2, dim=2)
    return Halves(grid.flatten(1))


def grid_places(rows: int, columns: int, device: torch.device) -> Int[Tensor, "l 2"]:
    """(row, column) of patches, row-major."""
    axes = (torch.arange(rows, device=device), torch.arange(columns, device=device))
    return torch.stack(torch.meshgrid(*axes, indexing="ij"), dim=-1).flatten(0, 1)


def patchify(images: Float[Tensor, "b v 3 h w"], patch: int) -> Float[Tensor, "b v l k"]:
    """Patches in row-major order, each by row, column and colour."""
    height, width = images.shape[-2:]
    if height % patch or width % patch:
        raise ValueError(
            f"pictures of {height} x {width} cannot be cut into patches of {patch}; use multiples of it"
        )
    cut = images.unflatten(-1, (-1, patch)).unflatten(-3, (-1, patch))  # b v 3 rows p columns p
    return cut.permute(0, 1, 3, 5, 4, 6, 2).flatten(4).flatten(2, 3)


def unpatchify(patches: Float[Tensor, "b l k"], rows: int, columns: int) -> Float[Tensor, "b 3 h w"]:
    """The inverse of `patchify`, of one view."""
    patch = round((patches.shape[-1] // 3) ** 0.5)
    cut = patches.unflatten(1, (rows, columns)).unflatten(-1, (patch, patch, 3))
    return cut.permute(0, 5, 1, 3, 2, 4).flatten(4, 5).flatten(2, 3)
