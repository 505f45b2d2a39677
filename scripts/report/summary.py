"""Numbers of a run that the page shows in words and tables."""

import json
import re
from dataclasses import dataclass
from statistics import median
from typing import Any

from config.documents import differences
from scripts.report.curves import step_times
from scripts.report.run_data import Run, Stage

PREVIEW, SAMPLE = "held_out_preview_psnr", "held_out_sample_psnr"


@dataclass(frozen=True)
class Summary:
    """How a number of the log went during a stage; None if it was never logged."""

    first: float | None = None
    last: float | None = None
    best: float | None = None  # the greatest
    best_step: int = 0  # within the stage


def summarise(stage: Stage, key: str) -> Summary:
    """First, last and greatest value of a key of the log."""
    values = stage.values(key)
    if not values:
        return Summary()
    best_step, best = max(values, key=lambda value: value[1])
    return Summary(values[0][1], values[-1][1], best, best_step)


def latest(run: Run, key: str) -> tuple[Stage, Summary] | None:
    """The last stage that logged a number, and how it went there."""
    found = ((stage, summarise(stage, key)) for stage in reversed(run.stages))
    return next(((stage, summary) for stage, summary in found if summary.last is not None), None)


def seconds_per_step(stage: Stage) -> float | None:
    """The median over lines of the log, so that occasional work such as drawing previews does not count."""
    times = [seconds for _, seconds in step_times(stage)]
    return median(times) if times else None


def throughput(stage: Stage) -> tuple[float, str] | None:
    """Images a second by the log (the median), else scenes a second by the batch size (of one process)."""
    values = [value for _, value in stage.values("images_per_second")]
    if values:
        return median(values), "images"
    batch, accumulate = stage.setting("train.batch"), stage.setting("train.accumulate")
    seconds = seconds_per_step(stage)
    if isinstance(batch, int) and isinstance(accumulate, int) and seconds:
        return batch * accumulate / seconds, "scenes"
    return None


def config_changes(run: Run) -> list[tuple[Stage, Stage | None, dict[str, tuple[str, str]]]]:
    """(stage, the one before, the keys but `name` in which they differ) for every stage with a config.

    Each key has both values as JSON; "" for a missing one.
    """
    known = [stage for stage in run.stages if stage.config]
    changes = []
    for before, stage in zip([None, *known], known, strict=False):
        found = differences(before.config, stage.config, missing=_ABSENT) if before else {}
        differing = {key: tuple(map(_as_json, values)) for key, values in found.items() if key != "name"}
        changes.append((stage, before, differing))
    return changes


def config_text(config: dict[str, Any]) -> str:
    """A config as JSON, with lists of plain values on one line."""
    text = json.dumps(config, indent=2)
    # Strings hold no line breaks in JSON, so only the layout is matched.
    lists = r"\[\n\s*([^\[\]{}]*?)\n\s*\]"
    return re.sub(lists, lambda found: "[" + re.sub(r"\n\s*", " ", found[1]) + "]", text)


_ABSENT = object()


def _as_json(value: Any) -> str:
    return "" if value is _ABSENT else json.dumps(value)
