"""What is left of sampling: pictures, films, a contact sheet and the cameras, in one folder for an object."""

import json
import uuid
from pathlib import Path

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from data.batch import Views
from data.cameras import Cameras
from data.images import colourise, enlarge, grid, to_uint8, write_mp4, write_png, write_whole
from data.transforms import to_transforms
from models.base import Prediction

FILM_SIDE = 256  # pixels; smaller views are enlarged by a whole factor to about this side in films
SHEET_COLUMNS = 10
STEPS_VIEWS = 4  # views whose denoising is shown


class Gallery:
    """Files of the views of one object from `cameras`, each written as soon as it is known.

    All names begin with `prefix`; films show `fps` frames a second.
    """

    def __init__(self, folder: Path, cameras: Cameras, *, prefix: str = "", fps: float = 10.0):
        self.folder, self._cameras, self._prefix, self._fps = folder, cameras, prefix, fps
        self._source: UInt8[Tensor, "s h w 3"] | None = None
        self._pairs: list[UInt8[Tensor, "two h w 3"]] = []  # the view, and its preview
        self._steps: dict[int, list[UInt8[Tensor, "h w 3"]]] = {}  # denoised views, step by step

    def path(self, name: str) -> Path:
        """Where the file of that name belongs."""
        return self.folder / f"{self._prefix}{name}"

    def open(self) -> None:
        """Make the folder. Raises ValueError where no files can be written into it."""
        trial = self.path(f"{uuid.uuid4().hex[:12]}.png")  # as long as the longest name
        try:
            write_whole(trial, lambda partial: partial.touch())
            trial.unlink()
        except (OSError, ValueError) as error:
            raise ValueError(f"{self.folder}: no output can be written there; {error}") from error

    def add_source(self, source: Views) -> None:
        """Write the views that the model is given, of a batch of one scene."""
        self._source = to_uint8(source.images[0][source.valid[0]]).cpu()
        for number, picture in enumerate(self._source):
            write_png(self.path(f"cond_{number:02d}.png"), picture)

    def add(self, prediction: Prediction) -> None:
        """Write the next views, of a batch of one scene.

        Raises ValueError where a view is not finite.
        """
        seen = (prediction.images[0], prediction.preview[0], prediction.depth[0])
        finite = torch.stack([part.isfinite().flatten(1).all(dim=1) for part in seen]).all(dim=0)
        if not finite.all():
            number = len(self._pairs) + int(finite.long().argmin())
            raise ValueError(f"view {number}: the model gave nan; use an earlier checkpoint or less guidance")
        near, far = self._cameras.near.min().item(), self._cameras.far.max().item()
        pairs = torch.stack([to_uint8(prediction.images[0]), to_uint8(prediction.preview[0])], dim=1).cpu()
        depths = colourise(prediction.depth[0, :, 0], near, far).cpu()
        for pair, depth in zip(pairs, depths, strict=True):
            number = len(self._pairs)
            for name, picture in (("view", pair[0]), ("preview", pair[1]), ("depth", depth)):
                write_png(self.path(f"{name}_{number:04d}.png"), picture)
            self._pairs.append(pair)

    def add_step(self, clean: Float[Tensor, "b t 3 h w"]) -> None:
        """Remember what the views that come next look like after another denoising step."""
        first = len(self._pairs)
        for number, picture in enumerate(
            to_uint8(clean[0, : max(0, STEPS_VIEWS - first)]).cpu(), start=first
        ):
            self._steps.setdefault(number, []).append(picture)

    def close(self) -> list[Path]:
        """Write the films, the sheet and the cameras; returns their paths, the most telling first.

        Views that a longer run has left in the folder are deleted.
        """
        pairs = torch.stack(self._pairs)
        scale = max(1, round(FILM_SIDE / pairs.shape[-2]))
        written = [self.path("views.mp4"), self.path("sheet.png"), self.path("transforms.json")]
        write_mp4(written[0], pairs.flatten(1, 2), fps=self._fps, scale=scale)
        write_png(written[1], enlarge(self._sheet(pairs), max(1, scale // 2)))
        text = json.dumps(self._transforms(*pairs.shape[2:4]), indent=1) + "\n"
        write_whole(written[2], lambda partial: partial.write_text(text, encoding="utf-8"))
        if self._steps:
            written.append(self.path("progress.mp4"))
            write_mp4(written[-1], self._steps_film(), fps=self._fps, scale=scale)
        for name in ("view", "preview", "depth"):
            number = len(pairs)
            while (stale := self.path(f"{name}_{number:04d}.png")).exists():
                stale.unlink()
                number += 1
        return written

    def _sheet(self, pairs: UInt8[Tensor, "n two h w 3"]) -> UInt8[Tensor, "k l 3"]:
        """Source views, then rows of views, each with a row of their previews below."""
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
        final = torch.stack([pair[0] for pair in self._pairs[: len(self._steps)]])
        frames += [grid(final, columns=len(final))] * max(1, round(self._fps))
        return torch.stack(frames)

    def _transforms(self, height: int, width: int) -> dict:
        names = [self.path(f"view_{number:04d}.png").name for number in range(len(self._pairs))]
        return to_transforms(self._cameras, names, height=height, width=width)
