"""Read scenes reconstructed by COLMAP from its text models.

    SCENE/cameras.txt, images.txt            or the two in sparse/0, sparse, colmap/sparse/0, colmap/sparse or
                                             colmap below the scene
    SCENE/images/... images, by their names in images.txt
    SCENE/masks/...                          masks of the object, if any (see data/images/scene_masks.py)

If sparse has several models (0, 1, ...), parts of a scene that COLMAP could not join, the one with the most
images is read. Cameras must be pinholes (SIMPLE_PINHOLE, PINHOLE): COLMAP can undistort others. The world
frame of a reconstruction is arbitrary and is normalised (see data/cameras/normalise.py). Splits of scenes and
views are described in data/formats/scene_folders.py. points3D.txt is not needed.
"""

import math
from collections.abc import Iterator
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from data.cameras.normalise import normalise_world
from data.formats.scene_folders import Scene, SceneObjects, holds_scenes, open_scenes
from data.images.files import require_aspect
from data.images.scene_masks import find_masks
from data.splits import Split, natural_key, subfolders

# Where to look for models, in order; those with a slash contain one folder per model.
MODELS = ("", "sparse/", "sparse", "colmap/sparse/", "colmap/sparse", "colmap")
PINHOLES = {"SIMPLE_PINHOLE": 3, "PINHOLE": 4}  # number of parameters
DISTORTED = (
    "SIMPLE_RADIAL",
    "RADIAL",
    "OPENCV",
    "OPENCV_FISHEYE",
    "FULL_OPENCV",
    "FOV",
    "SIMPLE_RADIAL_FISHEYE",
    "RADIAL_FISHEYE",
    "THIN_PRISM_FISHEYE",
    "RAD_TAN_THIN_PRISM_FISHEYE",
)
TEXT, BINARY = ("cameras.txt", "images.txt"), ("cameras.bin", "images.bin")


def open_colmap(root: Path, split: Split) -> SceneObjects:
    """Open the scenes of a split. Raises ValueError if there are none."""
    return open_scenes(
        root,
        split,
        is_scene=_is_scene,
        read=read_colmap_scene,
        what="folders with images/ and, beside it or in sparse/0, cameras.txt and images.txt; a binary "
        "model is converted by `colmap model_converter --output_type TXT`",
    )


def is_colmap(root: Path) -> bool:
    """Whether a data set has this layout. Binary models count; `open_colmap` explains how to convert them."""
    return holds_scenes(root, lambda folder: _is_scene(folder) or _is_scene(folder, BINARY))


def read_colmap_scene(folder: Path) -> Scene:
    """Read all registered images of a scene, with their cameras in a normalised world.

    Raises ValueError if a file cannot be used.
    """
    model, notices = _largest(_models(folder))
    lenses = dict(_cameras(model / "cameras.txt"))
    images = list(_images(model / "images.txt", lenses))
    if not images:
        raise ValueError(f"{model / 'images.txt'}: registers no images; reconstruct again")
    pictures = tuple(_picture(folder, name, model / "images.txt") for name, _, _ in images)
    for picture, (_, _, key) in zip(pictures, images, strict=True):
        _, width, height = lenses[key]
        require_aspect(picture, width, height, f"{model / 'cameras.txt'} (camera {key})")
    poses = normalise_world(torch.stack([pose for _, pose, _ in images]), str(model / "images.txt"))
    intrinsics = torch.stack([lenses[key][0] for _, _, key in images])
    masks, mask_notices = find_masks(folder, pictures, [None] * len(pictures), str(model / "images.txt"))
    notices = tuple(f"{model}: {notice}" for notice in (*notices, *mask_notices))
    return Scene(pictures, poses.float(), intrinsics, masks, notices=notices)


def _is_scene(folder: Path, files: tuple[str, ...] = TEXT) -> bool:
    return (folder / "images").is_dir() and bool(_models(folder, files))


def _models(folder: Path, files: tuple[str, ...] = TEXT) -> list[Path]:
    """List the models of a scene, from the first location that has any, in natural order."""
    for place in MODELS:
        found = [folder / place]
        if place.endswith("/"):
            found = subfolders(found[0]) if found[0].is_dir() else []
        if models := [path for path in found if all((path / name).is_file() for name in files)]:
            return sorted(models, key=lambda path: natural_key(path.name))
    return []


def _largest(models: list[Path]) -> tuple[Path, list[str]]:
    """Return the model with the most images, and a notice about the others."""
    if len(models) == 1:
        return models[0], []
    counts = {model: _num_pictures(model / "images.txt") for model in models}
    largest = max(models, key=lambda model: counts[model])
    others = ", ".join(f"{model.name} ({counts[model]})" for model in models if model != largest)
    notice = f"is read, the largest of {len(models)} models with {counts[largest]} images; others: {others}"
    return largest, [notice]


def _num_pictures(path: Path) -> int:
    """Count the images in a list: two lines each, of which the second (its points) may be empty."""
    lines = (line.strip() for _, line in _lines(path) if not line.startswith("#"))
    return len([next(lines, "") for line in lines if line])


def _picture(folder: Path, name: str, described: Path) -> Path:
    """Find an image by name; reconstructions made on Windows may use backslashes."""
    paths = [folder / "images" / form for form in dict.fromkeys((name, name.replace("\\", "/")))]
    found = next((path for path in paths if path.is_file()), None)
    if found is None:
        raise ValueError(f"{paths[-1]}: does not exist, but {described} refers to it; restore it")
    return found


def _cameras(path: Path) -> Iterator[tuple[int, tuple[Float[Tensor, "3 3"], float, float]]]:
    """Yield (id, (intrinsics normalised by the image size, width, height)) of every camera."""
    for place, line in _lines(path):
        words = line.split()
        if not words or words[0].startswith("#"):
            continue
        if len(words) < 4:
            raise ValueError(
                f"{place}: CAMERA_ID MODEL WIDTH HEIGHT PARAMS... expected; the line is truncated"
            )
        model, needed = words[1], PINHOLES.get(words[1])
        if needed is None:
            problem = "has lens distortion" if model in DISTORTED else "is an unknown camera model"
            raise ValueError(f"{place}: {model} {problem}; undistort by `colmap image_undistorter`")
        number, width, height, *parameters = _numbers(place, [words[0], *words[2:]])
        if len(parameters) != needed:
            raise ValueError(f"{place}: {model} has {needed} parameters, but there are {len(parameters)}")
        fx, fy, x, y = parameters if needed == 4 else (parameters[0], *parameters)
        if min(width, height, fx, fy) <= 0:
            raise ValueError(f"{place}: sizes and focal lengths must be positive; reconstruct again")
        matrix = torch.tensor([[fx / width, 0, x / width], [0, fy / height, y / height], [0, 0, 1]])
        yield int(number), (matrix, width, height)


def _images(path: Path, lenses: dict) -> Iterator[tuple[str, Float[Tensor, "4 4"], int]]:
    """Yield (name, camera-to-world pose, camera id) of every image."""
    lines = _lines(path)
    for place, line in lines:
        if not line.strip() or line.startswith("#"):
            continue
        words = line.split(maxsplit=9)
        if len(words) < 10:
            raise ValueError(
                f"{place}: IMAGE_ID QW QX QY QZ TX TY TZ CAMERA_ID NAME expected; the line is truncated"
            )
        numbers = _numbers(place, words[:9])
        if int(numbers[8]) not in lenses:
            raise ValueError(f"{place}: camera {words[8]} is not in cameras.txt; restore both files")
        # The next line, which may be empty, lists the observed points: X Y POINT3D_ID each.
        after, points = next(lines, (place, ""))
        if len(points.split()) % 3:
            raise ValueError(f"{after}: triples X Y POINT3D_ID expected; the line is truncated or missing")
        _numbers(after, points.split())
        yield words[9].strip(), _pose(place, numbers[1:5], numbers[5:8]), int(numbers[8])


def _pose(place: str, quaternion: list[float], translation: list[float]) -> Float[Tensor, "4 4"]:
    """Return camera-to-world from a world-to-camera rotation (w, x, y, z) and translation."""
    length = math.hypot(*quaternion)
    if length < 1e-6:
        raise ValueError(f"{place}: the quaternion is zero; reconstruct again")
    w, x, y, z = (value / length for value in quaternion)
    rotation = torch.tensor(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
            [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
            [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
        ],
        dtype=torch.float64,
    )
    pose = torch.eye(4, dtype=torch.float64)
    pose[:3, :3] = rotation.T
    pose[:3, 3] = -rotation.T @ torch.tensor(translation, dtype=torch.float64)
    return pose


def _lines(path: Path) -> Iterator[tuple[str, str]]:
    """Return (location, for messages; content) of every line."""
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: cannot be read as text ({type(error).__name__}); restore it") from error
    return ((f"{path}, line {number}", line) for number, line in enumerate(lines, start=1))


def _numbers(place: str, words: list[str]) -> list[float]:
    try:
        numbers = [float(word) for word in words]
    except ValueError as error:
        raise ValueError(f"{place}: numbers expected ({error}); restore the file") from error
    if not all(math.isfinite(number) for number in numbers):
        raise ValueError(f"{place}: holds nan or inf; reconstruct again")
    return numbers
