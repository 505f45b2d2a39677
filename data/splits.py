"""Splits of a data set, and natural sorting of names."""

import hashlib
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal, TypeVar

Member = TypeVar("Member")
Split = Literal["train", "val", "test"]
SPLITS: tuple[Split, ...] = ("train", "val", "test")
STAND_IN: dict[Split, Split] = {"val": "test", "test": "val"}  # if a set has only one of them
HELD_OUT = 0.1  # fraction of objects held out from training if no folder specifies them


def split_named(name: str) -> Split | None:
    """Return the split named by a folder or file (X or *_X), or None."""
    return next((split for split in SPLITS if name == split or name.endswith(f"_{split}")), None)


def members(by_split: Mapping[Split, Sequence[Member]], split: Split) -> Sequence[Member]:
    """Return the members of a split; val and test substitute for one another if one is empty."""
    return by_split[split] or by_split.get(STAND_IN.get(split, split), ())


def hold_out(folders: Sequence[Path], split: Split) -> list[Path]:
    """Select the folders of a split: a tenth, chosen by a hash of their names, is val and test."""
    by_hash = sorted(folders, key=lambda folder: hashlib.sha256(folder.name.encode()).digest())
    held_out = set(by_hash[: max(1, round(HELD_OUT * len(folders)))])
    return [folder for folder in folders if (folder in held_out) == (split != "train")]


def subfolders(folder: Path) -> list[Path]:
    """List the subfolders of a folder, sorted, without hidden ones and archiver leftovers (__MACOSX).

    Raises ValueError if it cannot be listed.
    """
    try:
        with os.scandir(folder) as entries:  # which knows folders without a stat call for each
            names = sorted(entry.name for entry in entries if entry.is_dir())
    except OSError as error:
        raise ValueError(f"{folder}: cannot be listed ({error.strerror}); check its permissions") from error
    return [folder / name for name in names if not name.startswith((".", "__"))]


def natural_key(name: str) -> tuple[list[str | int], str]:
    """Return a sorting key by which view 10 comes after view 9."""
    return [int(part) if part.isdecimal() else part for part in re.split(r"(\d+)", name)], name
