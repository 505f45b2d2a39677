"""A second round of samples, placed by what the first one found, and the two passes that it takes."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from types import ModuleType

from jaxtyping import Float, Int
from torch import Tensor

from data.cameras import Rays
from nerf.sampling import RaySamples


@dataclass(frozen=True)
class Refinement:
    """How `num` samples are added to those that a ray has."""

    quadrature: ModuleType  # nerf.sampling or nerf.left_edge
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
