"""One packer at a time in an output folder."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

try:
    import fcntl
except ImportError:  # not on every system; there, nobody is stopped
    fcntl = None


@contextmanager
def sole_packer(output: Path) -> Iterator[None]:
    """Make the folder and hold it for this process; the system lets go of it however the process ends.

    Raises ValueError where another process holds it, OSError where it cannot be made.
    """
    output.mkdir(parents=True, exist_ok=True)
    if fcntl is None:
        yield
        return
    handle = os.open(output, os.O_RDONLY)
    try:
        _lock(handle, output)
        yield
    finally:
        os.close(handle)


def _lock(handle: int, output: Path) -> None:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise ValueError(f"--output {output}: another process packs there; wait until it is done") from error
    except OSError:  # some network file systems lock no folders
        return
