"""Aggregate the figures of views: means over views, then over objects, with their spread."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from statistics import mean, stdev

from scripts.common.results import standard_error
from scripts.evaluate.protocols import Task
from scripts.evaluate.records import BASELINES, PREVIEW, Record, mean_method, seed_method

Scores = dict[str, list[float | None]]  # by metric, for each view of an object
SAMPLE = "sample"
TITLES = {
    PREVIEW: "RGB preview of the volume",
    **dict(zip(BASELINES, ("copied input view", "nearest input view", "mean training image"), strict=True)),
}
GEOMETRY = {
    "depth_error": "depth error (1/1000 scene unit)",
    "flat_depth_error": "that of a flat picture",
    "silhouette_iou": "silhouette IoU (%)",
}


@dataclass(frozen=True)
class Method:
    """A source of images (the model or a baseline), and its scores on an object, for each of its seeds."""

    name: str
    title: str
    runs: Callable[[Record], list[Scores]]


@dataclass(frozen=True)
class Figure:
    """A mean over objects."""

    mean: float
    over_seeds: float | None = None  # standard deviation; None with fewer than two seeds
    over_objects: float | None = None  # standard error of the mean; None with a single object
    left_out: int = 0  # views without a finite figure, such as the PSNR of equal images


@dataclass(frozen=True)
class Row:
    """The figures of a method."""

    method: str
    title: str
    figures: dict[str, Figure] = field(default_factory=dict)  # by metric


def methods_of(records: Sequence[Record], *, num_seeds: int, best_of: int | None) -> list[Method]:
    """The methods that have scores on all objects, starting with the model's samples."""
    seeds = [seed_method(number) for number in range(num_seeds)]
    title = "sample" if num_seeds == 1 else f"sample (mean of {num_seeds} seeds)"
    methods = [Method(SAMPLE, title, lambda record: [record.scores[seed] for seed in seeds])]
    average = mean_method(num_seeds)
    if num_seeds > 1 and all(average in record.scores for record in records):
        title = f"mean image of {num_seeds} samples"
        methods.append(Method(average, title, lambda record: [record.scores[average]]))
    if best_of:
        # Selecting needs the ground truth, so this is no fair figure of the model; the title says so.
        title = f"sample, best of {best_of} by PSNR to the truth"
        methods.append(Method(f"best_of_{best_of}", title, lambda record: [_best_scores(record, best_of)]))
    for name, title in TITLES.items():
        if all(name in record.scores for record in records):
            methods.append(Method(name, title, lambda record, name=name: [record.scores[name]]))
    return methods


def summarise(records: Sequence[Record], methods: Sequence[Method], metrics: Sequence[str]) -> list[Row]:
    """A row for each method, without figures that are finite for no object."""
    rows = []
    for method in methods:
        runs = [method.runs(record) for record in records]
        figures = {name: figure for name in metrics if (figure := _figure(runs, name)) is not None}
        rows.append(Row(method.name, method.title, figures))
    return rows


def restricted(records: Sequence[Record], tasks: Sequence[Task], choice: str) -> list[Record]:
    """The records with the views of a choice alone."""
    found = []
    for record, task in zip(records, tasks, strict=True):
        places = [record.views.index(view) for view in task.choices[choice]]
        scores = {
            method: {metric: [values[place] for place in places] for metric, values in figures.items()}
            for method, figures in record.scores.items()
        }
        found.append(record.model_copy(update={"views": task.choices[choice], "scores": scores}))
    return found


def rows_by_choice(
    records: Sequence[Record], tasks: Sequence[Task], methods: Sequence[Method], metrics: Sequence[str]
) -> dict[str, list[Row]]:
    """The rows of all methods for each choice."""
    return {
        choice: summarise(restricted(records, tasks, choice), methods, metrics)
        for choice in (tasks[0].choices if tasks else ())
    }


def best_seeds(record: Record, num: int) -> list[int]:
    """For each view, the seed among the first `num` whose sample has the best PSNR."""
    columns = [record.scores[seed_method(number)]["psnr"] for number in range(num)]
    # The infinite PSNR of equal images is stored as None.
    values = [[math.inf if value is None else value for value in column] for column in columns]
    return [max(range(num), key=lambda number: values[number][view]) for view in range(len(values[0]))]


def object_mean(values: Sequence[float | None]) -> float | None:
    """Mean of the finite values, for example over views; None if there are none."""
    finite = [value for value in values if value is not None]
    return mean(finite) if finite else None


def geometry_means(records: Sequence[Record]) -> dict[str, Figure]:
    """The geometry figures of the volumes: means over the objects that have them."""
    found = {name: [record.geometry.get(name) for record in records] for name in GEOMETRY}
    return {
        name: Figure(average, over_objects=_standard_error(values))
        for name, values in found.items()
        if (average := object_mean(values)) is not None
    }


def _standard_error(values: Sequence[float | None]) -> float | None:
    """Standard error of the mean of the known values; None if there are fewer than two."""
    return standard_error([value for value in values if value is not None])


def _best_scores(record: Record, num: int) -> Scores:
    """All figures of the samples that `best_seeds` selects."""
    chosen = [record.scores[seed_method(seed)] for seed in best_seeds(record, num)]
    return {
        metric: [scores[metric][view] for view, scores in enumerate(chosen)]
        for metric in record.scores[seed_method(0)]
    }


def _figure(runs: list[list[Scores]], metric: str) -> Figure | None:
    """Aggregate `runs`, which are by object and by seed."""
    means = [[object_mean(scores[metric]) for scores in each] for each in runs]
    by_seed = [average for seed in zip(*means, strict=True) if (average := object_mean(seed)) is not None]
    if not by_seed:
        return None
    return Figure(
        mean(by_seed),
        stdev(by_seed) if len(by_seed) > 1 else None,
        _standard_error([object_mean(each) for each in means]),
        sum(value is None for each in runs for scores in each for value in scores[metric]),
    )
