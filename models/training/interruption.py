"""Graceful shutdown on SIGINT or SIGTERM: the signal sets a flag, or ends work that may be cut short."""

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

Result = TypeVar("Result")


class StopRequested(BaseException):
    """Raised to abandon work on a signal; not an Exception, so that no handler of errors catches it."""


class StopSignal:
    """Set by SIGTERM or SIGINT, so that a run saves and exits; a second SIGINT exits immediately.

    `launched`: torchrun started this process, and repeats the Ctrl-C that the terminal has already sent to
    every process. Installs no handlers until it is entered as a context.
    """

    def __init__(self, *, launched: bool = False) -> None:
        self.requested = False
        self._launched = launched
        self._interrupting = False
        self._process = os.getpid()
        self._before: dict[int, Any] = {}
        self._abandoned: StopRequested | None = None

    def __enter__(self) -> "StopSignal":
        """Install the handlers."""
        for number in (signal.SIGTERM, signal.SIGINT):
            self._before[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, *_: object) -> None:
        """Restore the previous handlers, and release abandoned work."""
        self._abandoned = None
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def attempt(self, work: Callable[[], Result], abandonable: bool = True) -> Result | None:
        """Return the result of `work`, or None if it is `abandonable` and a stop is requested meanwhile.

        Objects of abandoned work are kept until the handlers are restored: ending its loader processes takes
        a while, and saving comes first.
        """
        try:
            with self.abandonable(abandonable):
                return work()
        except StopRequested as request:
            self._abandoned = request
            return None

    @contextmanager
    def abandonable(self, wanted: bool = True) -> Iterator[None]:
        """Context that raises StopRequested on a signal, or on entry after one, if `wanted`."""
        with self._set(interrupting=wanted or self._interrupting):
            if wanted and self.requested:  # checked last: later signals raise by themselves
                raise StopRequested
            yield

    @contextmanager
    def deferred(self) -> Iterator[None]:
        """Context, within an abandonable one, that signals do not interrupt: they only set the flag."""
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
        # Loader processes inherit the handler, but end with this process.
        if self._interrupting and os.getpid() == self._process:
            self._interrupting = False  # once: cleanup must not be interrupted, too
            raise StopRequested
