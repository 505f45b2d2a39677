"""Rectangles of pixels and the white squares that photos are placed in."""

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

LARGEST = 1024  # pixels, side of a framed picture; larger ones are shrunk


@dataclass(frozen=True)
class Box:
    """A rectangle of pixels: rows and columns from the first to before the last."""

    top: int
    left: int
    bottom: int
    right: int


def pixel_box(box: Sequence[int], photo: Path, picture: UInt8[Tensor, "h w 3"]) -> Box:
    """A box (x0, y0, x1, y1) of the upright photo in pixels of `picture`, which may have been shrunk.

    Raises ValueError if it reaches beyond the photo.
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


def frame_round(box: Box, fill: float) -> Box:
    """The square round a box of which its larger side fills a share."""
    side = max(1, round(max(box.bottom - box.top, box.right - box.left) / fill))
    top = math.floor((box.top + box.bottom - side) / 2 + 0.5)
    left = math.floor((box.left + box.right - side) / 2 + 0.5)
    return Box(top, left, top + side, left + side)


def whole_square(picture: UInt8[Tensor, "h w 3"]) -> Box:
    """The smallest square round the picture."""
    height, width = picture.shape[:2]
    side = max(height, width)
    top, left = -((side - height) // 2), -((side - width) // 2)
    return Box(top, left, top + side, left + side)


def cut_square(picture: UInt8[Tensor, "h w 3"], frame: Box) -> UInt8[Tensor, "k k 3"]:
    """What is in the frame, with white beyond the picture."""
    height, width = picture.shape[:2]
    square = picture.new_full((frame.bottom - frame.top, frame.right - frame.left, 3), 255)
    top, left = max(0, frame.top), max(0, frame.left)
    part = picture[top : min(height, frame.bottom), left : min(width, frame.right)]
    row, column = top - frame.top, left - frame.left
    square[row : row + part.shape[0], column : column + part.shape[1]] = part
    return square


def shrunk_square(picture: UInt8[Tensor, "k k 3"]) -> UInt8[Tensor, "l l 3"]:
    """Area means by Pillow, which need no floating-point copy of millions of pixels."""
    if len(picture) <= LARGEST:
        return picture
    small = Image.fromarray(picture.numpy()).resize((LARGEST, LARGEST), Image.Resampling.BOX)
    return torch.from_numpy(np.array(small))
