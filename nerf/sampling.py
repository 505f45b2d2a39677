"""Sample placement along rays. All of the renderer's randomness is here.

Samples are midpoints of cells that partition the ray from near to far. Axes: r ray, n sample,
m more of them, k both.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from types import ModuleType

import torch
from jaxtyping import Float, Int
from torch import Tensor

from data.cameras.pinhole import Rays

WEIGHT_FLOOR = 1e-5  # samples empty cells a little, and keeps the distribution defined on empty rays


@dataclass(frozen=True)
class RaySamples:
    """Samples sorted by distance, and the interval length of each."""

    distance: Float[Tensor, "*batch r n"]
    width: Float[Tensor, "*batch r n"]


def uniform(rays: Rays, num: int, jitter: Float[Tensor, "*batch r n"] | None = None) -> RaySamples:
    """Place one sample in each of `num` equal cells: at the midpoint, or at `jitter` (0 to 1)."""
    steps = torch.arange(num, device=rays.near.device) + (0.5 if jitter is None else jitter)
    near, far = rays.near[..., None], rays.far[..., None]
    return with_widths(rays, near + (far - near) * steps / num)


def with_widths(rays: Rays, distance: Float[Tensor, "*batch r n"]) -> RaySamples:
    """Return samples at sorted distances; cells end halfway between neighbours, and at near and far."""
    edges = _edges(rays, distance)
    return RaySamples(distance, edges.diff(dim=-1))


def importance(
    rays: Rays,
    samples: RaySamples,
    weight: Float[Tensor, "*batch r n"],
    num: int,
    jitter: Float[Tensor, "*batch r m"] | None = None,
) -> Float[Tensor, "*batch r num"]:
    """Importance-sample the distances of `num` more samples (Mildenhall et al. 2020, section 5.2).

    The cell weights define a piecewise constant density, whose CDF is inverted at the midpoints of `num`
    equal steps, or at `jitter` (0 to 1) within them. Detached from the graph.
    """
    edges = _edges(rays, samples.distance.detach())
    mass = weight.detach() + WEIGHT_FLOOR
    cumulative = torch.cumsum(mass, dim=-1)
    total = cumulative[..., -1:]
    steps = torch.arange(num, device=weight.device) + (0.5 if jitter is None else jitter)
    wanted = (steps / num * total).expand(*total.shape[:-1], num).contiguous()
    cell = torch.searchsorted(cumulative, wanted, right=True).clamp_max(weight.shape[-1] - 1)
    before = cumulative.gather(-1, cell) - mass.gather(-1, cell)
    within = ((wanted - before) / mass.gather(-1, cell)).clamp(0, 1)
    return torch.lerp(edges.gather(-1, cell), edges.gather(-1, cell + 1), within).detach()


def merge(
    rays: Rays, samples: RaySamples, more: Float[Tensor, "*batch r m"]
) -> tuple[RaySamples, Int[Tensor, "*batch r k"]]:
    """Merge `samples` with those at distances `more`; also return each one's index in their concatenation."""
    distance, order = torch.cat([samples.distance, more], dim=-1).sort(dim=-1)
    return with_widths(rays, distance), order


def _edges(rays: Rays, distance: Tensor) -> Tensor:
    middle = (distance[..., 1:] + distance[..., :-1]) / 2
    return torch.cat([rays.near[..., None], middle, rays.far[..., None]], dim=-1)


@dataclass(frozen=True)
class Refinement:
    """Importance sampling of `num` additional samples per ray."""

    quadrature: ModuleType  # nerf.sampling or nerf.published
    num: int
    jitter: Float[Tensor, "*batch r m"] | None = None  # 0 to 1

    def __call__(
        self, rays: Rays, samples: RaySamples, weight: Float[Tensor, "*batch r n"]
    ) -> tuple[RaySamples, Float[Tensor, "*batch r m"], Int[Tensor, "*batch r k"]]:
        """Return all samples, sorted; the distances of the new ones; the index of each of the k samples in
        the concatenation of old and new.
        """
        more = self.quadrature.importance(rays, samples, weight, self.num, self.jitter)
        merged, order = self.quadrature.merge(rays, samples, more)
        return merged, more, order

    def apply(self, function: Callable[[Tensor], Tensor]) -> "Refinement":
        """Return the refinement with `function` applied to its tensors, for a subset of rays."""
        return self if self.jitter is None else replace(self, jitter=function(self.jitter))
