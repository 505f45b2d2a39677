"""Damaged files of a data set: reported, and skipped if `data.damaged` is "skip".

A `DamagedFileError` is raised for a file that cannot be read. Other errors, such as requesting depth from a
data set without depth, are plain ValueErrors and always stop a run.
"""

import os
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

ATTEMPTS = 50  # per scene; if all fail, nearly all of the data set is damaged

Read = TypeVar("Read")


class DamagedFileError(ValueError):
    """A file of the data set cannot be used; the message is one line that starts with it."""


def damaged(error: ValueError | OSError, place: str) -> DamagedFileError:
    """Return the error to raise when reading from `place` failed with `error`."""
    if isinstance(error, ValueError):
        return DamagedFileError(str(error))
    reason = error.strerror or type(error).__name__
    return DamagedFileError(f"{place}: cannot be read ({reason}); check the disk")


def first_usable(read: Callable[[int], Read], *, root: str, skip: bool) -> tuple[Read, tuple[str, ...]]:
    """Return the result of the first attempt 0, 1, ... without damage, and the errors of the ones before.

    Raises ValueError at the first damage unless `skip` is set; with it, if all attempts fail or the data set
    at `root` is gone.
    """
    problems: list[str] = []
    for attempt in range(ATTEMPTS):
        try:
            return read(attempt), tuple(problems)
        except DamagedFileError as error:
            if not skip:
                raise ValueError(with_advice(error, root)) from error
            _require_contents(root)
            problems.append(str(error))
    raise ValueError(
        f"{ATTEMPTS} consecutive attempts at a scene failed on unusable files, the last:  {problems[-1]}; "
        f"`python -m scripts.check_data {root}` lists them"
    )


def with_advice(error: DamagedFileError, root: str) -> str:
    """Return the error message with advice for training."""
    return (
        f"{error}; `python -m scripts.check_data {root}` finds all such files, data.damaged=skip trains "
        "without them"
    )


def _require_contents(root: str) -> None:
    """Raise ValueError if the data set is gone: a missing disk is not a damaged file."""
    path = Path(root)
    try:
        there = path.is_file() or any(os.scandir(path))
    except OSError:
        there = False
    if not there:
        raise ValueError(
            f"data.root={root}: is missing or empty now; restore it, then rerun the same command to resume"
        )
