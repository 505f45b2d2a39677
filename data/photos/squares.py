"""Pixel boxes and the white squares that photos are centred in."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import UInt8
from PIL import Image
from torch import Tensor

from data.images.files import picture_size

LARGEST = 1024  # pixels, side of a framed image; larger ones are shrunk


@dataclass(frozen=True)
class Box:
    """A half-open range of rows and columns."""

    top: int
    left: int
    bottom: int
    right: int


def pixel_box(box: Sequence[int], photo: Path, picture: UInt8[Tensor, "h w 3"]) -> Box:
    """Convert a box (x0, y0, x1, y1) of the upright photo to pixels of `picture`, which may have been shrunk.

    Raises ValueError if it exceeds the photo.
    """
    sizes = sorted(picture_size(photo))
    height, width = sizes if picture.shape[0] <= picture.shape[1] else sizes[::-1]
    x0, y0, x1, y1 = box
    if not (0 <= x0 < x1 <= width and 0 <= y0 < y1 <= height):
        raise ValueError(
            f"{photo}: --box {x0} {y0} {x1} {y1} is not inside it ({width} x {height} when upright); "
            "give X0 Y0 X1 Y1 with X0 < X1 and Y0 < Y1"
        )
    rows, columns = picture.shape[0] / height, picture.shape[1] / width
    return Box(math.floor(y0 * rows), math.floor(x0 * columns), math.ceil(y1 * rows), math.ceil(x1 * columns))


def frame_round(box: Box, fill: float) -> Box:
    """Return the square around a box of which its longer side is a fraction `fill`."""
    side = max(1, round(max(box.bottom - box.top, box.right - box.left) / fill))
    top = math.floor((box.top + box.bottom - side) / 2 + 0.5)
    left = math.floor((box.left + box.right - side) / 2 + 0.5)
    return Box(top, left, top + side, left + side)


def whole_square(picture: UInt8[Tensor, "h w 3"]) -> Box:
    """Return the smallest square around the image."""
    height, width = picture.shape[:2]
    side = max(height, width)
    top, left = -((side - height) // 2), -((side - width) // 2)
    return Box(top, left, top + side, left + side)


def cut_square(picture: UInt8[Tensor, "h w 3"], frame: Box) -> UInt8[Tensor, "k k 3"]:
    """Crop to the frame, padding with white."""
    height, width = picture.shape[:2]
    square = picture.new_full((frame.bottom - frame.top, frame.right - frame.left, 3), 255)
    top, left = max(0, frame.top), max(0, frame.left)
    part = picture[top : min(height, frame.bottom), left : min(width, frame.right)]
    row, column = top - frame.top, left - frame.left
    square[row : row + part.shape[0], column : column + part.shape[1]] = part
    return square


def shrunk_square(picture: UInt8[Tensor, "k k 3"]) -> UInt8[Tensor, "l l 3"]:
    """Shrink by Pillow's box filter, which needs no float copy of a huge image."""
    if len(picture) <= LARGEST:
        return picture
    small = Image.fromarray(picture.numpy()).resize((LARGEST, LARGEST), Image.Resampling.BOX)
    return torch.from_numpy(np.array(small))
