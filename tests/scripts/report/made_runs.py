"""Runs made up for tests of the report, and what its page shows of them."""

import json
import re
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from PIL import Image

from scripts.report import __main__ as report
from scripts.report.chart import draw
from scripts.report.curves import charts_of
from scripts.report.read_run import read_run
from tests.html_pages import Element, read_page


def plant_run(
    folder: Path,
    rows: list[dict],
    *,
    steps: int = 50,
    pictures: dict[int, tuple[int, int]] | None = None,
    warnings: list[tuple[int, str]] = (),
    **config,
) -> Path:
    """A run folder; `pictures` are steps with (height, width), of noise."""
    (folder / "samples").mkdir(parents=True)
    document = {"name": folder.name, "train": {"steps": steps, "batch": 3, "accumulate": 2}, **config}
    (folder / "config.json").write_text(json.dumps(document))
    (folder / "log.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    for step, size in (pictures or {}).items():
        pixels = np.random.default_rng(step).integers(0, 256, (*size, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / "samples" / f"step-{step:08d}.png")
    if warnings:
        lines = (json.dumps({"step": step, "warning": text}) for step, text in warnings)
        (folder / "warnings.jsonl").write_text("".join(f"{line}\n" for line in lines))
    return folder


def chart_of(page: Element, title: str) -> Element:
    """The chart of that title on the page."""
    found = [chart for chart in page.all("figure", "chart") if chart.all("h4")[0].text == title]
    assert len(found) == 1, [chart.all("h4")[0].text for chart in page.all("figure", "chart")]
    return found[0]


def figure_of(folder: Path, title: str) -> Figure:
    """The chart of that title as matplotlib's figure."""
    run = read_run(folder)
    (chart,) = (chart for chart in charts_of(run) if chart.title == title)
    return draw(chart, run)


def points_of(figure: Figure, *, number: int = 0, num_series: int = 1) -> np.ndarray:
    """[point, (step, value)] of a series of `num_series` without running means; stages are joined."""
    lines = figure.axes[0].get_lines()
    each = len(lines) // num_series
    own = lines[len(lines) - (number + 1) * each :][:each]  # the first series is drawn last
    return np.concatenate([line.get_xydata() for line in own])


def values_of(chart: Element, key: str) -> list[float]:
    """Last, least and greatest value of a series, by the table below its curve."""
    (row,) = (row for row in chart.all("tr") if row.attributes.get("data-key") == key)
    return numbers(row)


def read_off(chart: Element, colour: str) -> np.ndarray:
    """[vertex, (step, value)] of the last line of a colour, read off the axes, as a person would."""
    paths = [(one.attributes["d"], one.attributes.get("style", "")) for one in chart.all("path")]
    drawn = [vertices(path) for path, style in paths if f"fill: none; stroke: var(--{colour})" in style]
    grid = {vertices(path)[0][1] for path, style in paths if "stroke: var(--grid)" in style}
    labels = [(one.text.replace(",", "").replace("\u2212", "-"), one.attributes) for one in chart.all("text")]
    across = [(float(at["x"]), float(text)) for text, at in labels if "middle" in at["style"]]
    down = sorted(float(text) for text, at in labels if "end" in at["style"])
    points = np.array(drawn[-1])
    steps = np.polyval(np.polyfit(*zip(*across, strict=True), 1), points[:, 0])
    values = np.polyval(np.polyfit(sorted(grid, reverse=True), down, 1), points[:, 1])
    return np.stack([steps, values], axis=1)


def vertices(path: str) -> list[tuple[float, float]]:
    """Points of an SVG path."""
    return [(float(x), float(y)) for x, y in re.findall(r"[ML] ([-\d.]+) ([-\d.]+)", path)]


def lines(num: int = 5, every: int = 10) -> list[dict]:
    """A log of odd numbers: every tenth step, previews at every second line."""
    rows = []
    for line in range(1, num + 1):
        row = {"step": line * every, "loss": 1.7 / line, "rgb": 1.2 / line, "opacity": 0.5 / line}
        row |= {"gradient_norm": 0.3 + line, "seconds": 7.3 + line, "data_wait": 0.125, "lr": 0.001}
        if line % 2 == 0:
            row |= {"held_out_preview_psnr": 14.25 - line, "held_out_sample_psnr": 11.625 + line}
        rows.append(row)
    return rows


def make(folder: Path, *arguments: str) -> Element:
    """The page of a run, which the program must be able to make."""
    output = folder.parent / "page.html"
    assert report.main([str(folder), "--output", str(output), *arguments]) == 0
    return read_page(output)


def numbers(element: Element) -> list[float]:
    """Exact values of the numbers within, in order."""
    return [float(one.attributes["value"]) for one in element.all("data")]
