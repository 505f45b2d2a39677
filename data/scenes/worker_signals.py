"""Let loader processes ignore signals that launchers and terminals send to the whole process group.

The training process decides when to stop, and must not lose its loaders before it has saved: torch's
DataLoader raises an error when one dies. When the training process ends, so do they.
"""

import atexit
import multiprocessing
import os
import signal
from typing import Any


def shared_ending() -> Any:
    """Create a flag shared with child processes: 0 until this process ends."""
    ending = multiprocessing.RawValue("b", 0)
    # Runs before multiprocessing terminates the remaining children: last registered, first run.
    atexit.register(_set, ending)
    return ending


def ignore_signals(ending: Any) -> None:
    """Ignore SIGTERM and SIGINT in this process until the parent sets its flag `ending`."""

    def ignore(*_: object) -> None:
        if ending.value:
            os._exit(0)

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, ignore)


def _set(ending: Any) -> None:
    ending.value = 1
