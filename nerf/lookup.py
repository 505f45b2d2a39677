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
from nerf.threads import in_parallel
from nerf.volume import SMALLEST_DEPTH, FrustumVolume

STRIP = 16384  # volume points that change from planes of features to rows at a time
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
        strips = [strip for source in features.flatten(2) for strip in source.split(STRIP, dim=1)]
        parts = [part for rows in table.unflatten(0, (len(features), -1)) for part in rows.split(STRIP)]
        # In strips, of which both sides stay in the cache; in one go it takes twice as long.
        for _ in in_parallel(_turn, zip(parts, strips, strict=True)):
            pass
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
        low, part = self._cells(places.at)
        source = torch.arange(num_sources, dtype=low.dtype)[:, None] * depth
        first = ((source + low[2]) * height + low[1]) * width + low[0]
        # From one corner to the next; along an axis of one grid point there is nowhere to go.
        plane, line, step = height * width * (depth > 1), width * (height > 1), int(width > 1)
        steps = [i * plane + j * line + k * step for i in (0, 1) for j in (0, 1) for k in (0, 1)]
        row = (first.t() if pooled else first)[..., None] + first.new_tensor(steps)
        weight = part.new_empty(row.shape)
        corners = iter((weight.transpose(0, 1) if pooled else weight).unbind(-1))
        (left, right), (above, below), (before, behind) = torch.stack([1 - part, part], dim=1)
        for away in (before, behind):
            share = away * places.share if pooled and num_sources > 1 else away
            for down in (above, below):
                of_line = share * down
                for across in (left, right):
                    torch.mul(of_line, across, out=next(corners))
        return Corners(*(tensor.flatten(1) if pooled else tensor.flatten(0, 1) for tensor in (row, weight)))

    def _cells(self, at: Float[Tensor, "3 s k"]) -> tuple[Int[Tensor, "3 s k"], Float[Tensor, "3 s k"]]:
        """Index of the grid point before each place, and how far it is on the way to the next one."""
        count = torch.tensor(self.size[::-1], dtype=at.dtype)[:, None, None]
        # Pixels are texels whose outer edges, planes are points that lie, at 0 and 1.
        texels = torch.tensor([not self.align_corners] * 2 + [False])[:, None, None]
        place = torch.where(texels, 0.0, -1.0) + count
        place = torch.addcmul(torch.where(texels, -0.5, 0.0), at, place)
        place = place.clamp_(torch.zeros(()), count - 1)
        low = torch.minimum(place.floor(), (count - 2).clamp_min(0))
        return low.int(), place - low


@torch.no_grad()
def _turn(pair: tuple[Float[Tensor, "v c"], Float[Tensor, "c v"]]) -> None:
    """Write the second of a pair into the first, columns as rows."""
    rows, columns = pair
    rows.copy_(columns.t())


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
