"""What is left of sampling: pictures, films, a contact sheet and the cameras, in one folder for an object."""

import json
import re
import uuid
from collections.abc import Mapping, Sequence
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
from scripts.sampling.reader import RECORD

WIDEST = 64.0  # levels of 8 bits; the end of the colour scale, the same for all pictures


FILM_SIDE = 256  # pixels; smaller views are enlarged by a whole factor to about this side in films
SHEET_COLUMNS = 10
SHEET_VIEWS = 200  # of more, as many are shown, evenly spaced
STEPS_VIEWS = 4  # views whose denoising is shown
WRITTEN = re.compile(
    r"(view|preview|depth|depth16|weights|draft|spread_mean|spread_std|sample|cond)_\d+(_\d+)?\.png|"
    r"views\.mp4|weights\.mp4|progress\.mp4|sheet\.png|transforms\.json"
)


class SampleWriter:
    """Files of the views of one object from `cameras` [t], each written as soon as it is known.

    Views go by their numbers, and may come in any order; a view that is there is whole, with all that belongs
    to it. Nothing grows with their number but the sheet. All names begin with `prefix`; films show `fps`
    frames a second; of each view there are `num_samples`.
    """

    def __init__(
        self,
        folder: Path,
        cameras: Cameras,
        *,
        prefix: str = "",
        fps: float = 10.0,
        num_samples: int = 1,
    ):
        self.folder, self._cameras, self._prefix, self._fps = folder, cameras, prefix, fps
        self._num_samples = num_samples
        self._source: UInt8[Tensor, "s h w 3"] | None = None
        self._drawn: list[int] = []  # the views that were added, as they came
        self._steps: dict[int, list[UInt8[Tensor, "h w 3"]]] = {}  # of the first of them, step by step
        # Of depth pictures, for one value: fine enough for the SRN layout, coarse enough for the far plane.
        self._depth_step = max(1 / DEPTH_STEPS, float(cameras.far.max()) / 65535)

    def path(self, name: str) -> Path:
        """Where the file of that name belongs."""
        return self.folder / f"{self._prefix}{name}"

    def open(self, settings: Mapping[str, Any]) -> str | None:
        """Make the folder ready for views made by `settings` (JSON data): others' views are deleted.

        Returns what to tell the user where there were others. Raises ValueError where no files can be written
        into it.
        """
        trial = self.path(f"{uuid.uuid4().hex[:16]}.png")  # as long as the longest name
        try:
            write_whole(trial, lambda partial: partial.touch())
            trial.unlink()
        except (OSError, ValueError) as error:
            raise ValueError(f"{self.folder}: no output can be written there; {error}") from error
        record, text = self.path(RECORD), json.dumps(settings, indent=1) + "\n"
        if record.is_file() and record.read_text(encoding="utf-8") == text:
            return None
        others = _differing(record, settings)
        record.unlink(missing_ok=True)  # first, so that half a deletion is not taken for whole views
        for path in self.folder.iterdir():
            name = path.name.removeprefix(self._prefix)
            if path.name.startswith(self._prefix) and WRITTEN.fullmatch(name):
                path.unlink()
        write_text_whole(record, text)
        if not others:
            return None
        return (
            f"{self.folder}: the views that another command (other {others}) left are replaced; give "
            "--output or --prefix to keep both"
        )

    @property
    def done(self) -> frozenset[int]:
        """The views that are there, with all that belongs to them."""
        done = self._existing("view")
        for part in (self._existing(name) for name in ("preview", "depth16", "weights")):
            done &= part or done  # not every family has them; of one that has, every view has
        return done

    @property
    def drafted(self) -> frozenset[int]:
        """The views of which there are drafts."""
        return self._existing("draft")

    def view(self, number: int) -> UInt8[Tensor, "n h w 3"]:
        """All samples of a view that is there."""
        return self._read("view", number)

    def draft(self, number: int) -> UInt8[Tensor, "n h w 3"]:
        """All samples of a view of which there is a draft."""
        return self._read("draft", number)

    def add_source(self, source: Views) -> None:
        """Write the views that the model is given, of a batch of one scene."""
        self._source = to_uint8(source.images[0][source.valid[0]]).cpu()
        for number, picture in enumerate(self._source):
            write_png(self.path(f"cond_{number:02d}.png"), picture)

    def add_draft(self, numbers: Sequence[int], prediction: Prediction) -> None:
        """Write drafts of the views of these numbers: a scene of the batch for each sample.

        Raises ValueError where one is not finite.
        """
        _require_finite(numbers, prediction)
        for number, samples in zip(numbers, to_uint8(prediction.images).cpu().unbind(1), strict=True):
            self._write("draft", number, samples)

    def add(self, numbers: Sequence[int], prediction: Prediction) -> None:
        """Write the views of these numbers: a scene of the batch for each sample, all of the same object.

        Previews and depth are those of the first. Raises ValueError where a view is not finite.
        """
        _require_finite(numbers, prediction)
        if prediction.preview is not None:
            for number, preview in zip(numbers, to_uint8(prediction.preview[0]).cpu(), strict=True):
                write_png(self.path(f"preview_{number:04d}.png"), preview)
        if prediction.depth is not None:
            self._add_depth(numbers, prediction)
        if prediction.weights is not None:
            self._add_weights(numbers, prediction.weights[0])
        pictures = to_uint8(prediction.images).cpu()
        for index, number in enumerate(numbers):
            if self._num_samples > 1:
                mean, deviation = mean_and_deviation(pictures[:, index])
                write_png(self.path(f"spread_mean_{number:04d}.png"), mean)
                write_png(self.path(f"spread_std_{number:04d}.png"), deviation_picture(deviation))
            self._write("view", number, pictures[:, index])
        self._drawn += numbers

    def _add_depth(self, numbers: Sequence[int], prediction: Prediction) -> None:
        """Depth as colours, and, where the view is opaque, in numbers."""
        near, far = self._cameras.near.min().item(), self._cameras.far.max().item()
        cameras = self._cameras[list(numbers)].apply(lambda tensor: tensor.to(prediction.depth.device))
        surface = surface_depth(prediction.depth[0], prediction.opacity[0], cameras).cpu()
        depths = colourise(prediction.depth[0, :, 0], near, far).cpu()
        for index, number in enumerate(numbers):
            write_png(self.path(f"depth_{number:04d}.png"), depths[index])
            write_depth(self.path(f"depth16_{number:04d}.png"), surface[index], step=self._depth_step)

    def _add_weights(self, numbers: Sequence[int], weights: Float[Tensor, "t s 3 h w"]) -> None:
        """A row of pictures for each view: the share that each source view has in it, black for none."""
        shares = to_uint8(2 * weights - 1).cpu()
        for number, pictures in zip(numbers, shares, strict=True):
            row = grid(pictures[: len(self._source)], columns=len(self._source))
            write_png(self.path(f"weights_{number:04d}.png"), row)

    def add_step(self, clean: Float[Tensor, "b t 3 h w"]) -> None:
        """Remember what the views that come next look like after another denoising step."""
        first = len(self._drawn)
        for place, picture in enumerate(to_uint8(clean[0, : max(0, STEPS_VIEWS - first)]).cpu(), start=first):
            self._steps.setdefault(place, []).append(picture)

    def close(self) -> list[Path]:
        """Write the films, the sheet and the cameras; returns their paths, the most telling first.

        All views must be there.
        """
        height, width = self.view(0).shape[1:3]
        scale = max(1, round(FILM_SIDE / height))
        count = len(self._cameras.near)
        written = [self.path("views.mp4"), self.path("sheet.png"), self.path("transforms.json")]
        pairs = (self._pair(number).flatten(0, 1) for number in range(count))
        write_mp4(written[0], pairs, fps=self._fps, scale=scale)
        write_png(written[1], enlarge(self._sheet(count), max(1, scale // 2)))
        text = json.dumps(self._transforms(height, width), indent=1) + "\n"
        write_text_whole(written[2], text)
        if self._existing("weights"):
            written.append(self.path("weights.mp4"))
            frames = (self._with_weights(number) for number in range(count))
            write_mp4(written[-1], frames, fps=self._fps, scale=scale)
        if self._steps:
            written.append(self.path("progress.mp4"))
            write_mp4(written[-1], self._steps_film(), fps=self._fps, scale=scale)
        return written

    def _existing(self, name: str) -> frozenset[int]:
        numbers = range(len(self._cameras.near))
        return frozenset(n for n in numbers if all(path.is_file() for path in self._names(name, n)))

    def _names(self, name: str, number: int) -> list[Path]:
        """Of all samples of a view, the first one's first."""
        others = {"view": "sample", "draft": "draft"}.get(name)
        count = self._num_samples if others else 1
        names = [f"{others}_{number:04d}_{sample:02d}.png" for sample in range(1, count)]
        return [self.path(file) for file in (f"{name}_{number:04d}.png", *names)]

    def _write(self, name: str, number: int, samples: UInt8[Tensor, "n h w 3"]) -> None:
        # The first one last: it says that all are there.
        for path, picture in reversed(list(zip(self._names(name, number), samples, strict=True))):
            write_png(path, picture)

    def _read(self, name: str, number: int) -> UInt8[Tensor, "n h w 3"]:
        return torch.stack([read_picture(path) for path in self._names(name, number)])

    def _pair(self, number: int) -> UInt8[Tensor, "k h w 3"]:
        """A view and, where there is one, its preview."""
        paths = [self.path(f"{name}_{number:04d}.png") for name in ("view", "preview")]
        return torch.stack([read_picture(path) for path in paths if path == paths[0] or path.is_file()])

    def _with_weights(self, number: int) -> UInt8[Tensor, "k l 3"]:
        """The source views, below them their weights, and below these the view."""
        inputs = grid(self._source, columns=len(self._source))
        weights, view = read_picture(self.path(f"weights_{number:04d}.png")), self.view(number)[0]
        gap = inputs.new_full((2, inputs.shape[1], 3), 255)
        last = inputs.new_full((len(view), inputs.shape[1], 3), 255)
        left = (inputs.shape[1] - view.shape[1]) // 2
        last[:, left : left + view.shape[1]] = view
        return torch.cat([inputs, gap, weights, gap, last])

    def _sheet(self, count: int) -> UInt8[Tensor, "k l 3"]:
        """Source views, then rows of views, each with a row of their previews below."""
        shown = evenly_spaced(range(count), min(count, SHEET_VIEWS))
        pairs = torch.stack([self._pair(number) for number in shown])
        columns = min(SHEET_COLUMNS, max(len(pairs), len(self._source)))
        rows = [self._source, *(half for part in pairs.split(columns) for half in part.unbind(1))]
        white = [row.new_full((-len(row) % columns, *row.shape[1:]), 255) for row in rows]
        tiles = [tile for row, rest in zip(rows, white, strict=True) for tile in (row, rest)]
        return grid(torch.cat(tiles), columns=columns)

    def _steps_film(self) -> UInt8[Tensor, "n h w 3"]:
        """Every step a frame of the first views side by side; the last one stays for a second."""
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
    """The settings that are not as a record has them, in words; none where there is no record."""
    if not record.is_file():
        return ""
    try:
        before = read_document(record)
    except ValueError:
        return "version"
    changed = [key.replace("_", " ") for key, value in settings.items() if before.get(key) != value]
    return ", ".join(changed) or "version"


def _require_finite(numbers: Sequence[int], prediction: Prediction) -> None:
    seen = [part for part in (prediction.images, prediction.preview, prediction.depth) if part is not None]
    finite = torch.stack([part.isfinite().flatten(2).all(dim=2).all(dim=0) for part in seen]).all(dim=0)
    if not finite.all():
        number = numbers[int(finite.long().argmin())]
        raise ValueError(f"view {number}: the model gave nan; use an earlier checkpoint or less guidance")


def mean_and_deviation(
    pictures: UInt8[Tensor, "n h w 3"],
) -> tuple[UInt8[Tensor, "h w 3"], Float[Tensor, "h w"]]:
    """The mean picture, and the standard deviation of each pixel in levels of 8 bits.

    The deviation is the root of the mean over the colours of the unbiased variance over the samples, of which
    there must be two or more.
    """
    values = pictures.double()
    mean = values.mean(dim=0).round().to(torch.uint8)
    return mean, values.var(dim=0).mean(dim=-1).sqrt().float()


def deviation_picture(deviation: Float[Tensor, "h w"]) -> UInt8[Tensor, "k l 3"]:
    """Deviations in levels of 8 bits as colours, beside the scale that says which is which."""
    return with_scale(colourise(deviation, 0.0, WIDEST), 0.0, WIDEST)
