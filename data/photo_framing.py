"""A photo of any size and shape made to look like a picture of the training data.

The object is cut out by its mask, put on white, and placed in the middle of a square of which the larger side
of its bounding box fills `FILL`: the mean over the silhouettes of the embedded cars (0.63, with a standard
deviation of 0.10; 0.64 in the views of real cars rendered in the same way).

The mask is a file of its own, or the photo's transparency, or what `data.cut_out` finds, or, on white ground,
whatever is not white. A photo with none of these is taken whole, or as much of it as lies in a box. Photos
are turned upright as their EXIF entry says.
"""

import math
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, UInt8
from PIL import Image
from torch import Tensor

from data.images import READ_ERRORS, picture_size, read_picture
from data.masks import on_white, read_mask, read_opacity

FILL = 0.63  # of the picture's side, by the larger side of the object's bounding box
LARGEST = 1024  # pixels, side of a framed picture; larger ones are shrunk
WHITE = 240  # darkest level of white ground in all colours
GROUND_SHARE = 0.8  # of the pixels along the edges that must be white where the ground is
EDGE = 0.01  # width of these edges as a share of the shorter side
SPECK = 0.005  # of the photo's width or height; rows and columns with less of the object are dirt
ORIENTATION = 0x0112  # EXIF
UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


@dataclass(frozen=True)
class Box:
    """A rectangle of pixels: rows and columns from the first to before the last."""

    top: int
    left: int
    bottom: int
    right: int


@dataclass(frozen=True)
class FramedPhoto:
    """A photo as a square; `notice` is what its owner should know, in one line.

    Of a photo that was cut out or has a box, `original` is all of it, upright, and `box` that box.
    """

    picture: UInt8[Tensor, "k k 3"]
    notice: str | None = None
    original: UInt8[Tensor, "h w 3"] | None = None
    box: Box | None = None


@dataclass(frozen=True)
class CutOut:
    """Where the object of a picture is; `doubts` are reasons why that may be wrong, without the path."""

    opacity: UInt8[Tensor, "h w"]
    doubts: tuple[str, ...] = ()


BackgroundRemover = Callable[[Tensor, Box | None], CutOut]  # of a picture, and a box that holds the object


def frame_photo(
    photo: Path,
    mask: Path | None = None,
    *,
    fill: float = FILL,
    box: Sequence[int] | None = None,
    remover: BackgroundRemover | None = None,
) -> FramedPhoto:
    """The object of a photo in the middle of a white square, filling `fill` of it.

    `box` is (x0, y0, x1, y1) in pixels of the upright photo; outside it everything is background. `remover`
    finds the object of a photo without mask or transparency. Raises ValueError where a file cannot be used or
    there is no object in it.
    """
    # The photo, and what is known of where the object is.
    picture, opacity = read_upright(photo)
    original, notices = picture, []
    area = None if box is None else _pixel_box(box, photo, picture)
    if mask is not None:
        opacity = _upright(read_mask(mask), mask)
        if opacity.shape != picture.shape[:2]:
            raise ValueError(
                f"{mask}: is {opacity.shape[1]} x {opacity.shape[0]}, but {photo} is {picture.shape[1]} x "
                f"{picture.shape[0]} when upright; give a mask of the same size"
            )
        picture = on_white(picture, opacity)
    elif remover is not None and opacity is not None and opacity.min() < 255:
        notices.append("is cut out already, as it has transparent pixels; --cut-out leaves it as it is")
    elif remover is not None:
        opacity, doubts = _remove_background(picture, remover, area, photo)
        picture = on_white(picture, opacity)
        notices += doubts
    seen = object_mask(picture, opacity)

    # What of it is used, and the square round that.
    if seen is None and remover is None:
        part = "picture" if area is None else "box"
        notices.append(
            f"its background is neither white nor transparent, so the whole {part} is used; give --cut-out, "
            "or --mask, for a likeness of the object alone"
        )
    if area is not None:
        picture, seen = _within(area, picture, seen)
    frame = _whole(picture) if seen is None else _frame_round(seen, fill, mask or photo)
    notice = f"{photo}: {'; '.join(notices)}" if notices else None
    kept = None if area is None and remover is None else original
    return FramedPhoto(_shrunk(_square(picture, frame)), notice, kept, area)


def read_upright(photo: Path) -> tuple[UInt8[Tensor, "h w 3"], UInt8[Tensor, "h w"] | None]:
    """A photo on white, upright, and its opacity, where it knows transparency.

    Raises ValueError where it is no readable picture.
    """
    try:
        picture, opacity = read_picture(photo), read_opacity(photo)
    except ValueError as error:
        if photo.suffix.lower() in (".heic", ".heif", ".dng", ".raw") and photo.is_file():
            raise ValueError(
                f"{photo}: this kind of photo cannot be read; convert it to JPEG or PNG"
            ) from error
        raise
    return _upright(picture, photo), None if opacity is None else _upright(opacity, photo)


def object_mask(
    picture: UInt8[Tensor, "h w 3"], opacity: UInt8[Tensor, "h w"] | None
) -> Bool[Tensor, "h w"] | None:
    """Where the object is: by opacity if any pixel is transparent, else by the ground if that is white.

    None: it is neither.
    """
    if opacity is not None and opacity.min() < 255:
        return opacity > 127
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


def _remove_background(
    picture: UInt8[Tensor, "h w 3"], remover: BackgroundRemover, area: Box | None, photo: Path
) -> tuple[UInt8[Tensor, "h w"], list[str]]:
    """Opacity of the object, and a notice if it may be wrong. Raises ValueError if there is no object."""
    try:
        found = remover(picture, area)
    except ValueError as error:
        raise ValueError(f"{photo}: {error}") from error
    if not found.doubts:
        return found.opacity, []
    advice = "--mask" if area is not None else "--box, or --mask,"
    return found.opacity, [
        f"--cut-out may be wrong ({'; '.join(found.doubts)}); look at it, and give {advice} if so"
    ]


def _pixel_box(box: Sequence[int], photo: Path, picture: UInt8[Tensor, "h w 3"]) -> Box:
    """A box (x0, y0, x1, y1) of the upright photo in pixels of `picture`, which may have been shrunk.

    Raises ValueError where it reaches beyond the photo.
    """
    sizes = sorted(picture_size(photo))
    height, width = sizes if picture.shape[0] <= picture.shape[1] else sizes[::-1]
    x0, y0, x1, y1 = box
    if not (0 <= x0 < x1 <= width and 0 <= y0 < y1 <= height):
        raise ValueError(
            f"{photo}: --box {x0} {y0} {x1} {y1} does not lie in it ({width} x {height} when upright); "
            "give X0 Y0 X1 Y1 with X0 < X1 and Y0 < Y1"
        )
    rows, columns = picture.shape[0] / height, picture.shape[1] / width
    return Box(math.floor(y0 * rows), math.floor(x0 * columns), math.ceil(y1 * rows), math.ceil(x1 * columns))


def _within(
    box: Box, picture: UInt8[Tensor, "h w 3"], seen: Bool[Tensor, "h w"] | None
) -> tuple[UInt8[Tensor, "k l 3"], Bool[Tensor, "k l"]]:
    """What a box holds; all of it is the object if nothing else is known."""
    rows, columns = slice(box.top, box.bottom), slice(box.left, box.right)
    part = picture[rows, columns]
    return part, torch.ones(part.shape[:2], dtype=torch.bool) if seen is None else seen[rows, columns]


def _frame_round(seen: Bool[Tensor, "h w"], fill: float, path: Path) -> Box:
    """The square round an object. Raises ValueError if there is none."""
    box = bounding_box(seen)
    if box is None:
        raise ValueError(f"{path}: shows no object, as everything is background; give another file")
    return _frame(box, fill)


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


def _upright(pixels: UInt8[Tensor, "h w *c"], path: Path) -> UInt8[Tensor, "k l *c"]:
    """Pixels of the file at `path`, turned as that says."""
    try:
        with Image.open(path) as file:
            turn = UPRIGHT.get(file.getexif().get(ORIENTATION))
    except (
        *READ_ERRORS,
        struct.error,
    ):  # the pixels were readable: a broken EXIF entry is no reason to refuse them
        return pixels
    if turn is None:
        return pixels
    return torch.from_numpy(np.array(Image.fromarray(pixels.numpy()).transpose(turn)))
