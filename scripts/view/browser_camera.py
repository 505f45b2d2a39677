"""The browser's cameras as ours, and back.

viser's cameras are OpenCV like ours: a position and a quaternion (w, x, y, z) that turns the camera's axes (x
right, y down, z forward) into the world's, with the vertical angle of view in radians. Their pictures have
the shape of the window, and the optical axis in the middle.
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
    fov: float  # vertical angle of view in radians
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
        """Focal length in heights of the picture."""
        return 0.5 / math.tan(self.fov / 2)

    def cameras(self, object_radius: float) -> Cameras:
        """The camera that sees what the window shows [1, 1]; its working volume is the sphere of
        `object_radius` round the origin."""
        intrinsics = pinhole(self.focal / self.aspect, aspect=self.aspect)
        return _batch_of_one(self.cam_to_world, intrinsics, object_radius)

    def square(self, object_radius: float) -> Cameras:
        """The camera that sees the square in the middle of the window, as high as that [1, 1]."""
        return _batch_of_one(self.cam_to_world, pinhole(self.focal), object_radius)


def browser_camera_of(camera: "CameraHandle") -> BrowserCamera:
    """The camera of a window as it is now."""
    wxyz, position = tuple(camera.wxyz.tolist()), tuple(camera.position.tolist())
    return BrowserCamera(wxyz, position, camera.fov, camera.aspect)


def browser_camera_at(
    cam_to_world: Float[Tensor, "4 4"], intrinsics: Float[Tensor, "3 3"], *, aspect: float = 1.0
) -> BrowserCamera:
    """The browser's camera at a pose, which sees as far up and down as `intrinsics` do; their principal point
    is taken to be in the middle."""
    fov = 2 * math.atan(0.5 / float(intrinsics[1, 1]))
    position = tuple(cam_to_world[:3, 3].tolist())
    wxyz = SO3.from_matrix(cam_to_world[:3, :3].double().numpy()).wxyz
    return BrowserCamera(tuple(wxyz.tolist()), position, fov, aspect)


def _batch_of_one(pose: Tensor, intrinsics: Tensor, object_radius: float) -> Cameras:
    return cameras_from_poses(pose[None], intrinsics, object_radius=object_radius)[None]
