"""Progress bars of the programs: animated on a terminal, occasional lines in a log file."""

import sys
import time
from typing import Any

from tqdm import tqdm

LINE_EVERY_S = 30.0  # seconds between the lines of a bar that is not on a terminal


class _Lines(tqdm):
    """A bar that writes a line at its start, at its end and every `LINE_EVERY_S`."""

    _due = 0.0

    def display(self, msg: str | None = None, pos: int | None = None) -> None:
        """Write the bar as tqdm formats it, or do nothing."""
        closing = self.disable  # tqdm ends the last line itself
        if msg is None and (closing or time.monotonic() >= self._due):
            self.fp.write(f"{self}" if closing else f"{self}\n")
            self._due = time.monotonic() + LINE_EVERY_S


def progress_bar(*arguments: Any, **options: Any) -> tqdm:
    """A tqdm bar on stderr, with tqdm's `arguments` and `options`; lines if stderr is not a terminal.

    Then, temporary bars (`leave=False`) are not shown, since they are nested in another bar.
    """
    if sys.stderr.isatty():
        return tqdm(*arguments, **options)
    if options.get("leave") is False:
        options["disable"] = True
    return _Lines(*arguments, **options)
