"""Format the results of an evaluation: a Markdown table, LaTeX rows, a CSV file of objects, and JSON."""

import csv
import io
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from scripts.evaluate.aggregation import GEOMETRY, Figure, Method, Row, object_mean
from scripts.evaluate.metrics.metrics import METRICS
from scripts.evaluate.metrics.set_distances import SET_METRICS
from scripts.evaluate.records import Record

EVERY_METRIC = {**METRICS, **SET_METRICS}
DIGITS = {name: metric.digits for name, metric in EVERY_METRIC.items()}
TITLES = {name: metric.title for name, metric in EVERY_METRIC.items()}


@dataclass(frozen=True)
class Results:
    """The results of an evaluation."""

    setup: dict[str, Any]  # what was measured
    rows: list[Row]
    geometry: dict[str, Figure]
    categories: dict[str, list[Row]]  # rows by category, if the set has categories
    notes: list[str]  # caveats for the reader

    @property
    def columns(self) -> list[str]:
        """The metrics that at least one row has, in order."""
        return [name for name in TITLES if any(name in row.figures for row in self.rows)]

    @property
    def title(self) -> str:
        """A short title."""
        return f"{self.setup['protocol']}: {self.setup['run']}, step {self.setup['step']}"


def markdown(results: Results) -> str:
    """The results as Markdown."""
    lines = [f"# {results.title}", ""]
    lines += _table("method", [(row.title, row.figures) for row in results.rows], results.columns)
    if results.geometry:
        cells = [f"{GEOMETRY[name]} {_text(figure, 1)}" for name, figure in results.geometry.items()]
        lines += ["", f"Shape of the volume: {', '.join(cells)}."]
    if results.categories:
        of_samples = [(name, rows[0].figures) for name, rows in results.categories.items()]
        lines += ["", f"By category, {results.rows[0].title}:", ""]
        lines += _table("category", of_samples, [name for name in results.columns if name in METRICS])
    return "\n".join([*lines, "", *(f"* {note}" for note in results.notes), ""])


def latex(results: Results) -> str:
    """The rows as LaTeX, with notes as comments."""
    columns = results.columns
    comments = [results.title, *results.notes, " & ".join(["method", *(TITLES[name] for name in columns)])]
    lines = [f"% {comment}" for comment in comments]
    for row in results.rows:
        cells = [_text(row.figures.get(name), DIGITS[name]) for name in columns]
        lines.append(" & ".join([row.title, *cells]).replace("±", r"$\pm$") + r" \\")
    return "\n".join(lines) + "\n"


def details(results: Results) -> str:
    """The results as JSON. `over_seeds` are standard deviations, `over_objects` standard errors."""
    document = {
        "setup": results.setup,
        "rows": _rows(results.rows),
        "geometry": {name: asdict(figure) for name, figure in results.geometry.items()},
        "categories": {name: _rows(rows) for name, rows in results.categories.items()},
        "notes": results.notes,
    }
    return json.dumps(document, indent=1) + "\n"


def objects_csv(records: Sequence[Record], methods: Sequence[Method], metrics: Sequence[str]) -> str:
    """A CSV line for each object: means over views, for samples also over seeds; empty if not finite."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    columns = [f"{method.name}_{metric}" for method in methods for metric in metrics]
    geometry = [name for name in GEOMETRY if any(name in record.geometry for record in records)]
    writer.writerow(["object", "category", "views", *columns, *geometry])
    for record in records:
        cells = [
            object_mean([object_mean(scores[metric]) for scores in method.runs(record)])
            for method in methods
            for metric in metrics
        ]
        cells += [record.geometry.get(name) for name in geometry]
        numbers = ["" if value is None else f"{value:.6g}" for value in cells]
        writer.writerow([record.name, record.category, len(record.views), *numbers])
    return text.getvalue()


def _table(head: str, rows: list[tuple[str, dict[str, Figure]]], columns: list[str]) -> list[str]:
    lines = ["| " + " | ".join([head, *(TITLES[name] for name in columns)]) + " |"]
    lines.append("|---|" + "--:|" * len(columns))
    for title, figures in rows:
        cells = [_text(figures.get(name), DIGITS[name]) for name in columns]
        lines.append("| " + " | ".join([title, *cells]) + " |")
    return lines


def _text(figure: Figure | None, digits: int) -> str:
    if figure is None:
        return "-"
    spread = "" if figure.over_seeds is None else f" ± {figure.over_seeds:.{digits}f}"
    return f"{figure.mean:.{digits}f}{spread}"


def _rows(rows: list[Row]) -> dict[str, Any]:
    return {
        row.method: {"title": row.title} | {name: asdict(figure) for name, figure in row.figures.items()}
        for row in rows
    }
