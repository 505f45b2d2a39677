"""Reprojection error between neighbouring views of a sequence, as a measure of flicker.

The pixels of one view are unprojected by its depth and projected into the other view; colours are compared
where both views see the same surface. Blurred views have a low error, so the figure measures consistency, not
quality. Axes: h, w; n pixel on the surface.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from data.cameras.pinhole import Cameras, pixel_centres

SAME_DEPTH = 0.03  # relative difference of depth up to which two views see the same surface
LEVELS = 127.5  # 8-bit levels per unit of an image in [-1, 1]


@dataclass(frozen=True)
class SeenView:
    """A view with its depth and camera."""

    image: Float[Tensor, "3 h w"]  # RGB in [-1, 1]
    depth: Float[Tensor, "h w"]  # scene units along the optical axis; 0 where there is no surface
    camera: Cameras  # without batch axes


@dataclass(frozen=True)
class Agreement:
    """The result of a comparison; results add up."""

    squared_error: float = 0.0  # sum over pixels of the mean over colours, in squared 8-bit levels
    num_compared: int = 0  # pixels whose surface is visible in both views
    num_surface: int = 0  # pixels that show a surface

    def __add__(self, other: "Agreement") -> "Agreement":
        return Agreement(
            self.squared_error + other.squared_error,
            self.num_compared + other.num_compared,
            self.num_surface + other.num_surface,
        )

    @property
    def error(self) -> float:
        """Root mean square difference in 8-bit levels; nan if nothing could be compared."""
        return math.sqrt(self.squared_error / self.num_compared) if self.num_compared else math.nan

    @property
    def psnr(self) -> float:
        """The same in dB; nan if nothing could be compared."""
        error = self.error
        return -20 * math.log10(max(error, 1e-3) / 255) if math.isfinite(error) else math.nan

    @property
    def share(self) -> float:
        """The share of the surface pixels that could be compared."""
        return self.num_compared / max(1, self.num_surface)


def sequence_agreement(views: Iterable[SeenView]) -> Agreement:
    """Compare each view with the next, in both directions."""
    return sum((pair_agreement(*pair) for pair in pairwise(views)), Agreement())


def pair_agreement(first: SeenView, second: SeenView) -> Agreement:
    """Compare two views in both directions; symmetric."""
    return _one_way(first, second) + _one_way(second, first)


def detail(view: SeenView) -> float:
    """Root mean square difference of neighbouring surface pixels in 8-bit levels; nan without a surface.

    Views that are consistent because they are blurred have little detail.
    """
    shown = view.depth > 0
    squares = []
    for axis in (0, 1):
        both = shown.narrow(axis, 1, shown.shape[axis] - 1) & shown.narrow(axis, 0, shown.shape[axis] - 1)
        squares.append((LEVELS * view.image.diff(dim=axis + 1)).square().mean(dim=0)[both])
    return torch.cat(squares).mean().sqrt().item()


def _one_way(here: SeenView, there: SeenView) -> Agreement:
    """Compare the surface pixels of `here` with their projections in `there`."""
    height, width = here.depth.shape
    shown = (here.depth > 0).flatten()
    places = pixel_centres(height, width, device=here.depth.device)[shown]
    points = here.camera.unproject(torch.cat([places, here.depth.flatten()[shown][:, None]], dim=1))
    projected = there.camera.project(points)
    depth = projected[:, 2]
    found, seen = _look_up(there, projected[:, :2])
    same = seen & ((depth / found[:, 3] - 1).abs() < SAME_DEPTH)
    difference = (found[:, :3] - here.image.flatten(1).T[shown])[same] * LEVELS
    squared = difference.double().square().mean(dim=1).sum().item()
    return Agreement(squared, int(same.sum()), int(shown.sum()))


def _look_up(view: SeenView, places: Float[Tensor, "n 2"]) -> tuple[Float[Tensor, "n 4"], Bool[Tensor, "n"]]:
    """Colour and depth at (u, v), and whether all neighbouring pixels show a surface."""
    # Inverse depth is linear in the image of a plane.
    surface = view.depth > 0
    inverse = torch.where(surface, 1 / view.depth.clamp_min(1e-9), 0.0)
    maps = torch.cat([view.image, inverse[None], surface[None].to(view.image)])
    found = F.grid_sample(
        maps[None], (2 * places - 1)[None, None], mode="bilinear", padding_mode="zeros", align_corners=False
    )[0, :, 0].T
    seen = (found[:, 4] > 1 - 1e-4) & (found[:, 3] > 0)
    return torch.cat([found[:, :3], 1 / found[:, 3:4].clamp_min(1e-9)], dim=1), seen
