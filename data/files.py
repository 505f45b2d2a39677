"""Atomic writes of files and folders, short error messages, and which errors may pass by themselves."""

import errno
import os
import shutil
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from safetensors import SafetensorError

# Errors of the file system that stay until the user acts. Others, as of a network disk, may pass.
LASTING = {
    *(errno.ENOENT, errno.EEXIST, errno.ENOTDIR, errno.EISDIR, errno.ENOTEMPTY, errno.ENAMETOOLONG),
    *(errno.ELOOP, errno.EINVAL, errno.EACCES, errno.EPERM, errno.EROFS),
    *(errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.ENOMEM, errno.EMFILE, errno.ENFILE),
}


class TemporaryError(ValueError):
    """An error that may pass by itself, such as a process that was killed: trying again may help."""


def is_temporary(error: BaseException | None) -> bool:
    """Whether an error, or an error that caused it, may pass by itself."""
    while error is not None:
        if isinstance(error, TemporaryError | ConnectionError | TimeoutError):
            return True
        if isinstance(error, OSError) and error.errno is not None:  # those of Pillow have no number
            return error.errno not in LASTING
        error = error.__cause__
    return False


def write_whole(path: Path, write: Callable[[Path], object]) -> None:
    """Write a file atomically: `write` fills a temporary sibling that is then renamed to `path`.

    Raises ValueError if it cannot be written.
    """
    with _unfinished(path) as partial:
        write(partial)
        os.replace(partial, path)


def require_writable(path: Path) -> None:
    """Raise ValueError if `write_whole` could not write to `path`, which is left unchanged."""
    if path.is_dir():
        raise ValueError(f"{path}: is a folder; give the name of a file")
    with _unfinished(path) as partial:
        partial.touch()


@contextmanager
def _unfinished(path: Path) -> Iterator[Path]:
    """Context with the name of a temporary file beside `path`, which is removed at the end.

    Raises ValueError on any error of the file system.
    """
    partial = path.with_name(f".{path.stem}.{uuid.uuid4().hex[:8]}{path.suffix}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield partial
    except OSError as error:
        raise ValueError(
            f"{path}: cannot be written ({first_line(error)}); choose another output folder"
        ) from error
    finally:
        # If the parent is a file or the name is too long, even removing the temporary file fails.
        with suppress(OSError):
            partial.unlink(missing_ok=True)


def write_text_whole(path: Path, text: str) -> None:
    """Write a text file atomically. Raises ValueError if it cannot be written."""
    write_whole(path, lambda partial: partial.write_text(text, encoding="utf-8"))


def write_synced(path: Path, write: Callable[[Path], object]) -> None:
    """Write a file atomically and durably: `write` fills a temporary sibling, which is synced, then renamed.

    Raises OSError if the file cannot be written; an existing file is then unchanged.
    """
    unfinished = path.with_name(f"{path.name}.unfinished")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write(unfinished)
        _sync(unfinished)
        unfinished.replace(path)
        with suppress(OSError):  # not every system can sync a folder
            _sync(path.parent)
    except (OSError, RuntimeError, SafetensorError) as error:  # torch.save raises RuntimeError
        raise OSError(
            f"{path}: cannot be written ({first_line(error)}); free some space or choose another folder"
        ) from error
    finally:
        with suppress(OSError):
            unfinished.unlink(missing_ok=True)


def write_text_synced(path: Path, text: str) -> None:
    """Write a text file as `write_synced` does. Raises OSError if it cannot be written."""
    write_synced(path, lambda unfinished: unfinished.write_text(text, encoding="utf-8"))


@contextmanager
def whole_folder(folder: Path) -> Iterator[Path]:
    """Context with an empty hidden sibling of `folder`, which at the end is renamed to it.

    What an interrupted attempt left in the sibling is deleted first. Raises OSError if that fails.
    """
    unfinished = folder.with_name(f".{folder.name}")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(parents=True)
    yield unfinished
    unfinished.replace(folder)


def _sync(path: Path) -> None:
    """Flush a file or folder to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def first_line(error: BaseException) -> str:
    """Return the first line of an error's message, or its type if that is empty."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
