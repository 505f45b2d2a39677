"""Look-ups in the volumes of one scene, made for the CPU: eight corners of eight bytes of address each, one
pass over memory.

The features of a point of the volume lie together, so that a corner is one or two cache lines. The same
numbers as `FrustumVolume.look_up`. Axes: s source view, r ray, n sample, k sample (of all rays), c feature, d
depth plane, h, w; v volume points of all sources, p look-ups, e corners of a look-up.
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

STRIP = 16384  # volume points that change from planes of features to rows at a time
SCATTERED = 2**19  # contributions to a gradient, numbers that exist at the same time


def in_rows(features: Float[Tensor, "b s c d h w"]) -> bool:
    """Whether a point's features lie side by side in memory, and every point a whole number of such rows from
    the others, in whatever order, and with gaps or without."""
    channels = features.shape[2]
    if channels > 1 and features.stride(2) != 1:
        return False
    beyond = channels  # where the next point can begin
    for stride, num in sorted((features.stride(axis), features.shape[axis]) for axis in (0, 1, 3, 4, 5)):
        if num > 1 and (stride % channels or stride < beyond):
            return False
        beyond = max(beyond, stride * num)
    return True


def zeros_in_rows(like: Float[Tensor, "b s c d h w"]) -> Float[Tensor, "b s c d h w"]:
    """Zeros that lie in memory as `like` does if that is in rows, else point by point."""
    if in_rows(like):
        return like.new_zeros(_span(like)).as_strided(like.shape, like.stride())
    return torch.zeros_like(like.movedim(2, -1), memory_format=torch.contiguous_format).movedim(-1, 2)


def as_rows(features: Float[Tensor, "s c d h w"]) -> Float[Tensor, "v c"]:
    """A view of the memory in which the volumes of a scene lie in rows; `v` counts what lies between, too."""
    channels = features.shape[1]
    return features.as_strided((_span(features) // channels, channels), (channels, 1))


def _span(features: Tensor) -> int:
    """Numbers in memory from the first to the last of `features` [..., c, d, h, w], whole rows."""
    axes = [axis for axis in range(features.dim()) if axis != features.dim() - 4]
    return features.shape[-4] + sum((features.shape[axis] - 1) * features.stride(axis) for axis in axes)


@dataclass(frozen=True)
class Corners:
    """Weighted sums over rows of a table of features, one sum a look-up."""

    row: Int[Tensor, "p e"]
    weight: Float[Tensor, "p e"]

    def gather(self, table: Float[Tensor, "v c"]) -> Float[Tensor, "p c"]:
        """The sums."""
        return F.embedding_bag(self.row, table, per_sample_weights=self.weight, mode="sum")

    def scatter(self, gradient: Float[Tensor, "p c"], table: Float[Tensor, "v c"]) -> None:
        """Add to `table`, in place, what the sums' `gradient` means for the rows."""
        channels = gradient.shape[1]
        step = max(1, SCATTERED // (self.row.shape[1] * channels))
        parts = (tensor.split(step) for tensor in (self.row, self.weight, gradient))
        for row, weight, part in zip(*parts, strict=True):
            each = (part[:, None] * weight[..., None]).flatten(0, 1)
            table.scatter_add_(0, row.long().flatten()[:, None].expand(-1, channels), each)


@dataclass(frozen=True)
class Places:
    """Samples that lie in the frustum of a source, in the volumes of the sources."""

    index: Int[Tensor, "k"] | None  # among all samples; None: they are all
    share: Float[Tensor, "s k"]  # each source's say about a sample; they sum to 1
    at: Float[Tensor, "3 s k"]  # (x, y, z), 0 to 1 between the faces of the frustum


class Sources:
    """The volumes of one scene, and `rays` as the source cameras see them, ready for samples along them."""

    def __init__(self, volume: FrustumVolume, scene: int, rays: Rays):
        # Padding is left out; of a scene without any source, the first stays, and has no say.
        self.chosen = volume.valid[scene].nonzero()[:, 0] if volume.valid[scene].any() else torch.tensor([0])
        cameras: Cameras = volume.cameras[scene][self.chosen]
        self.size, self.valid = volume.features.shape[3:], volume.valid[scene][self.chosen]

        # Rays in the frusta of the sources.
        # On the image plane, and in depth, a sample is a ray's beginning and its distance times the slope.
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
        # Pixels are texels whose outer edges, planes are points that, lie at 0 and 1.
        texels = torch.tensor([not volume.align_corners] * 2 + [False])[:, None, None]
        count = torch.tensor(self.size[::-1], dtype=rays.near.dtype)[:, None, None]
        self._last, self._last_cell = count - 1, (count - 2).clamp_min(0)
        self._scale = torch.where(texels, count, count - 1)
        self._offset = torch.where(texels, -0.5, 0.0).to(count)

        # Strides of the volume in memory.
        # Rows from one grid point to the next; along an axis of one point there is nowhere to go.
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
        """The features of all volume points as rows: a view where they lie so already (`as_rows`), else a
        copy, source by source, plane by plane, line by line; of padding it is not set."""
        if self._in_rows:
            return as_rows(features)
        table = torch.empty_like(features.movedim(1, -1), memory_format=torch.contiguous_format)
        # In strips, of which both sides stay in the cache; in one go it takes twice as long.
        strips = [
            strip for source in self.chosen for strip in features[source].flatten(1).split(STRIP, dim=1)
        ]
        parts = [part for source in self.chosen for part in table[source].flatten(0, 2).split(STRIP)]
        for _ in in_parallel(_transpose, zip(parts, strips, strict=True)):
            pass
        return table.flatten(0, 3)

    def place(self, rows: slice, distance: Float[Tensor, "r n"], outside: Literal["clamp", "mask"]) -> Places:
        """Which samples along the rays `rows` lie in the frustum of a source, and where they are in its
        volume."""
        at, say = self._project(rows, distance), self.valid[:, None]
        if outside == "mask":
            say = say & ((at - 0.5).abs_().amax(dim=0) <= 0.5)
        index, known = None, say.any(dim=0)
        if not known.all():
            index = known.expand(at.shape[-1]).nonzero()[:, 0]
            # Of a matrix: of more axes, torch selects ten times as slowly.
            at = at.flatten(0, 1).index_select(1, index).unflatten(0, at.shape[:2])
            say = say.expand(len(say), len(known)).index_select(1, index)
        share = say.to(at).expand(at.shape[1:])
        return Places(index, share / share.sum(dim=0) if len(share) > 1 else share, at)

    def _project(self, rows: slice, distance: Float[Tensor, "r n"]) -> Float[Tensor, "3 s rn"]:
        """Samples in each source's frustum, as `FrustumVolume.coordinates` has them, but from 0 to 1."""
        start, slope = self._start[:, :, rows], self._slope[:, :, rows]
        at = torch.empty(*start.shape[:-1], distance.shape[1], dtype=distance.dtype)
        depth = torch.addcmul(start[2], slope[2], distance)
        torch.addcmul(self._at_zero, depth, self._per_depth, out=at[2])
        image = torch.addcmul(start[:2], slope[:2], distance, out=at[:2])
        image.mul_(depth.clamp_min_(SMALLEST_DEPTH).reciprocal_()).add_(self._centre)
        return at.flatten(2)

    def corners(self, places: Places, *, pooled: bool) -> Corners:
        """The rows that a look-up needs: one look-up a sample where features are `pooled` over the sources,
        else one a source and sample."""
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
        """The grid point before each place, and how far it is on the way to the next one."""
        place = torch.addcmul(self._offset, at, self._scale).clamp_min_(0)
        place = torch.minimum(place, self._last, out=place)
        # What is no number stays one, by its share of the next point.
        low = torch.minimum(place.floor(), self._last_cell).nan_to_num_(0)
        return low, place.sub_(low)


@torch.no_grad()
def _transpose(pair: tuple[Float[Tensor, "v c"], Float[Tensor, "c v"]]) -> None:
    """Write the second of a pair into the first, columns as rows."""
    rows, columns = pair
    rows.copy_(columns.t())
