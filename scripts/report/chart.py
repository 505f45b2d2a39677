"""A chart as HTML: an SVG that stretches with the page, and words around it that do not.

Curves lie in a box of WIDTH x HEIGHT units; marks of the axes are placed in per cent of it.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass

from scripts.common.html.wording import escape, number, plain, tick
from scripts.report.curves import Chart, Point, Series, noisy, smooth, thin, words
from scripts.report.run_data import Run
from scripts.report.scales import Scale, fit, round_steps

WIDTH, HEIGHT = 1000, 400
FEW = 30  # values of a series in a stage up to which dots are large and the line runs through them
DOTS, VERTICES = 400, 300  # of a series in a stage that are drawn
COLOURS = 8  # in style.css; colour 0 is that of totals
CROWDED = 0.03  # of the width: marks closer than this become one


@dataclass(frozen=True)
class Axes:
    """Where steps and values lie in the box."""

    last: int  # step at the right edge
    scale: Scale

    def x(self, step: float) -> float:
        """Units from the left."""
        return WIDTH * step / self.last

    def y(self, value: float) -> float:
        """Units from the top."""
        return HEIGHT * (1 - self.scale.place(value))


def chart_html(chart: Chart, run: Run) -> str:
    """A figure with its legend and curves."""
    drawn = [point for series in chart.series for point in series.points]
    values = [value for _, value in drawn] or [0.0]
    axes = Axes(_last(run), fit(values, share=chart.share))
    kind = "" if axes.scale.kind == "linear" else f"{axes.scale.kind} scale"
    about = escape(", ".join(filter(None, (chart.unit, kind))))
    colours = _colours(chart.series)
    shown = list(zip(chart.series, colours, strict=True))
    summary = "; ".join(_summary(series) for series in chart.series)
    return "\n".join(
        [
            f'<figure class="chart{" wide" if chart.wide else ""}" tabindex="0" role="group" '
            f'aria-label="{escape(chart.title)}: {summary}">',
            f'<figcaption><h4>{escape(chart.title)}</h4><span class="about">{about}</span></figcaption>',
            _legend(shown, chart.title),
            f'<div class="plot{" staged" if run.recipe else ""}">',
            *_stage_words(run, axes),
            f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" preserveAspectRatio="none" aria-hidden="true">',
            *_bands(run, axes),
            *_grid(axes),
            *(_curve(series, colour, axes) for series, colour in reversed(shown)),
            "</svg>",
            *_axis_words(axes, chart.wide),
            *_oddities(chart, axes),
            *_marks(run, axes),
            "</div>",
            _data(shown, axes),
            "</figure>",
        ]
    )


def _last(run: Run) -> int:
    """The right edge: how far the run has come."""
    return max([1, *(stage.start + row.step for stage in run.stages for row in stage.rows[-1:])])


def _colours(series: Sequence[Series]) -> list[str]:
    """Classes of style.css; from the second round on lines are dashed."""
    others, classes = 0, []
    for one in series:
        if one.main and len(series) > 1:
            classes.append("c0")
            continue
        classes.append(f"c{1 + others % (COLOURS - 1)}" + (" dashed" if others >= COLOURS - 1 else ""))
        others += 1
    return classes


def _summary(series: Series) -> str:
    points = series.points
    if not points:
        return escape(f"{series.label} is never finite")
    (first, begin), (last, end) = points[0], points[-1]
    return escape(f"{series.label} from {plain(begin)} at step {first:,} to {plain(end)} at step {last:,}")


def _legend(shown: Sequence[tuple[Series, str]], title: str) -> str:
    lines = ['<ul class="legend">']
    for series, colour in shown:
        about_it = series.main or series.label.lower() in (words(series.key).lower(), title.lower())
        label = "last" if len(shown) == 1 and about_it else series.label
        last = number(series.points[-1][1]) if series.points else number(None)
        lines.append(
            f'<li class="{colour}" data-key="{escape(series.key)}">'
            f"<i></i><span>{escape(label)}</span> {last}</li>"
        )
    return "".join([*lines, "</ul>"])


def _bands(run: Run, axes: Axes) -> list[str]:
    return [
        f'<rect class="band" x="{left:.2f}" y="0" width="{width:.2f}" height="{HEIGHT}"/>'
        for number, (_, left, width) in enumerate(_stage_places(run, axes))
        if number % 2
    ]


def _grid(axes: Axes) -> list[str]:
    heights = (axes.y(value) for value in axes.scale.ticks())
    return [f'<path class="grid" d="M0 {height:.2f}H{WIDTH}"/>' for height in heights]


def _curve(series: Series, colour: str, axes: Axes) -> str:
    """Pale dots for what was logged; above them a line, of running means where there are many."""
    dots, lines = [], []
    for segment in series.segments:
        dots += [f"M{_at(point, axes)}h0" for point in thin(segment, DOTS)]
        # Means of heights, so that one peak on a logarithmic scale does not become a plateau.
        heights = [axes.y(value) for _, value in segment]
        means = smooth(heights) if len(segment) >= FEW and noisy(heights) else heights
        line = [f"{axes.x(step):.2f} {mean:.2f}" for (step, _), mean in zip(segment, means, strict=True)]
        every = -(-len(line) // VERTICES)
        lines.append("M" + "L".join([*line[:-1:every], line[-1]]))
    sparse = " sparse" if all(len(segment) < FEW for segment in series.segments) else ""
    return (
        f'<g class="{colour}{sparse}" data-key="{escape(series.key)}">'
        f'<path class="dots" d="{"".join(dots)}"/><path class="line" d="{"".join(lines)}"/></g>'
    )


def _at(point: Point, axes: Axes) -> str:
    return f"{axes.x(point[0]):.2f} {axes.y(point[1]):.2f}"


def _axis_words(axes: Axes, wide: bool) -> list[str]:
    marks = axes.scale.ticks()
    apart = marks[1] - marks[0] if len(marks) > 1 and axes.scale.kind == "linear" else 0
    parts = [
        f'<span class="y" style="top:{axes.y(value) / HEIGHT:.2%}" data-value="{value!r}">'
        f"{tick(value, apart)}</span>"
        for value in marks
    ]
    steps = sorted({round(step) for step in round_steps(0, axes.last, least=5 if wide else 3)})
    parts += [
        f'<span class="x" style="left:{axes.x(step) / WIDTH:.2%}" data-step="{step}">{step:,}</span>'
        for step in steps
    ]
    return parts


def _stage_words(run: Run, axes: Axes) -> list[str]:
    if not run.recipe:
        return []
    return [
        f'<span class="stage" style="left:{left / WIDTH:.2%};width:{width / WIDTH:.2%}" '
        f'title="{label}">{label}</span>'
        for label, left, width in _stage_places(run, axes)
    ]


def _stage_places(run: Run, axes: Axes) -> list[tuple[str, float, float]]:
    """(name, left edge, width) of the stages that are within the box."""
    places = []
    for stage in run.stages:
        left, right = axes.x(stage.start), min(axes.x(stage.start + stage.steps), WIDTH)
        if left < right:
            places.append((escape(stage.label), left, right - left))
    return places


def _oddities(chart: Chart, axes: Axes) -> list[str]:
    """Crosses at the upper edge for values that are not finite."""
    return [
        f'<span class="odd" style="left:{axes.x(step) / WIDTH:.2%}" '
        f'title="{escape(series.label)} is {plain(value)} at step {step:,}">&times;</span>'
        for series in chart.series
        for step, value in thin(series.odd, DOTS)
    ]


def _marks(run: Run, axes: Axes) -> list[str]:
    """Numbered marks of warnings, each a link to the first of those that it stands for."""
    groups: list[list[tuple[int, int, str]]] = []
    for index, (step, text) in enumerate(run.warnings, 1):
        near = groups and axes.x(step) - axes.x(groups[-1][0][1]) < CROWDED * WIDTH
        if near:
            groups[-1].append((index, step, text))
        else:
            groups.append([(index, step, text)])
    parts = []
    for group in groups:
        (first, step, text), last = group[0], group[-1][0]
        name = f"{first}" if first == last else f"{first}&ndash;{last}"
        more = f" (and {last - first} more)" if last > first else ""
        parts.append(
            f'<a class="mark" tabindex="-1" href="#warning-{first}" '
            f'style="left:{min(axes.x(step), WIDTH) / WIDTH:.2%}" '
            f'title="step {step:,}: {escape(text[:300])}{more}">{name}</a>'
        )
    return parts


def _data(shown: Sequence[tuple[Series, str]], axes: Axes) -> str:
    """What the dots stand for, for page.js."""
    series = []
    for one, colour in shown:
        points = [point for segment in one.segments for point in thin(segment, DOTS)]
        heights = [round(axes.y(value) / HEIGHT, 4) for _, value in points]
        values = [plain(value) for _, value in points]
        series.append([one.label, colour, [step for step, _ in points], values, heights])
    # "<" would let a name end the script.
    text = json.dumps({"last": axes.last, "series": series}, separators=(",", ":")).replace("<", "\\u003c")
    return f'<script type="application/json">{text}</script>'
