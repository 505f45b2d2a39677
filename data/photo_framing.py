"""A photo of any size and shape made to look like a picture of the training data.

The object is cut out by its mask, put on white, and placed in the middle of a square of which the larger side
of its bounding box fills `FILL`: the mean over the silhouettes of the embedded cars (0.63, with a standard
deviation of 0.10; 0.64 in the views of real cars rendered in the same way).

The mask is a file of its own, or the photo's transparency, or, on white ground, whatever is not white. A
photo with none of these is taken whole. An alpha channel that leaves all but a few pixels opaque is no mask.
What is half transparent belongs to the object where it can be seen. Photos are turned upright as their EXIF
entry says.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, UInt8
from PIL import Image
from torch import Tensor

from data.images import on_white_ground
from data.masks import on_white, opacity_of, read_mask
from data.picture_files import decoded, profile_notice

FILL = 0.63  # of the picture's side, by the larger side of the object's bounding box
LARGEST = 1024  # pixels, side of a framed picture; larger ones are shrunk
WHITE = 240  # darkest level of white ground in all colours
GROUND_SHARE = 0.8  # of the pixels along the edges that must be white where the ground is
EDGE = 0.01  # width of these edges as a share of the shorter side
SPECK = 0.005  # of the photo's width or height; rows and columns with less of the object are dirt
CUT_OUT = 0.03  # least share of transparent pixels, the edges aside, of a photo that is cut out by its alpha
SOLID = 230  # opacity from which a pixel is no longer half transparent
HALF_SHARE = 0.02  # of the visible pixels, soft outlines aside, that may be half transparent without notice
OUTLINE = 0.02  # width of soft outlines as a share of the shorter side
WITHOUT_MASK = (
    "its background is neither white nor transparent, so the whole picture is used; remove the background, "
    "or give --mask, for a likeness of the object alone"
)


@dataclass(frozen=True)
class FramedPhoto:
    """A photo as a square; `notice` is what its owner should know, in one line."""

    picture: UInt8[Tensor, "k k 3"]
    notice: str | None = None


@dataclass(frozen=True)
class Box:
    """A rectangle of pixels: rows and columns from the first to before the last."""

    top: int
    left: int
    bottom: int
    right: int


def frame_photo(photo: Path, mask: Path | None = None, *, fill: float = FILL) -> FramedPhoto:
    """The object of a photo in the middle of a white square, filling `fill` of it.

    Raises ValueError where a file cannot be used or there is no object in it.
    """
    # The photo, and what is known of where the object is.
    picture, opacity = read_upright(photo)
    if mask is not None:
        opacity = read_mask(mask, upright=True)
        if opacity.shape != picture.shape[:2]:
            raise ValueError(
                f"{mask}: is {opacity.shape[1]} x {opacity.shape[0]}, but {photo} is {picture.shape[1]} x "
                f"{picture.shape[0]} when upright; give a mask of the same size"
            )
        picture = on_white(picture, opacity)
    elif opacity is not None and not is_cut_out(opacity):
        opacity = None
    seen = object_mask(picture, opacity)

    # The square round the object, or round the whole photo.
    notices = [profile_notice(photo)]
    if seen is None:
        notices.append(WITHOUT_MASK)
        frame = _whole(picture)
    else:
        box = bounding_box(seen)
        if box is None:
            raise ValueError(
                f"{mask or photo}: shows no object, as everything is background; give another file"
            )
        notices.append(None if opacity is None else _half_notice(seen, opacity))
        frame = _frame(box, fill)
    said = [notice for notice in notices if notice is not None]
    return FramedPhoto(
        _shrunk(_square(picture, frame)), f"{photo}: {'; also, '.join(said)}" if said else None
    )


def profile_notices(photos: Sequence[Path]) -> list[str]:
    """A line for each photo whose colour profile is ignored."""
    notices = ((photo, profile_notice(photo)) for photo in photos)
    return [f"{photo}: {notice}" for photo, notice in notices if notice is not None]


def frame_picture(picture: UInt8[Tensor, "h w 3"], *, fill: float = FILL) -> UInt8[Tensor, "k k 3"] | None:
    """The same of a picture that is read already; one that is not on white ground is taken whole.

    None: all of it is white.
    """
    seen = object_mask(picture, None)
    box = _whole(picture) if seen is None else bounding_box(seen)
    if box is None:
        return None
    return _shrunk(_square(picture, box if seen is None else _frame(box, fill)))


def read_upright(photo: Path) -> tuple[UInt8[Tensor, "h w 3"], UInt8[Tensor, "h w"] | None]:
    """A photo on white, upright, and its opacity, where it knows transparency.

    Raises ValueError where it is no readable picture.
    """
    try:
        image = decoded(photo, upright=True)
    except ValueError as error:
        if photo.suffix.lower() in (".heic", ".heif", ".dng", ".raw") and photo.is_file():
            raise ValueError(
                f"{photo}: this kind of photo cannot be read; convert it to JPEG or PNG"
            ) from error
        raise
    return on_white_ground(image), opacity_of(image)


def is_cut_out(opacity: UInt8[Tensor, "h w"]) -> bool:
    """Whether an alpha channel removes a background: a real share of the pixels is transparent.

    A few transparent pixels, small rounded corners, a thin rim or pixels that are nearly opaque are none.
    """
    transparent = opacity < 128
    margin = math.ceil(EDGE * min(transparent.shape))
    inner = transparent[margin:-margin, margin:-margin]
    return bool(inner.numel() and inner.sum() >= CUT_OUT * inner.numel())


def object_mask(
    picture: UInt8[Tensor, "h w 3"], opacity: UInt8[Tensor, "h w"] | None
) -> Bool[Tensor, "h w"] | None:
    """Where the object is: by opacity if any pixel is transparent, else by the ground if that is white.

    Half transparent pixels belong to it where they can be seen: `picture` is on white. None: it is neither.
    """
    if opacity is not None and opacity.min() < 255:
        return (opacity > 127) | (picture < WHITE).any(dim=-1)
    dark = (picture < WHITE).any(dim=-1)
    width = max(1, math.ceil(EDGE * min(dark.shape)))
    inside = torch.zeros_like(dark)
    inside[width:-width, width:-width] = True
    return dark if (~dark[~inside]).float().mean() >= GROUND_SHARE else None


def bounding_box(seen: Bool[Tensor, "h w"]) -> Box | None:
    """The rows and columns that show the object, specks left out; None: there are none."""
    height, width = seen.shape
    rows = (seen.sum(dim=1) >= max(1, SPECK * width)).nonzero()
    columns = (seen.sum(dim=0) >= max(1, SPECK * height)).nonzero()
    if not len(rows) or not len(columns):
        return None
    return Box(int(rows[0]), int(columns[0]), int(rows[-1]) + 1, int(columns[-1]) + 1)


def _half_notice(seen: Bool[Tensor, "h w"], opacity: UInt8[Tensor, "h w"]) -> str | None:
    """What to say if much of what can be seen is half transparent, soft outlines aside."""
    height, width = seen.shape
    side = max(3, math.ceil(OUTLINE * min(height, width)))
    half = seen & (opacity < SOLID)
    # Squares of which all pixels are half transparent; what is thinner than a square fills none.
    half = half[: height // side * side, : width // side * side]
    squares = half.unflatten(0, (-1, side)).unflatten(2, (-1, side)).all(dim=3).all(dim=1)
    if squares.sum() * side**2 <= HALF_SHARE * seen.sum():
        return None
    share = float((seen & (opacity < SOLID)).sum() / seen.sum())
    return (
        f"{share:.0%} of what it shows is half transparent, like a shadow or a part of the object that was "
        "removed with the background; all of it is kept; give --mask for the object alone"
    )


def _frame(box: Box, fill: float) -> Box:
    """The square round a box of which its larger side fills a share."""
    side = max(1, round(max(box.bottom - box.top, box.right - box.left) / fill))
    top = math.floor((box.top + box.bottom - side) / 2 + 0.5)
    left = math.floor((box.left + box.right - side) / 2 + 0.5)
    return Box(top, left, top + side, left + side)


def _whole(picture: UInt8[Tensor, "h w 3"]) -> Box:
    """The smallest square round the picture."""
    height, width = picture.shape[:2]
    side = max(height, width)
    top, left = -((side - height) // 2), -((side - width) // 2)
    return Box(top, left, top + side, left + side)


def _square(picture: UInt8[Tensor, "h w 3"], frame: Box) -> UInt8[Tensor, "k k 3"]:
    """What is in the frame, with white beyond the picture."""
    height, width = picture.shape[:2]
    square = picture.new_full((frame.bottom - frame.top, frame.right - frame.left, 3), 255)
    top, left = max(0, frame.top), max(0, frame.left)
    part = picture[top : min(height, frame.bottom), left : min(width, frame.right)]
    row, column = top - frame.top, left - frame.left
    square[row : row + part.shape[0], column : column + part.shape[1]] = part
    return square


def _shrunk(picture: UInt8[Tensor, "k k 3"]) -> UInt8[Tensor, "l l 3"]:
    """Area means by Pillow, which need no floating-point copy of millions of pixels."""
    if len(picture) <= LARGEST:
        return picture
    small = Image.fromarray(picture.numpy()).resize((LARGEST, LARGEST), Image.Resampling.BOX)
    return torch.from_numpy(np.array(small))
