"""The page: one HTML file that needs nothing else."""

from itertools import groupby
from pathlib import Path
from typing import Any

from scripts.common.html.document import templates
from scripts.common.wording import megabytes
from scripts.report.chart import chart_svg, looks
from scripts.report.curves import charts_of
from scripts.report.previews import Previews, make_previews
from scripts.report.run_data import Run
from scripts.report.summary import (
    PREVIEW,
    SAMPLE,
    config_changes,
    config_text,
    latest,
    seconds_per_step,
    summarise,
    throughput,
)

SPARE = 4096  # bytes for the words around pictures
LISTED = 20  # problems that the page names; of more, their number


def page_html(
    run: Run, *, most: int, now: float | None = None, refresh: float | None = None
) -> tuple[str, Previews]:
    """The page in at most `most` bytes of UTF-8, and the pictures on it.

    `now` is in seconds since 1970; a browser reloads the page every `refresh` seconds.
    Raises ValueError if it is too large even without pictures.
    """
    template = templates(Path(__file__).parent).get_template("report.html.j2")
    content = _content(run, run.state(now)) | {"refresh": refresh}

    # Pictures get the room that everything else leaves.
    bare = template.render(content, previews=Previews(), problems=run.problems)
    room = most - len(bare.encode()) - SPARE
    if room < 0:
        needed = megabytes(most - room)
        raise ValueError(f"--max-mb {most / 1e6:g}: the page takes {needed} without pictures; allow more")
    previews = make_previews(run, room)
    problems = [*run.problems, *previews.problems]
    return template.render(content, previews=previews, problems=problems), previews


def _content(run: Run, state: str) -> dict[str, Any]:
    """Everything that the template shows but pictures and problems."""
    parameters = next((stage.parameters for stage in reversed(run.stages) if stage.parameters), None)
    charts = [(chart, chart_svg(chart, run), looks(chart.series)) for chart in charts_of(run)]
    return {
        "title": f"{run.name}: {state}",
        "program": "scripts.report",
        "run": run,
        "state": state,
        "total_known": all(stage.planned is not None for stage in run.stages),
        "psnrs": [("Sample", latest(run, SAMPLE)), ("Preview", latest(run, PREVIEW))],
        "loss": latest(run, "loss"),
        "step_seconds": seconds_per_step(run.current),
        "throughput": throughput(run.current),
        "parameters": parameters,
        "charts": [(head, list(group)) for head, group in groupby(charts, key=lambda one: one[0].heading)],
        "table": [
            (stage, seconds_per_step(stage), *(summarise(stage, key) for key in ("loss", PREVIEW, SAMPLE)))
            for stage in run.stages
        ],
        "configs": config_changes(run),
        "config_text": config_text,
        "listed": LISTED,
    }
