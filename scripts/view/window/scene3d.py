"""The 3D scene of a window: photos, the working volume, an orbit, samples, the camera path."""

import math
import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from data.cameras.keyframes import looked_at
from data.cameras.pinhole import Cameras
from data.cameras.poses import circle, look_at
from data.images.pixels import to_uint8
from data.scenes.batch import Views
from scripts.view.browser_camera import BrowserCamera, browser_camera_at

if TYPE_CHECKING:
    from viser import CameraFrustumHandle, ClientHandle

INPUT, SAMPLE, KEYFRAME, GUIDE = (37, 99, 235), (217, 70, 39), (234, 138, 0), (150, 158, 170)  # RGB
FRUSTUM = 0.13  # size of a frustum, relative to the distance between object and first camera
HIDDEN = 2.0  # distance from the window's camera, in frustum sizes, within which it blocks the view
SEGMENTS = 96  # of a circle
# Azimuth, distance and height of an overview, relative to the first camera.
BESIDE_DEG, BEHIND, RISE = 38.0, 2.2, 0.1
LEVEL = 1e-3  # of a unit vector: how far the image's right may rise above the horizon


class Stage:
    """The scene of one window."""

    def __init__(self, client: "ClientHandle"):
        self._client, self._scene = client, client.scene
        self._frusta: dict[str, CameraFrustumHandle] = {}
        self._changing = threading.RLock()  # held while frusta are changed, which several threads do
        self._guides = self._scene.add_frame("/guides", show_axes=False)
        self._size, self._eye = FRUSTUM, np.zeros(3)

    def show_object(self, source: Views, radius: float) -> None:
        """Show input photos as frusta, the working volume and the orbit of the first camera, instead of those
        of the previous object."""
        cameras = source.cameras[0]
        self._size = FRUSTUM * float(cameras.positions[0].norm())
        with self._changing:
            self._clear("/sample")
            self._clear("/input")
            for number, photo in enumerate(to_uint8(source.images[0])):
                self._frustum(f"/input/{number}", cameras[number], INPUT, photo)
        self._curve("/guides/volume", _great_circles(radius), GUIDE, 1.0)
        ring = circle(cameras.cam_to_world[0], SEGMENTS)[:, :3, 3].numpy()
        self._curve("/guides/orbit", _segments(ring, loop=True), INPUT, 1.0)

    def show_sample(self, number: int, camera: Cameras, pixels: UInt8[Tensor, "h w 3"]) -> None:
        """Show a sample as a frustum; `camera` has no batch axes."""
        with self._changing:
            self._frustum(f"/sample/{number}", camera, SAMPLE, pixels)

    def show_path(self, keyframes: Cameras | None, views: Cameras | None) -> None:
        """Show keyframes [k] as frusta, and the path through them with the views [n] along it, if any."""
        with self._changing:
            self._clear("/path")
            for number in range(0 if keyframes is None else len(keyframes.near)):
                self._frustum(f"/path/keyframe {number}", keyframes[number], KEYFRAME)
        empty = np.zeros((0, 2, 3), dtype=np.float32)
        line = empty if views is None else _segments(views.positions.numpy(), loop=False)
        self._curve("/path/curve", line, KEYFRAME, 3.0)
        cones = empty if views is None else _cones(views, 0.35 * self._size)
        self._curve("/path/views", cones, KEYFRAME, 1.0)

    def show_guides(self, visible: bool) -> None:
        """Show or hide the working volume and the orbit."""
        self._guides.visible = visible

    def clear_eye(self, eye: BrowserCamera) -> None:
        """Hide the frusta that would block the view of a camera."""
        with self._changing:
            self._eye = np.array(eye.position)
            for frustum in self._frusta.values():
                visible = self._is_clear(frustum.position)
                if frustum.visible != visible:
                    frustum.visible = visible

    def move_eye(self, eye: BrowserCamera) -> None:
        """Move the window's camera; it will orbit its look-at point."""
        pose = eye.cam_to_world.double()
        right, down, forward = pose[:3, :3].unbind(dim=1)
        level = abs(float(right[2])) < LEVEL and abs(float(forward[2])) < 1 - LEVEL
        up = np.array([0.0, 0.0, 1.0]) if level and down[2] < 0 else -down.numpy()
        camera = self._client.camera
        with self._client.atomic():
            camera.up_direction = up
            camera.position = pose[:3, 3].numpy()
            camera.look_at = looked_at(pose).numpy()
            camera.fov = eye.fov

    def _clear(self, beginning: str) -> None:
        """Remove the frusta whose names begin with a prefix."""
        for name in [name for name in self._frusta if name.startswith(beginning)]:
            self._frusta.pop(name).remove()

    def _frustum(
        self,
        name: str,
        camera: Cameras,
        colour: tuple[int, int, int],
        pixels: UInt8[Tensor, "h w 3"] | None = None,
    ) -> None:
        eye = browser_camera_at(camera.cam_to_world, camera.intrinsics)
        self._frusta[name] = self._scene.add_camera_frustum(
            name,
            fov=eye.fov,
            aspect=float(camera.intrinsics[1, 1] / camera.intrinsics[0, 0]),
            scale=self._size,
            thickness=2.0,
            thickness_units="screen",
            color=colour,
            image=None if pixels is None else pixels.cpu().numpy(),
            format="png",
            wxyz=eye.wxyz,
            position=eye.position,
            cast_shadow=False,
            receive_shadow=False,
            visible=self._is_clear(eye.position),
        )

    def _is_clear(self, position: Sequence[float]) -> bool:
        return bool(np.linalg.norm(np.array(position) - self._eye) > HIDDEN * self._size)

    def _curve(self, name: str, segments: np.ndarray, colour: tuple[int, int, int], thickness: float) -> None:
        self._scene.add_line_segments(
            name, segments.astype(np.float32), colour, thickness=thickness, thickness_units="screen"
        )


def overview(camera: Cameras) -> BrowserCamera:
    """A camera beside and behind another one (no batch axes), which shows it together with the object."""
    turn, pose = math.radians(BESIDE_DEG), camera.cam_to_world.clone()
    cos, sin = math.cos(turn), math.sin(turn)
    position = pose[:3, 3] * pose.new_tensor([BEHIND, BEHIND, 1.0])
    rise = pose.new_tensor([0.0, 0.0, RISE * float(position.norm())])
    across = pose.new_tensor([[cos, -sin, 0.0], [sin, cos, 0.0], [0.0, 0.0, 1.0]])
    return browser_camera_at(look_at(across @ position + rise, pose.new_zeros(3)), camera.intrinsics)


def _segments(points: Float[np.ndarray, "n 3"], *, loop: bool) -> Float[np.ndarray, "m 2 3"]:
    """The lines from each point to the next."""
    following = np.roll(points, -1, axis=0)
    lines = np.stack([points, following], axis=1)
    return lines if loop else lines[:-1]


def _great_circles(radius: float) -> Float[np.ndarray, "m 2 3"]:
    """Three circles of a sphere around the origin, one around each axis."""
    angle = np.linspace(0, 2 * np.pi, SEGMENTS, endpoint=False)
    ring = radius * np.stack([np.cos(angle), np.sin(angle), np.zeros_like(angle)], axis=-1)
    return np.concatenate([_segments(np.roll(ring, axis, axis=1), loop=True) for axis in range(3)])


def _cones(cameras: Cameras, size: float) -> Float[np.ndarray, "m 2 3"]:
    """The edges of small frusta of cameras [n]."""
    corners = torch.tensor([[0.0, 0.0], [1.0, 0.0], [1.0, 1.0], [0.0, 1.0]])
    flat = torch.cat([corners, torch.full((4, 1), size)], dim=1)
    rims = cameras.unproject(flat.expand(len(cameras.near), 4, 3))
    apex = cameras.positions[:, None].expand_as(rims)
    edges = torch.stack([apex, rims], dim=2)
    frame = torch.stack([rims, rims.roll(-1, dims=1)], dim=2)
    return torch.cat([edges, frame], dim=1).flatten(0, 1).numpy()
