"""Which videos are for training and which are held out.

The first of these that a set has decides:
- ROOT/splits.json: {"train": [ids], "test": [ids]}, or {id: ...} for each;
- ROOT/train.json, ROOT/test.json or NAME_train_frame_dict.json: {id: ...}, or a list of ids, of one split;
- folders train, val and test (or *_train ...), or training_256 and test_256 as in DL3DV, where a video that
  is below both, by its name, is held out;
- folders CATEGORY/SEQUENCE/images, as in CO3Dv2 and MVImgNet: the last tenth of each category is held out;
- a tenth of the videos, chosen by a hash of their names, is held out.
An id is the end of a video's path that names it alone: SEQUENCE, or CATEGORY/SEQUENCE.
"""

import hashlib
import json
import re
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from data.splits import HELD_OUT, SPLITS, STAND_IN, Split, natural_key, split_named, subfolders

SPLIT_FILE = "splits.json"
IMAGES = re.compile(r"images(?:_(\d+))?")  # folder of a video's frames; of images reduced by a factor
SIZED = re.compile(r"(train|test)(?:ing)?_\d+")  # folder of a split with frames of a size


def image_folders(folder: Path) -> list[str]:
    """Folders `images`, `images_2`, ... in a folder that are there, the least reduced first."""
    found = [match for inner in subfolders(folder) if (match := IMAGES.fullmatch(inner.name))]
    return [match[0] for match in sorted(found, key=lambda match: int(match[1] or 1))]


def video_parts(root: Path, path: Path) -> tuple[str, ...]:
    """What names a video: its path without suffix and without the folders of its split and of images."""
    parts = list(path.relative_to(root).with_suffix("" if path.is_file() else path.suffix).parts)
    if len(parts) > 1 and _split_of(parts[0]):
        parts = parts[1:]
    return (*(part for part in parts[:-1] if part != "images"), parts[-1])


def chosen_videos(root: Path, paths: Sequence[Path], split: Split) -> list[Path]:
    """The videos of a split. Raises ValueError if a list cannot be read or names an unknown video."""
    if lists := _lists(root):
        wanted = split if split in lists else STAND_IN.get(split, split)
        if wanted not in lists:
            return []
        return _named(root, paths, *lists[wanted])
    by_folder: dict[Split | None, list[Path]] = defaultdict(list)
    for path in paths:
        by_folder[_split_of(path.relative_to(root).parts[0])].append(path)
    if set(by_folder) != {None}:
        copies = _names_below_test(root)
        own = {path.name for path in by_folder["test"]}
        held_out = [path for path in by_folder["train"] if path.name in copies]
        by_folder["train"] = [path for path in by_folder["train"] if path.name not in copies]
        by_folder["test"] += [path for path in held_out if path.name not in own]
        return by_folder[split] or by_folder[STAND_IN.get(split, split)]
    tenth = _last_tenth(root, paths)
    return [path for path in paths if (path in tenth) == (split != "train")]


def _split_of(folder: str) -> Split | None:
    """The split that a folder holds, by its name."""
    if match := SIZED.fullmatch(folder):
        return "train" if match[1] == "train" else "test"
    return split_named(folder)


def _names_below_test(root: Path) -> set[str]:
    """Names of all folders below ROOT/test_256 and the like, of which the training set may have copies."""
    tests = [
        path for path in subfolders(root) if SIZED.fullmatch(path.name) and _split_of(path.name) == "test"
    ]
    return {
        below.name for test in tests for inner in subfolders(test) for below in (inner, *subfolders(inner))
    }


def _last_tenth(root: Path, paths: Sequence[Path]) -> set[Path]:
    """Videos held out where nothing says which."""
    if not all(
        len(path.relative_to(root).parts) == 2 and image_folders(path) for path in paths if path.is_dir()
    ):
        return {path for path in paths if _held_out("_".join(video_parts(root, path)))}
    by_category: dict[Path, list[Path]] = defaultdict(list)
    for path in paths:
        by_category[path.parent].append(path)
    found: set[Path] = set()
    for videos in by_category.values():
        videos.sort(key=lambda path: natural_key(path.name))
        found |= set(videos[int((1 - HELD_OUT) * len(videos)) :]) if len(videos) > 1 else set()
    return found


def _held_out(name: str) -> bool:
    digest = hashlib.sha256(name.encode()).digest()
    return int.from_bytes(digest[:4], "big") / 2**32 < HELD_OUT


def _lists(root: Path) -> dict[Split, tuple[Path, list[str]]]:
    """Ids of each split that a file lists, and the file."""
    path = root / SPLIT_FILE
    if path.is_file():
        content = _read(path)
        if not isinstance(content, dict) or not set(content) & set(SPLITS):
            raise _no_list(path)
        return {split: (path, _ids(path, content[split])) for split in SPLITS if split in content}
    found = {}
    for split in SPLITS:
        files = [root / f"{split}.json", *sorted(root.glob(f"*_{split}_frame_dict.json"))]
        if file := next((file for file in files if file.is_file()), None):
            found[split] = (file, _ids(file, _read(file)))
    return found


def _ids(path: Path, content: Any) -> list[str]:
    if not isinstance(content, dict | list):
        raise _no_list(path)
    return [str(name) for name in content]


def _read(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise _no_list(path) from error


def _no_list(path: Path) -> ValueError:
    wanted = '{"train": [ids], "test": [ids]}' if path.name == SPLIT_FILE else "[ids] or {id: ...}"
    return ValueError(f"{path}: is no list of splits; write {wanted}")


def _named(root: Path, paths: Sequence[Path], file: Path, names: list[str]) -> list[Path]:
    """The videos that a list names, each once."""
    ends: dict[str, list[Path]] = defaultdict(list)
    for path in paths:
        parts = video_parts(root, path)
        for start in range(len(parts)):
            ends["_".join(parts[start:])].append(path)
    found: dict[Path, None] = {}
    for name in names:
        spelled = name.strip("/").replace("/", "_")
        whole = [path for path in ends[spelled] if "_".join(video_parts(root, path)) == spelled]
        fitting = whole or ends[spelled]
        if not fitting:
            raise ValueError(f"{file}: names {spelled}, which is no video below {file.parent}; take it out")
        if len(fitting) > 1:
            raise ValueError(
                f"{file}: names {spelled}, which is {fitting[0]} as well as {fitting[1]}; name more"
            )
        found[fitting[0]] = None
    return list(found)
