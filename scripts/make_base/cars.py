"""Render the cars that a base learns, with their captions."""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from data.files import first_line, write_synced
from data.formats.srn.writer import INTRINSICS
from data.meshes.datasets.camera_poses import random_poses
from data.meshes.ray_casting import render_views
from data.shapes.captions import car_caption
from data.shapes.cars import car
from scripts.make_base.options import FIRST_CAR, BaseOptions

CHUNK = 50  # cars a file
HELD_OUT_VIEWS = 4


@dataclass(frozen=True)
class CaptionedImages:
    """Images on white, and a caption each."""

    pixels: UInt8[Tensor, "n h w 3"]
    captions: list[str]

    def __len__(self) -> int:
        return len(self.captions)

    def images(self, indices: Tensor) -> Float[Tensor, "b 3 h w"]:
        """The images of these indices, in [-1, 1]."""
        return self.pixels[indices].permute(0, 3, 1, 2).float() / 127.5 - 1


def training_cars(
    folder: Path, options: BaseOptions, after_car: Callable[[], object] = lambda: None
) -> CaptionedImages:
    """Render the training cars to files in `folder`, or read those that an earlier call has written.

    Raises what `after_car` raises; OSError if a file cannot be written, ValueError if one is damaged.
    """
    chunks = []
    for start in range(0, options.cars, CHUNK):
        path = folder / f"{start:06d}.npz"
        numbers = range(FIRST_CAR + start, FIRST_CAR + min(start + CHUNK, options.cars))
        if not path.exists():
            images = _render(numbers, options.views, options, after_car)
            write_synced(path, lambda unfinished, images=images: _save(unfinished, images))
        chunks.append(_load(path))
    pixels, captions = zip(*chunks, strict=True)
    return CaptionedImages(torch.cat(pixels), list(chain.from_iterable(captions)))


def held_out_cars(options: BaseOptions) -> CaptionedImages:
    """Render cars whose numbers follow those of the training cars."""
    start = FIRST_CAR + options.cars
    return _render(range(start, start + options.held_out), HELD_OUT_VIEWS, options, lambda: None)


def _load(path: Path) -> tuple[UInt8[Tensor, "n h w 3"], list[str]]:
    try:
        with np.load(path) as arrays:
            return torch.from_numpy(arrays["pixels"]), arrays["captions"].tolist()
    except (ValueError, KeyError, EOFError, BadZipFile) as error:
        raise ValueError(f"{path}: is damaged ({first_line(error)}); delete it to render it again") from error


def _save(path: Path, images: CaptionedImages) -> None:
    with path.open("wb") as file:  # numpy would append its own suffix to a name
        np.savez(file, pixels=images.pixels.numpy(), captions=np.array(images.captions))


def _render(
    numbers: range, num_views: int, options: BaseOptions, after_car: Callable[[], object]
) -> CaptionedImages:
    pixels, captions = [], []
    for number in numbers:
        poses = random_poses(num_views, "band", np.random.default_rng((options.seed, number)))
        size = options.size
        views = render_views(car(number), poses, intrinsics=INTRINSICS, height=size, width=size)
        pixels += [torch.from_numpy(np.asarray(view.rgb).copy()) for view in views]
        captions += [car_caption(number, pose) for pose in poses]
        after_car()
    return CaptionedImages(torch.stack(pixels), captions)
