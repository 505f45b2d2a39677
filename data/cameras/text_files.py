"""Intrinsics and poses in the text files of the SRN layout. Intrinsics are normalised by the image size.

Two formats occur, per object (intrinsics.txt) or per view (intrinsics/NAME.txt, which takes precedence since
only a matrix can represent fx != fy):

* the original: `f cx cy 0.` on the first line and `height width` on the last, in pixels of that size;
* a 3x3 or 4x4 matrix, without a size. Its resolution may differ from the images': the cars have 525 and 256,
for 512 x 512 pixels, with images of 128. The resolution is therefore taken to be the image size times the
power of two that brings the principal point closest to the centre.
"""

import math
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from data.cameras.pinhole import require_rigid
from data.images.files import picture_size


def read_intrinsics(folder: Path, picture: Path) -> Float[Tensor, "3 3"]:
    """Read the intrinsics of one image of the object in `folder`, normalised by image width and height.

    Raises ValueError if neither file exists or the numbers are invalid.
    """
    own, shared = folder / "intrinsics" / f"{picture.stem}.txt", folder / "intrinsics.txt"
    if not own.exists() and not shared.exists():
        raise ValueError(f"{shared}: missing, and so is intrinsics/{own.name}; restore one of them")
    return read_intrinsics_file(own if own.exists() else shared, picture)


def read_intrinsics_file(path: Path, picture: Path) -> Float[Tensor, "3 3"]:
    """Read intrinsics in either format for one image, normalised by image width and height.

    Raises ValueError if the numbers are invalid.
    """
    lines = read_numbers(path)
    if len(lines) > 1 and len(lines[0]) >= 3 and len(lines[-1]) == 2:
        return _from_focal(path, lines[0], *lines[-1])
    numbers = [number for line in lines for number in line]
    side = math.isqrt(len(numbers))
    if len(numbers) not in (9, 16) or len(lines) not in (1, side):
        raise ValueError(
            f"{path}: neither `f cx cy 0.` and a last line `height width` nor a 3x3 or 4x4 matrix; fix it"
        )
    return _from_matrix(
        path, torch.tensor(numbers).unflatten(0, (side, side))[:3, :3], *picture_size(picture)
    )


def read_numbers(path: Path) -> list[list[float]]:
    """Read the numbers of each non-empty line. Raises ValueError for anything but finite numbers."""
    try:
        lines = [line.split() for line in path.read_text(encoding="utf-8-sig").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(
            f"{path}: cannot be read as text ({type(error).__name__}); restore the file"
        ) from error
    try:
        numbers = [[float(word) for word in line] for line in lines]
    except ValueError as error:
        raise ValueError(f"{path}: numbers expected ({error}); correct the file") from error
    if not all(math.isfinite(number) for line in numbers for number in line):
        raise ValueError(f"{path}: holds nan or inf; correct the file")
    return numbers


def _from_focal(path: Path, first: list[float], height: float, width: float) -> Float[Tensor, "3 3"]:
    focal, x, y = first[:3]
    if min(focal, height, width) <= 0:
        raise ValueError(
            f"{path}: focal length {focal:g}, size {height:g} x {width:g} must be positive; correct it"
        )
    return torch.tensor([[focal / width, 0, x / width], [0, focal / height, y / height], [0, 0, 1]])


def _from_matrix(path: Path, matrix: Float[Tensor, "3 3"], height: int, width: int) -> Float[Tensor, "3 3"]:
    (fx, _, x), (shear, fy, y), bottom = matrix.tolist()
    if min(fx, fy, x, y) <= 0 or shear != 0 or bottom != [0, 0, 1]:
        raise ValueError(f"{path}: not of the form fx 0 cx, 0 fy cy, 0 0 1 with positive entries; correct it")
    # The mean over both axes is robust to a crop that shifts one of them.
    unit = 2.0 ** round(0.5 * math.log2(4 * x * y / (width * height)))
    return matrix / matrix.new_tensor([[width * unit], [height * unit], [1.0]])


def read_pose(path: Path) -> Float[Tensor, "4 4"]:
    """Read a camera-to-world matrix, in OpenCV axes, from a text file of 16 numbers.

    Raises ValueError for anything else.
    """
    numbers = [number for line in read_numbers(path) for number in line]
    if len(numbers) != 16:
        raise ValueError(
            f"{path}: holds {len(numbers)} numbers instead of the 16 of a camera-to-world matrix"
        )
    pose = torch.tensor(numbers).unflatten(0, (4, 4))
    require_rigid(pose, str(path))
    return pose
