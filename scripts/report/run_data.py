"""A run as the page knows it: its stages and the files that each has left."""

import math
import re
import time
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

LARGEST_STEP = 10**12  # beyond it a step is damage
PATIENCE = 300.0  # seconds after its last line in which a run may be between two lines


@dataclass(frozen=True)
class Row:
    """A line of log.jsonl: the numbers of a step, also those that are not finite, by their keys."""

    step: int
    values: dict[str, float]


@dataclass(frozen=True)
class Warned:
    """A line of warnings.jsonl."""

    step: int
    text: str


@dataclass(frozen=True)
class Stage:
    """One run folder; a run without stages is one stage."""

    folder: Path
    name: str
    config: dict[str, Any]
    rows: tuple[Row, ...] = ()  # steps ascend
    warnings: tuple[Warned, ...] = ()
    pictures: tuple[tuple[int, Path], ...] = ()  # by step
    saved: int = 0  # step of the newest checkpoint
    parameters: dict[str, int] | None = None  # numbers of weights by the model's parts
    written: float | None = None  # when its log was, in seconds since 1970
    start: int = 0  # steps of all stages before

    @property
    def label(self) -> str:
        """'1_volumes' as '1 volumes'."""
        return re.sub(r"^(\d+)_", r"\1 ", self.name)

    @cached_property
    def step(self) -> int:
        """Steps made."""
        return max(self.rows[-1].step if self.rows else 0, self.saved)

    @property
    def planned(self) -> int | None:
        """Steps in its config, if known."""
        steps = self.setting("train.steps")
        known = isinstance(steps, int) and not isinstance(steps, bool) and 0 <= steps <= LARGEST_STEP
        return steps if known else None

    @property
    def steps(self) -> int:
        """Steps that it takes on the axis of all stages."""
        return max(self.step, self.planned or 0)

    @property
    def begun(self) -> bool:
        """Whether it has left anything but a plan."""
        return bool(self.rows or self.saved or self.pictures)

    @property
    def finished(self) -> bool:
        """Whether all its steps are made."""
        return self.planned is not None and self.step >= self.planned

    @cached_property
    def seconds(self) -> float:
        """Training time by its log."""
        return sum(value for _, value in self.values("seconds"))

    def setting(self, key: str) -> Any:
        """Value of a config key such as "train.steps"; None if it is missing."""
        place: Any = self.config
        for part in key.split("."):
            place = place.get(part) if isinstance(place, dict) else None
        return place

    def values(self, key: str) -> list[tuple[int, float]]:
        """(step, value) of every line with a finite value of that key."""
        found = ((row.step, row.values.get(key, math.nan)) for row in self.rows)
        return [(step, value) for step, value in found if math.isfinite(value)]


@dataclass(frozen=True)
class Run:
    """All stages of a run, and the files that could not be read."""

    name: str
    folder: Path
    stages: tuple[Stage, ...]
    problems: tuple[str, ...] = ()

    @property
    def recipe(self) -> bool:
        """Whether it has stages of its own."""
        return len(self.stages) > 1 or self.stages[0].folder != self.folder

    @property
    def current(self) -> Stage:
        """The last stage of which there is something."""
        return next((stage for stage in reversed(self.stages) if stage.begun), self.stages[0])

    @property
    def steps(self) -> int:
        """Steps of all stages."""
        return sum(stage.steps for stage in self.stages)

    @property
    def step(self) -> int:
        """Steps made, counted through all stages."""
        return self.current.start + self.current.step

    @property
    def seconds(self) -> float:
        """Training time by its logs."""
        return sum(stage.seconds for stage in self.stages)

    @property
    def warnings(self) -> list[tuple[int, str]]:
        """(step counted through all stages, words) of every warning, stage by stage."""
        return [
            (stage.start + warned.step, warned.text) for stage in self.stages for warned in stage.warnings
        ]

    @property
    def written(self) -> float | None:
        """When the newest line was, in seconds since 1970."""
        return max((stage.written for stage in self.stages if stage.written), default=None)

    def state(self, now: float | None = None) -> str:
        """finished, running, stopped, or not started; `now` is in seconds since 1970.

        A run counts as stopped if its log has not changed for long.
        """
        if all(stage.finished for stage in self.stages):
            return "finished"
        if not any(stage.begun for stage in self.stages):
            return "not started"
        usual = [value for _, value in self.current.values("seconds")][-9:]
        silence = (time.time() if now is None else now) - (self.written or 0)
        return "running" if silence < PATIENCE + 5 * max(usual, default=0) else "stopped"
