"""A colour scale with numbers beside a picture of numbers."""

import numpy as np
import torch
from jaxtyping import UInt8
from PIL import Image, ImageDraw
from torch import Tensor

from data.images import colourise, enlarge

SIDE = 256  # pixels; smaller pictures are enlarged by a whole factor to about this side
BAR, GAP, TEXT, MARGIN = (
    14,
    8,
    34,
    6,
)  # pixels: widths of the bar, of gaps and of the numbers; above and below
TICKS = 5


def with_scale(picture: UInt8[Tensor, "h w 3"], low: float, high: float) -> UInt8[Tensor, "k l 3"]:
    """A picture that `colourise` made for numbers from `low` to `high`, enlarged, and the scale on its right.

    The middle of each number stands at the height of its colour.
    """
    picture = enlarge(picture.cpu(), max(1, round(SIDE / picture.shape[0])))
    height, width, _ = picture.shape
    left = width + GAP
    page = torch.full((height + 2 * MARGIN, left + BAR + GAP + TEXT, 3), 255, dtype=torch.uint8)
    page[MARGIN:-MARGIN, :width] = picture
    ramp = torch.linspace(1, 0, height)[:, None].expand(-1, BAR)
    page[MARGIN:-MARGIN, left : left + BAR] = colourise(ramp, 0.0, 1.0)
    image = Image.fromarray(page.numpy())
    draw = ImageDraw.Draw(image)
    for tick in range(TICKS):
        share = tick / (TICKS - 1)
        place = (left + BAR + GAP // 2, MARGIN + (1 - share) * (height - 1))
        draw.text(place, f"{low + share * (high - low):g}", fill="black", anchor="lm")
    return torch.from_numpy(np.array(image))
