"""Object masks, and compositing on white.

Opacity is 255 times the fraction of a pixel covered by the object. Every problem with a file is a one-line
ValueError that starts with its path.
"""

from pathlib import Path

import numpy as np
import torch
from jaxtyping import UInt8
from PIL import Image
from torch import Tensor

from data.images.files import ROWS
from data.images.picture_files import decoded, opened, shrunk, turn_upright

GROUND_TOLERANCE = 8  # levels of 255 by which a uniform background may vary


def read_opacity(path: Path) -> UInt8[Tensor, "h w"] | None:
    """Read the opacity of an image file; None if the file has no transparency.

    Raises ValueError if the file is not a readable image.
    """
    return opacity_of(decoded(path))


def opacity_of(image: Image.Image) -> UInt8[Tensor, "h w"] | None:
    """Return the opacity of a decoded image; None if it has no transparency."""
    if not image.has_transparency_data:
        return None
    return torch.from_numpy(np.array(image.convert("RGBA").getchannel("A")))


def read_mask(path: Path, *, upright: bool = False, content: bytes | None = None) -> UInt8[Tensor, "h w"]:
    """Read a mask image: its transparency if it has any, otherwise its brightness.

    Masks with only 0 and 1, as some programs write them, are scaled to 0 and 255. `upright`: rotated by its
    EXIF entry. `content` is the file's content if it is not on disk. Raises ValueError if the file is not a
    readable image.
    """
    with opened(path, content) as file:
        image = shrunk(file)
        if upright:
            turn_upright(image)
        opacity = opacity_of(image)
        if opacity is None or opacity.min() == 255:
            opacity = torch.from_numpy(_brightness(image))
    return opacity * 255 if opacity.max() == 1 else opacity


def on_white(picture: UInt8[Tensor, "h w 3"], opacity: UInt8[Tensor, "h w"]) -> UInt8[Tensor, "h w 3"]:
    """Composite the object of an image on white.

    At edges, a uniform background colour is replaced by white in proportion, so that an image already on
    white is unchanged. Any other background is assumed not to bleed into edges.
    """
    # The background colour, if it is uniform.
    ground = picture[opacity == 0]
    colour = ground.sum(dim=0).float() / max(1, len(ground))
    extremes = torch.stack([ground.amin(dim=0), ground.amax(dim=0)]) if len(ground) else None
    plain = extremes is not None and bool((extremes - colour).abs().max() <= GROUND_TOLERANCE)

    # A few rows at a time to save memory: floats need 12 bytes per pixel.
    composite = torch.empty_like(picture)
    for start in range(0, len(picture), ROWS):
        rows = slice(start, start + ROWS)
        share = opacity[rows, :, None].float() / 255
        if plain:
            values = picture[rows] + (1 - share) * (255 - colour)
        else:
            values = picture[rows] * share + 255 * (1 - share)
        values[opacity[rows] == 0] = 255
        composite[rows] = values.round().clamp(0, 255).to(torch.uint8)
    return composite


def _brightness(file: Image.Image) -> np.ndarray:
    if file.mode.startswith("I"):  # 16 bits, of which Pillow would keep the low byte
        values = np.asarray(file).astype(np.float64)
        return (values / 257 if values.max() > 255 else values).round().clip(0, 255).astype(np.uint8)
    return np.array(file.convert("L"))
