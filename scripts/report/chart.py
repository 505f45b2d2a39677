"""A chart of logged numbers: drawn by matplotlib, as SVG whose colours are those of the page's theme."""

import io
import math
import re
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
from markupsafe import Markup
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import NullFormatter

from scripts.report.curves import Chart, Point, Series, noisy, smooth, thin
from scripts.report.run_data import Run

WIDE, NARROW = (1050, 300), (340, 190)  # CSS pixels
FEW = 30  # values of a segment up to which each is marked, and beyond which noisy ones are averaged
POINTS, MEANS = 400, 300  # of a segment that are drawn
DECADES = 2.0  # spread of values beyond which the axis is logarithmic
TINIEST = 1e-100  # smaller values count as zero
CROWDED = 34  # CSS pixels: warnings closer than this get one mark
# Variables of base.css. In a figure, a colour is the number of one; in the page it becomes var(--NAME).
THEME = ("c0", "c1", "c2", "c3", "c4", "c5", "c6", "c7", "faint", "rule", "grid", "halt")
COLOURS = {name: f"#{number:06x}" for number, name in enumerate(THEME, 1)}
STYLE = {
    "svg.fonttype": "none",
    "font.family": "DejaVu Sans",  # it measures texts; style.css chooses another
    "font.size": 11,
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "axes.grid": True,
    "axes.grid.axis": "y",
    "axes.axisbelow": True,
    "grid.color": COLOURS["grid"],
    "axes.ymargin": 0.08,
    **{f"axes.spines.{side}": False for side in ("left", "right", "top", "bottom")},
    **{f"{axis}tick.{key}": COLOURS["faint"] for axis in "xy" for key in ("color", "labelcolor")},
    **{f"{axis}tick.{key}.size": 0 for axis in "xy" for key in ("major", "minor")},
}


def chart_svg(chart: Chart, run: Run) -> Markup:
    """The chart as an SVG element; the same numbers give the same bytes."""
    file = io.StringIO()
    metadata = dict.fromkeys(("Creator", "Date", "Format", "Type"))
    salt = f"{chart.heading}/{chart.title}"  # ids are unique within the page
    with warnings.catch_warnings(), rc_context(STYLE | {"svg.hashsalt": salt}):
        warnings.filterwarnings("ignore", "Glyph .* missing")  # browsers have further fonts
        draw(chart, run).savefig(file, format="svg", metadata=metadata)
    text = file.getvalue()
    body = text[text.index("<g ") : text.rindex("</svg>")]
    referenced = set(re.findall(r'(?:href="|url\()#([\w-]+)', body))
    body = re.sub(r"<[^>]+>", lambda tag: _adapt(tag[0], referenced), body)
    width, height = WIDE if chart.wide else NARROW
    head = Markup('<svg viewBox="0 0 {} {}" role="img" aria-label="{}">').format(width, height, chart.title)
    return head + Markup(body + "</svg>")


def draw(chart: Chart, run: Run) -> Figure:
    """The chart as a figure: the y axis fits the values, the x axis counts the steps of all stages."""
    width, height = WIDE if chart.wide else NARROW
    figure = Figure(figsize=(width / 72, height / 72), layout="constrained")
    axes = figure.add_subplot()
    last = max([1, *(stage.start + row.step for stage in run.stages for row in stage.rows[-1:])])

    # Axes first: running means are taken on the scale that they are seen on.
    values = [value for series in chart.series for _, value in series.points]
    axes.set_yscale(**scale_of(values, share=chart.share))
    if axes.get_yscale() == "asinh":
        axes.yaxis.get_major_locator().set_params(numticks=7)
    axes.set_xlim(0, last)
    axes.xaxis.get_major_locator().set_params(integer=True, nbins=9 if chart.wide else 4)
    axes.xaxis.set_major_formatter("{x:,.0f}")
    axes.yaxis.set_major_formatter("{x:,g}")
    axes.yaxis.set_minor_formatter(NullFormatter())

    # The first series, a total as a rule, comes last and lies on top.
    for series, look in reversed(list(zip(chart.series, looks(chart.series), strict=True))):
        _draw_series(axes, series, look)
    _fit(axes, values, share=chart.share)
    if run.recipe:
        _draw_stages(axes, run, last)
    for (first, until), (step, _) in _grouped(run.warnings, CROWDED / width * last):
        label = f"{first}" if first == until else f"{first}\N{EN DASH}{until}"
        place = {"transform": axes.get_xaxis_transform(), "ha": "center", "va": "bottom"}
        axes.text(min(step, last), 0.01, label, url=f"#warning-{first}", color=COLOURS["halt"], **place)
    return figure


def scale_of(values: Sequence[float], *, share: bool = False) -> dict[str, Any]:
    """Arguments of `Axes.set_yscale`: logarithmic for values that spread over decades and are no shares.

    Values that cross zero come arbitrarily near to it: their spread is that of all but the smallest tenth.
    """
    sizes = sorted(abs(value) for value in values if abs(value) >= TINIEST)
    if not sizes or (share and min(values) >= 0):
        return {"value": "linear"}
    if min(values) >= TINIEST:
        return {"value": "log"} if math.log10(sizes[-1] / sizes[0]) > DECADES else {"value": "linear"}
    if math.log10(sizes[-1] / sizes[len(sizes) // 10]) > 0.75 * DECADES:
        return {"value": "asinh", "linear_width": sizes[len(sizes) // 4]}  # smooth, unlike "symlog"
    return {"value": "linear"}


def looks(series: Sequence[Series]) -> list[tuple[str, str]]:
    """(colour of the theme, line style) of every series; colour 0 is that of a total."""
    others = iter([(name, style) for style in ("-", "--", ":", "-.") for name in THEME[1:8]] * len(series))
    return [("c0", "-") if one.main and len(series) > 1 else next(others) for one in series]


def _draw_series(axes: Axes, series: Series, look: tuple[str, str]) -> None:
    """Lines through the values; of many noisy ones, a running mean above a pale line through them."""
    colour, style = COLOURS[look[0]], look[1]
    for segment in series.segments:
        many = len(segment) >= FEW
        if many and noisy([value for _, value in segment]):
            axes.plot(*zip(*thin(segment, POINTS), strict=True), color=colour, alpha=0.3, linewidth=0.7)
            segment = _averaged(axes, segment)
        marker = "" if many else "o"
        steps, values = zip(*thin(segment, POINTS), strict=True)
        axes.plot(steps, values, style, color=colour, marker=marker, markersize=3.5, linewidth=1.6)
    if series.odd:
        steps = [step for step, _ in thin(series.odd, POINTS)]
        top = {"transform": axes.get_xaxis_transform(), "clip_on": False}
        axes.plot(steps, [1.0] * len(steps), "x", color=COLOURS["halt"], **top)


def _averaged(axes: Axes, segment: Sequence[Point]) -> list[Point]:
    """Running means on the scale of the axis, so that one peak on a logarithmic one becomes no plateau."""
    scale = axes.yaxis.get_transform()
    means = smooth(scale.transform(np.array([value for _, value in segment])).tolist())
    every = -(-len(segment) // MEANS)
    steps = [step for step, _ in segment]
    points = list(zip(steps, scale.inverted().transform(np.array(means)).tolist(), strict=True))
    return [*points[:-1:every], points[-1]]


def _fit(axes: Axes, values: Sequence[float], *, share: bool) -> None:
    if share and min(values, default=0) >= 0:
        axes.set_ylim(0, max([*values, 0.01]) * 1.05)
    elif values and max(values) - min(values) < 1e-6 * abs(max(values)):
        # Differences that are but rounding would make a wild curve.
        room = 0.1 * abs(max(values))
        axes.set_ylim(min(values) - room, max(values) + room)


def _draw_stages(axes: Axes, run: Run, last: int) -> None:
    """Bands behind every other stage, and names above, cut where the next one begins."""
    across = axes.get_xaxis_transform()
    for number, stage in enumerate(run.stages):
        left, right = stage.start, min(stage.start + stage.steps, last)
        if left >= right:
            continue
        if number % 2:
            axes.axvspan(left, right, color=COLOURS["rule"], alpha=0.35, linewidth=0, zorder=0)
        name = axes.text(left, 1.03, f" {stage.label}", transform=across, color=COLOURS["faint"])
        name.set_parse_math(False)
        name.set(clip_path=Rectangle((left, 1), right - left, 0.5, transform=across), clip_on=True)


def _grouped(warnings: Sequence[Point | tuple[int, str]], near: float) -> list:
    """((first, last), warning): numbers of warnings less than `near` steps apart, and the first of them."""
    groups: list = []
    for number, warning in enumerate(warnings, 1):
        if groups and warning[0] - groups[-1][1][0] < near:
            groups[-1] = ((groups[-1][0][0], number), groups[-1][1])
        else:
            groups.append(((number, number), warning))
    return groups


def _adapt(tag: str, referenced: set[str]) -> str:
    """A tag of the figure for the page: unused ids dropped, the theme's colours, two decimals."""
    tag = tag.replace(' target="_blank"', "")  # links lead to warnings on the same page
    tag = re.sub(r' id="([^"]*)"', lambda found: found[0] if found[1] in referenced else "", tag)
    tag = re.sub(r"#0000[01]\w", lambda found: f"var(--{THEME[int(found[0][1:], 16) - 1]})", tag)
    return re.sub(r"(\.\d\d)\d+", r"\1", tag)
