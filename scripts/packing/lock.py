"""One packer at a time in an output folder: a lock of the operating system on a file in it."""

import errno
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

LOCK = ".packing.lock"
UNSUPPORTED = {errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP}  # by a file system


@contextmanager
def sole_packer(output: Path) -> Iterator[None]:
    """Make the folder and lock it for this process; the system releases the lock when the process ends.

    On a file system without locks, nothing is locked. Raises ValueError if another process holds the lock,
    OSError if the folder cannot be written.
    """
    from filelock import FileLock, Timeout  # not for --help

    output.mkdir(parents=True, exist_ok=True)
    lock = FileLock(output / LOCK, blocking=False, fallback_to_soft=False)
    try:
        lock.acquire()
    except Timeout:
        raise ValueError(f"--output {output}: another process packs there; wait until it is done") from None
    except NotImplementedError:
        pass
    except OSError as error:
        if error.errno not in UNSUPPORTED:
            raise
    try:
        yield
    finally:
        # Before the release, after which it may be another process's.
        with suppress(OSError):
            (output / LOCK).unlink()
        lock.release()
