"""Read scenes with `transforms.json`: nerfstudio, instant-ngp, Blender's synthetic scenes, our own output.

    SCENE/transforms.json                       or transforms_train.json, transforms_val.json,
                                                transforms_test.json, any of which may be missing
    SCENE/... images, at the frames' file paths

File paths are relative to the scene's folder or absolute, with or without the images' suffix. Transparent and
masked parts become white (see data/images/scene_masks.py). Intrinsics in pixels refer to images of w x h or,
without these, to the frame's own image. Poses may be in any units: the working volume is as large as visible
to the cameras (a radius of about 1.4 for Blender's at a distance of 4), unless data.object_radius is set. A
world in which the cameras do not look at the origin is normalised (see data/cameras/normalise.py). Otherwise
it is only rotated to z-up if the key `up` or the cameras indicate another up direction (see
data/cameras/world_up.py).

The lists `train_filenames`, `val_filenames` and `test_filenames` split a single scene; a missing train list,
or missing held-out lists, are the complement. Other splits are described in data/formats/scene_folders.py,
and the supported keys in data/cameras/scene_keys.py.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from data.cameras.normalise import looks_at_origin, normalise_world
from data.cameras.scene_keys import key_notices, merge_keys
from data.cameras.transforms_json import from_transforms, is_number, read_document, with_size
from data.cameras.world_up import find_up, is_z_up, name_of, turn_upright
from data.formats.scene_folders import Scene, SceneObjects, holds_scenes, open_scenes
from data.formats.split_lists import split_of_lists
from data.images.files import picture_size, require_aspect
from data.images.scene_masks import Masks, find_file, find_masks
from data.splits import SPLITS, Split

WHOLE = "transforms.json"


@dataclass(frozen=True)
class _Document:
    """The contents of a file; see `Scene`."""

    pictures: tuple[Path, ...]
    cam_to_world: Float[Tensor, "v 4 4"]
    intrinsics: Float[Tensor, "v 3 3"]
    masks: tuple[Masks, ...]
    splits: tuple[frozenset[Split], ...] | None
    up: Float[Tensor, "3"] | None  # from the file, a unit vector
    notices: tuple[str, ...]  # without the file name


def open_transforms(root: Path, split: Split) -> SceneObjects:
    """Open the scenes of a split. Raises ValueError if there are none."""
    return open_scenes(
        root, split, is_scene=_is_scene, read=read_transforms_scene, what=f"folders with {WHOLE}"
    )


def is_transforms(root: Path) -> bool:
    """Whether a data set has this layout."""
    return holds_scenes(root, _is_scene)


def read_transforms_scene(folder: Path) -> Scene:
    """Read all views of a scene's documents, with their splits if there is a document per split.

    Raises ValueError if a document or an image cannot be used.
    """
    files = _documents(folder)
    parts = [_read_document(path, split) for path, split in files]
    poses, intrinsics, masks, splits, pictures = [], [], [], [], []
    first_file: dict[str, str] = {}
    for (path, _), part in zip(files, parts, strict=True):
        poses.append(part.cam_to_world)
        intrinsics.append(part.intrinsics)
        pictures += part.pictures
        masks += part.masks
        splits += part.splits or ()
        for notice in part.notices:
            first_file.setdefault(notice, str(path))
    first, up = str(files[0][0]), next((part.up for part in parts if part.up is not None), None)
    world, notice = _upright(torch.cat(poses), torch.cat(intrinsics), up, first)
    if notice:
        first_file.setdefault(notice, first)
    notices = tuple(f"{path}: {notice}" for notice, path in first_file.items())
    return Scene(tuple(pictures), world, torch.cat(intrinsics), tuple(masks), tuple(splits) or None, notices)


def _documents(folder: Path) -> list[tuple[Path, Split | None]]:
    """List the documents of a scene and their splits; documents per split take precedence."""
    parts = [(folder / f"transforms_{split}.json", split) for split in SPLITS]
    return [part for part in parts if part[0].is_file()] or [(folder / WHOLE, None)]


def _is_scene(folder: Path) -> bool:
    return any(path.is_file() for path, _ in _documents(folder))


def _read_document(path: Path, split: Split | None) -> _Document:
    document = read_document(path)
    try:
        names, frames = _file_paths(document), document["frames"]
        pictures = tuple(_find_picture(path.parent, name) for name in names)
        # Fields of view need the image's aspect ratio, and pixels its size.
        frames = [
            with_size(document, frame, *picture_size(picture))
            for frame, picture in zip(frames, pictures, strict=True)
        ]
        cameras, _ = from_transforms(document | {"frames": frames})
        up = _up_vector(document)
        mask_names = [merge_keys(document, frame).get("mask_path") for frame in frames]
        masks, notices = find_masks(path.parent, pictures, mask_names, path.name)
        if split is None:
            splits, list_notices = split_of_lists(document, path.parent, pictures)
        else:
            splits, list_notices = (frozenset((split,)),) * len(pictures), []
    except ValueError as error:
        message = str(error)
        raise ValueError(message if message.startswith(str(path.parent)) else f"{path}: {message}") from error
    for picture, frame in zip(pictures, frames, strict=True):
        require_aspect(picture, frame["w"], frame["h"], str(path))
    notices = (*key_notices(document), *notices, *list_notices)
    return _Document(pictures, cameras.cam_to_world, cameras.intrinsics, masks, splits, up, notices)


def _upright(
    poses: Float[Tensor, "n 4 4"],
    intrinsics: Float[Tensor, "n 3 3"],
    up: Float[Tensor, "3"] | None,
    name: str,
) -> tuple[Float[Tensor, "n 4 4"], str | None]:
    """Rotate poses to a z-up world and return a notice, if needed; `up` is the file's, if given."""
    if not looks_at_origin(poses, intrinsics):
        return normalise_world(poses, name, up=up), None
    found = find_up(poses) if up is None else up
    if found is None:
        unsure = (
            "its cameras are not level about z, nor clearly about another direction; z is assumed to be up"
        )
        return poses, None if is_z_up(poses) else f"{unsure}, so rotate the world if it is not"
    if found[2] > 0.9999:
        return poses, None
    source = "its cameras are level about" if up is None else "its key `up` is"
    return turn_upright(
        poses, found
    ), f"{source} {name_of(found)}, so the world was rotated to make that z, up"


def _up_vector(document: dict[str, Any]) -> Float[Tensor, "3"] | None:
    """Read instant-ngp's key `up`. Raises ValueError if it is not a direction."""
    values = document.get("up")
    if values is None:
        return None
    numbers = isinstance(values, list) and len(values) == 3 and all(map(is_number, values))
    if not numbers or not any(values):
        raise ValueError(f"`up` is {values!r}, but three numbers are needed; correct or remove it")
    up = torch.tensor(values, dtype=torch.float64)
    return up / up.norm()


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
    """Find the image of a frame; Blender's names lack the suffix, and may contain dots."""
    found = find_file(folder, name)
    if found is None:
        path = folder / name.replace("\\", "/")
        raise ValueError(f"{path}: there is no such image, with or without suffix; restore it")
    return found
