"""Scenes described by `transforms.json`: nerfstudio, instant-ngp, Blender's synthetic scenes, our own output.

    SCENE/transforms.json                       or transforms_train.json, transforms_val.json,
                                                transforms_test.json, of which any may be missing
    SCENE/...                                   pictures, where the frames' file paths say

File paths are relative to the scene's folder, with or without the pictures' suffix. Transparent parts become
white. Poses may be in any units: the working volume is as large as is seen from the cameras (a radius of
about 1.4 for Blender's at a distance of 4), unless data.object_radius says otherwise. A world in which the
cameras do not look at the origin is normalised (see data/world_frame.py); any other is left as it is.

How scenes and views are split is said in data/scenes.py.
"""

from pathlib import Path
from typing import Any

import torch

from data.images import picture_size
from data.scenes import Scene, SceneObjects, holds_scenes, open_scenes, require_aspect
from data.srn_layout import SPLITS, Split
from data.transforms import from_transforms, read_document
from data.world_frame import looks_at_origin, normalise_world

WHOLE = "transforms.json"
SUFFIXES = (".png", ".jpg", ".jpeg", ".PNG", ".JPG", ".JPEG", ".webp")


def open_transforms(root: Path, split: Split) -> SceneObjects:
    """The scenes of a split. Raises ValueError where there are none."""
    return open_scenes(
        root, split, is_scene=_is_scene, read=read_transforms_scene, what=f"folders with {WHOLE}"
    )


def is_transforms(root: Path) -> bool:
    """Whether a data set has this layout."""
    return holds_scenes(root, _is_scene)


def read_transforms_scene(folder: Path) -> Scene:
    """All views that the documents of a scene describe, split by split where there is one for each.

    Raises ValueError where a document or a picture cannot be used.
    """
    files = _documents(folder)
    scenes = [_read_document(path, split) for path, split in files]
    pictures = tuple(picture for scene in scenes for picture in scene.pictures)
    splits = [split for scene in scenes for split in scene.splits or ()]
    poses = torch.cat([scene.cam_to_world for scene in scenes])
    intrinsics = torch.cat([scene.intrinsics for scene in scenes])
    if not looks_at_origin(poses, intrinsics):
        poses = normalise_world(poses, str(files[0][0]))
    return Scene(pictures, poses, intrinsics, tuple(splits) or None)


def _documents(folder: Path) -> list[tuple[Path, Split | None]]:
    """The files of a scene and what they are for; those for one split win."""
    parts = [(folder / f"transforms_{split}.json", split) for split in SPLITS]
    return [part for part in parts if part[0].is_file()] or [(folder / WHOLE, None)]


def _is_scene(folder: Path) -> bool:
    return any(path.is_file() for path, _ in _documents(folder))


def _read_document(path: Path, split: Split | None) -> Scene:
    document = read_document(path)
    try:
        names = _file_paths(document)
        pictures = tuple(_find_picture(path.parent, name) for name in names)
        # Angles of view mean nothing without the pictures' shape.
        height, width = picture_size(pictures[0])
        document = {"w": width, "h": height} | document
        cameras, _ = from_transforms(document)
    except ValueError as error:
        message = str(error)
        raise ValueError(message if message.startswith(str(path.parent)) else f"{path}: {message}") from error
    for picture, frame in zip(pictures, document["frames"], strict=True):
        size = document | frame
        require_aspect(picture, size["w"], size["h"], str(path))
    splits = None if split is None else (split,) * len(pictures)
    return Scene(pictures, cameras.cam_to_world, cameras.intrinsics, splits)


def _file_paths(document: dict[str, Any]) -> list[str]:
    frames = document.get("frames")
    if not isinstance(frames, list) or not frames:
        raise ValueError("`frames` must be a list of at least one frame; correct the file")
    names = [frame.get("file_path") if isinstance(frame, dict) else None for frame in frames]
    for number, name in enumerate(names):
        if not isinstance(name, str):
            raise ValueError(f"frame {number}: `file_path` must be a string; correct the file")
    return names


def _find_picture(folder: Path, name: str) -> Path:
    """The picture that a frame names; Blender's names lack the suffix, and may have dots."""
    path = folder / name.replace("\\", "/")
    for candidate in (path, *(path.with_name(f"{path.name}{suffix}") for suffix in SUFFIXES)):
        if candidate.is_file():
            return candidate
    raise ValueError(f"{path}: there is no such picture, with or without suffix; restore it")
