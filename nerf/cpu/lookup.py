"""Trilinear lookup in the volumes of one scene, optimised for the CPU: one pass over memory.

Features of a grid point are contiguous, so that a corner is one or two cache lines. Same results as
`FrustumVolume.look_up`. Axes: s source view, r ray, n sample, k sample (of all rays), c feature, d depth
plane, h, w; v grid points of all sources, p lookups, e corners of a lookup.
"""

import math
from dataclasses import dataclass
from itertools import product
from operator import mul
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from data.cameras.pinhole import Cameras, Rays
from nerf.cpu.threads import in_parallel
from nerf.volume import SMALLEST_DEPTH, FrustumVolume

STRIP = 16384  # grid points transposed to rows at a time
SCATTERED = 2**19  # gradient contributions materialised at a time


def in_rows(features: Float[Tensor, "b s c d h w"]) -> bool:
    """Whether features are contiguous per point, and all other strides are multiples of that row size, in any
    order and with or without gaps.
    """
    channels = features.shape[2]
    if channels > 1 and features.stride(2) != 1:
        return False
    beyond = channels  # smallest stride of the next axis
    for stride, num in sorted((features.stride(axis), features.shape[axis]) for axis in (0, 1, 3, 4, 5)):
        if num > 1 and (stride % channels or stride < beyond):
            return False
        beyond = max(beyond, stride * num)
    return True


def zeros_in_rows(like: Float[Tensor, "b s c d h w"]) -> Float[Tensor, "b s c d h w"]:
    """Return zeros with the memory layout of `like` if that is in rows, else channels last."""
    if in_rows(like):
        return like.new_zeros(_span(like)).as_strided(like.shape, like.stride())
    return torch.zeros_like(like.movedim(2, -1), memory_format=torch.contiguous_format).movedim(-1, 2)


def as_rows(features: Float[Tensor, "s c d h w"]) -> Float[Tensor, "v c"]:
    """View the memory of a scene's volumes as rows, including any gaps."""
    channels = features.shape[1]
    return features.as_strided((_span(features) // channels, channels), (channels, 1))


def _span(features: Tensor) -> int:
    """Return the memory span of `features` [..., c, d, h, w] in elements, in whole rows."""
    axes = [axis for axis in range(features.dim()) if axis != features.dim() - 4]
    return features.shape[-4] + sum((features.shape[axis] - 1) * features.stride(axis) for axis in axes)


@dataclass(frozen=True)
class Corners:
    """Weighted sums over rows of a feature table, one sum per lookup."""

    row: Int[Tensor, "p e"]
    weight: Float[Tensor, "p e"]

    def gather(self, table: Float[Tensor, "v c"]) -> Float[Tensor, "p c"]:
        """The sums."""
        return F.embedding_bag(self.row, table, per_sample_weights=self.weight, mode="sum")

    def scatter(self, gradient: Float[Tensor, "p c"], table: Float[Tensor, "v c"]) -> None:
        """Backward pass: add the rows' gradients to `table`, in place."""
        channels = gradient.shape[1]
        step = max(1, SCATTERED // (self.row.shape[1] * channels))
        parts = (tensor.split(step) for tensor in (self.row, self.weight, gradient))
        for row, weight, part in zip(*parts, strict=True):
            each = (part[:, None] * weight[..., None]).flatten(0, 1)
            table.scatter_add_(0, row.long().flatten()[:, None].expand(-1, channels), each)


@dataclass(frozen=True)
class Places:
    """Samples inside the frustum of a source, in volume coordinates."""

    index: Int[Tensor, "k"] | None  # among all samples; None for all
    share: Float[Tensor, "s k"]  # weight of each source for a sample; sums to 1
    at: Float[Tensor, "3 s k"]  # (x, y, z), 0 to 1 across the frustum


class Sources:
    """The volumes of one scene, and `rays` in source camera coordinates, prepared for lookups."""

    def __init__(self, volume: FrustumVolume, scene: int, rays: Rays):
        # Drop padding; in a scene without sources keep the first, with weight 0.
        self.chosen = volume.valid[scene].nonzero()[:, 0] if volume.valid[scene].any() else torch.tensor([0])
        cameras: Cameras = volume.cameras[scene][self.chosen]
        self.size, self.valid = volume.features.shape[3:], volume.valid[scene][self.chosen]

        # Rays in the frusta of the sources.
        # Homogeneous image coordinates and depth are linear in the distance along a ray.
        plane = cameras.intrinsics[:, :2, :2].transpose(-1, -2)
        rotation = cameras.cam_to_world[:, :3, :3]
        ends = (rays.origins - cameras.positions[:, None]) @ rotation, rays.directions @ rotation
        self._start, self._slope = (
            torch.cat([end[..., :2] @ plane, end[..., 2:]], dim=-1).movedim(-1, 0)[..., None] for end in ends
        )  # [3 s r 1]
        self._centre = cameras.intrinsics[:, :2, 2].t()[..., None, None]
        self._per_depth = (cameras.far - cameras.near).reciprocal()[:, None, None]
        self._at_zero = -cameras.near[:, None, None] * self._per_depth

        # From frustum coordinates to texels.
        # 0 and 1 are the outer edges of the pixels, but the centres of the outermost planes.
        texels = torch.tensor([not volume.align_corners] * 2 + [False])[:, None, None]
        count = torch.tensor(self.size[::-1], dtype=rays.near.dtype)[:, None, None]
        self._last, self._last_cell = count - 1, (count - 2).clamp_min(0)
        self._scale = torch.where(texels, count, count - 1)
        self._offset = torch.where(texels, -0.5, 0.0).to(count)

        # Strides of the volume in memory.
        # Rows from one grid point to the next; 0 along an axis of size 1.
        self._in_rows = in_rows(volume.features)
        _, num_sources, channels, *size = volume.features.shape
        if self._in_rows:
            between = [volume.features.stride(axis) // channels for axis in (1, 3, 4, 5)]
        else:
            between = [math.prod(size[axis:]) for axis in range(4)]
        source, *axes = (step * (num > 1) for step, num in zip(between, (num_sources, *size), strict=True))
        corners = [sum(map(mul, axes, corner)) for corner in product((0, 1), repeat=3)]
        num_rows = 1 + sum(
            (num - 1) * step for num, step in zip((num_sources, *size), (source, *axes), strict=True)
        )
        self._steps = torch.tensor(corners, dtype=torch.int32 if num_rows < 2**31 else torch.int64)
        self._plane, self._line, self._column = axes
        self._volume = self.chosen.to(self._steps.dtype)[:, None] * source

    def table(self, features: Float[Tensor, "s c d h w"]) -> Float[Tensor, "v c"]:
        """Return the features of all grid points as rows: a view if possible (`as_rows`), else a copy in
        row-major order, uninitialised for padding.
        """
        if self._in_rows:
            return as_rows(features)
        table = torch.empty_like(features.movedim(1, -1), memory_format=torch.contiguous_format)
        # In strips that fit in the cache; a single transpose takes twice as long.
        strips = [
            strip for source in self.chosen for strip in features[source].flatten(1).split(STRIP, dim=1)
        ]
        parts = [part for source in self.chosen for part in table[source].flatten(0, 2).split(STRIP)]
        for _ in in_parallel(_transpose, zip(parts, strips, strict=True)):
            pass
        return table.flatten(0, 3)

    def place(self, rows: slice, distance: Float[Tensor, "r n"], outside: Literal["clamp", "mask"]) -> Places:
        """Find the samples along the rays `rows` inside a source's frustum, and their volume coordinates."""
        at, say = self._project(rows, distance), self.valid[:, None]
        if outside == "mask":
            say = say & ((at - 0.5).abs_().amax(dim=0) <= 0.5)
        index, known = None, say.any(dim=0)
        if not known.all():
            index = known.expand(at.shape[-1]).nonzero()[:, 0]
            # On a matrix: with more axes, torch's index_select is ten times slower.
            at = at.flatten(0, 1).index_select(1, index).unflatten(0, at.shape[:2])
            say = say.expand(len(say), len(known)).index_select(1, index)
        share = say.to(at).expand(at.shape[1:])
        return Places(index, share / share.sum(dim=0) if len(share) > 1 else share, at)

    def _project(self, rows: slice, distance: Float[Tensor, "r n"]) -> Float[Tensor, "3 s rn"]:
        """Project samples to each source's frustum, as `FrustumVolume.coordinates`, but from 0 to 1."""
        start, slope = self._start[:, :, rows], self._slope[:, :, rows]
        at = torch.empty(*start.shape[:-1], distance.shape[1], dtype=distance.dtype)
        depth = torch.addcmul(start[2], slope[2], distance)
        torch.addcmul(self._at_zero, depth, self._per_depth, out=at[2])
        image = torch.addcmul(start[:2], slope[:2], distance, out=at[:2])
        image.mul_(depth.clamp_min_(SMALLEST_DEPTH).reciprocal_()).add_(self._centre)
        return at.flatten(2)

    def corners(self, places: Places, *, pooled: bool) -> Corners:
        """Return the rows of each lookup: one lookup per sample if features are `pooled` over the sources,
        else one per source and sample.
        """
        num_sources = len(self.valid)
        low, part = self._cells(places.at)
        x, y, z = low.to(self._steps.dtype)
        first = self._volume + z * self._plane + y * self._line + x * self._column
        across, down, away = torch.stack([1 - part, part], dim=1)
        if pooled and num_sources > 1:
            away = away * places.share
        weight = (away[:, None, None] * (down[:, None] * across)).flatten(0, 2)  # [8 s k]
        if pooled:
            row = first.t()[..., None] + self._steps
            return Corners(row.flatten(1), weight.permute(2, 1, 0).flatten(1))
        row = first[..., None] + self._steps
        return Corners(row.flatten(0, 1), weight.permute(1, 2, 0).flatten(0, 1))

    def _cells(self, at: Float[Tensor, "3 s k"]) -> tuple[Float[Tensor, "3 s k"], Float[Tensor, "3 s k"]]:
        """Return the lower grid point of each location, and the fraction towards the next one."""
        place = torch.addcmul(self._offset, at, self._scale).clamp_min_(0)
        place = torch.minimum(place, self._last, out=place)
        # NaN is propagated through the fraction.
        low = torch.minimum(place.floor(), self._last_cell).nan_to_num_(0)
        return low, place.sub_(low)


@torch.no_grad()
def _transpose(pair: tuple[Float[Tensor, "v c"], Float[Tensor, "c v"]]) -> None:
    """Transpose the second of a pair into the first."""
    rows, columns = pair
    rows.copy_(columns.t())
