"""Where along a ray the field is asked. All of the renderer's randomness is here.

Samples are midpoints of cells that cover the ray from near to far without gaps. Axes: r ray, n sample,
m more of them, k both.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from types import ModuleType

import torch
from jaxtyping import Float, Int
from torch import Tensor

from data.cameras.pinhole import Rays

WEIGHT_FLOOR = 1e-5  # keeps a little attention on empty cells, and the distribution defined on empty rays


@dataclass(frozen=True)
class RaySamples:
    """Samples in the order of their distance, and the length of ray each stands for."""

    distance: Float[Tensor, "*batch r n"]
    width: Float[Tensor, "*batch r n"]


def uniform(rays: Rays, num: int, jitter: Float[Tensor, "*batch r n"] | None = None) -> RaySamples:
    """One sample in each of `num` equal cells: at its middle, or where `jitter` (0 to 1) puts it."""
    steps = torch.arange(num, device=rays.near.device) + (0.5 if jitter is None else jitter)
    near, far = rays.near[..., None], rays.far[..., None]
    return with_widths(rays, near + (far - near) * steps / num)


def with_widths(rays: Rays, distance: Float[Tensor, "*batch r n"]) -> RaySamples:
    """Sorted distances and their cells: borders half-way between neighbours, ends at near and far."""
    edges = _edges(rays, distance)
    return RaySamples(distance, edges.diff(dim=-1))


def importance(
    rays: Rays,
    samples: RaySamples,
    weight: Float[Tensor, "*batch r n"],
    num: int,
    jitter: Float[Tensor, "*batch r m"] | None = None,
) -> Float[Tensor, "*batch r num"]:
    """Distances of `num` more samples, drawn where `weight` is large (Mildenhall et al. 2020, section 5.2).

    The weights of the cells are taken as a piecewise constant density and its distribution is inverted at the
    middles of `num` equal steps, or where `jitter` (0 to 1) puts them in their steps. No gradient passes.
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
    """`samples` and those at the distances `more` in one row, and which of the two, laid end to end, each
    was."""
    distance, order = torch.cat([samples.distance, more], dim=-1).sort(dim=-1)
    return with_widths(rays, distance), order


def _edges(rays: Rays, distance: Tensor) -> Tensor:
    middle = (distance[..., 1:] + distance[..., :-1]) / 2
    return torch.cat([rays.near[..., None], middle, rays.far[..., None]], dim=-1)


@dataclass(frozen=True)
class Refinement:
    """How `num` samples are added to those that a ray has."""

    quadrature: ModuleType  # nerf.sampling or nerf.published
    num: int
    jitter: Float[Tensor, "*batch r m"] | None = None  # 0 to 1

    def __call__(
        self, rays: Rays, samples: RaySamples, weight: Float[Tensor, "*batch r n"]
    ) -> tuple[RaySamples, Float[Tensor, "*batch r m"], Int[Tensor, "*batch r k"]]:
        """All samples in one row; the distances of the new ones; which of the old and new ones, laid end to
        end, each of the k samples was."""
        more = self.quadrature.importance(rays, samples, weight, self.num, self.jitter)
        merged, order = self.quadrature.merge(rays, samples, more)
        return merged, more, order

    def apply(self, function: Callable[[Tensor], Tensor]) -> "Refinement":
        """The same refinement of some of the rays."""
        return self if self.jitter is None else replace(self, jitter=function(self.jitter))
