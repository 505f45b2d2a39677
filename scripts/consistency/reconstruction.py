"""Score a view sequence by a COLMAP reconstruction (by pycolmap, if installed).

COLMAP is not given the cameras. If the views are inconsistent, few of them can be registered.
"""

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

from data.images.files import read_picture, write_png
from data.images.pixels import resize_bicubic

HEIGHT = 512  # pixels; smaller images are enlarged to this height, for more features


@dataclass(frozen=True)
class Reconstruction:
    """The size of the largest reconstructed model."""

    num_pictures: int
    num_registered: int  # images whose cameras were found
    num_points: int


def reconstruct(pictures: Sequence[Path]) -> Reconstruction:
    """Structure from motion of images of equal size, on the CPU.

    Raises ValueError if pycolmap is not installed.
    """
    try:
        pycolmap = import_module("pycolmap")
    except ImportError as error:
        raise ValueError("pycolmap is not installed; pip install pycolmap, or leave --colmap out") from error
    pycolmap.logging.minloglevel = pycolmap.logging.Level.FATAL.value
    with tempfile.TemporaryDirectory() as scratch:
        images, database = Path(scratch) / "images", Path(scratch) / "database.db"
        for number, path in enumerate(pictures):
            picture = read_picture(path)
            factor = max(1, HEIGHT / picture.shape[0])
            height, width = (round(factor * size) for size in picture.shape[:2])
            write_png(images / f"{number:04d}.png", resize_bicubic(picture, height, width))
        pycolmap.set_random_seed(0)
        camera_mode = pycolmap.CameraMode.SINGLE
        device = pycolmap.Device.cpu
        pycolmap.extract_features(database, images, camera_mode=camera_mode, device=device)
        pycolmap.match_exhaustive(database, device=device)
        (models := Path(scratch) / "models").mkdir()
        found = pycolmap.incremental_mapping(database, images, models)
    best = max(found.values(), key=lambda model: model.num_reg_images(), default=None)
    if best is None:
        return Reconstruction(len(pictures), 0, 0)
    return Reconstruction(len(pictures), best.num_reg_images(), best.num_points3D())


def reconstructions(folders: list[Path]) -> list[str]:
    """Report the COLMAP reconstruction of each view sequence, one line each."""
    from scripts.common.progress import progress_bar
    from scripts.sampling.reader import sequences_in

    lines = []
    for sequence in progress_bar(
        [sequence for folder in folders for sequence in sequences_in(folder)], unit="sequence", desc="COLMAP"
    ):
        found = reconstruct(sequence.pictures)
        registered = f"{found.num_registered} of {found.num_pictures} views registered"
        lines.append(f"{sequence.folder}: COLMAP: {registered}, {found.num_points} points")
    return lines
