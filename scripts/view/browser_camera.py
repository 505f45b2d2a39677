"""Convert between the cameras of the browser and ours.

viser's cameras use OpenCV axes like ours: a position and a quaternion (w, x, y, z) that rotates from camera
axes (x right, y down, z forward) to world axes, and the vertical field of view in radians. Their images have
the aspect ratio of the window and a centred principal point.
"""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from viser.transforms import SO3

from data.cameras.pinhole import Cameras, cameras_from_poses, pinhole

if TYPE_CHECKING:
    from viser import CameraHandle


@dataclass(frozen=True)
class BrowserCamera:
    """A camera of the browser."""

    wxyz: tuple[float, float, float, float]  # unit quaternion
    position: tuple[float, float, float]  # scene units
    fov: float  # vertical field of view in radians
    aspect: float  # width of the window divided by its height

    @property
    def cam_to_world(self) -> Float[Tensor, "4 4"]:
        """The pose in OpenCV axes."""
        pose = torch.eye(4, dtype=torch.float64)
        pose[:3, :3] = torch.from_numpy(SO3(np.array(self.wxyz)).normalize().as_matrix())
        pose[:3, 3] = torch.tensor(self.position, dtype=torch.float64)
        return pose.float()

    @property
    def focal(self) -> float:
        """Focal length in image heights."""
        return 0.5 / math.tan(self.fov / 2)

    def cameras(self, object_radius: float) -> Cameras:
        """The camera of the whole window [1, 1]; its working volume is the sphere of `object_radius` around
        the origin."""
        intrinsics = pinhole(self.focal / self.aspect, aspect=self.aspect)
        return _batch_of_one(self.cam_to_world, intrinsics, object_radius)

    def square(self, object_radius: float) -> Cameras:
        """The camera of the square in the middle of the window, of the same height [1, 1]."""
        return _batch_of_one(self.cam_to_world, pinhole(self.focal), object_radius)


def browser_camera_of(camera: "CameraHandle") -> BrowserCamera:
    """The current camera of a window."""
    wxyz, position = tuple(camera.wxyz.tolist()), tuple(camera.position.tolist())
    return BrowserCamera(wxyz, position, camera.fov, camera.aspect)


def browser_camera_at(
    cam_to_world: Float[Tensor, "4 4"], intrinsics: Float[Tensor, "3 3"], *, aspect: float = 1.0
) -> BrowserCamera:
    """The browser's camera at a pose, with the vertical field of view of `intrinsics`; the principal point
    is assumed to be centred."""
    fov = 2 * math.atan(0.5 / float(intrinsics[1, 1]))
    position = tuple(cam_to_world[:3, 3].tolist())
    wxyz = SO3.from_matrix(cam_to_world[:3, :3].double().numpy()).wxyz
    return BrowserCamera(tuple(wxyz.tolist()), position, fov, aspect)


def _batch_of_one(pose: Tensor, intrinsics: Tensor, object_radius: float) -> Cameras:
    return cameras_from_poses(pose[None], intrinsics, object_radius=object_radius)[None]
