"""Photos of an object for tests: drawn, saved, found again."""

from pathlib import Path

import numpy as np
import torch
from PIL import Image

OBJECT = (200, 60, 20)
GREEN, WHITE = (10, 120, 40), (255, 255, 255)


def draw(
    height: int, width: int, box: tuple[int, int, int, int], *, ground: tuple[int, ...] = WHITE
) -> np.ndarray:
    """An object that fills a box (top, left, bottom, right), its upper left quarter blue."""
    picture = np.full((height, width, 3), ground, np.uint8)
    top, left, bottom, right = box
    picture[top:bottom, left:right] = OBJECT
    picture[top : (top + bottom) // 2, left : (left + right) // 2] = (0, 0, 255)
    return picture


def opacity_of(height: int, width: int, box: tuple[int, int, int, int]) -> np.ndarray:
    opacity = np.zeros((height, width), np.uint8)
    opacity[box[0] : box[2], box[1] : box[3]] = 255
    return opacity


def save(path: Path, pixels: np.ndarray, **options: object) -> Path:
    Image.fromarray(pixels).save(path, **options)
    return path


def box_of(picture: torch.Tensor) -> tuple[int, int, int, int]:
    """Where a framed picture is not white."""
    seen = (picture < 200).any(dim=-1)
    rows, columns = seen.any(dim=1).nonzero(), seen.any(dim=0).nonzero()
    return int(rows[0]), int(columns[0]), int(rows[-1]) + 1, int(columns[-1]) + 1
