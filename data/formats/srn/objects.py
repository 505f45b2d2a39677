"""The SRN folder layout (ShapeNet cars and chairs, and other data sets in the same format).

    ROOT/[*_train, *_val, *_test/][one more folder/]OBJECT/rgb/000000.png, pose/000000.txt,
                                                   intrinsics.txt and/or intrinsics/000000.txt
                                                   [depth/000000.png, alpha/000000.png]

Poses are camera-to-world in OpenCV axes. Depth is 16 bits of 1/10000 scene unit along the optical axis, 0 for
background; alpha is 8 bits. Every problem with a file is a one-line ValueError that starts with its path.
"""

from pathlib import Path
from typing import Literal

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from data.cameras.text_files import read_intrinsics, read_pose
from data.formats.srn.layout import DEPTH_STEPS, is_object, pair_files, split_folders
from data.images.files import picture_size, read_channel, read_picture
from data.scenes.objects import RawObjects
from data.splits import Split


class SRNObjects(RawObjects):
    """The objects in some folders below `root`. Folders are listed on access."""

    def __init__(self, root: Path, folders: list[Path]):
        names = [folder.name for folder in folders]
        if len(set(names)) < len(names):
            names = [folder.relative_to(root).as_posix() for folder in folders]
        self.ids = tuple(names)
        self._root, self._folders = root, tuple(folders)
        self._files: dict[int, list[tuple[Path, Path]]] = {}

    def names(self, index: int) -> tuple[str, ...]:
        """Its path below the root, its id, its folder's name."""
        folder = self._folders[index]
        return folder.relative_to(self._root).as_posix(), self.ids[index], folder.name

    def place(self, index: int) -> str:
        """Its folder."""
        return str(self._folders[index])

    def num_views(self, index: int) -> int:
        """The number of images with poses."""
        return len(self._view_files(index))

    def cameras(self, index: int) -> tuple[Float[Tensor, "v 4 4"], Float[Tensor, "v 3 3"]]:
        """Poses and intrinsics in the order of the image names."""
        files = self._view_files(index)
        poses = torch.stack([read_pose(pose) for _, pose in files])
        return poses, torch.stack([read_intrinsics(self._folders[index], picture) for picture, _ in files])

    def picture(self, index: int, view: int) -> UInt8[Tensor, "h w 3"]:
        """RGB on white."""
        return read_picture(self._view_files(index)[view][0])

    def depth(self, index: int, view: int) -> Float[Tensor, "h w"] | None:
        """In scene units."""
        values = self._channel("depth", index, view, bits=16)
        return None if values is None else values / DEPTH_STEPS

    def alpha(self, index: int, view: int) -> UInt8[Tensor, "h w"] | None:
        """0 to 255."""
        values = self._channel("alpha", index, view, bits=8)
        return None if values is None else values.to(torch.uint8)

    def _channel(
        self, kind: str, index: int, view: int, *, bits: Literal[8, 16]
    ) -> Float[Tensor, "h w"] | None:
        picture, folder = self._view_files(index)[view][0], self._folders[index] / kind
        if not folder.is_dir():
            return None
        path = folder / f"{picture.stem}.png"
        if not path.exists():
            raise ValueError(f"{path}: missing, but other views have one; restore it or remove the folder")
        values = read_channel(path, bits=bits)
        if tuple(values.shape) != picture_size(picture):
            raise ValueError(f"{path}: differs in size from its image; write it in the same size")
        return values

    def _view_files(self, index: int) -> list[tuple[Path, Path]]:
        if index not in self._files:
            self._files[index] = pair_files(self._folders[index])
        return self._files[index]


def open_srn(root: Path, split: Split) -> SRNObjects:
    """Open the objects of a split.

    Splits are given by folders called *_train, *_val and *_test if they exist; val and test substitute for
    one another. If neither exists, a tenth of the objects, chosen by a hash of their names, is held out for
    both. Raises ValueError if the split has no objects.
    """
    if is_object(root):
        raise ValueError(f"data.root={root}: this is a single object; give the folder above it")
    return SRNObjects(root, split_folders(root, split))
