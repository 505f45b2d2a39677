"""The cameras of a set that was taken with a calibrated rig, as in its calibration files."""

from dataclasses import dataclass

from jaxtyping import Float, Float64
from torch import Tensor


@dataclass(frozen=True)
class Calibration:
    """All cameras of the rig, also those that no view is taken by."""

    projections: Float64[Tensor, "n 3 4"]  # world to pixels, the numbers of the files
    cam_to_world: Float[Tensor, "n 4 4"]  # in the world of the views
    intrinsics: Float[Tensor, "n 3 3"]  # divided by the size of pictures
