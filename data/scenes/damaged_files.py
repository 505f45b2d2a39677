"""Damaged files of a data set: reported, and skipped if `data.damaged` is "skip".

What a layout cannot read is a `DamagedFileError`; what is asked for in vain, such as depth of a set that has
none, is any other ValueError, and stops a run always.
"""

import os
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

ATTEMPTS = 50  # for a scene; where they all fail, nearly all of the set is damaged

Read = TypeVar("Read")


class DamagedFileError(ValueError):
    """A file of the data set cannot be used; the message is one line that begins with it."""


def damaged(error: ValueError | OSError, place: str) -> DamagedFileError:
    """What to raise where `error` kept a layout from reading something in a `place`."""
    if isinstance(error, ValueError):
        return DamagedFileError(str(error))
    reason = error.strerror or type(error).__name__
    return DamagedFileError(f"{place}: cannot be read ({reason}); check the disk")


def first_usable(read: Callable[[int], Read], *, root: str, skip: bool) -> tuple[Read, tuple[str, ...]]:
    """What the first of the attempts 0, 1, ... reads that meets no damage, and what the others met.

    Raises ValueError at the first damage unless `skip` is set; with it where every attempt meets some, or
    where the data set at `root` is gone altogether.
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
        f"{ATTEMPTS} attempts at a scene in a row met files that cannot be used, the last: {problems[-1]}; "
        f"`python -m scripts.check_data {root}` lists them"
    )


def with_advice(error: DamagedFileError, root: str) -> str:
    """What is wrong, and what to do about it before or while a model is trained."""
    return (
        f"{error}; `python -m scripts.check_data {root}` finds all such files, data.damaged=skip trains "
        "without them"
    )


def _require_contents(root: str) -> None:
    """Raise ValueError if nothing is left of a data set: a disk that is gone is no damaged file."""
    path = Path(root)
    try:
        there = path.is_file() or any(os.scandir(path))
    except OSError:
        there = False
    if not there:
        raise ValueError(f"data.root={root}: is gone or empty now; bring it back, the same command resumes")
