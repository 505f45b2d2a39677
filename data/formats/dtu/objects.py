"""DTU's rectified pictures as objects with cameras (Jensen et al. 2014).

    ROOT/Rectified/scan65/rect_001_3_r5000.png      camera 0, lighting 3; also scan65_train
    ROOT/Calibration/cal18/pos_001.txt              camera 0, see data/formats/dtu/calibration.py
    ROOT/submission_data/idrmasks/scan65/000.png    camera 0; or in scan65/mask/

Splits: the 88 scenes of papers are for training, the 15 others for val and test, as far as they are there.
Scenes that `data.dtu.scenes` names are split by view instead: those of `data.dtu.subset` are for training,
the rest of the 34 usual views, or all of them, for val and test. Views are in order of their cameras.

Unless the options say otherwise, the world is normalised (data/cameras/normalise.py) by all 64 calibrations,
alike for every scene: z is up, and the cameras are on average 1.3 units from the point that they look at.
Every problem with a file is a one-line ValueError that starts with its path.
"""

import os
from functools import cached_property
from pathlib import Path

import torch
from jaxtyping import Float, Float64, UInt8
from torch import Tensor

from data.cameras.normalise import normalise_world
from data.cameras.world_up import find_up
from data.dtu_options import DTUOptions
from data.formats.dtu.calibration import (
    FOLDER,
    HEIGHT,
    WIDTH,
    decompose,
    normalised_intrinsics,
    read_projections,
)
from data.formats.dtu.selection import (
    ALL_34,
    SUBSETS,
    TEST_SCENES,
    TRAIN_SCENES,
    camera_of,
    picture_name,
)
from data.images.files import ASPECT_TOLERANCE, read_picture
from data.images.masks import on_white, read_mask
from data.scenes.calibration import Calibration
from data.scenes.objects import RawObjects
from data.splits import Split

PICTURES, MASKS = "Rectified", Path("submission_data") / "idrmasks"
PAD = 400 / 1200  # rows below a padded picture, as a fraction of its height


class DTUObjects(RawObjects):
    """The scenes of one split, seen by the same cameras. The pictures of a scene are listed on access."""

    def __init__(self, root: Path, scenes: list[str], cameras: tuple[int, ...], options: DTUOptions):
        self.ids = tuple(scenes)
        self.camera_numbers = cameras  # counted from 0, by view
        self._root, self._options = root, options
        self._folders = [_folder(root, scene) for scene in scenes]
        self._whole: set[int] = set()
        self._notices: tuple[str, ...] = ()

    def noting(self, *notices: str) -> "DTUObjects":
        """Return it with messages about the whole set."""
        self._notices = notices
        return self

    def names(self, index: int) -> tuple[str, ...]:
        """The name of the scene, and its number."""
        return self.ids[index], self.ids[index].removeprefix("scan")

    def place(self, index: int) -> str:
        """Its folder of pictures."""
        return str(self._folders[index])

    def num_views(self, index: int) -> int:
        """The number of cameras. Raises ValueError where a picture is missing."""
        if index not in self._whole:
            self._require_pictures(index)
            self._whole.add(index)
        return len(self.camera_numbers)

    def cameras(self, index: int) -> tuple[Float[Tensor, "v 4 4"], Float[Tensor, "v 3 3"]]:
        """Poses in the world of the options, and intrinsics."""
        chosen = list(self.camera_numbers)
        return self._rig.cam_to_world[chosen], self._rig.intrinsics[chosen]

    def projections(self, index: int) -> Float64[Tensor, "v 3 4"]:
        """The matrices in the calibration files."""
        return self._rig.projections[list(self.camera_numbers)]

    def calibration(self) -> Calibration:
        """All 64 cameras."""
        return self._rig

    def picture(self, index: int, view: int) -> UInt8[Tensor, "h w 3"]:
        """RGB, with its background or on white, and padded below if the options say so."""
        picture = self.photo(index, view)
        if self._options.background == "white":
            picture = on_white(picture, self._mask_of(index, view, picture))
        return _padded(picture) if self._options.preprocessing == "pad" else picture

    def photo(self, index: int, view: int) -> UInt8[Tensor, "h w 3"]:
        """The picture as it is in its file. Raises ValueError if it is not 4 : 3."""
        path = self._picture_path(index, view)
        picture = read_picture(path)
        _require_shape(path, picture)
        return picture

    def alpha(self, index: int, view: int) -> UInt8[Tensor, "h w"] | None:
        """The mask of the object, as large as the picture; None if there is none."""
        if self._options.missing_masks == "stop" and self._mask_path(index, view) is None:
            return None
        mask = self._mask_of(index, view, self.photo(index, view))
        return _padded(mask) if self._options.preprocessing == "pad" else mask

    def mask(self, index: int, view: int) -> UInt8[Tensor, "h w"] | None:
        """The mask of the object; None where it is missing and may be. Raises ValueError if it may not."""
        mask = self._stored_mask(index, view)
        return _padded(mask) if mask is not None and self._options.preprocessing == "pad" else mask

    def _stored_mask(self, index: int, view: int) -> UInt8[Tensor, "h w"] | None:
        path = self._mask_path(index, view)
        if path is not None:
            mask = read_mask(path)
            _require_shape(path, mask)
            return mask
        if self._options.missing_masks == "white":
            return None
        expected = self._root / MASKS / self.ids[index] / f"{self.camera_numbers[view]:03d}.png"
        raise ValueError(
            f"{expected}: there is no such mask, nor in {expected.parent / 'mask'}; add the masks of DTU, or "
            "set data.dtu.missing_masks=white (--missing-masks white) to count all of a picture as the object"
        )

    def notices(self, index: int) -> tuple[str, ...]:
        """How many of the usual scenes are missing, and what is held out of the training views."""
        return self._notices

    @cached_property
    def _rig(self) -> Calibration:
        projections = read_projections(self._root)
        pixels, poses = decompose(projections)
        intrinsics = normalised_intrinsics(pixels)
        if self._options.preprocessing == "pad":
            intrinsics[:, 1] /= 1 + PAD
        if self._options.world == "normalised":
            # The robot may hold its cameras level, which tells the vertical better than the mean of pictures.
            poses = normalise_world(poses, str(self._root / FOLDER), up=find_up(poses))
        return Calibration(projections, poses.float(), intrinsics)

    def _picture_path(self, index: int, view: int) -> Path:
        return self._folders[index] / picture_name(self.camera_numbers[view], self._options.lighting)

    def _mask_path(self, index: int, view: int) -> Path | None:
        folder, name = self._root / MASKS / self.ids[index], f"{self.camera_numbers[view]:03d}.png"
        return next((path for path in (folder / "mask" / name, folder / name) if path.is_file()), None)

    def _mask_of(self, index: int, view: int, picture: UInt8[Tensor, "h w 3"]) -> UInt8[Tensor, "h w"]:
        """The mask of a picture, which must be as large."""
        mask = self._stored_mask(index, view)
        if mask is None:
            return torch.full(picture.shape[:2], 255, dtype=torch.uint8)
        if mask.shape != picture.shape[:2]:
            raise ValueError(
                f"{self._mask_path(index, view)}: is {mask.shape[1]} x {mask.shape[0]}, but its picture is "
                f"{picture.shape[1]} x {picture.shape[0]}; restore both"
            )
        return mask

    def _require_pictures(self, index: int) -> None:
        """Raise ValueError unless there is a picture by every camera under the chosen lighting."""
        folder, lighting = self._folders[index], self._options.lighting
        try:
            files = os.listdir(folder)
        except OSError as error:
            raise ValueError(f"{folder}: cannot be listed ({error.strerror}); restore the scene") from error
        found = {camera_of(name, lighting) for name in files}
        missing = [camera for camera in self.camera_numbers if camera not in found]
        if len(missing) == len(self.camera_numbers):
            raise ValueError(
                f"{folder}: has 0 views of lighting {lighting} ({picture_name(missing[0], lighting)} ...); "
                "restore the scene, or choose another data.dtu.lighting"
            )
        if missing:
            raise ValueError(
                f"{folder / picture_name(missing[0], lighting)}: there is no such picture "
                f"({len(missing)} of {len(self.camera_numbers)} are missing); restore the scene"
            )


def is_dtu(root: Path) -> bool:
    """Whether a data set has this layout."""
    return root.is_dir() and (root / PICTURES).is_dir() and (root / "Calibration").is_dir()


def open_dtu(root: Path, split: Split, options: DTUOptions | None = None) -> DTUObjects:
    """Open the scenes of a split, or the views of a split of the scenes in the options.

    Raises ValueError if a scene that they name is not there, or if no usual scene is.
    """
    options = options or DTUOptions()
    if not (root / PICTURES).is_dir():
        raise ValueError(f"data.root={root}: has no folder {PICTURES} with scans; give the folder of DTU")
    if options.scenes is not None:
        return _split_by_view(root, split, options)
    usual = TRAIN_SCENES if split == "train" else TEST_SCENES
    scenes = _present(root, usual)
    subset = options.subset if split == "train" else "all34"
    objects = DTUObjects(root, scenes, SUBSETS[subset], options)
    kind = "training" if split == "train" else "test"
    return objects.noting(*_missing_notice(root, len(scenes), len(usual), kind))


def _split_by_view(root: Path, split: Split, options: DTUOptions) -> DTUObjects:
    notices: tuple[str, ...] = ()
    if isinstance(options.scenes, str):
        usual = TRAIN_SCENES if options.scenes == "training" else TEST_SCENES
        scenes = _present(root, usual)
        notices = _missing_notice(root, len(scenes), len(usual), options.scenes)
    else:
        scenes = list(options.scenes)
        if absent := [scene for scene in scenes if not _folder(root, scene).is_dir()]:
            raise ValueError(
                f"{root / PICTURES / absent[0]}: there is no such scene, which data.dtu.scenes names; add "
                "it, or name another"
            )
    trained_on = SUBSETS[options.subset]
    cameras = trained_on if split == "train" else ALL_34
    if split != "train" and options.held_out == "rest":
        cameras = tuple(camera for camera in ALL_34 if camera not in trained_on)
        if not cameras:
            cameras = ALL_34
            notices += (
                f"{root}: all 34 views are for training, so the views for {split} are the same; choose "
                "another data.dtu.subset to hold some out",
            )
    return DTUObjects(root, scenes, cameras, options).noting(*notices)


def _present(root: Path, numbers: tuple[int, ...]) -> list[str]:
    """Those of the scenes that are there. Raises ValueError if none is."""
    scenes = [f"scan{number}" for number in numbers if _folder(root, f"scan{number}").is_dir()]
    if not scenes:
        raise ValueError(
            f"{root / PICTURES}: has none of the scenes scan{numbers[0]}, scan{numbers[1]} ... "
            f"scan{numbers[-1]}; add some, or name those that are there in data.dtu.scenes"
        )
    return scenes


def _missing_notice(root: Path, found: int, usual: int, kind: str) -> tuple[str, ...]:
    return () if found == usual else (f"{root}: has {found} of the {usual} {kind} scenes of papers",)


def _folder(root: Path, scene: str) -> Path:
    """The folder of a scene, which some archives call scanN_train."""
    plain, other = root / PICTURES / scene, root / PICTURES / f"{scene}_train"
    return other if other.is_dir() and not plain.is_dir() else plain


def _padded(pixels: UInt8[Tensor, "h w *c"]) -> UInt8[Tensor, "k w *c"]:
    """Add black rows below, so that pictures of 4 : 3 are square."""
    rows = pixels.new_zeros(round(PAD * len(pixels)), *pixels.shape[1:])
    return torch.cat([pixels, rows])


def _require_shape(path: Path, pixels: UInt8[Tensor, "h w *c"]) -> None:
    height, width = pixels.shape[:2]
    if abs(width / height * HEIGHT / WIDTH - 1) > ASPECT_TOLERANCE:
        raise ValueError(
            f"{path}: is {width} x {height}, but calibrations describe {WIDTH} x {HEIGHT}; give the "
            "uncropped picture, of any size of 4 : 3"
        )
