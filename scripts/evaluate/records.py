"""What an evaluation leaves on disk of each object: its pictures, and the figures of every view."""

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
    """The figures of an object. None stands for what is no finite number: the PSNR of equal pictures."""

    name: str
    category: str
    sources: tuple[int, ...]
    views: tuple[int, ...]
    scores: dict[str, dict[str, list[float | None]]]  # by method and metric: of each view, in their order
    geometry: dict[str, float | None]  # of the volume; empty where the set has no depth


@dataclass(frozen=True)
class ObjectFolder:
    """Where the pictures and figures of an object lie."""

    path: Path

    def picture(self, method: str, view: int) -> Path:
        """The file of a view as a method draws it."""
        return self.path / method / f"{view:06d}.png"

    def write(self, method: str, view: int, image: Tensor) -> None:
        """Write an image [3, h, w] in [-1, 1] in 8 bits. Raises ValueError where that is not possible."""
        write_png(self.picture(method, view), to_uint8(image))

    def read(self, method: str, views: tuple[int, ...]) -> Tensor:
        """Images [v, 3, h, w] as their files have them. Raises ValueError where one cannot be read."""
        return from_uint8(torch.stack([read_picture(self.picture(method, view)) for view in views]))

    def is_whole(self, method: str, views: tuple[int, ...]) -> bool:
        """Whether there are the pictures of all those views, none of them damaged."""
        try:
            self.read(method, views)
        except (ValueError, RuntimeError):  # torch's, where sizes differ
            return False
        return True

    def record(self) -> Record | None:
        """The figures; None where they are not there, or damaged."""
        try:
            return Record.model_validate_json((self.path / "figures.json").read_bytes())
        except (OSError, ValueError):
            return None

    def keep(self, record: Record) -> None:
        """Write the figures, after which the object counts as done."""
        text = record.model_dump_json(indent=1)
        write_text_whole(self.path / "figures.json", text + "\n")


def mean_method(num_seeds: int) -> str:
    """The method that shows the mean image of the samples from the first seeds."""
    return f"mean_of_{num_seeds}"


def seeds_of_mean(method: str) -> int | None:
    """How many samples a `mean_method` is of; None: it is another method."""
    prefix, _, number = method.rpartition("_")
    return int(number) if prefix == "mean_of" and number.isdigit() else None


def seed_method(number: int) -> str:
    """The method that draws samples from the seed of that number."""
    return f"seed_{number}"
