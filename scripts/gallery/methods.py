"""What a gallery compares: films of the same objects, drawn in several ways, each with its figures."""

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
    """A figure of a film."""

    name: str
    unit: str
    rising: bool | None  # whether more is better; None: neither is


MEASURES = {
    "sample_psnr": Measure("Sample PSNR", "dB", True),
    "preview_psnr": Measure("Preview PSNR", "dB", True),
    "error": Measure("Reprojection error", "levels", False),
    "detail": Measure("Detail", "levels", None),
}


@dataclass(frozen=True)
class Entry:
    """A film and its figures."""

    film: ViewSequence
    figures: dict[str, float]  # of MEASURES, those that are known
    untrue: str  # why there is no truth; empty if there is


@dataclass(frozen=True)
class Method:
    """The films of one run or way: a column of the page."""

    label: str
    made: str  # how the first of them was drawn
    entries: dict[str, Entry]  # by the name of the object


class Truth:
    """What a split of a data set shows from the cameras of films; `config` None: no set is known.

    Raises ValueError if the set has no such split.
    """

    def __init__(self, config: DataConfig | None, split: Split):
        self._config, self._split = config, split
        if config is not None:
            open_split(config, split)  # errors of the whole set, before any film is read
        self._sets: dict[int, Objects] = {}  # by the size of pictures

    def images(self, film: ViewSequence) -> Float[Tensor, "t 3 h w"]:
        """Of every view of a film.

        Raises DamagedFileError if a file of the set cannot be used, and otherwise ValueError if the set
        has no such views.
        """
        if self._config is None:
            raise ValueError(f"{film.folder}: no data set is known to compare it with; give --data")
        height, width = picture_size(film.pictures[0])
        if height != width:
            raise ValueError(f"{film.folder}: its pictures are not square, as those of a data set are")
        if height not in self._sets:
            config = self._config.model_copy(update={"image_size": height})
            self._sets[height] = open_split(config, self._split)
        return set_views(film, self._sets[height]).images[0]


def read_method(films: Sequence[ViewSequence], truth: Truth) -> Iterator[Entry]:
    """Measure films, one after another.

    Raises ValueError if a file of them or of the data set cannot be used, or one object has two films.
    """
    seen: dict[str, Path] = {}
    for film in films:
        if film.name in seen:
            raise ValueError(
                f"{film.folder}: shows {film.name}, as does {seen[film.name]}; give folders with one film of "
                "each object"
            )
        seen[film.name] = film.folder
        known, untrue = None, ""
        try:
            known = truth.images(film)
        except DamagedFileError:
            raise
        except ValueError as error:
            untrue = str(error)
        near = {} if known is None else _nearness(film, known)
        yield Entry(film, near | _steadiness(film), untrue)


def existing(paths: Sequence[Path]) -> Sequence[Path]:
    """All of the paths, unless none of them is there."""
    return paths if any(path.is_file() for path in paths) else ()


def read_alike(paths: Sequence[Path]) -> UInt8[Tensor, "n h w 3"]:
    """Pictures of one size. Raises ValueError if one cannot be read, or is of another size."""
    pictures = [read_picture(path) for path in paths]
    for path, picture in zip(paths, pictures, strict=True):
        if picture.shape != pictures[0].shape:
            raise ValueError(f"{path}: is of another size than {paths[0].name}; draw the film again")
    return torch.stack(pictures)


def made_by(film: ViewSequence) -> str:
    """How a film was drawn, in a few words; empty if there is no record.

    Raises ValueError if the record cannot be read.
    """
    record = record_of(film.folder)
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
    """A fact, if it is known."""
    known = isinstance(value, str | int | float) and value != ""
    return f"{name} {value}".strip() if known else ""


def _steadiness(film: ViewSequence) -> dict[str, float]:
    """What scripts.consistency finds with the film's own depth."""
    if not film.depths:
        return {}
    found = measured(seen_views(film, depths_of(film)))
    return _known({"error": found.error, "detail": found.detail})


def _nearness(film: ViewSequence, truth: Float[Tensor, "t 3 h w"]) -> dict[str, float]:
    """PSNR, the mean over views."""
    found = {}
    for name, paths in (("sample_psnr", film.pictures), ("preview_psnr", existing(film.previews))):
        if paths:
            images = from_uint8(read_alike(paths))
            if images.shape != truth.shape:
                raise ValueError(f"{paths[0]}: is of another size than the truth; draw the film again")
            found[name] = psnr(images, truth).mean().item()
    return found


def _known(figures: dict[str, float]) -> dict[str, float]:
    return {name: value for name, value in figures.items() if isfinite(value)}
