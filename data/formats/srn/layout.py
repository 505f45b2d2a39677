"""The folder structure of an SRN data set: splits, objects, images with their poses.

Paths and names only; no image is opened here. Every error is a one-line ValueError.
"""

from collections.abc import Sequence
from pathlib import Path

from data.splits import SPLITS, Split, hold_out, members, natural_key, split_named, subfolders

DEPTH_STEPS = 10_000  # values of a depth image per scene unit; 0 is background
PICTURES = (".png", ".jpg", ".jpeg")


def split_folders(root: Path, split: Split) -> list[Path]:
    """List the folders of the objects of a split, sorted.

    Raises ValueError if the split is empty, or if there is only one object to split.
    """
    named = {s: [c for c in subfolders(root) if split_named(c.name) == s] for s in SPLITS}
    if not any(named.values()):
        return _hold_out(root, _object_folders([root]), split)
    if not (named["val"] or named["test"]):
        return _hold_out(root, _object_folders(named["train"]), split)
    folders = members(named, split)
    if not folders:
        raise ValueError(f"{root}: there is no *_{split} folder beside the other splits; add one")
    objects = _object_folders(folders)
    if not objects:
        raise ValueError(
            f"{folders[0]}: no objects in this split (folders with rgb/ and pose/); unpack it again"
        )
    return objects


def _hold_out(root: Path, objects: list[Path], split: Split) -> list[Path]:
    if not objects:
        raise ValueError(
            f"{root}: contains no objects (folders with rgb/ and pose/) nor another layout of docs/data.md; "
            "give the folder of a data set"
        )
    if len(objects) == 1:
        raise ValueError(
            f"{root}: a single object cannot be split into training and held-out objects; add objects, "
            "or *_train and *_val folders"
        )
    return hold_out(objects, split)


def _object_folders(folders: Sequence[Path], levels: int = 2) -> list[Path]:
    """List the objects in the folders, or one level further down, sorted."""
    found = []
    for child in (child for folder in folders for child in subfolders(folder)):
        if is_object(child):
            found.append(child)
        elif levels > 1:
            found += _object_folders([child], levels - 1)
    return sorted(found)


def is_object(folder: Path) -> bool:
    """Whether a folder holds one object."""
    has_pictures, has_poses = (folder / "rgb").is_dir(), (folder / "pose").is_dir()
    if has_pictures != has_poses:
        missing = "pose" if has_pictures else "rgb"
        raise ValueError(f"{folder}: the object has no {missing}/ folder; restore it or remove the object")
    return has_pictures


def pair_files(folder: Path) -> list[tuple[Path, Path]]:
    """Return (image, pose) paths of every view of an object, in natural order of their names."""
    pictures, poses = _by_stem(folder / "rgb", PICTURES), _by_stem(folder / "pose", (".txt",))
    if unpaired := sorted(pictures.keys() ^ poses.keys()):
        stem = unpaired[0]
        path, other = (pictures[stem], "pose") if stem in pictures else (poses[stem], "picture")
        raise ValueError(f"{path}: has no {other} of the same name; restore it or remove this file")
    if not pictures:
        raise ValueError(f"{folder}: has no images (*.png, *.jpg) in its rgb/ folder; unpack it again")
    return [(pictures[stem], poses[stem]) for stem in sorted(pictures, key=natural_key)]


def _by_stem(folder: Path, suffixes: tuple[str, ...]) -> dict[str, Path]:
    files: dict[str, Path] = {}
    for path in folder.iterdir():
        if path.suffix.lower() not in suffixes or path.name.startswith("."):
            continue
        if path.stem in files:
            raise ValueError(
                f"{path}: two files for one view, also {files[path.stem].name}; remove one of them"
            )
        files[path.stem] = path
    return files
