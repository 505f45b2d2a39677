"""The contact sheet of a base."""

from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from data.files import write_whole
from data.shapes.captions import AZIMUTH_WORDS

LABEL = 110  # pixels, width of the labels
LINE = 14  # pixels, height of the words above columns


def write_sheet(
    path: Path,
    truth: Float[Tensor, "v 3 h w"],
    reconstructed: Float[Tensor, "v 3 h w"],
    samples: dict[str, Float[Tensor, "v 3 h w"]],
) -> None:
    """Write rows of images in [-1, 1]: held-out cars, their reconstructions, and samples of captions.

    Columns of the samples are the words of azimuth. Raises ValueError if the file cannot be written.
    """
    from PIL import Image, ImageDraw

    rows = {"held-out cars": truth, "encoded, decoded": reconstructed, "": None} | samples
    size = truth.shape[-1]
    heights = [LINE if row is None else size for row in rows.values()]
    sheet = Image.new("RGB", (LABEL + size * len(AZIMUTH_WORDS), sum(heights)), "white")
    draw, top = ImageDraw.Draw(sheet), 0
    for (label, row), height in zip(rows.items(), heights, strict=True):
        draw.text((4, top + height // 2 - 6), label, fill="black")
        if row is None:
            for column, word in enumerate(AZIMUTH_WORDS):
                draw.text((LABEL + column * size + 2, top), word, fill="black")
        else:
            for column, image in enumerate(row):
                sheet.paste(_picture(image), (LABEL + column * size, top))
        top += height
    write_whole(path, lambda partial: sheet.save(partial))


def _picture(image: Float[Tensor, "3 h w"]) -> object:
    from PIL import Image

    pixels = ((image + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)
    return Image.fromarray(pixels.permute(1, 2, 0).numpy())
