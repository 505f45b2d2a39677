"""Which views look at the object from much the same side."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

NEAR_VIEWS = 3  # of an object's views; those of SRN's training set are 10 degrees apart


def nearest_first(positions: Float[Tensor, "v 3"], view: int) -> list[int]:
    """All other views, by how little the directions from the origin to their cameras differ from this one's.

    `positions` are those of the cameras, in scene units. Of equal ones the lower number comes first.
    """
    directions = F.normalize(positions.double(), dim=-1)
    order = (directions @ directions[view]).argsort(descending=True, stable=True)
    return [other for other in order.tolist() if other != view]


def with_near_view(
    source: Sequence[int],
    target: Sequence[int],
    positions: Float[Tensor, "v 3"],
    generator: torch.Generator,
) -> list[int]:
    """The source views, one of those nearest to the first target among them: in place of the last, if needed.

    Views go by their numbers in `positions`. No target becomes a source.
    """
    near = [view for view in nearest_first(positions, target[0]) if view not in target][:NEAR_VIEWS]
    chosen = near[int(torch.randint(len(near), (), generator=generator))]
    return [*source] if chosen in source else [*source[:-1], chosen]
