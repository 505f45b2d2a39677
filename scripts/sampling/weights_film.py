"""Weights of models that weigh their inputs: a picture for each view, and a film of how the views arise."""

from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from data.images.display import grid, tiles_of_row
from data.images.files import read_picture, write_png
from data.images.pixels import to_uint8
from data.scenes.views import evenly_spaced

SHOWN_STEPS = 8  # intermediate results of a view
COLUMNS = 8  # of tiles in a frame


class WeightsFilm:
    """Writes weights_0000.png and steps_0000.png of views, and makes frames of them.

    `path` gives the path of a file name.
    """

    def __init__(self, path: Callable[[str], Path]):
        self._path = path
        self._estimates: list[tuple[int, UInt8[Tensor, "t h w 3"]]] = []  # by step, of the views in progress
        self._stride = 1

    def record(self, step: int, clean: Float[Tensor, "b t 3 h w"]) -> None:
        """Keep the clean images of the first scene as estimated in a denoising step, at times."""
        if step == 0:
            self._estimates, self._stride = [], 1
        if step % self._stride == 0:
            self._estimates.append((step, to_uint8(clean[0]).cpu()))
        if len(self._estimates) > 4 * SHOWN_STEPS:
            self._stride *= 2
            self._estimates = [kept for kept in self._estimates if kept[0] % self._stride == 0]

    def add(self, numbers: Sequence[int], weights: Float[Tensor, "t s 3 h w"], num_sources: int) -> None:
        """Write two rows of pictures of each finished view: the share of every source, and estimates."""
        shares = to_uint8(2 * weights[:, :num_sources] - 1).cpu()
        num = max(0, len(self._estimates) - 1)  # the last one is the view itself
        places = evenly_spaced(range(num), min(num, SHOWN_STEPS)) if num else []
        chosen = [self._estimates[place][1] for place in places]
        for index, number in enumerate(numbers):
            if chosen:
                steps = torch.stack([estimate[index] for estimate in chosen])
                write_png(self._path(f"steps_{number:04d}.png"), grid(steps, columns=len(steps)))
            write_png(self._path(f"weights_{number:04d}.png"), grid(shares[index], columns=num_sources))
        self._estimates = []

    def frame(
        self,
        number: int,
        source: UInt8[Tensor, "s h w 3"],
        view: UInt8[Tensor, "h w 3"],
        truth: UInt8[Tensor, "h w 3"] | None,
    ) -> UInt8[Tensor, "k l 3"]:
        """Inputs above their weights, in as many rows as needed; then estimates, the view and the truth."""
        weights = tiles_of_row(read_picture(self._path(f"weights_{number:04d}.png")), len(source))
        columns = min(COLUMNS, len(source))
        rows = [
            row for pair in zip(source.split(columns), weights.split(columns), strict=True) for row in pair
        ]
        blank = torch.full_like(view, 255)
        results = [view[None], (blank if truth is None else truth)[None]]
        steps = self._path(f"steps_{number:04d}.png")
        if steps.is_file():
            row = read_picture(steps)
            results.insert(0, tiles_of_row(row, round((row.shape[1] + 2) / (view.shape[1] + 2))))
        rows.append(torch.cat(results))

        # All rows as wide as the widest, each from the left.
        widest = max(len(row) for row in rows)
        filled = [torch.cat([row, blank.expand(widest - len(row), *blank.shape)]) for row in rows]
        return grid(torch.cat(filled), columns=widest)
