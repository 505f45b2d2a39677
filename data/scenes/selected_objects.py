"""Some of the objects of a split, in another order."""

from collections.abc import Sequence

from jaxtyping import Float, UInt8
from torch import Tensor

from data.scenes.objects import RawObjects


class SelectedObjects(RawObjects):
    """The objects of `raw` at some indices, in their order."""

    def __init__(self, raw: RawObjects, indices: Sequence[int]):
        self._raw, self._indices = raw, tuple(indices)
        self.ids = tuple(raw.ids[index] for index in self._indices)
        self.mapped = raw.mapped

    def names(self, index: int) -> tuple[str, ...]:
        """As the set has them."""
        return self._raw.names(self._indices[index])

    def place(self, index: int) -> str:
        """As the set has it."""
        return self._raw.place(self._indices[index])

    def num_views(self, index: int) -> int:
        """As the set has them."""
        return self._raw.num_views(self._indices[index])

    def cameras(self, index: int) -> tuple[Float[Tensor, "v 4 4"], Float[Tensor, "v 3 3"]]:
        """As the set has them."""
        return self._raw.cameras(self._indices[index])

    def picture(self, index: int, view: int) -> UInt8[Tensor, "h w 3"]:
        """As the set has it."""
        return self._raw.picture(self._indices[index], view)

    def depth(self, index: int, view: int) -> Float[Tensor, "h w"] | None:
        """As the set has it."""
        return self._raw.depth(self._indices[index], view)

    def alpha(self, index: int, view: int) -> UInt8[Tensor, "h w"] | None:
        """As the set has it."""
        return self._raw.alpha(self._indices[index], view)

    def notices(self, index: int) -> tuple[str, ...]:
        """As the set has them."""
        return self._raw.notices(self._indices[index])

    def verify(self, index: int) -> None:
        """As the set does."""
        self._raw.verify(self._indices[index])
