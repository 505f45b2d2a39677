"""Values that may change during training.

They are functions of the progress, the fraction of updates done, from 0 to 1. A key of this type takes a
number, or a ramp such as {"start": 1, "end": 0.1, "begin": 0.2, "until": 0.6}.
"""

import math
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, Field, TypeAdapter, WrapValidator, model_validator


class Span(BaseModel, frozen=True, extra="forbid", allow_inf_nan=False):
    """The part of a run in which something changes."""

    begin: float = Field(0.0, ge=0, le=1, description="progress at which the change starts")
    until: float = Field(1.0, ge=0, le=1, description="progress at which it ends; begin = until: a jump")

    @model_validator(mode="after")
    def _ends_after_it_begins(self) -> "Span":
        if self.until < self.begin:
            raise ValueError(f"until ({self.until:g}) is before begin ({self.begin:g}); swap them")
        return self

    def changing_at(self, progress: float) -> dict[str, float]:
        """Return the current values of what changes during the run, by the suffix to the key's name."""
        return {}

    def done_at(self, progress: float) -> float:
        """Return the completed fraction of the change, 0 to 1."""
        if progress >= self.until:
            return 1.0
        if progress <= self.begin:
            return 0.0
        return (progress - self.begin) / (self.until - self.begin)


class Ramp(Span):
    """A transition from one value to another: `start` before the span, `end` after it."""

    start: float = Field(description="value up to `begin`")
    end: float = Field(description="value from `until` on")
    shape: Literal["linear", "cosine", "exponential"] = Field(
        "linear", description="cosine: slow at both ends; exponential: by equal factors in equal times"
    )

    @model_validator(mode="after")
    def _has_factors(self) -> "Ramp":
        if self.shape == "exponential" and min(self.start, self.end) <= 0:
            raise ValueError("an exponential ramp needs start and end above 0; choose another shape")
        return self

    def changing_at(self, progress: float) -> dict[str, float]:
        """Return the current value under the key's own name, unless the ramp is constant."""
        start, end = _ends(self)
        return {} if start == end else {"": value_at(self, progress)}


def mix(start: float, end: float, share: float) -> float:
    """Interpolate linearly from `start` (share 0) to `end` (share 1), exact at both ends."""
    return (1 - share) * start + share * end


SHAPES = {
    "linear": mix,
    "cosine": lambda start, end, share: mix(start, end, (1 - math.cos(math.pi * share)) / 2),
    "exponential": lambda start, end, share: start ** (1 - share) * end**share,
}


def value_at(scheduled: float | int | Ramp, progress: float) -> float:
    """Return the value of a number or a ramp at a progress from 0 to 1."""
    if not isinstance(scheduled, Ramp):
        return float(scheduled)
    return SHAPES[scheduled.shape](scheduled.start, scheduled.end, scheduled.done_at(progress))


def count_at(scheduled: float | int | Ramp, progress: float) -> int:
    """Return the value rounded to the nearest integer, ties down."""
    return math.ceil(value_at(scheduled, progress) - 0.5)


def largest(scheduled: float | int | Ramp) -> float:
    """Return the largest value over the whole run: a ramp has it at one of its ends."""
    return max(_ends(scheduled))


def scheduled_values(config: BaseModel, progress: float, prefix: str = "schedule/") -> dict[str, float]:
    """Return the current values of all ramps in a config, by keys such as "schedule/loss_rgb"."""
    found: dict[str, float] = {}
    for name, value in config:
        if isinstance(value, Span):
            changing = value.changing_at(progress)
            found |= {f"{prefix}{name}{suffix}": current for suffix, current in changing.items()}
        elif isinstance(value, BaseModel):
            found |= scheduled_values(value, progress, f"{prefix}{name}_")
    return found


def _ends(scheduled: float | int | Ramp) -> tuple[float, float]:
    return value_at(scheduled, 0.0), value_at(scheduled, 1.0)


def _number_or_ramp(number: Any) -> WrapValidator:
    """Validate a number or a ramp, so that errors mention only the one that was given."""
    adapter = TypeAdapter(number)

    def read(value: Any, _: Any) -> Any:
        if isinstance(value, Ramp):
            return value
        return Ramp.model_validate(value) if isinstance(value, dict) else adapter.validate_python(value)

    return WrapValidator(read)


def _within(low: float, high: float, words: str) -> AfterValidator:
    def check(value: Any) -> Any:
        if not all(low <= end <= high for end in _ends(value)):
            raise ValueError(f"must be {words}, and so must both ends of a ramp")
        return value

    return AfterValidator(check)


Scheduled = Annotated[float | Ramp, _number_or_ramp(Annotated[float, Field(allow_inf_nan=False)])]
NonNegative = Annotated[Scheduled, _within(0.0, math.inf, "at least 0")]
Probability = Annotated[Scheduled, _within(0.0, 1.0, "between 0 and 1")]
Count = Annotated[int | Ramp, _number_or_ramp(int)]
