"""Quality against the number of input views: a table and a chart of results that exist.

    python -m scripts.evaluate --checkpoint runs/NAME --protocol nmr_random_1view    # and so on to 6view
    python -m scripts.view_curve runs/NAME --output curve.png

Reads RUN/evaluation/nmr_random_Nview/results.json of one or several runs. Evaluates nothing itself.
"""

import argparse
import json
import re
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scripts.common.command_line import OneLineParser

if TYPE_CHECKING:
    from matplotlib.axes import Axes

PROTOCOL = re.compile(r"nmr_random_(\d+)view")
# Metrics and their titles; of the last two, the first that all results have is shown.
METRICS = {"psnr": "PSNR (dB)", "ssim": "SSIM", "lpips_vgg": "LPIPS-VGG", "stlpips": "stLPIPS"}
BASELINES = {"nearest_view": "nearest input copied", "mean_image": "mean training image"}
SHARED = ("data", "split", "image_size", "seed", "sample")  # must agree among the results of a run


@dataclass(frozen=True)
class Line:
    """Means of a method against the number of views: metric -> views -> (mean, standard error or None)."""

    label: str
    values: dict[str, dict[int, tuple[float, float | None]]]


def main(argv: list[str] | None = None) -> int:
    """Parse the command line and draw; user errors become one line and exit code 2."""
    arguments = make_parser().parse_args(argv)
    try:
        written = view_curve(arguments.run, arguments.output)
    except (ValueError, OSError) as error:
        print(f"view_curve: {error}", file=sys.stderr)
        return 2
    print(written)
    return 0


def make_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = OneLineParser(
        prog="python -m scripts.view_curve",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("run", type=Path, nargs="+", metavar="RUN", help="run folder, such as runs/NAME")
    parser.add_argument(
        "--output", type=Path, default=Path("view_curve.png"), metavar="PNG", help="default: %(default)s"
    )
    return parser


def view_curve(runs: list[Path], output: Path) -> str:
    """Write the chart of the runs; returns the table, in Markdown.

    Raises ValueError if there are no results of two numbers of views, or if they do not go together.
    """
    found = {run: read_results(run) for run in runs}
    lines = [Line(run.name, _values(results, "sample")) for run, results in found.items()]
    first = found[runs[0]]
    lines += [Line(title, _values(first, row)) for row, title in BASELINES.items()]
    shown = _shown(lines)
    _chart(lines, shown, output)
    return table(lines, shown)


def read_results(run: Path) -> dict[int, dict[str, Any]]:
    """The results of a run by the number of input views."""
    found: dict[int, dict[str, Any]] = {}
    for path in sorted(run.glob("evaluation/*/results.json")):
        named = PROTOCOL.fullmatch(path.parent.name)
        if not named:
            continue
        try:
            document = json.loads(path.read_text(encoding="utf-8"))
            document["rows"]["sample"]["psnr"]["mean"], document["setup"]["sample"]
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{path}: is no result of scripts.evaluate; evaluate again") from error
        found[int(named[1])] = document
    if len(found) < 2:
        raise ValueError(
            f"{run}: has results of {len(found)} numbers of views, and a curve needs two; evaluate it by "
            "--protocol nmr_random_1view to nmr_random_6view"
        )
    reference, *others = (document["setup"] for _, document in sorted(found.items()))
    for other in others:
        for key in ("checkpoint", *SHARED):
            if other.get(key) != reference.get(key):
                raise ValueError(
                    f"{run}: {other['protocol']} and {reference['protocol']} differ in {key}; evaluate again"
                )
    return dict(sorted(found.items()))


def table(lines: list[Line], shown: list[str]) -> str:
    """A row for each number of views and method, with standard errors over objects."""
    rows = [
        f"| input views | method | {' | '.join(METRICS[metric] for metric in shown)} |",
        f"|--:|---|{'--:|' * len(shown)}",
    ]
    for views in lines[0].values["psnr"]:
        for line in lines:
            if views in line.values["psnr"]:
                cells = [_cell(metric, line.values[metric].get(views)) for metric in shown]
                rows.append(f"| {views} | {line.label} | {' | '.join(cells)} |")
    return "\n".join(rows)


def _values(results: dict[int, dict[str, Any]], row: str) -> dict[str, dict[int, tuple[float, float | None]]]:
    """Means and errors of a row of the results, by metric and number of views."""
    values: dict[str, dict[int, tuple[float, float | None]]] = {metric: {} for metric in METRICS}
    for views, document in results.items():
        for metric in METRICS:
            figure = document["rows"].get(row, {}).get(metric)
            if figure and figure["mean"] is not None:
                values[metric][views] = (figure["mean"], figure["over_objects"])
    return values


def _shown(lines: list[Line]) -> list[str]:
    """PSNR, SSIM and one perceptual distance, as far as results have them."""
    complete = [metric for metric in METRICS if all(line.values[metric] for line in lines[:-2])]
    perceptual = [metric for metric in complete if "lpips" in metric]
    return [metric for metric in complete if metric not in perceptual[1:]]


def _cell(metric: str, value: tuple[float, float | None] | None) -> str:
    if value is None:
        return ""
    places = 2 if metric == "psnr" else 4
    mean, error = value
    return f"{mean:.{places}f}" + ("" if error is None else f" \u00b1 {error:.{places}f}")


def _chart(lines: list[Line], shown: list[str], path: Path) -> None:
    """A panel for each metric, with a line for each method and bars of one standard error."""
    from data.files import write_whole
    from data.images.quality import extra

    figure = extra("matplotlib.figure").Figure(figsize=(4.3 * len(shown), 3.8), layout="constrained")
    panels = figure.subplots(1, len(shown), squeeze=False)[0]
    for axes, metric in zip(panels, shown, strict=True):
        for number, line in enumerate(lines):
            _draw(axes, line, metric, "osv^Dx"[number % 6], baseline=line.label in BASELINES.values())
        axes.set_title(METRICS[metric], fontsize=10)
        axes.set_xlabel("input views")
        axes.set_xticks(list(lines[0].values["psnr"]))
        axes.grid(visible=True, alpha=0.3)
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=4, fontsize=9)
    write_whole(path, lambda partial: figure.savefig(partial, format="png", dpi=110))


def _draw(axes: "Axes", line: Line, metric: str, marker: str, *, baseline: bool) -> None:
    values = line.values[metric]
    means, errors = [mean for mean, _ in values.values()], [error or 0.0 for _, error in values.values()]
    style = {"linestyle": ":", "alpha": 0.7} if baseline else {}
    axes.errorbar(
        list(values), means, errors, marker=marker, markersize=4, capsize=2, label=line.label, **style
    )


if __name__ == "__main__":
    sys.exit(main())
