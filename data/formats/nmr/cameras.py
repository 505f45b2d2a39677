"""Read the cameras of NMR's ShapeNet from cameras.npz, and check their placement.

`world_mat_i` (world to camera, 3x4 or 4x4, OpenCV axes; or its inverse `world_mat_inv_i`) and `camera_mat_i`
(to normalised device coordinates, -1 to 1 from left to right and from top to bottom: x = focal * X / Z)
describe view i. The files' world is y-up and is converted to z-up: (x, y, z) becomes (x, -z, y).
"""

import zipfile
import zlib
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from data.cameras.pinhole import require_rigid
from data.files import first_line

Z_UP_FROM_Y_UP = ((1.0, 0.0, 0.0), (0.0, 0.0, -1.0), (0.0, 1.0, 0.0))
KINDS = ("world_mat", "world_mat_inv", "camera_mat")
ANGLE_TOLERANCE = 0.5  # degrees
READ_ERRORS = (
    OSError,
    MemoryError,  # the header may claim any shape
    ValueError,
    EOFError,
    KeyError,
    zipfile.BadZipFile,
    zlib.error,
)  # NumPy's, on bad files


def read_cameras(
    path: Path, numbers: tuple[int, ...], content: bytes | None = None
) -> tuple[Float[Tensor, "v 4 4"], Float[Tensor, "v 3 3"]]:
    """Read poses (OpenCV axes, world z up) and intrinsics (normalised by the image size) of some views.

    `content` is the file's content if it is not on disk. Raises ValueError if one is missing or the matrices
    are not a camera. Pickled arrays are rejected.
    """
    if not zipfile.is_zipfile(path if content is None else BytesIO(content)):
        raise ValueError(f"{path}: is missing or not a complete npz archive; restore the file")
    try:
        with np.load(path if content is None else BytesIO(content), allow_pickle=False) as file:
            names = [f"{kind}_{number}" for number in numbers for kind in KINDS]
            arrays = {name: file[name] for name in names if name in file.files}
    except READ_ERRORS as error:
        raise ValueError(f"{path}: cannot be read ({first_line(error)}); restore the file") from error
    poses = torch.stack([_pose(path, arrays, number) for number in numbers])
    return poses, torch.stack([_intrinsics(path, arrays, number) for number in numbers])


@dataclass(frozen=True)
class ViewAngles:
    """Camera positions as seen from the origin: azimuth from x towards y, elevation above the ground."""

    azimuth_deg: Float[Tensor, "v"]
    elevation_deg: Float[Tensor, "v"]
    distance: Float[Tensor, "v"]  # scene units


def view_angles(cam_to_world: Float[Tensor, "v 4 4"]) -> ViewAngles:
    """Return the angles of cameras in a z-up world; azimuths from 0 to 360."""
    x, y, z = cam_to_world[:, :3, 3].unbind(-1)
    elevation = torch.atan2(z, torch.hypot(x, y))
    azimuth = torch.rad2deg(torch.atan2(y, x)) % 360
    return ViewAngles(azimuth, torch.rad2deg(elevation), cam_to_world[:, :3, 3].norm(dim=-1))


def require_even_turn(cam_to_world: Float[Tensor, "v 4 4"], name: str) -> None:
    """Raise ValueError, starting with `name`, unless views are evenly spaced on one circle.

    24 views are 15 degrees apart, in either direction.
    """
    angles = view_angles(cam_to_world)
    count = len(cam_to_world)
    step = 360 / count
    turn = (angles.azimuth_deg.diff() + 180) % 360 - 180
    if count > 1 and turn[0] < 0:
        step = -step
    if len(uneven := ((turn - step).abs() > ANGLE_TOLERANCE).nonzero()[:, 0]):
        view = int(uneven[0])
        raise ValueError(
            f"{name}: from view {view} to view {view + 1} the azimuth changes by {float(turn[view]):.1f} "
            f"degrees instead of {step:.1f}; views may be swapped, so restore the object"
        )
    spread = angles.elevation_deg - angles.elevation_deg[0]
    if len(other := (spread.abs() > ANGLE_TOLERANCE).nonzero()[:, 0]):
        view = int(other[0])
        raise ValueError(
            f"{name}: view {view} is at an elevation of {float(angles.elevation_deg[view]):.1f} degrees "
            f"and view 0 at {float(angles.elevation_deg[0]):.1f}; restore the object"
        )


def _pose(path: Path, arrays: dict[str, np.ndarray], number: int) -> Float[Tensor, "4 4"]:
    inverse = f"world_mat_{number}" not in arrays
    key = f"world_mat_inv_{number}" if inverse else f"world_mat_{number}"
    matrix = torch.eye(4, dtype=torch.float64)
    matrix[:3] = _matrix(path, arrays, key, ((3, 4), (4, 4)))[:3]
    require_rigid(matrix, f"{path}: {key}")
    pose = matrix if inverse else torch.linalg.inv(matrix)
    pose[:3] = torch.tensor(Z_UP_FROM_Y_UP, dtype=torch.float64) @ pose[:3]
    return pose.float()


def _intrinsics(path: Path, arrays: dict[str, np.ndarray], number: int) -> Float[Tensor, "3 3"]:
    key = f"camera_mat_{number}"
    matrix = _matrix(path, arrays, key, ((3, 3), (3, 4), (4, 4)))[:3, :3]
    if matrix[2, 2] <= 0 or min(matrix[0, 0], matrix[1, 1]) <= 0 or matrix[[0, 1, 2, 2], [1, 0, 0, 1]].any():
        raise ValueError(
            f"{path}: {key} is not of the form f 0 x, 0 f y, 0 0 1 with positive f; restore the file"
        )
    # From -1 .. 1 to 0 .. 1.
    halves = torch.tensor([[0.5, 0.0, 0.5], [0.0, 0.5, 0.5], [0.0, 0.0, 1.0]], dtype=torch.float64)
    return (halves @ (matrix / matrix[2, 2])).float()


def _matrix(path: Path, arrays: dict[str, np.ndarray], key: str, shapes: tuple) -> Float[Tensor, "h w"]:
    if key not in arrays:
        also = f" nor {key.replace('_inv', '')}" if "_inv_" in key else ""
        raise ValueError(f"{path}: has no {key}{also}, but the image exists; restore the file")
    array = arrays[key]
    if array.shape not in shapes or array.dtype.kind not in "fiu":
        raise ValueError(
            f"{path}: {key} is {array.dtype} of shape {list(array.shape)} instead of numbers of shape "
            f"{' or '.join(str(list(shape)) for shape in shapes)}; restore the file"
        )
    matrix = torch.from_numpy(array.astype(np.float64))
    if not bool(matrix.isfinite().all()):
        raise ValueError(f"{path}: {key} holds nan or inf; restore the file")
    return matrix
