"""Find views whose cameras see the object from similar directions."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

NEAR_VIEWS = 3  # nearest views; in the SRN training set they are about 10 degrees apart


def nearest_first(positions: Float[Tensor, "v 3"], view: int) -> list[int]:
    """Sort all other views by the angle between their direction from the origin and this view's.

    `positions` are the camera positions, in scene units. Ties go to the lower index.
    """
    positions = positions.double()
    order = cosines(positions, positions[view]).argsort(descending=True, stable=True)
    return [other for other in order.tolist() if other != view]


def cosines(vectors: Float[Tensor, "v 3"], vector: Float[Tensor, "3"]) -> Float[Tensor, "v"]:
    """Return the cosine of the angle between each of the vectors and another one."""
    return F.normalize(vectors, dim=-1) @ F.normalize(vector, dim=-1)


def with_near_view(
    source: Sequence[int],
    target: Sequence[int],
    positions: Float[Tensor, "v 3"],
    generator: torch.Generator,
) -> list[int]:
    """Return the source views with one of the views nearest to the first target among them.

    It replaces the last source if none is near already. Views are indices into `positions`; targets are never
    used as sources.
    """
    near = [view for view in nearest_first(positions, target[0]) if view not in target][:NEAR_VIEWS]
    chosen = near[int(torch.randint(len(near), (), generator=generator))]
    return [*source] if chosen in source else [*source[:-1], chosen]
