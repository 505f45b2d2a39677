"""Loading processes outlive the signals that launchers and terminals send to whole groups of processes.

The process that they load for decides when to leave, and until it has saved, it must not lose them: torch's
DataLoader takes the end of one for an error, wherever the process is. When that process ends, they do.
"""

import atexit
import multiprocessing
import os
import signal
from typing import Any


def shared_ending() -> Any:
    """A number that processes share, of which this one is the first: 0 until it ends."""
    ending = multiprocessing.RawValue("b", 0)
    # Run before multiprocessing ends those that are left, by SIGTERM: what was registered last comes first.
    atexit.register(_set, ending)
    return ending


def ignore_signals(ending: Any) -> None:
    """Have this process ignore SIGTERM and SIGINT unless the first one, whose `ending` this is, ends."""

    def ignore(*_: object) -> None:
        if ending.value:
            os._exit(0)

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, ignore)


def _set(ending: Any) -> None:
    ending.value = 1
