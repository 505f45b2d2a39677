"""Contact sheets: what the best, the median and the worst object look like."""

from collections.abc import Sequence

import torch
from jaxtyping import UInt8
from torch import Tensor

from data.images import enlarge, grid, to_uint8
from data.loader import evenly_spaced
from data.objects import Objects
from scripts.evaluation.figures import object_mean
from scripts.evaluation.protocols import Task
from scripts.evaluation.records import PREVIEW, ObjectFolder, Record, seed_method

COLUMNS = 8
SMALLEST_SIDE = 128  # pixels of a picture in a sheet; smaller ones are enlarged by a whole factor


def ranked(records: Sequence[Record], num_seeds: int) -> list[Record]:
    """Best first, by the PSNR of the samples; an object all of whose samples are equal to the truth leads."""

    def quality(record: Record) -> float:
        runs = [record.scores[seed_method(number)]["psnr"] for number in range(num_seeds)]
        found = object_mean([object_mean(run) for run in runs])
        return float("inf") if found is None else found

    return sorted(records, key=quality, reverse=True)


def sheet(task: Task, folder: ObjectFolder, objects: Objects) -> UInt8[Tensor, "h w 3"]:
    """Rows of pictures: the input views; then for evenly spaced views the truth, the first seed's samples
    and the previews."""
    views = tuple(evenly_spaced(task.targets, min(COLUMNS, len(task.targets))))
    truth, sources = (objects.read(task.index, chosen)[0] for chosen in (views, task.sources[: len(views)]))
    drawn = [folder.read(method, views) for method in (seed_method(0), PREVIEW)]
    white = torch.ones(len(views) - len(sources), *truth.shape[1:])
    tiles = to_uint8(torch.cat([sources, white, truth, *drawn]))
    return enlarge(grid(tiles, columns=len(views)), max(1, SMALLEST_SIDE // tiles.shape[1]))
