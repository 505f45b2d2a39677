"""Which views look at the object from much the same side."""

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor


def nearest_first(positions: Float[Tensor, "v 3"], view: int) -> list[int]:
    """All other views, by how little the directions from the origin to their cameras differ from this one's.

    `positions` are those of the cameras, in scene units. Of equal ones the lower number comes first.
    """
    directions = F.normalize(positions.double(), dim=-1)
    order = (directions @ directions[view]).argsort(descending=True, stable=True)
    return [other for other in order.tolist() if other != view]
