"""Write figures to files, and format means with standard errors."""

import json
import math
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean, stdev
from typing import Any


def mean(values: list[float]) -> str:
    """The mean of the finite values, with its standard error if there are several."""
    finite = [value for value in values if math.isfinite(value)]
    if not finite:
        return "-"
    error = standard_error(finite)
    return f"{fmean(finite):.2f}" + ("" if error is None else f" \u00b1 {error:.2f}")


def standard_error(values: Sequence[float]) -> float | None:
    """The standard error of the mean: None for fewer than two values, nan if one is not finite."""
    if len(values) < 2:
        return None
    return stdev(values) / math.sqrt(len(values)) if all(map(math.isfinite, values)) else math.nan


def write_json(path: Path, figures: dict[str, Any]) -> None:
    """Write figures to a JSON file atomically."""
    from data.files import write_text_whole

    text = json.dumps(figures, indent=2) + "\n"
    write_text_whole(path, text)
