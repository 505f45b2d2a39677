"""Objects seen in many views: what a data set holds, and how training asks for it.

A layout of files is a `RawObjects`: it lists objects and reads their pictures and cameras as they are stored.
`Objects` is made of one and hands out what models work with: squares of one size, and cameras with a working
volume. Every problem with a file is a ValueError of one line that begins with its path.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import TypeVar

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from data.cameras.pinhole import Cameras, cameras_from_poses
from data.cameras.world_up import is_z_up
from data.config import DataConfig
from data.images.pixels import RESAMPLING, area_means
from data.scenes.batch import Geometry, Views, all_valid
from data.scenes.damaged_files import damaged

NOTICED = 32  # objects that are asked for what the user should know

Answer = TypeVar("Answer")
Kept = TypeVar("Kept")


class RawObjects(ABC):
    """The objects of one split as their files have them. Objects and views are counted from 0.

    Making one lists the objects; pictures and cameras are read when they are asked for, and nothing is kept
    that grows with the number of pictures read. `ids` are different from each other and fit for file names.
    Every method raises ValueError, in one line that begins with the file, where one cannot be used.
    """

    ids: tuple[str, ...]
    has_cameras: bool = True  # False: video, of which only pictures are known
    mapped: bool = False  # whether pictures lie in memory already, so that to keep a copy gains nothing
    num_shards: int = 1  # files that the split is cut into
    shards: tuple[int, ...] = (0,)  # those that are here, counted from 0

    def __len__(self) -> int:
        """Number of objects."""
        return len(self.ids)

    def shard_of(self, index: int) -> int:
        """The number of the shard that holds an object."""
        return self.shards[0]

    def names(self, index: int) -> tuple[str, ...]:
        """What a list of views may call an object, the most specific name first."""
        return (self.ids[index],)

    @abstractmethod
    def place(self, index: int) -> str:
        """Where the object is, for messages: a folder, or a file and what it is called in there."""

    @abstractmethod
    def num_views(self, index: int) -> int:
        """Number of views of an object."""

    @abstractmethod
    def cameras(self, index: int) -> tuple[Float[Tensor, "v 4 4"], Float[Tensor, "v 3 3"]]:
        """Camera-to-world poses (OpenCV axes, world z up) and intrinsics divided by the picture's size."""

    @abstractmethod
    def picture(self, index: int, view: int) -> UInt8[Tensor, "h w 3"]:
        """RGB on white, of the size that is stored."""

    def depth(self, index: int, view: int) -> Float[Tensor, "h w"] | None:
        """Depth along the optical axis in scene units, 0 where nothing is; None: the set has none."""
        return None

    def alpha(self, index: int, view: int) -> UInt8[Tensor, "h w"] | None:
        """255 times the share of a pixel that the object covers; None: the set has none."""
        return None

    def notices(self, index: int) -> tuple[str, ...]:
        """What the user should know of how an object was read, lines that begin with a file or a folder."""
        return ()

    def verify(self, index: int) -> None:  # noqa: B027 (most layouts have nothing to add)
        """Raise ValueError where an object is not as it was written and reading it would not tell."""


class Objects:
    """The objects of one split, as models see them.

    `views` are the views that may be used, for objects of which not all are: by any of their names. A file
    that cannot be used raises DamagedFileError, which is a ValueError, everywhere. Where damage is to be
    skipped, an object is verified when it is first read.
    """

    def __init__(self, config: DataConfig, raw: RawObjects, *, views: dict[str, list[int]] | None = None):
        self.raw, self.ids = raw, raw.ids
        self.config = config
        self._chosen = views or {}
        self._cameras: dict[int, Cameras] = {}
        self._pictures: dict[tuple[int, int], UInt8[Tensor, "h w 3"]] = {}
        self._geometries: dict[tuple[int, int], Geometry] = {}
        self._unverified = set(range(len(raw))) if config.damaged == "skip" else set()
        self._black = torch.full((config.image_size, config.image_size, 3), -1.0)
        self._half_scale = torch.tensor(127.5)
        # Every loading process keeps its own pictures, in so many bytes.
        self._room = config.cache_mb * 2**20 // max(1, config.workers)

    def __len__(self) -> int:
        """Number of objects."""
        return len(self.ids)

    @property
    def notices(self) -> tuple[str, ...]:
        """What the user should know of how the objects were read, a line each; see `notices_of`."""
        return notices_of(self.raw)

    def num_views(self, index: int) -> int:
        """Number of views of an object that may be used."""
        return len(self._views(index))

    def cameras(self, index: int) -> Cameras:
        """Cameras [v] of all views of an object that may be used. Raises ValueError where there are none."""
        if not self.raw.has_cameras:
            raise ValueError(
                f"{self.raw.place(index)}: is video without cameras, which are needed here; give data with "
                "cameras, or a model of a family that needs none"
            )
        if index not in self._cameras:
            poses, intrinsics = self._ask(self.raw.cameras, index)
            chosen = torch.tensor(self._views(index))
            radius = self.config.object_radius
            self._cameras[index] = cameras_from_poses(poses[chosen], intrinsics[chosen], object_radius=radius)
        return self._cameras[index]

    def require(self, fields: Collection[str]) -> None:
        """Raise ValueError where views would not hold what a model requires of them."""
        if "cameras" in fields and not self.raw.has_cameras:
            self.cameras(0)

    def read(self, index: int, views: Sequence[int]) -> tuple[Float[Tensor, "v 3 h w"], Cameras | None]:
        """Images in [-1, 1] and cameras of views of one object; views are counted from 0 in order of names.

        Of video there are no cameras.

        Raises ValueError where the object has no such view or one of its files cannot be used.
        """
        self._check(index, views)
        # `from_uint8`, to the last bit, in half the time: each picture by itself, so that it stays in the
        # processor's cache, and in two passes instead of three.
        images = torch.empty(len(views), *self._black.shape)
        for image, view in zip(images, views, strict=True):
            torch.addcdiv(self._black, image.copy_(self._picture(index, view)), self._half_scale, out=image)
        cameras = self.cameras(index)[torch.tensor(views)] if self.raw.has_cameras else None
        return images.movedim(-1, -3), cameras

    def stored_picture(self, index: int, view: int) -> UInt8[Tensor, "h w 3"]:
        """RGB on white, of the size that is stored. Raises ValueError where there is no such view."""
        self._check(index, [view])
        return self._ask(self.raw.picture, index, self._views(index)[view])

    def read_geometry(self, index: int, views: Sequence[int]) -> Geometry:
        """Depth and opacity of views of one object, batch shape [v].

        Without alpha pictures, the object covers the pixels that have a depth. Raises ValueError where there
        is no such view, or no depth with it.
        """
        self._check(index, views)
        parts = [self._geometry(index, view) for view in views]
        depth, alpha = (torch.stack([getattr(part, name) for part in parts]) for name in ("depth", "alpha"))
        return Geometry(depth, alpha)

    def has_geometry(self, index: int) -> bool:
        """Whether there is depth with the first view of an object."""
        return self._ask(self.raw.depth, index, self._views(index)[0]) is not None

    def read_views(self, index: int, views: Sequence[int], *, geometry: bool = False) -> Views:
        """The same as a batch of one scene, on demand with its `geometry`."""
        images, cameras = self.read(index, views)
        found = all_valid(images[None], cameras and cameras.apply(lambda tensor: tensor[None]))
        if not geometry:
            return found
        return replace(found, geometry=self.read_geometry(index, views).apply(lambda tensor: tensor[None]))

    def _check(self, index: int, views: Sequence[int]) -> None:
        count = self.num_views(index)
        beyond = [view for view in views if not 0 <= view < count]
        if beyond:
            raise ValueError(
                f"{self.raw.place(index)}: view {beyond[0]} is asked of an object that has {count}; "
                f"ask for views 0 to {count - 1}"
            )
        if index in self._unverified:
            self._ask(self.raw.verify, index)
            self._unverified.remove(index)

    def _ask(self, read: Callable[..., Answer], index: int, *rest: int) -> Answer:
        """What the layout reads of an object. Raises DamagedFileError where it cannot."""
        try:
            return read(index, *rest)
        except (ValueError, OSError) as error:
            raise damaged(error, self.raw.place(index)) from error

    def _picture(self, index: int, view: int) -> UInt8[Tensor, "h w 3"]:
        found = self._pictures.get((index, view))
        if found is None:
            stored = self._ask(self.raw.picture, index, self._views(index)[view])
            size = self.config.image_size
            found = RESAMPLING[self.config.resampling](stored, size, size)
            if not (self.raw.mapped and found is stored):
                self._keep(self._pictures, (index, view), found, pixel_bytes=3)
        return found

    def _geometry(self, index: int, view: int) -> Geometry:
        found = self._geometries.get((index, view))
        if found is None:
            found = self._read_geometry(index, view)
            self._keep(self._geometries, (index, view), found, pixel_bytes=8)
        return found

    def _keep(
        self, cache: dict[tuple[int, int], Kept], key: tuple[int, int], found: Kept, pixel_bytes: int
    ) -> None:
        needed = pixel_bytes * self.config.image_size**2
        # Random access returns to every picture equally often, so the first come may stay.
        if needed <= self._room:
            self._room -= needed
            cache[key] = found

    def _read_geometry(self, index: int, view: int) -> Geometry:
        stored = self._views(index)[view]
        depth, alpha = self._ask(self.raw.depth, index, stored), self._ask(self.raw.alpha, index, stored)
        if depth is None:
            raise ValueError(
                f"{self.raw.place(index)}: has no depth pictures, which model.loss.depth_supervised and "
                "model.loss.opacity_supervised learn from; set both to 0 or add them"
            )
        size, met = self.config.image_size, (depth > 0).to(depth)
        covered = _square(met, size)
        share = covered if alpha is None else _square(alpha.to(depth) / 255, size)
        # A mean over what the rays met; where they met nothing, there is no depth.
        mean = _square(depth * met, size) / covered.clamp_min(1e-6)
        return Geometry(self.config.depth_scale * mean, share)

    def _views(self, index: int) -> Sequence[int]:
        """The stored views of an object that may be used, in their order."""
        count = self._ask(self.raw.num_views, index)
        chosen = next((self._chosen[name] for name in self.raw.names(index) if name in self._chosen), None)
        if chosen is None:
            return range(count)
        beyond = [view for view in chosen if view >= count]
        if beyond:
            raise ValueError(
                f"{self.config.views}: names view {beyond[0]} of {self.ids[index]}, which has "
                f"{count} in {self.raw.place(index)}; take it out of the list"
            )
        return chosen


def notices_of(raw: RawObjects, most: int = NOTICED) -> tuple[str, ...]:
    """What the user should know of how objects were read, a line for each kind of notice.

    A kind is said once, of the first object, with the number of the others. The first `most` objects are
    asked, since thousands made by one program differ little, and of the first of all it is said if its
    cameras are not upright along z. What cannot be read says nothing here: that is said where it is used.
    """
    kinds: dict[str, list[str]] = {}
    for index in range(min(len(raw), most)):
        with suppress(ValueError, OSError):
            for notice in raw.notices(index):
                kinds.setdefault(notice.replace(raw.place(index), ""), []).append(notice)
    with suppress(ValueError, OSError):
        if raw.has_cameras and not kinds and not is_z_up(raw.cameras(0)[0]):
            notice = f"{raw.place(0)}: its cameras are not upright along z; turn the world so that z is up"
            kinds[notice] = [notice]
    return tuple(
        first + (f" (and {len(others)} of the other objects)" if others else "")
        for first, *others in kinds.values()
    )


def _square(values: Float[Tensor, "h w"], size: int) -> Float[Tensor, "k k"]:
    return torch.from_numpy(area_means(values.numpy(), size, size)).to(values)
