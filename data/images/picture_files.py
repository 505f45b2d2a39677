"""Decode image files, for photos, data sets and textures alike.

Pixels are returned as 8-bit sRGB (`data.images.colour_profiles`). Images of more than `LARGE` pixels are
halved in both directions until they fit, JPEG files during decoding; a mask of the same size shrinks alike.
Images of more than `MOST` pixels are rejected. Every problem with a file is a one-line ValueError that starts
with its path.
"""

import math
import struct
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from data.files import first_line
from data.images.colour_profiles import in_srgb, profile_problem

LARGE = 32_000_000  # pixels
MOST = 250_000_000  # pixels
# Replaces Pillow's own limit, which warns at 89 million pixels and raises at twice as many.
Image.MAX_IMAGE_PIXELS = None
READ_ERRORS = (OSError, SyntaxError, ValueError, EOFError)  # raised by Pillow for bad files
EIGHT_BITS = np.round(np.arange(65536) / 257).astype(np.uint8)  # rounded from 16 bits


class TooLargeError(ValueError):
    """An image has more than `MOST` pixels."""


@contextmanager
def opened(path: Path, content: bytes | None = None) -> Iterator[Image.Image]:
    """An image file whose header has been read, and whose pixels are not decoded yet.

    `content` is the file's content if it is not on disk.

    Raises ValueError if it is not a readable image, also for errors inside the context.
    """
    try:
        with Image.open(path if content is None else BytesIO(content)) as file:
            require_size(file)
            yield file
    except READ_ERRORS as error:
        raise unreadable(path, error) from error


def decoded(path: Path, *, upright: bool = False, content: bytes | None = None) -> Image.Image:
    """The picture in a file in 8 bits, sRGB; `upright`: turned as its EXIF entry says, if that is readable.

    Modes: RGB, RGBA, L, LA, or another that Pillow converts to RGBA. Raises ValueError if the file is not a
    readable image.
    """
    with opened(path, content) as file:
        image = shrunk(file)
        if upright:
            turn_upright(image)
        return standard(image)


def standard(image: Image.Image, *, profiles: bool = True) -> Image.Image:
    """Convert a decoded image to 8-bit sRGB; its colour profile is ignored unless `profiles` is set.

    Raises ValueError if the pixels are floating-point numbers.
    """
    if image.mode == "F":
        raise ValueError("floating-point pixels")
    profile = image.info.get("icc_profile") if profiles else None
    if image.mode.startswith("I"):
        image = Image.fromarray(EIGHT_BITS[np.asarray(image).clip(0, 65535)])
    elif image.mode == "P" and profile:
        image = image.convert("RGBA" if image.has_transparency_data else "RGB")
    elif image.mode in ("L", "RGB") and profile and image.has_transparency_data:
        image = image.convert("RGBA")  # a colour key for transparency must be applied before colours change
    return in_srgb(image, profile)


def shrunk(file: Image.Image) -> Image.Image:
    """Return the pixels of a file as stored, halved in both directions until there are at most `LARGE`.

    Pixels are averaged, with colours weighted by opacity.
    """
    factor = shrink_factor(file.width, file.height)
    full = file.size
    if factor > 1:
        # JPEG files are decoded at reduced size; other formats ignore this.
        file.draft(None, (file.width // factor, file.height // factor))
    file.load()
    if factor == 1 or file.size != full:
        return file
    if file.mode.startswith("I;"):
        wide = Image.fromarray(np.asarray(file).astype(np.int32))
    elif file.mode == "1":
        wide = file.convert("L")
    elif file.mode == "P" or (file.mode in ("L", "RGB") and file.has_transparency_data):
        wide = file.convert("RGBA" if file.has_transparency_data else "RGB")
    else:
        wide = file
    small = wide.reduce(factor)
    small.info = {key: value for key, value in file.info.items() if key != "transparency"}
    return small


def shrink_factor(width: int, height: int) -> int:
    """Return the factor by which images of this size are shrunk, a power of two."""
    return 2 ** max(0, math.ceil(math.log2(width * height / LARGE) / 2))


def require_size(image: Image.Image) -> None:
    """Raise TooLargeError if an image has more than `MOST` pixels."""
    if image.width * image.height > MOST:
        raise TooLargeError(
            f"{image.width} x {image.height} is larger than {MOST // 10**6} megapixels; shrink it"
        )


def turn_upright(image: Image.Image) -> None:
    """Apply an image's EXIF orientation in place; a broken entry is ignored."""
    with warnings.catch_warnings(), suppress(*READ_ERRORS, struct.error, TypeError, KeyError):
        warnings.simplefilter("ignore")
        ImageOps.exif_transpose(image, in_place=True)


def profile_notice(path: Path) -> str | None:
    """Return a notice, without the path, if the colour profile of a file is ignored, else None.

    Raises ValueError if the file is no readable picture.
    """
    with opened(path) as file:
        problem = profile_problem(file.info.get("icc_profile"), file.mode)
    return problem and f"its colour profile is ignored ({problem}); convert it to sRGB"


def unreadable(path: Path, error: BaseException) -> ValueError:
    """Return the error to raise when reading an image failed with one of `READ_ERRORS`."""
    if isinstance(error, FileNotFoundError):
        return ValueError(f"{path}: there is no such file; give the path of an image")
    if isinstance(error, TooLargeError):
        return ValueError(f"{path}: {error}")
    return ValueError(f"{path}: not a readable image ({first_line(error)}); copy the file again")
