"""Camera trajectories, by name relative to a reference view, or from a file."""

from pathlib import Path

import torch

from data.cameras import trajectory_names as names
from data.cameras.path_files import read_path
from data.cameras.pinhole import Cameras, cameras_from_poses
from data.cameras.poses import circle, spiral, srn_test_path, turntable

# name -> (function of (number of views, reference pose, camera distance), default number of views)
PATHS = {
    names.SPIRAL: (lambda num, pose, radius: spiral(num, radius), 40),
    names.CIRCLE: (lambda num, pose, radius: circle(pose, num), 40),
    names.TURNTABLE: (lambda num, pose, radius: turntable(num, radius=radius), 40),
    names.SRN_TEST: (lambda num, pose, radius: srn_test_path(num, radius), 251),
}


def trajectory(
    name: str, reference: Cameras, num: int | None = None, *, object_radius: float | None = None
) -> Cameras:
    """Return the cameras [num] of a path, with intrinsics and distance of the unbatched `reference`.

    "circle" rotates the reference pose around the object. `num` defaults to the path's usual number of views.
    Near and far are as in `cameras_from_poses`. Any other `name` is a path file (`data.cameras.path_files`)
    with its own poses and intrinsics; the working volume is that of the reference. Raises ValueError if the
    file cannot be used.
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
    """Return the radius (scene units) of the working volume of an unbatched camera, a sphere."""
    return float(camera.far - camera.near) / 2
