"""The files of an evaluated object: its images, and the figures of every view."""

from dataclasses import dataclass
from pathlib import Path

import torch
from pydantic import BaseModel
from torch import Tensor

from data.files import write_text_whole
from data.images.files import read_picture, write_png
from data.images.pixels import from_uint8, to_uint8

PREVIEW = "preview"
COPY, NEAREST, MEAN_IMAGE = "copy_input", "nearest_view", "mean_image"
BASELINES = (COPY, NEAREST, MEAN_IMAGE)


class Record(BaseModel, frozen=True, extra="forbid"):
    """The figures of an object. None stands for infinity: the PSNR of equal images."""

    name: str
    category: str
    sources: tuple[int, ...]
    views: tuple[int, ...]
    scores: dict[str, dict[str, list[float | None]]]  # by method and metric, for each of `views`
    geometry: dict[str, float | None]  # of the volume; empty if the set has no depth


@dataclass(frozen=True)
class ObjectFolder:
    """The folder of the images and figures of an object."""

    path: Path

    def picture(self, method: str, view: int) -> Path:
        """The file of a method's image of a view."""
        return self.path / method / f"{view:06d}.png"

    def write(self, method: str, view: int, image: Tensor) -> None:
        """Write an image [3, h, w] in [-1, 1] with 8 bits."""
        write_png(self.picture(method, view), to_uint8(image))

    def read(self, method: str, views: tuple[int, ...]) -> Tensor:
        """Read the images [v, 3, h, w] of views. Raises ValueError if a file is missing or damaged."""
        return from_uint8(torch.stack([read_picture(self.picture(method, view)) for view in views]))

    def is_whole(self, method: str, views: tuple[int, ...]) -> bool:
        """Whether the images of all views exist and are intact."""
        try:
            self.read(method, views)
        except (ValueError, RuntimeError):  # RuntimeError by torch, if sizes differ
            return False
        return True

    def record(self) -> Record | None:
        """Read the figures; None if they are missing or damaged."""
        try:
            return Record.model_validate_json((self.path / "figures.json").read_bytes())
        except (OSError, ValueError):
            return None

    def keep(self, record: Record) -> None:
        """Write the figures, which marks the object as done."""
        text = record.model_dump_json(indent=1)
        write_text_whole(self.path / "figures.json", text + "\n")


def mean_method(num_seeds: int) -> str:
    """The name of the method that averages the samples of the first seeds."""
    return f"mean_of_{num_seeds}"


def seeds_of_mean(method: str) -> int | None:
    """The number of samples that a `mean_method` averages; None for other methods."""
    prefix, _, number = method.rpartition("_")
    return int(number) if prefix == "mean_of" and number.isdigit() else None


def seed_method(number: int) -> str:
    """The name of the method that samples with the seed of this number."""
    return f"seed_{number}"
