"""One training process at a time per run: a lock of the operating system on a file in the run's folder.

The system releases the lock however its holder ends, so a crash leaves nothing to clean up. Reading a run
(sampling, evaluation, reports) takes no lock.
"""

import errno
import os
import re
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

LOCK = "train.lock"  # holds the process and host of its holder
PATIENCE_S = 2.0  # for a process that is just ending
UNSUPPORTED = {errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP}  # by a file system


@contextmanager
def hold_run(folder: Path, say: Callable[[str], object]) -> Iterator[None]:
    """Make the run's folder and keep other processes from training it; nested contexts count as one.

    A folder that is still empty at the end is removed again. On a file system without locks, a warning is
    passed to `say`, and nothing is locked. Raises ValueError if another process trains the run or the folder
    cannot be written.
    """
    path = folder.absolute() / LOCK
    lock = FileLock(path, is_singleton=True, fallback_to_soft=False)
    if lock.is_locked:
        yield
        return
    new = [parent for parent in (folder, *folder.parents) if not parent.exists()]
    try:
        supported = _acquire(lock, folder, say)
        try:
            yield
        finally:
            if supported:
                # Before the release, after which it may be another process's.
                with suppress(OSError):
                    path.unlink()
                lock.release()
    finally:
        for parent in new:
            with suppress(OSError):  # not empty
                parent.rmdir()


def _acquire(lock: FileLock, folder: Path, say: Callable[[str], object]) -> bool:
    """Acquire the run's lock; returns whether the file system supports locks."""
    path = folder / LOCK
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock.acquire(timeout=PATIENCE_S)
    except Timeout:  # nothing that passes by itself: the user decides
        raise ValueError(
            f"{folder} is being trained by {_holder(path)}; wait until it ends, or give this run another "
            "name with name=NAME"
        ) from None
    except (OSError, NotImplementedError) as error:
        if isinstance(error, OSError) and error.errno not in UNSUPPORTED:
            raise ValueError(
                f"{folder}: cannot be written ({error.strerror}); choose another folder with runs=FOLDER"
            ) from error
        with suppress(OSError):
            path.unlink()
        say(f"{folder}: its file system has no locks; make sure that no other process trains this run")
        return False
    with suppress(OSError):  # a full disk: the lock holds without the name of its holder
        path.write_text(f"{os.getpid()} {socket.gethostname()}\n", encoding="utf-8")
    return True


def _holder(path: Path) -> str:
    """The process that holds a lock, if the file says so."""
    with suppress(OSError, UnicodeDecodeError):
        found = re.fullmatch(r"(\d+) (\S+)\s*", path.read_text(encoding="utf-8"))
        if found:
            return f"process {found[1]} on {found[2]}"
    return "another process"
