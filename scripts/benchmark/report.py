"""The measurements as Markdown."""

import platform
import shlex
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path

import torch

from data.files import write_text_whole, write_whole
from scripts.benchmark.cases.renderer import Growth
from scripts.benchmark.context import Bench
from scripts.benchmark.machine import commit, device_name, processor, slug
from scripts.benchmark.measure import Figure

LABELS = {"rays": "rays", "sources": "source views", "samples": "samples a ray"}

INCHES = (12, 4)

FLOOR = "floor"  # the time that the least work needs at the machine's ceilings


HEADER = "| task | variant | median | range | times {} | peak extra memory | floor | times floor |"
BASELINES = ("plain", "float32")  # the first of these in a table is what the others are compared with
RULE = "|---|---|---:|---:|---:|---:|---:|---:|"
LEGEND = """\
Times are medians over runs in which the variants take turns in one process, after a warm-up; the range is the
fastest and the slowest run. *Times plain* is the time over that of the plain variant; where that was not
measured, *times float32* is the time over that of float32. *Peak extra memory* is
what a run needed at its worst moment beyond its inputs: on a GPU as torch's allocator counts, on the CPU as
the kernel counts resident memory, libraries' scratch space included. The *floor* is the time that the least
bytes and the least operations of the task need at the ceilings below, whichever is longer; what is counted is
said in `scripts/benchmark/roofline.py`.
"""


@dataclass
class Results:
    """All figures of a run of the program, by section."""

    figures: dict[str, list[Figure]] = field(default_factory=dict)
    growth: dict[str, dict[int, list[Figure]]] = field(default_factory=dict)


def report_path(folder: Path, bench: Bench, day: date) -> Path:
    """FOLDER/YYYY-MM-DD_MACHINE.md, with a number behind it where that is taken: nothing is overwritten."""
    stem = f"{day.isoformat()}_{slug(device_name(bench.device))}"
    names = (f"{stem}.md" if number == 1 else f"{stem}_{number}.md" for number in range(1, 10_000))
    return next(folder / name for name in names if not (folder / name).exists())


def write_report(path: Path, bench: Bench, results: Results, command: list[str], day: date) -> None:
    """Write the Markdown file atomically. Raises ValueError if that fails."""
    text = markdown(bench, results, command, day, chart=path.with_suffix(".png").name)
    write_text_whole(path, text)


def markdown(bench: Bench, results: Results, command: list[str], day: date, *, chart: str) -> str:
    """The whole file."""
    parts = [f"# Speed on {day.isoformat()}, {device_name(bench.device)}", _origin(bench, command), LEGEND]
    parts += ["## Ceilings of the machine", _ceilings(bench)]
    for section, figures in results.figures.items():
        parts += [f"## {section.capitalize()}", table(figures), _bullets(bench.remarks.get(section, []))]
    if results.growth:
        parts += ["## How the renderer's time grows", f"![time over rays, sources, samples]({chart})"]
        parts += [
            table([figure for row in grown.values() for figure in row]) for grown in results.growth.values()
        ]
    parts += ["## Not measured", _bullets(dict.fromkeys(bench.unmeasured)) or "Nothing was left out."]
    return "\n\n".join(part.strip() for part in parts if part.strip()) + "\n"


def table(figures: Iterable[Figure]) -> str:
    """Figures as a Markdown table, tasks in their order, each variant beside the baseline of its task."""
    figures = list(figures)
    measured = {figure.variant for figure in figures}
    baseline = next((name for name in BASELINES if name in measured), BASELINES[0])
    seconds = {figure.task: figure.seconds for figure in figures if figure.variant == baseline}
    rows = [_row(figure, seconds.get(figure.task)) for figure in figures]
    return "\n".join([HEADER.format(baseline), RULE, *rows])


def duration(seconds: float) -> str:
    """Three figures and a unit."""
    for unit, factor in (("s", 1.0), ("ms", 1e3)):
        if seconds * factor >= 1:
            return (
                f"{seconds * factor:.3g} {unit}"
                if seconds * factor < 1000
                else f"{seconds * factor:.0f} {unit}"
            )
    return f"{seconds * 1e6:.3g} us"


def _row(figure: Figure, baseline: float | None) -> str:
    task = f"{figure.task} ({figure.note})" if figure.note else figure.task
    memory = "not known" if figure.peak_bytes is None else f"{figure.peak_bytes / 2**20:.1f} MiB"
    cells = [
        task,
        figure.variant,
        duration(figure.seconds),
        f"{duration(figure.fastest)} to {duration(figure.slowest)}",
        f"{figure.seconds / baseline:.3g}" if baseline else "",
        memory,
        duration(figure.floor) if figure.floor else "",
        f"{figure.seconds / figure.floor:.3g}" if figure.floor else "",
    ]
    return f"| {' | '.join(cells)} |"


def _origin(bench: Bench, command: list[str]) -> str:
    gpu = device_name(bench.device) if bench.device.type == "cuda" else "none used"
    return _bullets(
        [
            f"CPU: {processor()}; torch uses {torch.get_num_threads()} threads",
            f"GPU: {gpu}",
            f"torch {torch.__version__}, Python {platform.python_version()}, {platform.system()}",
            f"commit {commit()}",
            f"command: `{shlex.join(['python', '-m', 'scripts.benchmark', *command])}`",
            f"size {bench.size}, {bench.repeats} runs of each variant",
        ]
    )


def _ceilings(bench: Bench) -> str:
    ceilings = bench.ceilings
    lines = [f"memory: {ceilings.bandwidth / 1e9:.1f} GB/s read and written, in a large copy"]
    lines += [
        f"{name}: {flops / 1e9:.0f} GFLOP/s in a large matrix product"
        for name, flops in ceilings.flops.items()
    ]
    return _bullets(lines)


def _bullets(lines: Iterable[str]) -> str:
    return "\n".join(f"* {line}" for line in lines)


def write_chart(path: Path, growth: Growth, title: str) -> None:
    """Write a PNG with a panel for each thing that grows; the file appears whole or not at all.

    Both axes are logarithmic, so that a straight line at 45 degrees is time in proportion. Raises ValueError
    where the file cannot be written.
    """
    from matplotlib.figure import Figure as Picture

    picture = Picture(figsize=INCHES, layout="constrained")
    panels = picture.subplots(1, len(growth), sharey=True, squeeze=False)[0]
    for panel, (axis, rows) in zip(panels, growth.items(), strict=True):
        for variant, points in _lines(rows).items():
            style = {"color": "grey", "linestyle": "--"} if variant == FLOOR else {"marker": "o"}
            panel.plot(*zip(*points, strict=True), **style, label=variant)
        panel.set(xscale="log", yscale="log", xlabel=LABELS[axis])
        panel.set_xticks(list(rows), [str(amount) for amount in rows])
        panel.tick_params(axis="x", which="minor", bottom=False, labelbottom=False)
        panel.grid(alpha=0.3)
    panels[0].set_ylabel("seconds, forward")
    panels[0].legend()
    picture.suptitle(title)
    write_whole(path, lambda unfinished: picture.savefig(unfinished, dpi=120))


def _lines(rows: dict[int, list[Figure]]) -> dict[str, list[tuple[int, float]]]:
    """(amount, seconds) of every variant, and of the floor."""
    lines: dict[str, list[tuple[int, float]]] = {}
    for amount, figures in rows.items():
        if not figures:  # nothing requested can run here
            continue
        for figure in figures:
            lines.setdefault(figure.variant, []).append((amount, figure.seconds))
        lines.setdefault(FLOOR, []).append((amount, figures[0].floor))
    return lines
