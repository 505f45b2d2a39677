"""Camera trajectories by name, fitted to a view of the object, or from a file."""

from pathlib import Path

import torch

from data.cameras.path_files import read_path
from data.cameras.pinhole import Cameras, cameras_from_poses
from data.cameras.poses import circle, spiral, srn_test_path, turntable

# name -> (poses of (number of views, reference pose, camera distance), customary number of views)
PATHS = {
    "spiral": (lambda num, pose, radius: spiral(num, radius), 40),
    "circle": (lambda num, pose, radius: circle(pose, num), 40),
    "turntable": (lambda num, pose, radius: turntable(num, radius=radius), 40),
    "srn_test": (lambda num, pose, radius: srn_test_path(num, radius), 251),
}


def trajectory(
    name: str, reference: Cameras, num: int | None = None, *, object_radius: float | None = None
) -> Cameras:
    """Cameras [num] of a path, with the intrinsics and at the distance of `reference`, a camera without axes.

    A circle carries the reference pose itself around the object. `num` None is the path's customary number of
    views. Near and far are as in `cameras_from_poses`. A `name` other than those of `PATHS` is a path file
    (`data.cameras.path_files`), whose cameras have places and intrinsics of their own; their working volume
    is that of the reference. Raises ValueError if the file cannot be used.
    """
    if name not in PATHS:
        return _from_file(Path(name), reference, num)
    poses, customary = PATHS[name]
    radius = float(torch.linalg.vector_norm(reference.positions))
    return cameras_from_poses(
        poses(num or customary, reference.cam_to_world, radius),
        reference.intrinsics,
        object_radius=object_radius,
    )


def _from_file(path: Path, reference: Cameras, num: int | None) -> Cameras:
    camera_path, radius = read_path(path), working_radius(reference)
    try:
        return camera_path.cameras(num, object_radius=radius)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def working_radius(camera: Cameras) -> float:
    """Radius of the working volume, a sphere around the origin, of a camera without axes; scene units."""
    return float(camera.far - camera.near) / 2
