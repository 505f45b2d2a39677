"""Write rendered objects in DTU's layout: pictures of several lightings, calibrations, masks.

Calibrations are, like DTU's, for pictures of 1600 x 1200 in millimetres, and their world has other axes and
another origin than the objects'. Every file and folder appears whole or not at all.
"""

import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from data.files import write_text_whole
from data.formats.dtu.calibration import HEIGHT, WIDTH, calibration_path
from data.formats.dtu.objects import MASKS, PICTURES
from data.formats.dtu.selection import picture_name
from data.formats.rendered_view import MeshView

CALIBRATED = np.array([[2890.0, 0.0, 824.0], [0.0, 2884.0, 618.0], [0.0, 0.0, 1.0]])  # pixels of 1600 x 1200
INTRINSICS = CALIBRATED / np.array([[WIDTH], [HEIGHT], [1]])  # divided by the size of pictures
MILLIMETRES = 250.0  # per scene unit
PLACE = np.array([-28.0, 36.0, 640.0])  # of the object's centre, millimetres
# The axes of a camera that looks down at the object at a slant: z goes away from it, and y down.
AXES = np.array([[-0.6, 0.8, 0.0], [0.48, 0.36, -0.8], [-0.64, -0.48, -0.6]])
DARK = 8  # level of the background


def millimetres_from_units() -> Float[ndarray, "4 4"]:
    """The similarity from the objects' world to that of calibrations."""
    matrix = np.eye(4)
    matrix[:3, :3], matrix[:3, 3] = MILLIMETRES * AXES, PLACE
    return matrix


def projection_of(cam_to_world: Float[ndarray, "4 4"]) -> Float[ndarray, "3 4"]:
    """The calibration matrix K [R | t] of a camera in the objects' world."""
    similarity = millimetres_from_units()
    rotation = similarity[:3, :3] / MILLIMETRES @ cam_to_world[:3, :3]
    centre = similarity[:3, :3] @ cam_to_world[:3, 3] + similarity[:3, 3]
    return CALIBRATED @ np.concatenate([rotation.T, -(rotation.T @ centre)[:, None]], axis=1)


def write_calibrations(root: Path, cam_to_world: Float[ndarray, "n 4 4"]) -> None:
    """A calibration file for each camera. Raises ValueError if one cannot be written."""
    for camera, pose in enumerate(cam_to_world):
        rows = [" ".join(f"{value:.9g}" for value in row) for row in projection_of(pose)]
        write_text_whole(calibration_path(root, camera), "\n".join(rows) + "\n")


def write_scene(root: Path, scene: str, views: Mapping[str, Iterable[MeshView]], *, masks: bool) -> None:
    """The pictures of a scene on a dark ground, by lighting, in order of cameras; with `masks`, those too.

    Raises OSError if they cannot be written.
    """
    from PIL import Image

    folder = root / PICTURES / scene
    unfinished = folder.with_name(f".{scene}")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(parents=True)
    for number, (lighting, rendered) in enumerate(views.items()):
        for camera, view in enumerate(rendered):
            uncovered = 1 - view.alpha[..., None] / 255
            pixels = (view.rgb - (255 - DARK) * uncovered).round().clip(0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(unfinished / picture_name(camera, lighting))
            if masks and number == 0:
                path = root / MASKS / scene / "mask" / f"{camera:03d}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(np.where(view.alpha > 0, 255, 0).astype(np.uint8)).save(path)
    unfinished.replace(folder)
