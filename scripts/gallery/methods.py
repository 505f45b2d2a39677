"""The methods that a gallery compares: view sequences of the same objects, with figures."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from data.config import DataConfig
from data.formats.registry import open_split
from data.images.files import picture_size, read_picture
from data.images.pixels import from_uint8
from data.images.quality import psnr
from data.scenes.damaged_files import DamagedFileError
from data.scenes.objects import Objects
from data.splits import Split
from scripts.sampling.consistency import measured
from scripts.sampling.reader import ViewSequence, depths_of, record_of, seen_views, set_views


@dataclass(frozen=True)
class Measure:
    """A figure of a view sequence."""

    name: str
    unit: str
    rising: bool | None  # whether higher is better; None if neither is


MEASURES = {
    "sample_psnr": Measure("Sample PSNR", "dB", True),
    "preview_psnr": Measure("Preview PSNR", "dB", True),
    "error": Measure("Reprojection error", "levels", False),
    "detail": Measure("Detail", "levels", None),
}


@dataclass(frozen=True)
class Entry:
    """A view sequence and its figures."""

    sequence: ViewSequence
    figures: dict[str, float]  # the known ones of MEASURES
    untrue: str  # why there is no truth; empty if there is


@dataclass(frozen=True)
class Method:
    """The view sequences of one run or way: a column of the page."""

    label: str
    made: str  # how the first of them was sampled
    entries: dict[str, Entry]  # by the name of the object


class Truth:
    """The true images of a split of a data set; `config` is None if the data set is unknown.

    Raises ValueError if the set has no such split.
    """

    def __init__(self, config: DataConfig | None, split: Split):
        self._config, self._split = config, split
        if config is not None:
            open_split(config, split)  # raises errors of the set before any views are read
        self._sets: dict[int, Objects] = {}  # by image size

    def images(self, sequence: ViewSequence) -> Float[Tensor, "t 3 h w"]:
        """The true images of a view sequence.

        Raises DamagedFileError if a file of the set is damaged, and otherwise ValueError if the set has no
        such views.
        """
        if self._config is None:
            raise ValueError(f"{sequence.folder}: no data set is known to compare it with; give --data")
        height, width = picture_size(sequence.pictures[0])
        if height != width:
            raise ValueError(f"{sequence.folder}: its images are not square like those of a data set")
        if height not in self._sets:
            config = self._config.model_copy(update={"image_size": height})
            self._sets[height] = open_split(config, self._split)
        return set_views(sequence, self._sets[height]).images[0]


def read_method(sequences: Sequence[ViewSequence], truth: Truth) -> Iterator[Entry]:
    """Measure view sequences, one by one.

    Raises ValueError if two of them show the same object.
    """
    seen: dict[str, Path] = {}
    for sequence in sequences:
        if sequence.name in seen:
            raise ValueError(
                f"{sequence.folder}: shows {sequence.name}, as does {seen[sequence.name]}; give folders "
                "in which each object occurs once"
            )
        seen[sequence.name] = sequence.folder
        known, untrue = None, ""
        try:
            known = truth.images(sequence)
        except DamagedFileError:
            raise
        except ValueError as error:
            untrue = str(error)
        near = {} if known is None else _nearness(sequence, known)
        yield Entry(sequence, near | _steadiness(sequence), untrue)


def existing(paths: Sequence[Path]) -> Sequence[Path]:
    """The paths, or none if none of them exists."""
    return paths if any(path.is_file() for path in paths) else ()


def read_alike(paths: Sequence[Path]) -> UInt8[Tensor, "n h w 3"]:
    """Read images of equal size. Raises ValueError if their sizes differ."""
    pictures = [read_picture(path) for path in paths]
    for path, picture in zip(paths, pictures, strict=True):
        if picture.shape != pictures[0].shape:
            raise ValueError(f"{path}: has another size than {paths[0].name}; sample the views again")
    return torch.stack(pictures)


def made_by(sequence: ViewSequence) -> str:
    """A short summary of the settings of a view sequence; empty if there is no record."""
    record = record_of(sequence.folder)
    options = record.get("sample")
    options = options if isinstance(options, dict) else {}
    checkpoint = record.get("checkpoint")
    facts = [
        _said("run", record.get("run")),
        _said("", checkpoint[0] if isinstance(checkpoint, list) else ""),
    ]
    facts += [_said("", options.get("sampler")), _said("steps", options.get("steps"))]
    guidance = options.get("guidance")
    facts += [_said("guidance", guidance)] if guidance != 1 else []
    facts += ["unconditional"] if options.get("unconditional") else []
    facts += [_said("policy", record.get("policy")), _said("look at", record.get("look_at"))]
    facts += ["same noise"] if record.get("same_noise") else []
    facts += [_said("joint", record.get("joint")), _said("seed", record.get("seed"))]
    return ", ".join(filter(None, facts))


def _said(name: str, value: Any) -> str:
    """Format a setting, if it is known."""
    known = isinstance(value, str | int | float) and value != ""
    return f"{name} {value}".strip() if known else ""


def _steadiness(sequence: ViewSequence) -> dict[str, float]:
    """The figures of scripts.consistency with the sequence's own depth."""
    if not sequence.depths:
        return {}
    found = measured(seen_views(sequence, depths_of(sequence)))
    return _known({"error": found.error, "detail": found.detail})


def _nearness(sequence: ViewSequence, truth: Float[Tensor, "t 3 h w"]) -> dict[str, float]:
    """PSNR, averaged over views."""
    found = {}
    for name, paths in (("sample_psnr", sequence.pictures), ("preview_psnr", existing(sequence.previews))):
        if paths:
            images = from_uint8(read_alike(paths))
            if images.shape != truth.shape:
                raise ValueError(f"{paths[0]}: has another size than the truth; sample the views again")
            found[name] = psnr(images, truth).mean().item()
    return found


def _known(figures: dict[str, float]) -> dict[str, float]:
    return {name: value for name, value in figures.items() if isfinite(value)}
