"""The splits of a data set, and the natural order of names."""

import os
import re
from pathlib import Path
from typing import Literal

Split = Literal["train", "val", "test"]


SPLITS: tuple[Split, ...] = ("train", "val", "test")


HELD_OUT = 0.1  # share of the objects kept from training where no folder says which


def split_named(name: str) -> Split | None:
    """The split that a folder or file of this name holds: X or *_X is X. None: it names none."""
    return next((split for split in SPLITS if name == split or name.endswith(f"_{split}")), None)


def subfolders(folder: Path) -> list[Path]:
    """Folders in a folder, sorted, without hidden ones and what archivers leave (__MACOSX).

    Raises ValueError if it cannot be listed.
    """
    try:
        with os.scandir(folder) as entries:  # which knows folders without asking for each
            names = sorted(entry.name for entry in entries if entry.is_dir())
    except OSError as error:
        raise ValueError(f"{folder}: cannot be listed ({error.strerror}); check its permissions") from error
    return [folder / name for name in names if not name.startswith((".", "__"))]


def natural_key(name: str) -> tuple[list[str | int], str]:
    """Sorting key by which view 10 comes after view 9."""
    return [int(part) if part.isdecimal() else part for part in re.split(r"(\d+)", name)], name
