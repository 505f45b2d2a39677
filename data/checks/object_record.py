"""One object as the checks see it."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float
from numpy import ndarray

from data.checks.findings import Finding, Severity
from data.checks.image_summaries import Channels, Picture, Surface


@dataclass(frozen=True)
class Subject:
    """What could be read of some views of an object, in their order. Nothing of a view may be there."""

    split: str
    object_id: str
    place: str
    stored: int  # views that the object has
    views: tuple[int, ...]  # the numbers of those that were read
    picture_files: tuple[str, ...]
    pose_files: tuple[str, ...]
    poses: Float[ndarray, "v 4 4"]  # camera to world; nan if there is none
    intrinsics: Float[ndarray, "v 3 3"]  # divided by the picture's size; nan if there are none
    pictures: tuple[Picture | None, ...]
    channels: tuple[Channels, ...]
    surfaces: tuple[Surface | None, ...]  # None: no depth, or nothing in it
    has_alpha: bool
    depth_factor: float  # by which the layout's depth had to be multiplied to be in scene units; 1: none
    object_radius: float | None  # scene units, as data.object_radius; None: as large as is seen

    @property
    def has_camera(self) -> Bool[ndarray, "v"]:
        """Views with a usable camera."""
        return np.isfinite(self.poses).all(axis=(1, 2)) & np.isfinite(self.intrinsics).all(axis=(1, 2))

    @property
    def positions(self) -> Float[ndarray, "v 3"]:
        """Where the cameras stand."""
        return self.poses[:, :3, 3]

    def about(self, check: str, severity: Severity, message: str) -> Finding:
        """A finding about the object."""
        return Finding(check, severity, self.split, self.object_id, self.place, message)

    def about_view(
        self, check: str, severity: Severity, index: int, message: str, *, pose: bool = False
    ) -> Finding:
        """A finding about the view in position `index`, or its pose."""
        files = self.pose_files if pose else self.picture_files
        return Finding(check, severity, self.split, self.object_id, files[index], message, self.views[index])

    def seen(self) -> Iterator[tuple[int, Picture]]:
        """Positions of the readable pictures, with them."""
        return ((i, picture) for i, picture in enumerate(self.pictures) if picture is not None)
