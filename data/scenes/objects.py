"""Objects with many views: the interface of data set layouts, and access for models.

A file layout is a `RawObjects`: it lists objects and reads their images and cameras as stored. `Objects`
wraps one and returns what models use: images of one size, usually squares, and cameras with near and far.
Every problem with a file is a one-line ValueError that starts with its path.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import TypeVar

import torch
from jaxtyping import Float, Float64, UInt8
from torch import Tensor

from data.cameras.pinhole import Cameras, cameras_from_poses
from data.cameras.world_up import is_z_up
from data.config import DataConfig
from data.images.pixels import RESAMPLING, area_means
from data.scenes.batch import Geometry, Views, all_valid
from data.scenes.calibration import Calibration
from data.scenes.damaged_files import damaged

NOTICED = 32  # objects queried for notices
Answer = TypeVar("Answer")
Kept = TypeVar("Kept")


class RawObjects(ABC):
    """The objects of one split as stored. Objects and views are indexed from 0.

    Construction lists the objects; images and cameras are read on access, and nothing is cached that grows
    with the number of images read. `ids` are unique and valid in file names. Every method raises a one-line
    ValueError that starts with the file if one cannot be used.
    """

    ids: tuple[str, ...]
    has_cameras: bool = True  # False: only pictures are known
    kind: str = "video"  # what objects without cameras are, for messages
    mapped: bool = False  # whether pictures lie in memory already, so that to keep a copy gains nothing
    even_turns: bool = False  # whether the views of an object usually are one even turn around it
    num_shards: int = 1  # files that the split is cut into
    shards: tuple[int, ...] = (0,)  # those that are here, counted from 0

    def __len__(self) -> int:
        """The number of objects."""
        return len(self.ids)

    def shard_of(self, index: int) -> int:
        """The index of the shard that contains an object."""
        return self.shards[0]

    def names(self, index: int) -> tuple[str, ...]:
        """The accepted names of an object in a list of views, most specific first."""
        return (self.ids[index],)

    @abstractmethod
    def place(self, index: int) -> str:
        """The object's location for messages: a folder, or a file and the name in it."""

    @abstractmethod
    def num_views(self, index: int) -> int:
        """The number of views of an object."""

    @abstractmethod
    def cameras(self, index: int) -> tuple[Float[Tensor, "v 4 4"], Float[Tensor, "v 3 3"]]:
        """Camera-to-world poses (OpenCV axes, world z up) and intrinsics normalised by the image size."""

    @abstractmethod
    def picture(self, index: int, view: int) -> UInt8[Tensor, "h w 3"]:
        """RGB on white, at the stored size."""

    def projections(self, index: int) -> Float64[Tensor, "v 3 4"] | None:
        """World to pixels as its calibration files say, in their world; None if the set has no such files."""
        return None

    def calibration(self) -> Calibration | None:
        """All cameras of the rig that took the set; None if it has no calibration files."""
        return None

    def depth(self, index: int, view: int) -> Float[Tensor, "h w"] | None:
        """Z-depth in scene units, 0 for background; None if the data set has no depth."""
        return None

    def alpha(self, index: int, view: int) -> UInt8[Tensor, "h w"] | None:
        """255 times the pixel coverage; None if the data set has no alpha."""
        return None

    def mask(self, index: int, view: int) -> UInt8[Tensor, "h w"] | None:
        """255 times the coverage by the object; None: unknown. Raises ValueError if it may not be missing."""
        return self.alpha(index, view)

    def notices(self, index: int) -> tuple[str, ...]:
        """Messages about how an object was read, each starting with a file or folder."""
        return ()

    def verify(self, index: int) -> None:  # noqa: B027 (most layouts have nothing to add)
        """Raise ValueError if an object is corrupted in a way that reading does not detect."""


class Objects:
    """The objects of one split, prepared for models.

    `views` restricts the views of objects, by any of their names. All methods raise DamagedFileError, a
    ValueError, for a file that cannot be used. If damage is skipped, an object is verified when it is first
    read.
    """

    def __init__(self, config: DataConfig, raw: RawObjects, *, views: dict[str, list[int]] | None = None):
        self.raw, self.ids = raw, raw.ids
        self.config = config
        self._chosen = views or {}
        self._cameras: dict[int, Cameras] = {}
        self._pictures: dict[tuple[int, int], UInt8[Tensor, "h w 3"]] = {}
        self._geometries: dict[tuple[int, int], Geometry] = {}
        self._unverified = set(range(len(raw))) if config.damaged == "skip" else set()
        self._black = torch.full((config.height, config.image_size, 3), -1.0)
        self._half_scale = torch.tensor(127.5)
        # Each loader process has its own cache, of so many bytes.
        self._room = config.cache_mb * 2**20 // max(1, config.workers)

    def __len__(self) -> int:
        """The number of objects."""
        return len(self.ids)

    @property
    def notices(self) -> tuple[str, ...]:
        """Messages about how the objects were read; see `notices_of`."""
        return notices_of(self.raw)

    def num_views(self, index: int) -> int:
        """The number of usable views of an object."""
        return len(self._views(index))

    def cameras(self, index: int) -> Cameras:
        """Cameras [v] of all views of an object that may be used. Raises ValueError where there are none."""
        if not self.raw.has_cameras:
            raise ValueError(
                f"{self.raw.place(index)}: is {self.raw.kind} without cameras, which are needed here; give "
                "data with cameras, or a model of a family that needs none"
            )
        if index not in self._cameras:
            poses, intrinsics = self._call(self.raw.cameras, index)
            chosen = torch.tensor(self._views(index))
            radius = self.config.object_radius
            self._cameras[index] = cameras_from_poses(poses[chosen], intrinsics[chosen], object_radius=radius)
        return self._cameras[index]

    def require(self, fields: Collection[str]) -> None:
        """Raise ValueError where views would not hold what a model requires of them."""
        if "cameras" in fields and not self.raw.has_cameras:
            self.cameras(0)

    def read(self, index: int, views: Sequence[int]) -> tuple[Float[Tensor, "v 3 h w"], Cameras | None]:
        """Images in [-1, 1] and cameras, if any, of views of one object, counted from 0 in order of names.

        Raises ValueError where the object has no such view or one of its files cannot be used.
        """
        self._check(index, views)
        # Bit-identical to `from_uint8`, in half the time: per image, to stay in the CPU cache, and in two
        # passes instead of three.
        images = torch.empty(len(views), *self._black.shape)
        for image, view in zip(images, views, strict=True):
            torch.addcdiv(self._black, image.copy_(self._picture(index, view)), self._half_scale, out=image)
        cameras = self.cameras(index)[torch.tensor(views)] if self.raw.has_cameras else None
        return images.movedim(-1, -3), cameras

    def stored_picture(self, index: int, view: int) -> UInt8[Tensor, "h w 3"]:
        """RGB on white, at the stored size. Raises ValueError if there is no such view."""
        self._check(index, [view])
        return self._call(self.raw.picture, index, self._views(index)[view])

    def read_geometry(self, index: int, views: Sequence[int]) -> Geometry:
        """Read depth and opacity of views of one object, batch shape [v].

        Without alpha, the pixels with depth are the object. Raises ValueError if there is no such view, or if
        it has no depth.
        """
        self._check(index, views)
        parts = [self._geometry(index, view) for view in views]
        depth, alpha = (torch.stack([getattr(part, name) for part in parts]) for name in ("depth", "alpha"))
        return Geometry(depth, alpha)

    def has_geometry(self, index: int) -> bool:
        """Whether the first view of an object has depth."""
        return self._call(self.raw.depth, index, self._views(index)[0]) is not None

    def read_views(self, index: int, views: Sequence[int], *, geometry: bool = False) -> Views:
        """Read views as a batch of one scene, optionally with its `geometry`."""
        images, cameras = self.read(index, views)
        found = all_valid(images[None], cameras and cameras.apply(lambda tensor: tensor[None]))
        stored = self._call(self.raw.projections, index)
        if stored is not None:
            chosen = [self._views(index)[view] for view in views]
            found = replace(found, projection=stored[None, chosen])
        if not geometry:
            return found
        return replace(found, geometry=self.read_geometry(index, views).apply(lambda tensor: tensor[None]))

    def _check(self, index: int, views: Sequence[int]) -> None:
        count = self.num_views(index)
        beyond = [view for view in views if not 0 <= view < count]
        if beyond:
            raise ValueError(
                f"{self.raw.place(index)}: view {beyond[0]} requested, but the object has {count}; "
                f"give views 0 to {count - 1}"
            )
        if index in self._unverified:
            self._call(self.raw.verify, index)
            self._unverified.remove(index)

    def _call(self, read: Callable[..., Answer], index: int, *rest: int) -> Answer:
        """Call a method of the layout. Raises DamagedFileError if it fails."""
        try:
            return read(index, *rest)
        except (ValueError, OSError) as error:
            raise damaged(error, self.raw.place(index)) from error

    def _picture(self, index: int, view: int) -> UInt8[Tensor, "h w 3"]:
        found = self._pictures.get((index, view))
        if found is None:
            stored = self._call(self.raw.picture, index, self._views(index)[view])
            size = (self.config.height, self.config.image_size)
            found = RESAMPLING[self.config.resampling](stored, *size)
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
        needed = pixel_bytes * self.config.height * self.config.image_size
        # Random access reuses all images equally often, so the cache needs no eviction.
        if needed <= self._room:
            self._room -= needed
            cache[key] = found

    def _read_geometry(self, index: int, view: int) -> Geometry:
        stored = self._views(index)[view]
        depth, alpha = self._call(self.raw.depth, index, stored), self._call(self.raw.alpha, index, stored)
        if depth is None:
            raise ValueError(
                f"{self.raw.place(index)}: has no depth images, which model.loss.depth_supervised and "
                "model.loss.opacity_supervised need; set both to 0 or add them"
            )
        size, met = (self.config.height, self.config.image_size), (depth > 0).to(depth)
        covered = _resized(met, size)
        share = covered if alpha is None else _resized(alpha.to(depth) / 255, size)
        # Average the valid depths; pixels without any have no depth.
        mean = _resized(depth * met, size) / covered.clamp_min(1e-6)
        return Geometry(self.config.depth_scale * mean, share)

    def _views(self, index: int) -> Sequence[int]:
        """The stored views of an object that are usable, in order."""
        count = self._call(self.raw.num_views, index)
        chosen = next((self._chosen[name] for name in self.raw.names(index) if name in self._chosen), None)
        if chosen is None:
            return range(count)
        beyond = [view for view in chosen if view >= count]
        if beyond:
            raise ValueError(
                f"{self.config.views}: names view {beyond[0]} of {self.ids[index]}, which has "
                f"{count} in {self.raw.place(index)}; remove it from the list"
            )
        return chosen


def notices_of(raw: RawObjects, most: int = NOTICED) -> tuple[str, ...]:
    """Return messages about how objects were read, one line per kind.

    Each kind is reported once, for the first object, with the number of others. Only the first `most` objects
    are queried, since thousands written by one program differ little. The first is also checked for cameras
    that are not upright along z. Unreadable objects are skipped here and reported where they are used.
    """
    kinds: dict[str, list[str]] = {}
    for index in range(min(len(raw), most)):
        with suppress(ValueError, OSError):
            for notice in raw.notices(index):
                kinds.setdefault(notice.replace(raw.place(index), ""), []).append(notice)
    with suppress(ValueError, OSError):
        if raw.has_cameras and not kinds and not is_z_up(raw.cameras(0)[0]):
            notice = f"{raw.place(0)}: its cameras are not upright along z; rotate the world so that z is up"
            kinds[notice] = [notice]
    return tuple(
        first + (f" (and {len(others)} of the other objects)" if others else "")
        for first, *others in kinds.values()
    )


def _resized(values: Float[Tensor, "h w"], size: tuple[int, int]) -> Float[Tensor, "k l"]:
    return torch.from_numpy(area_means(values.numpy(), *size)).to(values)
