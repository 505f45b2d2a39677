"""The data of one object that the checks use."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float
from numpy import ndarray

from data.checks.findings import Finding, Severity
from data.checks.image_summaries import Channels, Picture, Surface


@dataclass(frozen=True)
class Subject:
    """The readable data of some views of an object, in order. Any part of a view may be missing."""

    split: str
    object_id: str
    place: str
    stored: int  # number of views of the object
    views: tuple[int, ...]  # indices of the views that were read
    picture_files: tuple[str, ...]
    pose_files: tuple[str, ...]
    poses: Float[ndarray, "v 4 4"]  # camera-to-world; nan if missing
    intrinsics: Float[ndarray, "v 3 3"]  # normalised by the image size; nan if missing
    pictures: tuple[Picture | None, ...]
    channels: tuple[Channels, ...]
    surfaces: tuple[Surface | None, ...]  # None if there is no depth or it is empty
    has_alpha: bool
    depth_factor: float  # that converts the layout's depth to scene units; 1 if none is needed
    object_radius: float | None  # scene units, as data.object_radius; None for the largest visible sphere

    @property
    def has_camera(self) -> Bool[ndarray, "v"]:
        """Which views have a usable camera."""
        return np.isfinite(self.poses).all(axis=(1, 2)) & np.isfinite(self.intrinsics).all(axis=(1, 2))

    @property
    def positions(self) -> Float[ndarray, "v 3"]:
        """The camera positions."""
        return self.poses[:, :3, 3]

    def about(self, check: str, severity: Severity, message: str) -> Finding:
        """Return a finding about the object."""
        return Finding(check, severity, self.split, self.object_id, self.place, message)

    def about_view(
        self, check: str, severity: Severity, index: int, message: str, *, pose: bool = False
    ) -> Finding:
        """Return a finding about the view at position `index`, or its pose."""
        files = self.pose_files if pose else self.picture_files
        return Finding(check, severity, self.split, self.object_id, files[index], message, self.views[index])

    def seen(self) -> Iterator[tuple[int, Picture]]:
        """Yield the readable images with their positions."""
        return ((i, picture) for i, picture in enumerate(self.pictures) if picture is not None)
