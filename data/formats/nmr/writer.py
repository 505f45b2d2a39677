"""Rendered objects as files in NMR's layout: pictures, cameras.npz, and lists of the splits.

Every file and folder appears whole or not at all, so that an interrupted run can be completed.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from data.files import whole_folder, write_text_whole
from data.formats.nmr.cameras import Z_UP_FROM_Y_UP
from data.formats.rendered_view import MeshView

ELEVATION_RAD = np.pi / 6  # of the public pictures
LISTS = ("", "softras_")  # beginnings of the names of the lists that are written, which name the same


def write_nmr_object(
    folder: Path,
    pictures: Iterable[MeshView],
    cam_to_world: Float[ndarray, "v 4 4"],
    intrinsics: Float[ndarray, "3 3"],
) -> None:
    """Pictures and cameras (OpenCV axes, world z up; intrinsics divided by the picture's size).

    They are written into a hidden sibling of `folder` that is then given its name. Raises OSError where that
    is not possible.
    """
    from PIL import Image

    with whole_folder(folder) as unfinished:
        (unfinished / "image").mkdir()
        for view, picture in enumerate(pictures):
            Image.fromarray(picture.rgb).save(unfinished / "image" / f"{view:04d}.png")
        np.savez(unfinished / "cameras.npz", **camera_arrays(cam_to_world, intrinsics))


def camera_arrays(
    cam_to_world: Float[ndarray, "v 4 4"], intrinsics: Float[ndarray, "3 3"]
) -> dict[str, ndarray]:
    """The contents of cameras.npz: both directions of all poses, in a world whose y axis is up."""
    to_file = np.eye(4)
    to_file[:3, :3] = np.array(Z_UP_FROM_Y_UP).T
    camera_mat = np.eye(4)
    camera_mat[:3, :3] = np.array([[2.0, 0.0, -1.0], [0.0, 2.0, -1.0], [0.0, 0.0, 1.0]]) @ intrinsics
    arrays = {}
    for view, pose in enumerate(cam_to_world):
        arrays[f"world_mat_inv_{view}"] = to_file @ pose
        arrays[f"world_mat_{view}"] = np.linalg.inv(to_file @ pose)
        arrays[f"camera_mat_{view}"] = camera_mat
        arrays[f"camera_mat_inv_{view}"] = np.linalg.inv(camera_mat)
    return arrays


def write_lists(root: Path, category: str, name: str, splits: Mapping[str, Sequence[str]]) -> None:
    """metadata.yaml, and for each split of a category the lists of its objects."""
    for split, objects in splits.items():
        for prefix in LISTS:
            write_text_whole(
                root / category / f"{prefix}{split}.lst", "".join(f"{line}\n" for line in objects)
            )
    metadata = {category: {"id": category, "name": name}}
    write_text_whole(root / "metadata.yaml", json.dumps(metadata, indent=2) + "\n")  # JSON is YAML
