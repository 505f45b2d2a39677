"""Scales of axes: where a value lies between 0 and 1, and which values are worth a mark."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

DECADES = 2.0  # a spread beyond which equal lengths are equal factors
MARGIN = 0.05  # free at both ends, as a share of the spread
TINIEST = 1e-100  # what is smaller counts as zero


@dataclass(frozen=True)
class Scale:
    """From `low` at 0 to `high` at 1.

    "log" is for positive values; "signed log" is linear within `unit` of zero and logarithmic beyond.
    """

    kind: Literal["linear", "log", "signed log"]
    low: float
    high: float
    unit: float = 1.0

    def place(self, value: float) -> float:
        """0 at `low`, 1 at `high`."""
        low, high = self._bend(self.low), self._bend(self.high)
        return (self._bend(value) - low) / (high - low)

    def ticks(self) -> list[float]:
        """A few values to mark, in order."""
        if self.kind == "linear":
            return round_steps(self.low, self.high)
        least, most = max(self.low, TINIEST), max(abs(self.low), abs(self.high))
        if self.kind == "signed log":
            least = self.unit
        powers = range(math.ceil(math.log10(least) - 1e-9), math.floor(math.log10(most) + 1e-9) + 1)
        decades = [10.0**power for power in powers]
        decades = decades[:: math.ceil(len(decades) / 5)] if decades else []
        if self.kind == "signed log":
            decades = [-value for value in reversed(decades)] + [0.0] + decades
        return [value for value in decades if self.low <= value <= self.high]

    def _bend(self, value: float) -> float:
        if self.kind == "log":
            return math.log10(max(value, TINIEST))
        return math.asinh(value / self.unit) if self.kind == "signed log" else value


def fit(values: Sequence[float], *, share: bool = False) -> Scale:
    """A scale for finite values. A `share` is shown linearly from 0."""
    values = [0.0 if abs(value) < TINIEST else value for value in values]
    if share and min(values) >= 0:
        return Scale("linear", 0.0, max([*values, 0.01]) * (1 + MARGIN))
    low, high = min(values), max(values)
    if low > 0 and math.log10(high / low) > DECADES:
        rim = (high / low) ** MARGIN
        return Scale("log", low / rim, high * rim)
    sizes = sorted(abs(value) for value in values if value)
    # Values that cross zero come arbitrarily near to it: their spread is that of all but the smallest.
    if low <= 0 and sizes and math.log10(sizes[-1] / sizes[len(sizes) // 10]) > 0.75 * DECADES:
        unit = sizes[len(sizes) // 4]
        bent_low, bent_high = math.asinh(low / unit), math.asinh(high / unit)
        rim = (bent_high - bent_low) * MARGIN
        return Scale("signed log", unit * math.sinh(bent_low - rim), unit * math.sinh(bent_high + rim), unit)
    if low == high == 0:
        return Scale("linear", 0.0, 1.0)
    rim = (high - low) * MARGIN
    if high - low < 1e-9 * abs(high):  # a difference that is but rounding would make a wild curve
        rim = abs(high) * 0.1
    return Scale("linear", low - rim, high + rim)


def round_steps(low: float, high: float, *, least: int = 3) -> list[float]:
    """The fewest multiples of 1, 2 or 5 times a power of ten within the bounds, but `least` or more."""
    power = math.floor(math.log10((high - low) / least)) + 1
    while True:
        for factor in (5, 2, 1):
            first, last = (end / factor / 10.0**power for end in (low, high))
            marks = range(math.ceil(first - 1e-9), math.floor(last + 1e-9) + 1)
            if len(marks) >= least:
                return [float(f"{mark * factor}e{power}") for mark in marks]
        power -= 1
