"""Display of images: grids, colour maps, enlargement."""

import numpy as np
import torch
from jaxtyping import Float, UInt8
from PIL import Image, ImageDraw
from torch import Tensor

# Dark blue to pale yellow with monotonic lightness, so that it also works in greyscale.
RAMP = ((8, 10, 40), (62, 24, 112), (136, 34, 116), (204, 66, 84), (242, 128, 50), (254, 250, 214))


def enlarge(pictures: UInt8[Tensor, "*batch h w c"], factor: int) -> UInt8[Tensor, "*batch k l c"]:
    """Repeat every pixel `factor` times in both directions."""
    return pictures.repeat_interleave(factor, dim=-3).repeat_interleave(factor, dim=-2)


def grid(pictures: UInt8[Tensor, "n h w 3"], *, columns: int, gap: int = 2) -> UInt8[Tensor, "k l 3"]:
    """Arrange images in a grid, row by row, with white gaps of `gap` pixels; unused cells are white."""
    missing = -len(pictures) % columns
    padded = torch.cat([pictures, pictures.new_full((missing, *pictures.shape[1:]), 255)])
    tiles = torch.nn.functional.pad(padded, (0, 0, 0, gap, 0, gap), value=255)
    sheet = tiles.unflatten(0, (-1, columns)).transpose(1, 2).flatten(2, 3).flatten(0, 1)
    return sheet[: sheet.shape[0] - gap, : sheet.shape[1] - gap]


def tiles_of_row(row: UInt8[Tensor, "h k 3"], num: int, *, gap: int = 2) -> UInt8[Tensor, "n h w 3"]:
    """Undo `grid` for a row of `num` images."""
    padded = torch.nn.functional.pad(row, (0, 0, 0, gap))
    tiles = padded.unflatten(1, (num, -1)).movedim(1, 0)
    return tiles[:, :, : tiles.shape[2] - gap]


def colourise(
    values: Float[Tensor, "*batch h w"], low: float | int, high: float | int
) -> UInt8[Tensor, "*batch h w 3"]:
    """Map values to colours, from dark at `low` to light at `high`; values outside are clipped."""
    ramp = torch.tensor(RAMP, dtype=torch.float32, device=values.device)
    place = ((values.detach().float() - low) / max(high - low, 1e-12)).clamp(0, 1) * (len(RAMP) - 1)
    below = place.long().clamp_max(len(RAMP) - 2)
    part = (place - below)[..., None]
    return (ramp[below] * (1 - part) + ramp[below + 1] * part).round().to(torch.uint8)


SIDE = 256  # pixels; smaller images are enlarged by an integer factor to about this side


BAR, GAP, TEXT, MARGIN = (
    14,
    8,
    34,
    6,
)  # pixels: widths of the bar, of gaps and of the labels; margins above and below


TICKS = 5


def with_scale(picture: UInt8[Tensor, "h w 3"], low: float, high: float) -> UInt8[Tensor, "k l 3"]:
    """Enlarge an image made by `colourise` for values from `low` to `high`, and add a colour bar.

    Each label is vertically centred on its colour.
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
