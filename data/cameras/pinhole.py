"""Pinhole cameras, their rays, and camera paths. Pure geometry, no files.

OpenCV axes (x right, y down, z forward), camera-to-world matrices, and intrinsics normalised by the image
size, so that image coordinates (u, v) run from 0 to 1 at any resolution. The world's z axis is up. Depth is
measured along the optical axis (z); distance is measured along a ray. Lengths are scene units.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

OPENGL_FROM_OPENCV = (1.0, -1.0, -1.0, 1.0)  # flips y and z; its own inverse


@dataclass(frozen=True)
class Rays:
    """Rays through pixel centres, in row-major order, with the near and far distance of each."""

    origins: Float[Tensor, "*batch r 3"]
    directions: Float[Tensor, "*batch r 3"]  # unit length
    near: Float[Tensor, "*batch r"]  # distance
    far: Float[Tensor, "*batch r"]  # distance
    cosine: Float[Tensor, "*batch r"]  # depth per unit of distance

    def apply(self, function: Callable[[Tensor], Tensor]) -> "Rays":
        """Return the rays with `function` applied to every tensor (a slice, a reshape, a move)."""
        return Rays(*map(function, (self.origins, self.directions, self.near, self.far, self.cosine)))


@dataclass(frozen=True)
class Cameras:
    """Pinhole cameras of any batch shape."""

    cam_to_world: Float[Tensor, "*batch 4 4"]
    intrinsics: Float[Tensor, "*batch 3 3"]  # normalised by image width and height
    near: Float[Tensor, "*batch"]  # depth of the near plane
    far: Float[Tensor, "*batch"]  # depth of the far plane

    @property
    def shape(self) -> torch.Size:
        """The batch shape."""
        return self.near.shape

    @property
    def positions(self) -> Float[Tensor, "*batch 3"]:
        """Camera centres in the world."""
        return self.cam_to_world[..., :3, 3]

    def apply(self, function: Callable[[Tensor], Tensor]) -> "Cameras":
        """Return the cameras with `function` applied to every tensor (a slice, a reshape, a move)."""
        return Cameras(*map(function, (self.cam_to_world, self.intrinsics, self.near, self.far)))

    def to(self, device: torch.device | str) -> "Cameras":
        """Return the cameras on a device."""
        return self.apply(lambda tensor: tensor.to(device))

    def __getitem__(self, index) -> "Cameras":
        """Cameras at `index` of the batch axes."""
        return self.apply(lambda tensor: tensor[index])

    def mirrored(self, axis: Literal["x", "y", "z"]) -> "Cameras":
        """Mirror the cameras in the plane through the world origin with normal `axis`.

        The mirrored camera sees the mirrored scene as the original image flipped left to right.
        """
        in_world, in_picture = self.near.new_ones(4, 1), self.near.new_ones(4)
        in_world["xyz".index(axis)], in_picture[0] = -1, -1
        pose = in_world * self.cam_to_world * in_picture
        intrinsics = self.intrinsics.clone()
        intrinsics[..., 0, 1] *= -1
        intrinsics[..., 0, 2] = 1 - intrinsics[..., 0, 2]
        return Cameras(pose, intrinsics, self.near, self.far)

    def to_camera(self, points: Float[Tensor, "*batch n 3"]) -> Float[Tensor, "*batch n 3"]:
        """Transform world points to camera axes; z is the depth."""
        return (points - self.positions[..., None, :]) @ self.cam_to_world[..., :3, :3]

    def project(self, points: Float[Tensor, "*batch n 3"]) -> Float[Tensor, "*batch n 3"]:
        """Project world points to (u, v, depth). Behind a camera depth is negative and u, v are undefined."""
        in_camera = self.to_camera(points)
        depth = in_camera[..., 2:]
        # A point in the plane of the camera centre has no projection; keep u, v finite.
        safe_depth = torch.where(depth.abs() < 1e-9, torch.full_like(depth, 1e-9), depth)
        image = (in_camera / safe_depth) @ self.intrinsics.transpose(-1, -2)
        return torch.cat([image[..., :2], depth], dim=-1)

    def unproject(self, image_points: Float[Tensor, "*batch n 3"]) -> Float[Tensor, "*batch n 3"]:
        """Unproject (u, v, depth) to world points: the inverse of `project` in front of the camera."""
        in_camera = self._directions(image_points[..., :2]) * image_points[..., 2:]
        return in_camera @ self.cam_to_world[..., :3, :3].transpose(-1, -2) + self.positions[..., None, :]

    def rays(self, height: int, width: int) -> Rays:
        """Return one ray through the centre of each pixel of a height x width image, in row-major order.

        Computed in full precision, also under autocast. Rays start at the camera if the near plane is behind
        it.
        """
        with torch.autocast(self.near.device.type, enabled=False):
            in_camera = self._directions(pixel_centres(height, width, device=self.near.device).to(self.near))
            length = in_camera.norm(dim=-1)
            directions = in_camera @ self.cam_to_world[..., :3, :3].transpose(-1, -2) / length[..., None]
        origins = self.positions[..., None, :].expand_as(directions)
        near = self.near[..., None].clamp_min(0) * length
        return Rays(origins, directions, near, self.far[..., None] * length, 1 / length)

    def _directions(self, uv: Tensor) -> Tensor:
        """Camera-space vectors through (u, v), scaled to z = 1."""
        homogeneous = torch.cat([uv, torch.ones_like(uv[..., :1])], dim=-1)
        # `inv` would synchronise with the GPU to check for errors.
        return homogeneous @ torch.linalg.inv_ex(self.intrinsics).inverse.transpose(-1, -2)


def pixel_centres(height: int, width: int, *, device: torch.device | None = None) -> Float[Tensor, "r 2"]:
    """Return (u, v) of pixel centres in row-major order: half a pixel in from the image borders."""
    rows, columns = (torch.arange(size, device=device) for size in (height, width))
    v, u = torch.meshgrid((rows + 0.5) / height, (columns + 0.5) / width, indexing="ij")
    return torch.stack([u.flatten(), v.flatten()], dim=-1)


def pinhole(focal: float = 131.25 / 128, *, aspect: float = 1.0) -> Float[Tensor, "3 3"]:
    """Return centred intrinsics; `focal` in image widths (default: SRN cars), `aspect` is width / height."""
    return torch.tensor([[focal, 0.0, 0.5], [0.0, focal * aspect, 0.5], [0.0, 0.0, 1.0]])


def seen_radius(
    cam_to_world: Float[Tensor, "*batch 4 4"], intrinsics: Float[Tensor, "*batch 3 3"]
) -> Float[Tensor, "*batch"]:
    """Return the radius of the largest sphere around the origin fully visible to a camera looking at it."""
    focal = torch.stack([intrinsics[..., 0, 0], intrinsics[..., 1, 1]], dim=-1).amax(dim=-1)
    return cam_to_world[..., :3, 3].norm(dim=-1) * torch.sin(torch.atan(0.5 / focal))


def cameras_from_poses(
    cam_to_world: Float[Tensor, "n 4 4"],
    intrinsics: Float[Tensor, "*k 3 3"],
    *,
    object_radius: float | None = None,
) -> Cameras:
    """Return cameras whose near and far planes enclose the sphere of `object_radius` around the origin.

    Without a radius, the largest fully visible sphere is used (`seen_radius`). Near is negative if a camera
    is inside the sphere.
    """
    intrinsics = intrinsics.expand(len(cam_to_world), 3, 3)
    distance = cam_to_world[:, :3, 3].norm(dim=-1)
    radius = (
        seen_radius(cam_to_world, intrinsics)
        if object_radius is None
        else torch.full_like(distance, object_radius)
    )
    return Cameras(cam_to_world, intrinsics, near=distance - radius, far=distance + radius)


def in_frame_of(cameras: Cameras, first: Float[Tensor, "*batch 4 4"]) -> Cameras:
    """Transform the cameras to a world in which the pose `first` is on the z axis.

    It looks down at the origin from its original distance, with the x axis to the right and the y axis up:
    the normalisation of the published code. If `first` does not look at the original origin, the new origin
    is a different point, and near and far are relative to that. Broadcasts over batch axes.
    """
    x, y, z = first[..., :3, :3].unbind(-1)
    to_axes = torch.stack([x, -y, -z], dim=-2)  # OpenGL from OpenCV
    position = first[..., :3, 3]
    moved = -(to_axes * position[..., None, :]).sum(dim=-1)
    moved = torch.cat([moved[..., :2], moved[..., 2:] + position.norm(dim=-1, keepdim=True)], dim=-1)
    world_to_frame = torch.eye(4, device=first.device, dtype=first.dtype)
    world_to_frame = world_to_frame.expand(*first.shape[:-2], 4, 4).clone()
    world_to_frame[..., :3, :3], world_to_frame[..., :3, 3] = to_axes, moved
    with torch.autocast(first.device.type, enabled=False):  # 8 bits are too few for a pose
        cam_to_frame = world_to_frame @ cameras.cam_to_world
    farther = cam_to_frame[..., :3, 3].norm(dim=-1) - cameras.positions.norm(dim=-1)
    return Cameras(cam_to_frame, cameras.intrinsics, cameras.near + farther, cameras.far + farther)


def opencv_to_opengl(cam_to_world: Float[Tensor, "*batch 4 4"]) -> Float[Tensor, "*batch 4 4"]:
    """Convert camera-to-world poses from OpenCV to OpenGL axes (x right, y up, z back). Its own inverse."""
    return cam_to_world * cam_to_world.new_tensor(OPENGL_FROM_OPENCV)


opengl_to_opencv = opencv_to_opengl


def require_rigid(cam_to_world: Float[Tensor, "4 4"], name: str, *, tolerance: float = 1e-3) -> None:
    """Raise ValueError, starting with `name`, unless the pose is a rotation and a nonzero translation."""
    rotation = cam_to_world[:3, :3].double()
    determinant = float(torch.linalg.det(rotation))
    if not bool(cam_to_world.isfinite().all()):
        problem = "the pose holds nan or inf"
    elif (cam_to_world[3] - cam_to_world.new_tensor([0.0, 0.0, 0.0, 1.0])).abs().max() > tolerance:
        problem = f"the pose's last row is {cam_to_world[3].tolist()} instead of 0 0 0 1"
    elif abs(determinant) < tolerance:
        problem = "the pose is singular"
    elif (rotation @ rotation.T - torch.eye(3).to(rotation)).abs().max() > tolerance:
        problem = "the pose is scaled or sheared"
    elif determinant < 0:
        problem = "the pose is mirrored"
    elif cam_to_world[:3, 3].abs().max() < 1e-6:
        problem = "the camera is at the world origin, where the object must be"
    else:
        return
    raise ValueError(f"{name}: {problem}; give a camera-to-world matrix of a rotation and a position")
