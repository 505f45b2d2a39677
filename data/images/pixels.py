"""Convert between uint8 and floats in [-1, 1], and resize."""

import numpy as np
import torch
from jaxtyping import Float, UInt8
from PIL import Image
from torch import Tensor


def to_uint8(images: Float[Tensor, "*batch 3 h w"]) -> UInt8[Tensor, "*batch h w 3"]:
    """Convert images in [-1, 1] to uint8 pictures, rounded; values outside are clipped."""
    return ((images.detach().float().clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8).movedim(-3, -1)


def from_uint8(pictures: UInt8[Tensor, "*batch h w 3"]) -> Float[Tensor, "*batch 3 h w"]:
    """Convert uint8 pictures to images in [-1, 1]: the inverse of `to_uint8`."""
    return pictures.movedim(-1, -3).float() / 127.5 - 1


def resize_area(picture: UInt8[Tensor, "h w 3"], height: int, width: int) -> UInt8[Tensor, "k l 3"]:
    """Resize by area: every new pixel is the exact mean over the rectangle it covers, up to rounding."""
    if picture.shape[:2] == (height, width):
        return picture
    # In numpy: for thousands of small images, torch's threads cost more than they gain.
    pixels = area_means(picture.numpy(), height, width)
    return torch.from_numpy(np.ascontiguousarray(pixels.round().astype(np.uint8)))


def area_means(values: np.ndarray, height: int, width: int) -> Float[np.ndarray, "k l *channels"]:
    """Average an array [h, w, ...] over the cells of a height x width grid."""
    rows = _stretch_means(values.astype(np.float64), height)
    return _stretch_means(rows.swapaxes(0, 1), width).swapaxes(0, 1)


def resize_bicubic(picture: UInt8[Tensor, "h w 3"], height: int, width: int) -> UInt8[Tensor, "k l 3"]:
    """Resize by Pillow's antialiased bicubic filter: sharper than areas, with slight ringing."""
    if picture.shape[:2] == (height, width):
        return picture
    resized = Image.fromarray(picture.numpy()).resize((width, height), Image.Resampling.BICUBIC)
    return torch.from_numpy(np.array(resized))


RESAMPLING = {"area": resize_area, "bicubic": resize_bicubic}


def _stretch_means(values: np.ndarray, num_new: int) -> np.ndarray:
    """Average the first axis over `num_new` equal intervals, which may include fractional pixels."""
    num_old = len(values)
    edges = np.arange(num_new + 1) * num_old / num_new
    pixel = np.minimum(edges.astype(int), num_old - 1)
    # The integral from 0 to each boundary: all pixels before it and a fraction of the one it cuts.
    before = np.concatenate([np.zeros_like(values[:1]), np.cumsum(values, axis=0)])
    into = (edges - pixel).reshape(-1, *[1] * (values.ndim - 1))
    integral = before[pixel] + into * values[pixel]
    return np.diff(integral, axis=0) * num_new / num_old
