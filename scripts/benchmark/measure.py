"""Variants of one task, run in turn in one process: A B C A B C ... A machine that slows down slows down all.

Medians are compared, because a machine that does something else makes some runs slower and none faster.
"""

import gc
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from tqdm import tqdm

from models.training.memory import peak_extra_bytes
from scripts.benchmark.context import Bench
from scripts.benchmark.machine import Clock, Run, clock_of
from scripts.benchmark.roofline import Work


@dataclass(frozen=True)
class Variant:
    """One way to do a task."""

    name: str
    run: Run
    precision: str = "float32"  # of its matrix products: the ceiling its floor is worked out with
    count: int = 1  # results (views, images) of a run; figures are per result


@dataclass(frozen=True)
class Task:
    """Something to be done, the ways to do it, and the least work that any way must do for one result."""

    section: str
    name: str
    variants: Sequence[Variant]
    least: Work | None = None


@dataclass(frozen=True)
class Figure:
    """The measurements of a variant. Times are seconds per result."""

    section: str
    task: str
    variant: str
    seconds: float  # the median
    fastest: float
    slowest: float
    peak_bytes: int | None  # beyond the inputs; None where the system does not tell
    floor: float | None  # seconds, see `scripts.benchmark.roofline`
    note: str = ""


def alternate(
    runs: Mapping[str, Run], *, repeats: int, clock: Clock, tell: Callable[[str], object] = str
) -> dict[str, list[float]]:
    """Time every run `repeats` times, alternating; `tell` is called with its name before each."""
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(repeats):
        for name, run in runs.items():
            tell(name)
            seconds[name].append(clock(run))
    return seconds


def measure(task: Task, bench: Bench, *, clock: Clock | None = None) -> list[Figure]:
    """Figures of the variants that are wanted: all are warmed up, their memory is taken, then their times."""
    runs = {variant.name: variant.run for variant in task.variants if bench.wants(variant.name)}
    total = len(runs) * (2 + bench.repeats)
    gc.collect()  # what an earlier task left behind must not be freed while memory is watched
    with tqdm(total=total, desc=f"{task.section}: {task.name}", unit="run", leave=False) as bar:

        def tell(name: str) -> None:
            bar.update()
            bar.set_postfix_str(name)

        peaks = _peaks(task, runs, bench, tell)
        fitting = {name: run for name, run in runs.items() if name in peaks}
        used = clock or clock_of(bench.device)
        seconds = alternate(fitting, repeats=bench.repeats, clock=used, tell=tell)
    measured = [variant for variant in task.variants if variant.name in fitting]
    return [_figure(task, variant, seconds[variant.name], peaks[variant.name], bench) for variant in measured]


def _peaks(
    task: Task, runs: Mapping[str, Run], bench: Bench, tell: Callable[[str], object]
) -> dict[str, int | None]:
    """Peak of memory of each run, after a warm-up; none of those that cannot be had here."""
    peaks: dict[str, int | None] = {}
    for name, run in runs.items():
        try:
            tell(name)
            run()
            tell(name)
            peaks[name] = peak_extra_bytes(run, bench.device)
        except torch.OutOfMemoryError:
            bench.unmeasured.append(f"{task.section}, {task.name}, {name}: does not fit into memory")
        except ValueError as error:  # such as a backend that does not work on this device
            bench.unmeasured.append(f"{task.section}, {task.name}, {name}: {error}")
    return peaks


def _figure(task: Task, variant: Variant, seconds: list[float], peak: int | None, bench: Bench) -> Figure:
    each = [duration / variant.count for duration in seconds]
    floor = task.least.floor(bench.ceilings, variant.precision) if task.least else None
    return Figure(
        task.section, task.name, variant.name, statistics.median(each), min(each), max(each), peak, floor
    )
