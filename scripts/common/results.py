"""Write figures to files, and format means with standard errors."""

import json
from math import isfinite
from pathlib import Path
from statistics import fmean, stdev
from typing import Any


def mean(values: list[float]) -> str:
    """The mean of the finite values, with its standard error if there are several."""
    finite = [value for value in values if isfinite(value)]
    if not finite:
        return "-"
    error = f" \u00b1 {stdev(finite) / len(finite) ** 0.5:.2f}" if len(finite) > 1 else ""
    return f"{fmean(finite):.2f}{error}"


def write_json(path: Path, figures: dict[str, Any]) -> None:
    """Write figures to a JSON file atomically."""
    from data.files import write_text_whole

    text = json.dumps(figures, indent=2) + "\n"
    write_text_whole(path, text)
