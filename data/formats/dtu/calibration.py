"""DTU's calibration files: Calibration/cal18/pos_001.txt ... pos_064.txt, one 3 x 4 matrix each.

A matrix K [R | t] takes world points to pixels of pictures of 1600 x 1200: x to the right, y down, depth
forward, and world lengths in millimetres. Pictures of other sizes show the same field of view.
"""

from pathlib import Path

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from data.formats.dtu.selection import NUM_CAMERAS

FOLDER = Path("Calibration") / "cal18"
WIDTH, HEIGHT = 1600, 1200  # pixels that calibrations refer to
LEAST_SKEW = 1.0  # pixels; less moves no point by more than a fifth of a pixel


def calibration_path(root: Path, camera: int) -> Path:
    """The file of a camera, which is counted from 0."""
    return root / FOLDER / f"pos_{camera + 1:03d}.txt"


def read_projections(root: Path) -> Float64[Tensor, "n 3 4"]:
    """Read the matrices of all 64 cameras.

    Raises ValueError where a file is missing or its numbers are no camera.
    """
    return torch.stack([_read(calibration_path(root, camera)) for camera in range(NUM_CAMERAS)])


def decompose(
    projection: Float64[Tensor, "*batch 3 4"],
) -> tuple[Float64[Tensor, "*batch 3 3"], Float64[Tensor, "*batch 4 4"]]:
    """Return the intrinsics K, in pixels, and the camera-to-world poses of multiples of K [R | t].

    K is upper triangular with positive diagonal and K[2, 2] = 1 (Hartley and Zisserman 2004, 6.2.4).
    """
    # The sign of a projection is free: choose that of a rotation, not of a mirror.
    projection = projection * torch.linalg.det(projection[..., :3]).sign()[..., None, None]
    # Of the reversed rows, QR gives the lower-triangular factor, which is K reversed in both axes.
    rotation, upper = torch.linalg.qr(projection[..., :3].flip(-2).transpose(-1, -2))
    intrinsics = upper.transpose(-1, -2).flip(-2, -1)
    rotation = rotation.transpose(-1, -2).flip(-2)
    signs = intrinsics.diagonal(dim1=-2, dim2=-1).sign()
    intrinsics, rotation = intrinsics * signs[..., None, :], rotation * signs[..., :, None]
    pose = torch.eye(4, dtype=projection.dtype).expand(*projection.shape[:-2], 4, 4).clone()
    pose[..., :3, :3] = rotation.transpose(-1, -2)
    pose[..., :3, 3] = -torch.linalg.solve(projection[..., :3], projection[..., 3])
    return intrinsics / intrinsics[..., 2:, 2:], pose


def normalised_intrinsics(intrinsics: Float64[Tensor, "*batch 3 3"]) -> Float[Tensor, "*batch 3 3"]:
    """Divide intrinsics in pixels by the size that calibrations refer to.

    Skew that comes of the rounded numbers in the files is left out, so that cameras can be written as those
    of other programs, which have none.
    """
    intrinsics = intrinsics.clone()
    skew = intrinsics[..., 0, 1]
    intrinsics[..., 0, 1] = torch.where(skew.abs() < LEAST_SKEW, 0.0, skew)
    return (intrinsics / intrinsics.new_tensor([[WIDTH], [HEIGHT], [1]])).float()


def _read(path: Path) -> Float64[Tensor, "3 4"]:
    try:
        words = path.read_text(encoding="utf-8-sig").split()
    except FileNotFoundError as error:
        raise ValueError(
            f"{path}: there is no such calibration file; restore it from DTU's Calibration/cal18, which has "
            f"{NUM_CAMERAS}"
        ) from error
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: cannot be read as text ({type(error).__name__}); restore it") from error
    try:
        numbers = torch.tensor([float(word) for word in words], dtype=torch.float64)
    except ValueError as error:
        raise ValueError(f"{path}: numbers expected ({error}); restore it") from error
    if len(numbers) != 12:
        raise ValueError(f"{path}: has {len(numbers)} numbers instead of 3 rows of 4; restore it")
    matrix = numbers.reshape(3, 4)
    scale = matrix[:, :3].norm(dim=1).prod()
    if not bool(matrix.isfinite().all()) or torch.linalg.det(matrix[:, :3]).abs() <= 1e-9 * scale:
        raise ValueError(f"{path}: is no projection matrix of a camera (nan, inf or singular); restore it")
    return matrix
