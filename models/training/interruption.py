"""Graceful shutdown on SIGINT or SIGTERM: the signal sets a flag, or ends work that may be cut short."""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


class StopRequested(BaseException):
    """Raised to abandon work on a signal; not an Exception, so that no handler of errors catches it."""


class StopSignal:
    """Set by SIGTERM or SIGINT, at which a run saves and leaves; a second SIGINT ends it at once.

    `launched` says that torchrun started this process: it passes on the Ctrl-C that the terminal has already
    sent to every process. Installs no handlers until it is entered as a context.
    """

    def __init__(self, *, launched: bool = False) -> None:
        self.requested = False
        self._launched = launched
        self._interrupting = False
        self._process = os.getpid()
        self._before: dict[int, Any] = {}

    def __enter__(self) -> "StopSignal":
        """Listen."""
        for number in (signal.SIGTERM, signal.SIGINT):
            self._before[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, *_: object) -> None:
        """Restore the previous signal handlers."""
        for number, handler in self._before.items():
            signal.signal(number, handler)

    @contextmanager
    def at_once(self, wanted: bool = True) -> Iterator[None]:
        """Context of what may be abandoned: left by StopRequested when a signal comes, or has come before.

        Where it is not `wanted`, it changes nothing.
        """
        with self._set(interrupting=wanted or self._interrupting):
            if wanted and self.requested:  # asked last: a signal from here on interrupts by itself
                raise StopRequested
            yield

    @contextmanager
    def later(self) -> Iterator[None]:
        """Context, within one of `at_once`, of what must not be cut short: signals are noted only."""
        with self._set(interrupting=False):
            yield

    @contextmanager
    def _set(self, *, interrupting: bool) -> Iterator[None]:
        before = self._interrupting
        try:
            self._interrupting = interrupting
            yield
        finally:
            self._interrupting = before

    def _handle(self, number: int, _: object) -> None:
        self.requested = True
        if number == signal.SIGINT and not self._launched:
            signal.signal(number, signal.SIG_DFL)
        # Loading processes inherit the handler. They are left alone: they end with this one.
        if self._interrupting and os.getpid() == self._process:
            self._interrupting = False  # once: what is done on the way out is not to be cut short, too
            raise StopRequested
