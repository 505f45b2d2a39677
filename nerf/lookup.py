"""Look-ups in the volumes of one scene, made for the CPU: eight corners of eight bytes of address each, one
pass over memory.

A volume's features lie together, point by point, so that a corner is one or two cache lines. The same numbers
as `FrustumVolume.look_up`. Axes: s source view, r ray, n sample, k sample (of all rays), c feature, d depth
plane, h, w; v volume points of all sources, p look-ups, e corners of a look-up.
"""

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from data.cameras import Cameras, Rays
from nerf.volume import SMALLEST_DEPTH, FrustumVolume

STRIP = 4096  # volume points that change from planes of features to rows at a time
SCATTERED = 4096  # look-ups whose contributions to a gradient exist at the same time


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
        for row, weight, part in zip(
            self.row.split(SCATTERED), self.weight.split(SCATTERED), gradient.split(SCATTERED), strict=True
        ):
            each = (part[:, None] * weight[..., None]).flatten(0, 1)
            table.scatter_add_(0, row.long().flatten()[:, None].expand(-1, channels), each)


@dataclass(frozen=True)
class Places:
    """Samples that a source has a say about, in the volumes of the sources."""

    index: Int[Tensor, "k"]  # among all samples
    share: Float[Tensor, "s k"]  # each source's say about a sample; they sum to 1
    at: Float[Tensor, "3 s k"]  # (x, y, z), 0 to 1 between the faces of the frustum


class Sources:
    """The volumes of one scene: a table of features and what projects samples into it."""

    def __init__(self, volume: FrustumVolume, scene: int):
        self.size = volume.features.shape[3:]
        self.align_corners = volume.align_corners
        self.valid = volume.valid[scene]
        self.cameras = volume.cameras[scene]

    @staticmethod
    def table(features: Float[Tensor, "s c d h w"]) -> Float[Tensor, "v c"]:
        """The features of all volume points, source by source, plane by plane, row by row."""
        together = features.movedim(1, -1)
        if together.is_contiguous():
            return together.flatten(0, 3)
        table = features.new_empty(together[..., 0].numel(), features.shape[1])
        for source, rows in zip(features.flatten(2), table.unflatten(0, (len(features), -1)), strict=True):
            # In strips, of which both sides stay in the cache; in one go it takes twice as long.
            for strip, part in zip(source.split(STRIP, dim=1), rows.split(STRIP), strict=True):
                part.copy_(strip.t())
        return table

    def place(self, rays: Rays, distance: Float[Tensor, "r n"], outside: Literal["clamp", "mask"]) -> Places:
        """Which of the samples along `rays` a source has a say about, and where they are in its volume."""
        at, say = _project(self.cameras, rays, distance), self.valid[:, None]
        if outside == "mask":
            say = say & ((at - 0.5).abs_().amax(dim=0) <= 0.5)
        index = say.expand(at.shape[1:]).any(dim=0).nonzero()[:, 0]
        if len(index) < at.shape[-1]:
            at, say = at.index_select(2, index), say.expand(at.shape[1:]).index_select(1, index)
        share = say.to(at).expand(at.shape[1:])
        return Places(index, share / share.sum(dim=0), at)

    def corners(self, places: Places, *, pooled: bool) -> Corners:
        """The rows that a look-up needs: one look-up a sample where features are `pooled` over the sources,
        else one a source and sample."""
        (depth, height, width), num_sources = self.size, len(self.valid)
        (x, across), (y, down), (z, away) = (
            _cell(position, count, texels=not self.align_corners and axis < 2)
            for axis, (position, count) in enumerate(zip(places.at, (width, height, depth), strict=True))
        )
        source = torch.arange(num_sources, dtype=x.dtype)[:, None] * depth
        first = ((source + z) * height + y) * width + x
        # From one corner to the next; along an axis of one grid point there is nowhere to go.
        plane, line, step = height * width * (depth > 1), width * (height > 1), int(width > 1)
        steps = [i * plane + j * line + k * step for i in (0, 1) for j in (0, 1) for k in (0, 1)]
        row = (first.t() if pooled else first)[..., None] + first.new_tensor(steps)
        weight = across.new_empty(row.shape)
        corners = iter((weight.transpose(0, 1) if pooled else weight).unbind(-1))
        for part_away in (1 - away, away):
            share = part_away * places.share if pooled and num_sources > 1 else part_away
            for part_down in (1 - down, down):
                below = share * part_down
                for part_across in (1 - across, across):
                    torch.mul(below, part_across, out=next(corners))
        return Corners(*(part.flatten(1) if pooled else part.flatten(0, 1) for part in (row, weight)))


def _project(cameras: Cameras, rays: Rays, distance: Float[Tensor, "r n"]) -> Float[Tensor, "3 s rn"]:
    """Samples in each source's frustum: a ray is projected once, its samples follow along the line."""
    rotation, intrinsics = cameras.cam_to_world[:, :3, :3], cameras.intrinsics
    start = (rays.origins - cameras.positions[:, None]) @ rotation
    slope = rays.directions @ rotation
    plane = intrinsics[:, :2, :2].transpose(-1, -2)
    (x, y), (along_x, along_y) = ((part[..., :2] @ plane).unbind(-1) for part in (start, slope))
    at = torch.empty(3, len(start), *distance.shape, dtype=distance.dtype)
    depth = torch.addcmul(start[..., 2:], slope[..., 2:], distance, out=at[2])
    closer = depth.clamp_min(SMALLEST_DEPTH).reciprocal_()
    for axis, (begin, along) in enumerate(((x, along_x), (y, along_y))):
        line = torch.addcmul(begin[..., None], along[..., None], distance, out=at[axis])
        line.mul_(closer).add_(intrinsics[:, axis, 2, None, None])
    near, far = cameras.near[:, None, None], cameras.far[:, None, None]
    depth.sub_(near).div_(far - near)
    return at.flatten(2)


def _cell(position: Float[Tensor, "s k"], count: int, *, texels: bool) -> tuple[Tensor, Tensor]:
    """Index of the grid point before a position (0 to 1 over the axis), and how far the next one is taken.

    `texels` of which the outermost end, not lie, at 0 and 1 are half a step further apart.
    """
    place = position * count - 0.5 if texels else position * (count - 1)
    place = place.clamp_(0, count - 1)
    low = place.floor().clamp_max_(max(count - 2, 0))
    return low.int(), place - low
