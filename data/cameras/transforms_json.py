"""Read and write cameras in `transforms.json`, the format of nerfstudio and the Blender scenes.

A document has a list of frames, each with a file path and a camera-to-world matrix in OpenGL axes. Intrinsics
are in pixels (fl_x, fl_y, cx, cy, for images of w x h) or fields of view (camera_angle_x, camera_angle_y, in
radians; x_fov, y_fov, in degrees), per document or per frame, which takes precedence. A key that is null
counts as missing. The keys are listed in data/cameras/scene_keys.py.
"""

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from data.cameras.pinhole import (
    Cameras,
    cameras_from_poses,
    opencv_to_opengl,
    opengl_to_opencv,
    require_rigid,
)
from data.cameras.scene_keys import FOCAL_X, FOCAL_Y, merge_keys, require_pinhole

FLOAT = torch.finfo(torch.float32)


def read_document(path: Path) -> dict[str, Any]:
    """Read a document, dropping null keys of the document and its frames.

    Raises ValueError, starting with the path, if it is not a JSON object.
    """
    try:
        document = json.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise ValueError(f"{path}: cannot be read ({error.strerror}); give a camera file") from error
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path}: is not JSON ({error}); correct the file") from error
    if not isinstance(document, dict):
        raise ValueError(f"{path}: must hold a JSON object with `frames`; correct the file")
    document = _without_nulls(document)
    frames = document.get("frames")
    if isinstance(frames, list):
        document["frames"] = [_without_nulls(f) if isinstance(f, dict) else f for f in frames]
    return document


def is_number(value: object) -> bool:
    """Whether a value is a number that is finite in float32."""
    if not isinstance(value, int | float) or isinstance(value, bool):
        return False
    try:
        return abs(float(value)) <= FLOAT.max
    except OverflowError:  # a huge integer
        return False


def to_transforms(cameras: Cameras, file_paths: Sequence[str], *, height: int, width: int) -> dict[str, Any]:
    """Return the document for cameras [n] of height x width images, as `from_transforms` reads it.

    Shared intrinsics are written once, also as fields of view for programs that read only those. Near and far
    are not part of the format. Raises ValueError if the numbers of cameras and file paths differ, or if
    intrinsics are skewed, which the format cannot represent.
    """
    if cameras.shape != (len(file_paths),):
        raise ValueError(
            f"to_transforms: {len(file_paths)} file paths for cameras {list(cameras.shape)}; give one each"
        )
    if bool((cameras.intrinsics[:, 0, 1] != 0).any()):
        raise ValueError("to_transforms: skewed intrinsics cannot be written; set intrinsics[:, 0, 1] to 0")
    poses = opencv_to_opengl(cameras.cam_to_world).tolist()
    keys = [_pixel_intrinsics(matrix, height, width) for matrix in cameras.intrinsics]
    alike = all(own == keys[0] for own in keys)
    frames = [
        {"file_path": path, "transform_matrix": pose} | ({} if alike else own)
        for path, pose, own in zip(file_paths, poses, keys, strict=True)
    ]
    shared = keys[0] | _angles(keys[0], height, width) if alike and keys else {}
    return {"camera_model": "OPENCV", "w": width, "h": height, **shared, "frames": frames}


def from_transforms(
    document: dict[str, Any], *, object_radius: float | None = None
) -> tuple[Cameras, list[str]]:
    """Return cameras [n] and file paths of the frames in order; near and far as in `cameras_from_poses`.

    Defaults: square pixels, a centred principal point and, for fields of view without w and h, a square
    image. Raises ValueError naming the key and the frame if the document is invalid or has lens distortion.
    """
    frames = document.get("frames")
    if not isinstance(frames, list) or not frames or not all(isinstance(frame, dict) for frame in frames):
        raise ValueError("transforms: `frames` must be a list of at least one frame; correct the file")
    paths, poses, intrinsics = [], [], []
    for index, frame in enumerate(frames):
        name = f"transforms, frame {index}"
        path = frame.get("file_path")
        if not isinstance(path, str):
            raise ValueError(f"{name}: `file_path` must be a string; correct the file")
        paths.append(path)
        poses.append(_pose(frame, name))
        intrinsics.append(_intrinsics(merge_keys(document, frame), name))
    cam_to_world = opengl_to_opencv(torch.stack(poses))
    return cameras_from_poses(cam_to_world, torch.stack(intrinsics), object_radius=object_radius), paths


def with_size(document: dict[str, Any], frame: dict[str, Any], height: int, width: int) -> dict[str, Any]:
    """Return a frame with the `w` and `h` that its intrinsics refer to.

    They are the frame's or the document's, or else the size of the frame's own image, height x width; if only
    one is given, the other follows from the image's aspect ratio. Raises ValueError if they are not positive
    numbers.
    """
    keys = merge_keys(document, frame)
    w, h = (_positive(keys, key, f"`{frame.get('file_path', 'frame')}`") for key in ("w", "h"))
    if w is None and h is None:
        return frame | {"w": width, "h": height}
    return frame | {"w": h * width / height if w is None else w, "h": w * height / width if h is None else h}


def _without_nulls(keys: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in keys.items() if value is not None}


def _pixel_intrinsics(intrinsics: Float[Tensor, "3 3"], height: int, width: int) -> dict[str, float]:
    (fx, _, x), (_, fy, y), _ = intrinsics.tolist()
    return {"fl_x": fx * width, "fl_y": fy * height, "cx": x * width, "cy": y * height}


def _angles(keys: dict[str, float], height: int, width: int) -> dict[str, float]:
    """Return fields of view in radians."""
    sizes = {"camera_angle_x": width / keys["fl_x"], "camera_angle_y": height / keys["fl_y"]}
    return {key: 2 * math.atan(0.5 * size) for key, size in sizes.items()}


def _pose(frame: dict[str, Any], name: str) -> Float[Tensor, "4 4"]:
    rows = frame.get("transform_matrix")
    shaped = (
        isinstance(rows, list) and len(rows) == 4 and all(isinstance(r, list) and len(r) == 4 for r in rows)
    )
    if not shaped or not all(is_number(value) for row in rows for value in row):
        raise ValueError(f"{name}: `transform_matrix` must be 4 rows of 4 numbers; correct the file")
    pose = torch.tensor(rows, dtype=torch.float32)
    require_rigid(pose, f"{name}, `transform_matrix`")
    return pose


def _intrinsics(keys: dict[str, Any], name: str) -> Float[Tensor, "3 3"]:
    require_pinhole(keys, name)
    width, height = _positive(keys, "w", name), _positive(keys, "h", name)
    aspect = 1.0 if width is None or height is None else width / height
    if any(key in keys for key in ("fl_x", "fl_y")):
        width, height = _required(width, "w", name), _required(height, "h", name)
    fx, fy = _focal_length(keys, FOCAL_X, width, name), _focal_length(keys, FOCAL_Y, height, name)
    if fx is None and fy is None:
        raise ValueError(
            f"{name}: `fl_x` or `camera_angle_x` is missing, for the frame and for the document; add it"
        )
    # Pixels are square by default.
    fx, fy = (fy / aspect if fx is None else fx), (fx * aspect if fy is None else fy)
    cx, cy = _positive(keys, "cx", name), _positive(keys, "cy", name)
    x = 0.5 if cx is None else cx / _required(width, "w", name)
    y = 0.5 if cy is None else cy / _required(height, "h", name)
    if not all(is_number(number) and number >= FLOAT.tiny for number in (fx, fy, x, y)):
        raise ValueError(
            f"{name}: its normalised intrinsics are {fx:g}, {fy:g}, {x:g}, {y:g}; correct the file"
        )
    return torch.tensor([[fx, 0.0, x], [0.0, fy, y], [0.0, 0.0, 1.0]])


def _focal_length(
    keys: dict[str, Any], names: tuple[str, str, str], size: float | None, name: str
) -> float | None:
    """Return the focal length along an axis, in image widths or heights; None if no key is present.

    `names` are the keys for pixels (of an image of `size`), radians and degrees.
    """
    pixels, radians, degrees = names
    if (length := _positive(keys, pixels, name)) is not None:
        return length / size
    if (angle := _positive(keys, radians, name)) is not None:
        return _from_angle(angle, angle, f"{name}: `{radians}`", "pi; give it in radians")
    if (angle := _positive(keys, degrees, name)) is not None:
        return _from_angle(math.radians(angle), angle, f"{name}: `{degrees}`", "180; give it in degrees")
    return None


def _from_angle(angle_rad: float, given: float, key: str, limit: str) -> float:
    """Convert a field of view to a focal length in image widths or heights."""
    if angle_rad >= math.pi:
        raise ValueError(f"{key} is {given:g}, but a field of view is below {limit}")
    return 0.5 / math.tan(angle_rad / 2)


def _required(value: float | None, key: str, name: str) -> float:
    if value is None:
        raise ValueError(f"{name}: `{key}` is missing, for the frame and for the document; add it")
    return value


def _positive(keys: dict[str, Any], key: str, name: str) -> float | None:
    value = keys.get(key)
    if value is None:
        return None
    if not is_number(value) or value < FLOAT.tiny:
        raise ValueError(f"{name}: `{key}` is {value!r}, but a positive number is needed; correct the file")
    return float(value)
