"""The file lists in a `transforms.json` that assign views to splits."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from data.cameras.scene_keys import SPLIT_LISTS
from data.images.scene_masks import find_file
from data.splits import Split

HELD_OUT: frozenset[Split] = frozenset(("val", "test"))


def split_of_lists(
    document: dict[str, Any], folder: Path, pictures: Sequence[Path]
) -> tuple[tuple[frozenset[Split], ...] | None, list[str]]:
    """Return the splits of every image by the lists of a document (None without lists), and notices.

    Files are named as in `file_path`. Images in no list are for training if there is no training list, held
    out if there is no other list, and otherwise left out. Raises ValueError if a list names a file that is
    not in a frame, or an image is in both the training list and another.
    """
    lists = {key: document[key] for key in SPLIT_LISTS if document.get(key)}
    if not lists:
        return None, []
    places: dict[str, list[int]] = {}
    for view, picture in enumerate(pictures):
        places.setdefault(os.path.realpath(picture), []).append(view)
    members: list[set[Split]] = [set() for _ in pictures]
    listed_in: dict[str, str] = {}
    for key, names in lists.items():
        for file in _files(key, names, folder, places):
            other = listed_in.setdefault(file, key)
            if other != key and "train_filenames" in (other, key):
                raise ValueError(f"`{key}` and `{other}` both have {file}; keep each image in one of the two")
            for view in places[file]:
                members[view].add(SPLIT_LISTS[key])
    bare = [view for view, splits in enumerate(members) if not splits]
    for view in bare:
        if "train_filenames" not in lists:
            members[view].add("train")
        elif len(lists) == 1:
            members[view] |= HELD_OUT
    notices = []
    if len(lists) == 1 and "train_filenames" in lists and not bare:
        notices = ["`train_filenames` leaves nothing to hold out, so every eighth of its images is held out"]
    elif "train_filenames" in lists and len(lists) > 1 and bare:
        notices = [f"{len(bare)} of {len(pictures)} images are in none of its lists and are left out"]
    return tuple(map(frozenset, members)), notices


def _files(key: str, names: object, folder: Path, places: dict[str, list[int]]) -> list[str]:
    """Return the files of a list, which must be images of frames."""
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise ValueError(f"`{key}` must be a list of file names; correct the file")
    files = []
    for name in names:
        found = find_file(folder, name)
        file = None if found is None else os.path.realpath(found)
        if file not in places:
            raise ValueError(f"`{key}` has {name!r}, which is not the image of a frame; correct the list")
        files.append(file)
    return files
