"""Read and write camera path files (written by `python -m scripts.view`, read by sample_views.py).

A path file is a JSON object with the keys

    format      "camera path"
    version     1
    views number of views along the path
    loop whether the path returns to its first keyframe (default: false)
    keyframes   a list of cameras that the path of `data.cameras.keyframes` goes through

A camera has `cam_to_world`, a 4x4 pose in OpenCV axes, and either `focal`, the focal length in widths of a
square image, or `intrinsics`, a 3x3 matrix normalised by image width and height. Instead of `keyframes` a
file may have `cameras`, which are used as they are, without `views` and `loop`. A `transforms.json`
(`data.cameras.transforms_json`), recognised by its `frames`, is also read as cameras.
"""

import json
import os
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from data.cameras.keyframes import CameraPath
from data.cameras.pinhole import pinhole, require_rigid
from data.cameras.transforms_json import from_transforms, is_number, read_document
from data.files import write_whole

FORMAT, VERSION = "camera path", 1
KEYS = {
    "keyframes": {"format", "version", "views", "loop", "keyframes"},
    "cameras": {"format", "version", "cameras"},
}
CAMERA_KEYS = {"cam_to_world", "focal", "intrinsics"}
MOST_VIEWS = 100_000
FARTHEST = 1e6  # scene units from the origin; beyond, float32 cannot resolve the object


def read_path(path: Path) -> CameraPath:
    """Read a camera path from a path file or a `transforms.json`.

    Raises ValueError naming the file and the key if the file is invalid.
    """
    document = read_document(path)
    try:
        camera_path = _from_transforms(document) if "frames" in document else _from_document(document)
        _require_ordinary(camera_path)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    return camera_path


def write_path(path: Path, camera_path: CameraPath, *, replace: bool = False) -> None:
    """Write a path file atomically, as `read_path` reads it.

    Raises ValueError if it cannot be written, or exists already and `replace` is not set.
    """
    text = json.dumps(to_document(camera_path), indent=1) + "\n"

    def write(partial: Path) -> None:
        partial.write_text(text, encoding="utf-8")
        if not replace:
            _claim(partial, path)

    write_whole(path, write)


def to_document(camera_path: CameraPath) -> dict[str, Any]:
    """Return the contents of a path file, as JSON data."""
    cameras = [
        {"cam_to_world": pose.tolist(), "intrinsics": matrix.tolist()}
        for pose, matrix in zip(camera_path.cam_to_world, camera_path.intrinsics, strict=True)
    ]
    head = {"format": FORMAT, "version": VERSION}
    if not camera_path.smooth:
        return head | {"cameras": cameras}
    return head | {"views": camera_path.num, "loop": camera_path.loop, "keyframes": cameras}


def _from_transforms(document: dict[str, Any]) -> CameraPath:
    cameras, _ = from_transforms(document)
    if bool((cameras.positions == 0).all(dim=-1).any()):
        raise ValueError("a camera is at the world origin, where the object must be; correct the file")
    return CameraPath(cameras.cam_to_world, cameras.intrinsics, len(cameras.near), smooth=False)


def _from_document(document: dict[str, Any]) -> CameraPath:
    if document.get("format") != FORMAT:
        found = _shown(document.get("format"))
        raise ValueError(f'`format` is {found} instead of "{FORMAT}"; give a path file')
    if document.get("version") != VERSION:
        found = _shown(document.get("version"))
        raise ValueError(f"`version` is {found}, but only {VERSION} is supported; use a newer program")
    kind = "cameras" if "cameras" in document else "keyframes"
    surplus = sorted(document.keys() - KEYS[kind])
    if surplus:
        raise ValueError(f"`{surplus[0]}` is not a key of a path with `{kind}`; remove it")
    found = document.get(kind)
    if not isinstance(found, list) or not found:
        raise ValueError(f"`{kind}` must be a list of at least one camera; add one")
    cameras = [_camera(entry, f"{kind}[{number}]") for number, entry in enumerate(found)]
    poses, intrinsics = (torch.stack(parts) for parts in zip(*cameras, strict=True))
    if kind == "cameras":
        return CameraPath(poses, intrinsics, len(poses), smooth=False)
    views, loop = document.get("views"), document.get("loop", False)
    if not isinstance(views, int) or isinstance(views, bool) or not 1 <= views <= MOST_VIEWS:
        raise ValueError(f"`views` is {_shown(views)}, but a whole number from 1 to {MOST_VIEWS} is needed")
    if not isinstance(loop, bool):
        raise ValueError(f"`loop` is {_shown(loop)}, but true or false is needed")
    camera_path = CameraPath(poses, intrinsics, views, loop)
    camera_path.cameras(1)  # raises if there is no path between two keyframes
    return camera_path


def _require_ordinary(camera_path: CameraPath) -> None:
    """Raise ValueError if numbers are so large or small that the views of a path are not finite."""
    far = (camera_path.cam_to_world[:, :3, 3].norm(dim=-1) > FARTHEST).nonzero()
    if len(far):
        raise ValueError(
            f"camera {int(far[0])} is more than {FARTHEST:g} scene units from the origin; correct the file"
        )
    cameras = camera_path.cameras()
    values = cameras.cam_to_world, cameras.intrinsics, cameras.near, cameras.far
    if not all(bool(value.isfinite().all()) for value in values):
        raise ValueError("the cameras of its views hold nan or inf; correct positions and focal lengths")


def _claim(partial: Path, path: Path) -> None:
    """Link a file to its final name. Raises ValueError if that exists."""
    try:
        os.link(partial, path)  # atomic, unlike a check beforehand
    except OSError as error:
        if not isinstance(error, FileExistsError) and not path.exists():  # no hard links on this file system
            return
        raise ValueError(f"{path}: exists already; give another name, or allow it to be replaced") from error


def _camera(entry: object, name: str) -> tuple[Float[Tensor, "4 4"], Float[Tensor, "3 3"]]:
    if not isinstance(entry, dict) or entry.keys() - CAMERA_KEYS:
        raise ValueError(f"`{name}` must be an object of {', '.join(sorted(CAMERA_KEYS))}; correct the file")
    pose = _matrix(entry.get("cam_to_world"), 4, f"{name}.cam_to_world")
    require_rigid(pose, f"`{name}.cam_to_world`")
    if ("focal" in entry) == ("intrinsics" in entry):
        raise ValueError(f"`{name}` needs either `focal` or `intrinsics`; give one of them")
    if "focal" in entry:
        focal = entry["focal"]
        if not is_number(focal) or focal < torch.finfo(torch.float32).tiny:
            raise ValueError(f"`{name}.focal` is {_shown(focal)}, but a positive number is needed")
        return pose, pinhole(float(focal))
    matrix = _matrix(entry["intrinsics"], 3, f"{name}.intrinsics")
    zeros = [matrix[0, 1], matrix[1, 0], matrix[2, 0], matrix[2, 1], matrix[2, 2] - 1]
    if min(matrix[0, 0], matrix[1, 1]) <= 0 or any(zeros):
        raise ValueError(
            f"`{name}.intrinsics` is not [[fx, 0, cx], [0, fy, cy], [0, 0, 1]] with positive fx and fy; "
            "correct it"
        )
    return pose, matrix


def _matrix(rows: object, size: int, name: str) -> Float[Tensor, "k k"]:
    shaped = isinstance(rows, list) and len(rows) == size
    if not shaped or not all(isinstance(row, list) and len(row) == size for row in rows):
        raise ValueError(f"`{name}` must be {size} rows of {size} numbers; correct it")
    if not all(is_number(value) for row in rows for value in row):
        raise ValueError(f"`{name}` must hold finite numbers only; correct it")
    return torch.tensor(rows, dtype=torch.float32)


def _shown(value: object) -> str:
    """Return a value of the file, shortened for a message."""
    text = json.dumps(value)
    return text if len(text) <= 40 else f"{text[:37]}..."
