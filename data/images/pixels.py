"""Pixels as numbers: bytes and floats in [-1, 1], and resizing."""

import numpy as np
import torch
from jaxtyping import Float, UInt8
from PIL import Image
from torch import Tensor


def to_uint8(images: Float[Tensor, "*batch 3 h w"]) -> UInt8[Tensor, "*batch h w 3"]:
    """Images in [-1, 1] as pictures, rounded; values outside are clipped."""
    return ((images.detach().float().clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8).movedim(-3, -1)


def from_uint8(pictures: UInt8[Tensor, "*batch h w 3"]) -> Float[Tensor, "*batch 3 h w"]:
    """Pictures as images in [-1, 1]: the inverse of `to_uint8`."""
    return pictures.movedim(-1, -3).float() / 127.5 - 1


def resize_area(picture: UInt8[Tensor, "h w 3"], height: int, width: int) -> UInt8[Tensor, "k l 3"]:
    """Every new pixel is the mean of the old picture over the rectangle it covers, exact but for rounding."""
    if picture.shape[:2] == (height, width):
        return picture
    # In numpy: thousands of small pictures lose more to torch's threads than they gain.
    pixels = area_means(picture.numpy(), height, width)
    return torch.from_numpy(np.ascontiguousarray(pixels.round().astype(np.uint8)))


def area_means(values: np.ndarray, height: int, width: int) -> Float[np.ndarray, "k l *channels"]:
    """Means of an array [h, w, ...] over the rectangles that a grid of height x width cuts it into."""
    rows = _stretch_means(values.astype(np.float64), height)
    return _stretch_means(rows.swapaxes(0, 1), width).swapaxes(0, 1)


def resize_bicubic(picture: UInt8[Tensor, "h w 3"], height: int, width: int) -> UInt8[Tensor, "k l 3"]:
    """Pillow's bicubic filter, widened where the picture shrinks: sharper than areas, with slight halos."""
    if picture.shape[:2] == (height, width):
        return picture
    resized = Image.fromarray(picture.numpy()).resize((width, height), Image.Resampling.BICUBIC)
    return torch.from_numpy(np.array(resized))


RESAMPLING = {"area": resize_area, "bicubic": resize_bicubic}


def _stretch_means(values: np.ndarray, num_new: int) -> np.ndarray:
    """Cut the first axis into `num_new` equal stretches and take their means; a pixel may be cut, too."""
    num_old = len(values)
    edges = np.arange(num_new + 1) * num_old / num_new
    pixel = np.minimum(edges.astype(int), num_old - 1)
    # The integral from 0 to each edge: all the pixels before it and a part of the one that it cuts.
    before = np.concatenate([np.zeros_like(values[:1]), np.cumsum(values, axis=0)])
    into = (edges - pixel).reshape(-1, *[1] * (values.ndim - 1))
    integral = before[pixel] + into * values[pixel]
    return np.diff(integral, axis=0) * num_new / num_old
