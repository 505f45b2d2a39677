"""The SRN folder layout (ShapeNet cars and chairs, and all that people have written in its manner).

    ROOT/[*_train, *_val, *_test/][one more folder/]OBJECT/rgb/000000.png, pose/000000.txt,
                                                   intrinsics.txt and/or intrinsics/000000.txt

Poses are camera-to-world in OpenCV axes. Pictures of any size are resized to squares with an area filter; the
intrinsics are divided by the picture's size and therefore stay valid. Every problem with a file is a
ValueError of one line that begins with its path.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import torch
from jaxtyping import Float, UInt8
from pydantic import BaseModel, Field, field_validator
from torch import Tensor

from data.batch import Views, all_valid
from data.cameras import Cameras, cameras_from_poses, require_rigid
from data.images import RESAMPLING, from_uint8, read_picture
from data.intrinsics import read_intrinsics, read_numbers
from data.srn_layout import Split, is_object, pair_files, read_view_list, split_folders


class DataConfig(BaseModel, frozen=True, extra="forbid", coerce_numbers_to_str=True, allow_inf_nan=False):
    """Which pictures to learn from, and how many at a time."""

    root: str = Field(description="folder in the SRN layout")
    image_size: int = Field(
        128, ge=1, le=8192, description="pixels; pictures are resized to squares of this side"
    )
    resampling: Literal["area", "bicubic"] = Field(
        "area", description="how pictures of another size are resized; published: bicubic"
    )
    object_radius: float | None = Field(
        None,
        gt=0,
        description="scene units, sphere round the origin that is modelled; null: as large as is seen",
    )
    views: str | None = Field(
        None,
        description="JSON file {object id: [numbers of the views to use, from 0]}; objects left out use all",
    )
    sources: tuple[int, int] = Field((1, 3), description="fewest and most source views of a scene")
    targets: int = Field(1, ge=1, description="target views of a scene")
    workers: int = Field(0, ge=0, description="loading processes per rank; 0: load in the training process")
    cache_mb: int = Field(
        2048, ge=0, description="megabytes of decoded pictures kept by a rank's loaders together"
    )

    @field_validator("sources")
    @classmethod
    def _ordered(cls, sources: tuple[int, int]) -> tuple[int, int]:
        if not 1 <= sources[0] <= sources[1]:
            raise ValueError(f"sources={list(sources)}: give [fewest, most] with 1 <= fewest <= most")
        return sources


class SRNObjects:
    """The objects of one split. Folders are listed, poses and pictures read, only when they are asked for."""

    def __init__(
        self, config: DataConfig, folders: Sequence[Path], *, views: dict[str, list[int]] | None = None
    ):
        names = [folder.name for folder in folders]
        if len(set(names)) < len(names):
            names = [folder.relative_to(config.root).as_posix() for folder in folders]
        self.ids = tuple(names)
        self._config = config
        self._folders = tuple(folders)
        self._chosen = views or {}
        self._files: dict[int, list[tuple[Path, Path]]] = {}
        self._cameras: dict[int, Cameras] = {}
        self._pictures: dict[tuple[int, int], UInt8[Tensor, "h w 3"]] = {}
        # Every loading process keeps its own pictures.
        budget = config.cache_mb * 2**20 // max(1, config.workers)
        self._max_pictures = budget // (3 * config.image_size**2)

    def __len__(self) -> int:
        """Number of objects."""
        return len(self.ids)

    def num_views(self, index: int) -> int:
        """Number of views of an object that may be used."""
        return len(self._view_files(index))

    def read(self, index: int, views: Sequence[int]) -> tuple[Float[Tensor, "v 3 h w"], Cameras]:
        """Images in [-1, 1] and cameras of views of one object; views are counted from 0 in order of names.

        Raises ValueError where the object has no such view or one of its files cannot be used.
        """
        count = self.num_views(index)
        beyond = [view for view in views if not 0 <= view < count]
        if beyond:
            raise ValueError(
                f"{self._folders[index]}: view {beyond[0]} is asked of an object that has {count}; "
                f"ask for views 0 to {count - 1}"
            )
        pictures = torch.stack([self._picture(index, view) for view in views])
        return from_uint8(pictures), self._object_cameras(index)[torch.tensor(views)]

    def read_views(self, index: int, views: Sequence[int]) -> Views:
        """The same as a batch of one scene."""
        images, cameras = self.read(index, views)
        return all_valid(images[None], cameras.apply(lambda tensor: tensor[None]))

    def _picture(self, index: int, view: int) -> UInt8[Tensor, "h w 3"]:
        picture = self._pictures.get((index, view))
        if picture is None:
            size = self._config.image_size
            resize = RESAMPLING[self._config.resampling]
            picture = resize(read_picture(self._view_files(index)[view][0]), size, size)
            # Random access returns to every picture equally often, so the first come may stay.
            if len(self._pictures) < self._max_pictures:
                self._pictures[index, view] = picture
        return picture

    def _object_cameras(self, index: int) -> Cameras:
        if index not in self._cameras:
            files, folder = self._view_files(index), self._folders[index]
            poses = torch.stack([read_pose(pose) for _, pose in files])
            intrinsics = torch.stack([read_intrinsics(folder, picture) for picture, _ in files])
            radius = self._config.object_radius
            self._cameras[index] = cameras_from_poses(poses, intrinsics, object_radius=radius)
        return self._cameras[index]

    def _chosen_views(self, index: int, num_views: int) -> Sequence[int]:
        """The views that the list names for an object: by its path below the root, its id or its name."""
        folder = self._folders[index]
        names = (folder.relative_to(self._config.root).as_posix(), self.ids[index], folder.name)
        return next((self._chosen[name] for name in names if name in self._chosen), range(num_views))

    def _view_files(self, index: int) -> list[tuple[Path, Path]]:
        """(picture, pose) of every view that may be used."""
        if index not in self._files:
            folder = self._folders[index]
            files = pair_files(folder)
            chosen = self._chosen_views(index, len(files))
            beyond = [view for view in chosen if view >= len(files)]
            if beyond:
                raise ValueError(
                    f"{self._config.views}: names view {beyond[0]} of {self.ids[index]}, which has "
                    f"{len(files)} in {folder}; take it out of the list"
                )
            self._files[index] = [files[view] for view in chosen]
        return self._files[index]


def open_split(config: DataConfig, split: Split) -> SRNObjects:
    """The objects of a split of `config.root`.

    Folders called *_train, *_val and *_test decide where they exist; val and test stand in for one another.
    Where neither exists, a tenth of the objects, chosen by a hash of their names, is held out of training for
    both. Raises ValueError where the folder is missing or the split has no objects.
    """
    root = Path(config.root)
    if not root.is_dir():
        raise ValueError(
            f"data.root={config.root}: there is no such folder; give the folder of an SRN data set"
        )
    if is_object(root):
        raise ValueError(f"data.root={config.root}: this is a single object; give the folder above it")
    views = None if config.views is None else read_view_list(Path(config.views), root)
    return SRNObjects(config, split_folders(root, split), views=views)


def read_pose(path: Path) -> Float[Tensor, "4 4"]:
    """The camera-to-world matrix in a text file of 16 numbers, in OpenCV axes.

    Raises ValueError where they are something else.
    """
    numbers = [number for line in read_numbers(path) for number in line]
    if len(numbers) != 16:
        raise ValueError(
            f"{path}: holds {len(numbers)} numbers instead of the 16 of a camera-to-world matrix"
        )
    pose = torch.tensor(numbers).unflatten(0, (4, 4))
    require_rigid(pose, str(path))
    return pose
