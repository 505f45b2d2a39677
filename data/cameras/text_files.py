"""Intrinsics as the SRN layout stores them, divided by the picture's size.

Two forms occur, for a whole object (intrinsics.txt) or for each view (intrinsics/NAME.txt, which wins, since
only a matrix can say fx != fy):

* SRN's own: `f cx cy 0.` on the first line and `height width` on the last, in pixels of that size;
* a 3x3 or 4x4 matrix, without a size. Its pixels need not be the picture's: the cars say 525 and 256, pixels
  of a 512 x 512 picture, beside pictures of 128. The unit is therefore taken to be the picture's size times
  the power of two that brings the principal point closest to the middle.
"""

import math
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from data.cameras.pinhole import require_rigid
from data.images.files import picture_size


def read_intrinsics(folder: Path, picture: Path) -> Float[Tensor, "3 3"]:
    """Intrinsics of one picture of the object in `folder`, in units of image width and height.

    Raises ValueError if neither file exists or the numbers make no camera.
    """
    own, shared = folder / "intrinsics" / f"{picture.stem}.txt", folder / "intrinsics.txt"
    if not own.exists() and not shared.exists():
        raise ValueError(f"{shared}: missing, and so is intrinsics/{own.name}; restore one of them")
    return read_intrinsics_file(own if own.exists() else shared, picture)


def read_intrinsics_file(path: Path, picture: Path) -> Float[Tensor, "3 3"]:
    """Intrinsics in a file of either form, for one picture, in units of image width and height.

    Raises ValueError if the numbers make no camera.
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
    """The numbers of each line that has any. Raises ValueError for anything but finite numbers."""
    try:
        lines = [line.split() for line in path.read_text(encoding="utf-8-sig").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(
            f"{path}: cannot be read as text ({type(error).__name__}); restore the file"
        ) from error
    try:
        numbers = [[float(word) for word in line] for line in lines]
    except ValueError as error:
        raise ValueError(f"{path}: numbers are expected ({error}); correct the file") from error
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
    # The mean over both axes: a crop that moves one of them far off still finds its unit.
    unit = 2.0 ** round(0.5 * math.log2(4 * x * y / (width * height)))
    return matrix / matrix.new_tensor([[width * unit], [height * unit], [1.0]])


def read_pose(path: Path) -> Float[Tensor, "4 4"]:
    """The camera-to-world matrix in a text file of 16 numbers, in OpenCV axes.

    Raises ValueError if they are something else.
    """
    numbers = [number for line in read_numbers(path) for number in line]
    if len(numbers) != 16:
        raise ValueError(
            f"{path}: holds {len(numbers)} numbers instead of the 16 of a camera-to-world matrix"
        )
    pose = torch.tensor(numbers).unflatten(0, (4, 4))
    require_rigid(pose, str(path))
    return pose
