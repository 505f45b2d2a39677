"""One rendered picture with its depth and coverage, as the writers of data sets take it."""

from dataclasses import dataclass

from jaxtyping import Float, UInt8
from numpy import ndarray


@dataclass(frozen=True)
class MeshView:
    """A picture of a mesh; `MeshViews` says what of."""

    rgb: UInt8[ndarray, "h w 3"]
    alpha: UInt8[ndarray, "h w"]
    depth: Float[ndarray, "h w"]
