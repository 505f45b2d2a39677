"""Several samples of one view: what they agree on, and where each invents something else.

Axes: n sample, h, w.
"""

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from data.colour_scale import with_scale
from data.images import colourise

WIDEST = 64.0  # levels of 8 bits; the end of the colour scale, the same for all pictures


def mean_and_deviation(
    pictures: UInt8[Tensor, "n h w 3"],
) -> tuple[UInt8[Tensor, "h w 3"], Float[Tensor, "h w"]]:
    """The mean picture, and the standard deviation of each pixel in levels of 8 bits.

    The deviation is the root of the mean over the colours of the unbiased variance over the samples, of which
    there must be two or more.
    """
    values = pictures.double()
    mean = values.mean(dim=0).round().to(torch.uint8)
    return mean, values.var(dim=0).mean(dim=-1).sqrt().float()


def deviation_picture(deviation: Float[Tensor, "h w"]) -> UInt8[Tensor, "k l 3"]:
    """Deviations in levels of 8 bits as colours, beside the scale that says which is which."""
    return with_scale(colourise(deviation, 0.0, WIDEST), 0.0, WIDEST)
