"""Progress bars for the programs: on a terminal they move, in a log file they are a line now and then."""

import sys
import time
from typing import Any

from tqdm import tqdm

LINE_EVERY_S = 30.0  # seconds between the lines of a bar that is not on a terminal


class _Lines(tqdm):
    """A bar whose states are lines of their own, at its beginning, at its end and every `LINE_EVERY_S`."""

    _due = 0.0

    def display(self, msg: str | None = None, pos: int | None = None) -> None:
        """Write the bar as tqdm would draw it, or do nothing."""
        closing = self.disable  # tqdm ends the last line itself
        if msg is None and (closing or time.monotonic() >= self._due):
            self.fp.write(f"{self}" if closing else f"{self}\n")
            self._due = time.monotonic() + LINE_EVERY_S


def progress_bar(*arguments: Any, **options: Any) -> tqdm:
    """tqdm's bar on stderr, of tqdm's own `arguments` and `options`; lines where that is no terminal.

    There, a bar that does not stay (`leave=False`) does not appear: it would tell of a part of another bar.
    """
    if sys.stderr.isatty():
        return tqdm(*arguments, **options)
    if options.get("leave") is False:
        options["disable"] = True
    return _Lines(*arguments, **options)
