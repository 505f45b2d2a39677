"""scripts/view/browser_camera.py: the browser's cameras are ours."""

import math

import numpy as np
import pytest
import torch

from data.cameras.pinhole import Cameras, cameras_from_poses, pinhole
from data.cameras.poses import look_at, orbit

pytest.importorskip("viser", reason="pip install -r requirements-viewer.txt")

from viser.transforms import SE3, SO3

from scripts.view.browser_camera import BrowserCamera, browser_camera_at


def some_eye(aspect: float = 1.7) -> BrowserCamera:
    turn = SO3.from_rpy_radians(0.3, -1.1, 2.0)
    return BrowserCamera(tuple(turn.wxyz.tolist()), (0.4, -1.5, 0.9), 0.8, aspect)


def seen_by_the_browser(eye: BrowserCamera, points: torch.Tensor) -> torch.Tensor:
    """(u, v, depth) by three.js' perspective matrix, in its own axes: x right, y up, z backward."""
    rotation, position = SO3(np.array(eye.wxyz)), np.array(eye.position)
    camera_to_world = SE3.from_rotation_and_translation(rotation, position)
    turned = SE3.from_rotation(SO3.from_x_radians(math.pi))  # OpenCV to OpenGL
    inside = torch.from_numpy((camera_to_world @ turned).inverse().apply(points.double().numpy()))
    top = math.tan(eye.fov / 2)
    clip_x = inside[:, 0] / (top * eye.aspect) / -inside[:, 2]
    clip_y = inside[:, 1] / top / -inside[:, 2]
    return torch.stack([(clip_x + 1) / 2, (1 - clip_y) / 2, -inside[:, 2]], dim=-1)


@pytest.mark.parametrize("aspect", [0.6, 1.0, 1.7])
def test_a_point_is_where_the_browser_draws_it(aspect: float):
    eye = some_eye(aspect)
    points = torch.randn(11, 3, generator=torch.Generator().manual_seed(0))
    found = eye.cameras(0.5).project(points[None, None])[0, 0]
    torch.testing.assert_close(found, seen_by_the_browser(eye, points).float(), atol=1e-4, rtol=1e-4)


def test_the_square_is_the_middle_of_the_window():
    eye, points = some_eye(2.0), torch.randn(7, 3, generator=torch.Generator().manual_seed(1))
    wide = eye.cameras(0.5).project(points[None, None])[0, 0]
    square = eye.square(0.5).project(points[None, None])[0, 0]
    torch.testing.assert_close(square[:, 1:], wide[:, 1:])
    torch.testing.assert_close(square[:, 0] - 0.5, 2.0 * (wide[:, 0] - 0.5))


@pytest.mark.parametrize("seed", range(4))
def test_a_camera_of_a_data_set_comes_back(seed: int):
    generator = torch.Generator().manual_seed(seed)
    place, aim = torch.randn(2, 3, generator=generator)
    known = cameras_from_poses(look_at(place, 0.1 * aim)[None], pinhole(1.2), object_radius=0.4)
    found = browser_camera_at(known.cam_to_world[0], known.intrinsics[0]).square(0.4)
    for ours, theirs in zip(parts(found[0]), parts(known), strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-6, rtol=1e-6)


def parts(cameras: Cameras) -> tuple[torch.Tensor, ...]:
    return cameras.cam_to_world, cameras.intrinsics, cameras.near, cameras.far


def test_the_working_volume_is_the_sphere_round_the_origin():
    eye = browser_camera_at(orbit(torch.tensor(1.0), torch.tensor(0.3), 2.5), pinhole(), aspect=3.0)
    found = eye.cameras(0.4)
    torch.testing.assert_close(found.near, torch.full((1, 1), 2.1))
    torch.testing.assert_close(found.far, torch.full((1, 1), 2.9))
