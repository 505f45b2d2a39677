"""A rendered image with depth and coverage, as taken by the data set writers."""

from dataclasses import dataclass

from jaxtyping import Float, UInt8
from numpy import ndarray


@dataclass(frozen=True)
class MeshView:
    """One rendered view of a mesh; see `MeshViews` for the fields."""

    rgb: UInt8[ndarray, "h w 3"]
    alpha: UInt8[ndarray, "h w"]
    depth: Float[ndarray, "h w"]
