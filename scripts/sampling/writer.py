"""Write the output of sampling an object to a folder: images, videos, a contact sheet and the cameras."""

import json
import re
import uuid
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from data.cameras.pinhole import Cameras
from data.cameras.transforms_json import read_document, to_transforms
from data.files import write_text_whole, write_whole
from data.formats.srn.layout import DEPTH_STEPS
from data.images.display import colourise, enlarge, grid, with_scale
from data.images.files import read_picture, write_depth, write_mp4, write_png
from data.images.pixels import to_uint8
from data.scenes.batch import Views
from data.scenes.views import evenly_spaced
from models.base import Prediction, surface_depth
from models.sampling.finite import require_finite
from scripts.sampling.reader import RECORD
from scripts.sampling.weights_film import WeightsFilm

WIDEST = 64.0  # 8-bit levels at the end of the colour bar, the same for all images


VIDEO_SIDE = 256  # pixels; smaller views are enlarged by an integer factor to about this side in videos
WIDEST_VIDEO = 2048  # pixels
SHEET_COLUMNS = 10
SHEET_VIEWS = 200  # if there are more views, so many evenly spaced ones are shown
STEPS_VIEWS = 4  # views whose denoising is shown
WRITTEN = re.compile(
    r"(view|preview|depth|depth16|weights|steps|draft|spread_mean|spread_std|sample|cond)_\d+(_\d+)?\.png|"
    r"views\.mp4|weights\.mp4|progress\.mp4|sheet\.png|transforms\.json"
)


class SampleWriter:
    """Writes the views of one object from `cameras` [t], each as soon as it is finished.

    Views are identified by number and may be added in any order; an existing view is complete, with all its
    files. Memory does not grow with their number, except for the sheet. All names begin with `prefix`; videos
    have `fps` frames per second; each view has `num_samples` samples. `truth` gives the true image of a view,
    if there is one.
    """

    def __init__(
        self,
        folder: Path,
        cameras: Cameras,
        *,
        prefix: str = "",
        fps: float = 10.0,
        num_samples: int = 1,
        truth: Callable[[int], UInt8[Tensor, "h w 3"] | None] | None = None,
    ):
        self.folder, self._cameras, self._prefix, self._fps = folder, cameras, prefix, fps
        self._num_samples, self._truth = num_samples, truth
        self._weights_film = WeightsFilm(self.path)
        self._source: UInt8[Tensor, "s h w 3"] | None = None
        self._drawn: list[int] = []  # the views that were added, in order
        self._steps: dict[int, list[UInt8[Tensor, "h w 3"]]] = {}  # of the first of them, step by step
        # Scene units per level of depth images: as fine as the SRN layout, or coarser to reach the far plane.
        self._depth_step = max(1 / DEPTH_STEPS, float(cameras.far.max()) / 65535)

    def path(self, name: str) -> Path:
        """The path of a file."""
        return self.folder / f"{self._prefix}{name}"

    def open(self, settings: Mapping[str, Any]) -> str | None:
        """Prepare the folder for views made with `settings` (JSON data), deleting views of other settings.

        Returns a notice if there were any. Raises ValueError if the folder is not writable.
        """
        trial = self.path(f"{uuid.uuid4().hex[:16]}.png")  # as long as the longest file name
        try:
            write_whole(trial, lambda partial: partial.touch())
            trial.unlink()
        except (OSError, ValueError) as error:
            raise ValueError(f"{self.folder}: no output can be written there; {error}") from error
        record, text = self.path(RECORD), json.dumps(settings, indent=1) + "\n"
        if record.is_file() and record.read_text(encoding="utf-8") == text:
            return None
        others = _differing(record, settings)
        record.unlink(missing_ok=True)  # first, so that an interrupted deletion leaves no valid record
        for path in self.folder.iterdir():
            name = path.name.removeprefix(self._prefix)
            if path.name.startswith(self._prefix) and WRITTEN.fullmatch(name):
                path.unlink()
        write_text_whole(record, text)
        if not others:
            return None
        return (
            f"{self.folder}: views of another command (other {others}) are replaced; give "
            "--output or --prefix to keep both"
        )

    @property
    def done(self) -> frozenset[int]:
        """The finished views, with all their files."""
        done = self._existing("view")
        for part in (self._existing(name) for name in ("preview", "depth16", "weights")):
            done &= part or done  # some families have them for no view, the others for every view
        return done

    @property
    def drafted(self) -> frozenset[int]:
        """The views that have drafts."""
        return self._existing("draft")

    def view(self, number: int) -> UInt8[Tensor, "n h w 3"]:
        """Read all samples of a finished view."""
        return self._read("view", number)

    def draft(self, number: int) -> UInt8[Tensor, "n h w 3"]:
        """Read all samples of a draft."""
        return self._read("draft", number)

    def add_source(self, source: Views) -> None:
        """Write the conditioning views, of a batch of one scene."""
        self._source = to_uint8(source.images[0][source.valid[0]]).cpu()
        for number, picture in enumerate(self._source):
            write_png(self.path(f"cond_{number:02d}.png"), picture)

    def add_draft(self, numbers: Sequence[int], prediction: Prediction) -> None:
        """Write drafts of the views of these numbers: a scene of the batch for each sample.

        Raises ValueError if a view is not finite.
        """
        _require_finite(numbers, prediction)
        for number, samples in zip(numbers, to_uint8(prediction.images).cpu().unbind(1), strict=True):
            self._write("draft", number, samples)

    def add(self, numbers: Sequence[int], prediction: Prediction) -> None:
        """Write the views of these numbers: a scene of the batch for each sample, all of the same object.

        Previews and depth are those of the first sample. Raises ValueError if a view is not finite.
        """
        _require_finite(numbers, prediction)
        if prediction.preview is not None:
            for number, preview in zip(numbers, to_uint8(prediction.preview[0]).cpu(), strict=True):
                write_png(self.path(f"preview_{number:04d}.png"), preview)
        if prediction.depth is not None:
            self._add_depth(numbers, prediction)
        if prediction.weights is not None:
            self._weights_film.add(numbers, prediction.weights[0], len(self._source))
        pictures = to_uint8(prediction.images).cpu()
        for index, number in enumerate(numbers):
            if self._num_samples > 1:
                mean, deviation = mean_and_deviation(pictures[:, index])
                write_png(self.path(f"spread_mean_{number:04d}.png"), mean)
                write_png(self.path(f"spread_std_{number:04d}.png"), deviation_picture(deviation))
            self._write("view", number, pictures[:, index])
        self._drawn += numbers

    def _add_depth(self, numbers: Sequence[int], prediction: Prediction) -> None:
        """Write depth as colours, and as 16-bit values where the view is opaque."""
        near, far = self._cameras.near.min().item(), self._cameras.far.max().item()
        cameras = self._cameras[list(numbers)].apply(lambda tensor: tensor.to(prediction.depth.device))
        surface = surface_depth(prediction.depth[0], prediction.opacity[0], cameras).cpu()
        depths = colourise(prediction.depth[0, :, 0], near, far).cpu()
        for index, number in enumerate(numbers):
            write_png(self.path(f"depth_{number:04d}.png"), depths[index])
            write_depth(self.path(f"depth16_{number:04d}.png"), surface[index], step=self._depth_step)

    def add_estimate(self, step: int, clean: Float[Tensor, "b t 3 h w"]) -> None:
        """Record the clean images as a denoising step of the views in progress estimates them."""
        self._weights_film.record(step, clean)

    def add_step(self, clean: Float[Tensor, "b t 3 h w"]) -> None:
        """Record a denoising step of the views in progress for progress.mp4."""
        first = len(self._drawn)
        for place, picture in enumerate(to_uint8(clean[0, : max(0, STEPS_VIEWS - first)]).cpu(), start=first):
            self._steps.setdefault(place, []).append(picture)

    def close(self) -> list[Path]:
        """Write the videos, the sheet and the cameras; returns their paths, the most important first.

        All views must be finished.
        """
        height, width = self.view(0).shape[1:3]
        scale = max(1, round(VIDEO_SIDE / height))
        count = len(self._cameras.near)
        written = [self.path("views.mp4"), self.path("sheet.png"), self.path("transforms.json")]
        pairs = (self._pair(number).flatten(0, 1) for number in range(count))
        write_mp4(written[0], pairs, fps=self._fps, scale=scale)
        write_png(written[1], enlarge(self._sheet(count), max(1, scale // 2)))
        text = json.dumps(self._transforms(height, width), indent=1) + "\n"
        write_text_whole(written[2], text)
        if self._existing("weights"):
            written.append(self.path("weights.mp4"))
            frames = (self._weights_frame(number) for number in range(count))
            width = self._weights_frame(0).shape[1]
            write_mp4(written[-1], frames, fps=self._fps, scale=max(1, min(scale, WIDEST_VIDEO // width)))
        if self._steps:
            written.append(self.path("progress.mp4"))
            write_mp4(written[-1], self._steps_video(), fps=self._fps, scale=scale)
        return written

    def _existing(self, name: str) -> frozenset[int]:
        numbers = range(len(self._cameras.near))
        return frozenset(n for n in numbers if all(path.is_file() for path in self._names(name, n)))

    def _names(self, name: str, number: int) -> list[Path]:
        """The files of all samples of a view, in order."""
        others = {"view": "sample", "draft": "draft"}.get(name)
        count = self._num_samples if others else 1
        names = [f"{others}_{number:04d}_{sample:02d}.png" for sample in range(1, count)]
        return [self.path(file) for file in (f"{name}_{number:04d}.png", *names)]

    def _write(self, name: str, number: int, samples: UInt8[Tensor, "n h w 3"]) -> None:
        # The first sample last: its file marks the view as complete.
        for path, picture in reversed(list(zip(self._names(name, number), samples, strict=True))):
            write_png(path, picture)

    def _read(self, name: str, number: int) -> UInt8[Tensor, "n h w 3"]:
        return torch.stack([read_picture(path) for path in self._names(name, number)])

    def _pair(self, number: int) -> UInt8[Tensor, "k h w 3"]:
        """A view and its preview, if it has one."""
        paths = [self.path(f"{name}_{number:04d}.png") for name in ("view", "preview")]
        return torch.stack([read_picture(path) for path in paths if path == paths[0] or path.is_file()])

    def _weights_frame(self, number: int) -> UInt8[Tensor, "k l 3"]:
        truth = self._truth and self._truth(number)
        return self._weights_film.frame(number, self._source, self.view(number)[0], truth)

    def _sheet(self, count: int) -> UInt8[Tensor, "k l 3"]:
        """Source views, then rows of views, each with a row of previews below."""
        shown = evenly_spaced(range(count), min(count, SHEET_VIEWS))
        pairs = torch.stack([self._pair(number) for number in shown])
        columns = min(SHEET_COLUMNS, max(len(pairs), len(self._source)))
        rows = [self._source, *(half for part in pairs.split(columns) for half in part.unbind(1))]
        white = [row.new_full((-len(row) % columns, *row.shape[1:]), 255) for row in rows]
        tiles = [tile for row, rest in zip(rows, white, strict=True) for tile in (row, rest)]
        return grid(torch.cat(tiles), columns=columns)

    def _steps_video(self) -> UInt8[Tensor, "n h w 3"]:
        """A frame of the first views, side by side, for every step; the last one is held for a second."""
        frames = [
            grid(torch.stack(views), columns=len(views)) for views in zip(*self._steps.values(), strict=True)
        ]
        final = torch.stack([self.view(number)[0] for number in self._drawn[: len(self._steps)]])
        frames += [grid(final, columns=len(final))] * max(1, round(self._fps))
        return torch.stack(frames)

    def _transforms(self, height: int, width: int) -> dict:
        numbers = range(len(self._cameras.near))
        names = [self.path(f"view_{number:04d}.png").name for number in numbers]
        document = to_transforms(self._cameras, names, height=height, width=width)
        for number, frame in zip(numbers, document["frames"], strict=True):
            depth = self.path(f"depth16_{number:04d}.png")
            if depth.is_file():
                frame["depth_file_path"] = depth.name
        return {"depth_unit_scale_factor": self._depth_step} | document


def _differing(record: Path, settings: Mapping[str, Any]) -> str:
    """The settings that differ from a record, in words; empty if there is no record."""
    if not record.is_file():
        return ""
    try:
        before = read_document(record)
    except ValueError:
        return "version"
    changed = [key.replace("_", " ") for key, value in settings.items() if before.get(key) != value]
    return ", ".join(changed) or "version"


def _require_finite(numbers: Sequence[int], prediction: Prediction) -> None:
    parts = [part for part in (prediction.images, prediction.preview, prediction.depth) if part is not None]
    for index, number in enumerate(numbers):
        require_finite(*(part[:, index] for part in parts), of=f"view {number}")


def mean_and_deviation(
    pictures: UInt8[Tensor, "n h w 3"],
) -> tuple[UInt8[Tensor, "h w 3"], Float[Tensor, "h w"]]:
    """The mean image, and the standard deviation of each pixel in 8-bit levels.

    The deviation is the root of the mean over colours of the unbiased variance over samples. There must be at
    least two samples.
    """
    values = pictures.double()
    mean = values.mean(dim=0).round().to(torch.uint8)
    return mean, values.var(dim=0).mean(dim=-1).sqrt().float()


def deviation_picture(deviation: Float[Tensor, "h w"]) -> UInt8[Tensor, "k l 3"]:
    """Deviations in 8-bit levels as colours, with a colour bar."""
    return with_scale(colourise(deviation, 0.0, WIDEST), 0.0, WIDEST)
