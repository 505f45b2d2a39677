"""The figures of a run that the page puts in words and tables."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from scripts.report.curves import step_times
from scripts.report.run_data import Run, Stage

PREVIEW, SAMPLE = "held_out_preview_psnr", "held_out_sample_psnr"


@dataclass(frozen=True)
class Course:
    """How one number went during a stage; None where it was never logged."""

    first: float | None = None
    last: float | None = None
    best: float | None = None  # the greatest
    best_step: int = 0  # within the stage

    @property
    def known(self) -> bool:
        """Whether it was ever logged."""
        return self.last is not None


def course(stage: Stage, key: str) -> Course:
    """How a number of the log went."""
    values = stage.values(key)
    if not values:
        return Course()
    best_step, best = max(values, key=lambda value: value[1])
    return Course(values[0][1], values[-1][1], best, best_step)


def seconds_per_step(stage: Stage) -> float | None:
    """The median over lines: what is done now and then, such as pictures, does not count."""
    times = [seconds for _, seconds in step_times(stage)]
    return median(times) if times else None


def images_per_second(stage: Stage) -> tuple[str, float] | None:
    """The median of what the log says of it; else scenes, which follow from the batch (of one process)."""
    values = [value for _, value in stage.values("images_per_second")]
    if values:
        return "images", median(values)
    batch, accumulate, seconds = (
        stage.setting("train.batch"),
        stage.setting("train.accumulate"),
        seconds_per_step(stage),
    )
    if isinstance(batch, int) and isinstance(accumulate, int) and seconds:
        return "scenes", batch * accumulate / seconds
    return None


def differences(before: Any, now: Any, path: str = "") -> dict[str, tuple[str, str]]:
    """The keys in which two configs differ, each with both values as JSON; "" where there is none."""
    if not (isinstance(before, dict) and isinstance(now, dict)):
        return {} if before == now else {path: (_said(before), _said(now))}
    found: dict[str, tuple[str, str]] = {}
    for key in [*before, *(key for key in now if key not in before)]:
        found |= differences(before.get(key, _ABSENT), now.get(key, _ABSENT), f"{path}.{key}".lstrip("."))
    return found


def whole(config: Any, indent: str = "") -> str:
    """A config as JSON: a line for every key, lists of plain values on one."""
    items = list(config.values()) if isinstance(config, dict) else config if isinstance(config, list) else []
    if not any(isinstance(item, dict | list) for item in items) and not isinstance(config, dict):
        return json.dumps(config)
    deeper = f"{indent}  "
    lines = [whole(item, deeper) for item in items]
    if isinstance(config, dict):
        lines = [f"{json.dumps(key)}: {line}" for key, line in zip(config, lines, strict=True)]
    opening, closing = "{}" if isinstance(config, dict) else "[]"
    body = ",".join(f"\n{deeper}{line}" for line in lines)
    return f"{opening}{body}\n{indent}{closing}" if lines else opening + closing


def recent(run: Run, key: str) -> tuple[Stage, Course] | None:
    """The last stage that logged a number, and how it went there."""
    found: Sequence[tuple[Stage, Course]] = [(stage, course(stage, key)) for stage in run.stages]
    return next(((stage, one) for stage, one in reversed(found) if one.known), None)


_ABSENT = object()


def _said(value: Any) -> str:
    return "" if value is _ABSENT else json.dumps(value)
