"""A world with known poses and no cameras: random textures that move across the picture, edge to edge.

A frame is the texture shifted cyclically by whole pixels, so that phase correlation reads the shift back.
"""

import numpy as np
import torch
from jaxtyping import Float, UInt8
from numpy import ndarray
from torch import Tensor

SMOOTH = 0.12  # highest frequency kept, in cycles per pixel
FASTEST = 2  # pixels from frame to frame, along each axis


def shifting_texture(seed: int, num: int, size: int) -> UInt8[ndarray, "t h w 3"]:
    """Frames of one texture that moves steadily; neither axis stands still."""
    random = np.random.default_rng(seed)
    spectrum = np.fft.fft2(random.standard_normal((3, size, size)))
    rows, columns = np.meshgrid(np.fft.fftfreq(size), np.fft.fftfreq(size), indexing="ij")
    texture = np.fft.ifft2(spectrum * (np.hypot(rows, columns) < SMOOTH)).real
    texture /= 2.5 * texture.std(axis=(1, 2), keepdims=True)
    colours = ((texture.clip(-1, 1) + 1) * 127.5).round().astype(np.uint8).transpose(1, 2, 0)
    step = random.integers(1, FASTEST + 1, 2) * random.choice([-1, 1], 2)
    return np.stack([np.roll(colours, tuple(number * step), axis=(0, 1)) for number in range(num)])


def read_shift(first: Float[Tensor, "3 h w"], second: Float[Tensor, "3 h w"]) -> tuple[int, int]:
    """Rows and columns by which the second picture is shifted, by phase correlation over all colours.

    Only frequencies of the textures count: the others of a drawn picture hold its errors alone.
    """
    height, width = first.shape[-2:]
    product = torch.fft.fft2(second.double()) * torch.fft.fft2(first.double()).conj()
    rows, columns = torch.fft.fftfreq(height)[:, None], torch.fft.fftfreq(width)
    phases = product / product.abs().clamp_min(1e-9) * (torch.hypot(rows, columns) < SMOOTH)
    peak = torch.fft.ifft2(phases).real.sum(dim=0)
    row, column = (int(place) for place in torch.unravel_index(peak.argmax(), peak.shape))
    return (row + height // 2) % height - height // 2, (column + width // 2) % width - width // 2
