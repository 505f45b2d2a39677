"""The wish to stop, which a run heeds between two steps."""

import signal
from typing import Any


class StoppedError(Exception):
    """Work was given up because a stop was asked for."""


class StopSignal:
    """Set by SIGTERM or SIGINT, at which a run saves and leaves; a second SIGINT ends it at once.

    `launched` says that torchrun started this process: it passes on the Ctrl-C that the terminal has already
    sent to every process.
    """

    def __init__(self, *, launched: bool = False) -> None:
        self.requested = False
        self._launched = launched
        self._before: dict[int, Any] = {}

    def __enter__(self) -> "StopSignal":
        """Listen."""
        for number in (signal.SIGTERM, signal.SIGINT):
            self._before[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, *_: object) -> None:
        """Leave the signals to whoever had them before."""
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _handle(self, number: int, _: object) -> None:
        self.requested = True
        if number == signal.SIGINT and not self._launched:
            signal.signal(number, signal.SIG_DFL)
