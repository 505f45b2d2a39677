"""Write the results of an evaluation: tables and contact sheets."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import fmean, stdev

import torch
from jaxtyping import UInt8
from torch import Tensor

from data.files import write_text_whole
from data.images.display import enlarge, grid
from data.images.files import write_png
from data.images.pixels import to_uint8
from data.scenes.objects import Objects
from data.scenes.views import evenly_spaced
from scripts.evaluate.aggregation import (
    SAMPLE,
    Figure,
    Method,
    geometry_means,
    methods_of,
    object_mean,
    restricted,
    rows_by_choice,
    summarise,
)
from scripts.evaluate.caveats import notes_of
from scripts.evaluate.evaluate_object import shown
from scripts.evaluate.metrics.masked import PAIR_METRICS
from scripts.evaluate.metrics.set_distances import set_distances
from scripts.evaluate.plan import Evaluation
from scripts.evaluate.protocols import Task
from scripts.evaluate.records import BASELINES, PREVIEW, ObjectFolder, Record, seed_method
from scripts.evaluate.tables import Results, choices_csv, details, latex, markdown, objects_csv

COLUMNS = 8

SMALLEST_SIDE = 128  # pixels of an image in a sheet; smaller ones are enlarged by an integer factor


OF_SETS = (
    SAMPLE,
    PREVIEW,
    *BASELINES,
)  # methods with set metrics; the best and the mean of samples have none


def write_results(
    evaluation: Evaluation,
    mean: Tensor | None,
    *,
    best_of: int | None,
    notes: list[str],
    device: torch.device,
) -> tuple[str, list[Path]]:
    """Write the table of all objects, in every format, and the contact sheets; returns it and the paths.

    `notes` say what could not be measured, and why.
    """
    every, tasks = [evaluation.folder_of(task).record() for task in evaluation.tasks], evaluation.tasks
    records, evaluation = headline(evaluation, every)
    methods = methods_of(records, num_seeds=evaluation.num_seeds, best_of=best_of)
    metrics = common_metrics(records, methods)
    rows = summarise(records, methods, metrics)
    distances, problems = measured_sets(evaluation, [row.method for row in rows], mean, device)
    rows = [replace(row, figures=row.figures | distances.get(row.method, {})) for row in rows]
    categories = {
        name: summarise([record for record in records if record.category == name], methods, metrics)
        for name in sorted({record.category for record in records if record.category})
    }
    all_notes = [*notes_of(evaluation, rows, metrics, best_of), *notes, *problems]
    choices = rows_by_choice(every, tasks, methods, metrics)
    results = Results(evaluation.setup, rows, geometry_means(records), categories, all_notes, choices)
    table = markdown(results)
    texts = {
        "results.md": table,
        "results.tex": latex(results),
        "objects.csv": objects_csv(records, methods, metrics),
        "results.json": details(results),
    }
    if choices:
        texts["choices.csv"] = choices_csv(every, tasks, methods, metrics, evaluation.num_seeds)
    for name, text in texts.items():
        write_text_whole(evaluation.folder / name, text)
    return table, [*(evaluation.folder / name for name in texts), *write_sheets(evaluation, records)]


def headline(evaluation: Evaluation, records: list[Record]) -> tuple[list[Record], Evaluation]:
    """The records and the evaluation with the first choice of views alone, where views are chosen."""
    choices = evaluation.tasks[0].choices
    if not choices:
        return records, evaluation
    first = next(iter(choices))
    tasks = [replace(task, targets=task.choices[first]) for task in evaluation.tasks]
    return restricted(records, evaluation.tasks, first), replace(evaluation, tasks=tasks)


def common_metrics(records: Sequence[Record], methods: Sequence[Method]) -> list[str]:
    """The metrics that all methods have on all objects."""
    return [
        name
        for name in PAIR_METRICS
        if all(name in scores for record in records for method in methods for scores in method.runs(record))
    ]


def write_sheets(evaluation: Evaluation, records: Sequence[Record]) -> list[Path]:
    """Write contact sheets of the best, the median and the worst object."""
    order = ranked(records, evaluation.num_seeds)
    chosen = {"best": order[0], "median": order[len(order) // 2], "worst": order[-1]}
    tasks = {task.name: task for task in evaluation.tasks}
    paths = []
    for name, record in chosen.items():
        task = tasks[record.name]
        paths.append(evaluation.folder / f"sheet_{name}.png")
        write_png(paths[-1], sheet(task, evaluation.folder_of(task), evaluation.objects))
    return paths


def measured_sets(
    evaluation: Evaluation, methods: Sequence[str], mean: Tensor | None, device: torch.device
) -> tuple[dict[str, dict[str, Figure]], list[str]]:
    """The set metrics of each method over all images, and notes on them.

    Those of samples are computed for each seed.
    """

    def pictures(method: str | None) -> Iterator[Tensor]:
        for task in evaluation.tasks:
            yield to_uint8(_images(evaluation, task, method, mean))

    seeds = [seed_method(number) for number in range(evaluation.num_seeds)]
    sets = {name: seeds if name == SAMPLE else [name] for name in methods if name in OF_SETS}
    found, lines = set_distances(
        pictures,
        sets,
        num_objects=len(evaluation.tasks),
        num_pictures=sum(len(task.targets) for task in evaluation.tasks),
        device=device,
    )
    figures: dict[str, dict[str, Figure]] = {name: {} for name in sets}
    for metric, distances in found.items():
        for name, values in distances.items():
            figures[name][metric] = Figure(fmean(values), stdev(values) if len(values) > 1 else None)
    return figures, lines


def _images(evaluation: Evaluation, task: Task, method: str | None, mean: Tensor | None) -> Tensor:
    """The images of a method for the target views [t, 3, h, w], or the true ones for None."""
    target = evaluation.objects.read_views(task.index, task.targets)
    if method is None:
        return target.images[0]
    source = evaluation.objects.read_views(task.index, task.sources)
    return shown(method, evaluation.folder_of(task), task, source, target, mean)


def ranked(records: Sequence[Record], num_seeds: int) -> list[Record]:
    """Sort by the PSNR of the samples, best first; objects whose samples all equal the truth lead."""

    def quality(record: Record) -> float:
        runs = [record.scores[seed_method(number)]["psnr"] for number in range(num_seeds)]
        found = object_mean([object_mean(run) for run in runs])
        return float("inf") if found is None else found

    return sorted(records, key=quality, reverse=True)


def sheet(task: Task, folder: ObjectFolder, objects: Objects) -> UInt8[Tensor, "h w 3"]:
    """A contact sheet: the input views; then for evenly spaced views the truth, the first seed's samples and,
    if the family has them, the previews."""
    views = tuple(evenly_spaced(task.targets, min(COLUMNS, len(task.targets))))
    truth, sources = (objects.read(task.index, chosen)[0] for chosen in (views, task.sources[: len(views)]))
    methods = [seed_method(0), *([PREVIEW] if folder.is_whole(PREVIEW, views) else [])]
    drawn = [folder.read(method, views) for method in methods]
    white = torch.ones(len(views) - len(sources), *truth.shape[1:])
    tiles = to_uint8(torch.cat([sources, white, truth, *drawn]))
    return enlarge(grid(tiles, columns=len(views)), max(1, SMALLEST_SIDE // tiles.shape[1]))
