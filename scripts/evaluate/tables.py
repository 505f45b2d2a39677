"""Format the results of an evaluation: a Markdown table, LaTeX rows, a CSV file of objects, and JSON."""

import csv
import io
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from scripts.evaluate.aggregation import GEOMETRY, SAMPLE, Figure, Method, Row, object_mean, restricted
from scripts.evaluate.metrics.masked import MASKED_METRICS, PAIR_METRICS
from scripts.evaluate.metrics.set_distances import SET_METRICS
from scripts.evaluate.protocols import Task
from scripts.evaluate.records import Record, seed_method

EVERY_METRIC = {**PAIR_METRICS, **SET_METRICS}
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
    choices: dict[str, list[Row]] = field(default_factory=dict)  # rows by choice of views, of DTU

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
    if results.choices:
        lines += ["", "By choice of views:", ""]
        rows = [(f"{title}, {choice}", figures) for choice, title, figures in _by_choice(results)]
        lines += _table("method, views", rows, _masked_columns(results))
    if results.categories:
        of_samples = [(name, rows[0].figures) for name, rows in results.categories.items()]
        lines += ["", f"By category, {results.rows[0].title}:", ""]
        lines += _table("category", of_samples, [name for name in results.columns if name in PAIR_METRICS])
    return "\n".join([*lines, "", *(f"* {note}" for note in results.notes), ""])


def latex(results: Results) -> str:
    """The rows as LaTeX, with notes as comments."""
    columns = results.columns
    comments = [results.title, *results.notes, " & ".join(["method", *(TITLES[name] for name in columns)])]
    lines = [f"% {comment}" for comment in comments]
    for row in results.rows:
        cells = [_text(row.figures.get(name), DIGITS[name]) for name in columns]
        lines.append(" & ".join([row.title, *cells]).replace("±", r"$\pm$") + r" \\")
    columns = _masked_columns(results)
    if results.choices:
        lines += ["% " + " & ".join(["method, views", *(TITLES[name] for name in columns)])]
    for choice, title, figures in _by_choice(results):
        cells = [_text(figures.get(name), DIGITS[name]) for name in columns]
        lines.append(" & ".join([f"{title}, {choice}", *cells]).replace("±", r"$\pm$") + r" \\")
    return "\n".join(lines) + "\n"


def details(results: Results) -> str:
    """The results as JSON. `over_seeds` are standard deviations, `over_objects` standard errors."""
    document = {
        "setup": results.setup,
        "rows": _rows(results.rows),
        "geometry": {name: asdict(figure) for name, figure in results.geometry.items()},
        "categories": {name: _rows(rows) for name, rows in results.categories.items()},
        "choices": {name: _rows(rows) for name, rows in results.choices.items()},
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
        writer.writerow([record.name, record.category, len(record.views), *map(_cell, cells)])
    return text.getvalue()


def choices_csv(
    records: Sequence[Record],
    tasks: Sequence[Task],
    methods: Sequence[Method],
    metrics: Sequence[str],
    num_seeds: int,
) -> str:
    """A line for each scene, choice and method: means over views; and the means of these over scenes.

    With several seeds, there are lines for each. Cells are empty if not finite.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["scene", "choice", "views", "method", *metrics])
    seeds = [seed_method(number) for number in range(num_seeds)] if num_seeds > 1 else []
    runs = {method.name: method.runs for method in methods if method.name != SAMPLE or not seeds}
    runs = {seed: (lambda record, seed=seed: [record.scores[seed]]) for seed in seeds} | runs
    for choice in tasks[0].choices if tasks else ():
        for name, of in runs.items():
            lines, chosen = [], restricted(records, tasks, choice)
            for record in chosen:
                cells = [object_mean([object_mean(run[metric]) for run in of(record)]) for metric in metrics]
                lines.append(cells)
                writer.writerow([record.name, choice, len(record.views), name, *map(_cell, cells)])
            means = [object_mean(column) for column in zip(*lines, strict=True)]
            num_views = sum(len(record.views) for record in chosen)
            writer.writerow(["mean", choice, num_views, name, *map(_cell, means)])
    return text.getvalue()


def _cell(value: float | None) -> str:
    return "" if value is None else f"{value:.6g}"


def _by_choice(results: Results) -> list[tuple[str, str, dict[str, Figure]]]:
    """(choice, title of the method, figures), method by method."""
    count = len(results.rows)
    return [
        (choice, rows[place].title, rows[place].figures)
        for place in range(count)
        for choice, rows in results.choices.items()
    ]


def _masked_columns(results: Results) -> list[str]:
    return [name for name in results.columns if name in MASKED_METRICS]


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
