"""Cameras against closed forms, and against paths and rays computed elsewhere."""

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from data.cameras.pinhole import (
    Cameras,
    cameras_from_poses,
    opencv_to_opengl,
    opengl_to_opencv,
    pinhole,
    pixel_centres,
    require_rigid,
    seen_radius,
)
from data.cameras.poses import circle, look_at, orbit, srn_test_path, turntable

INTRINSICS = torch.tensor([[0.9, 0.0, 0.45], [0.0, 1.7, 0.62], [0.0, 0.0, 1.0]], dtype=torch.float64)


def random_rotation(generator: torch.Generator) -> Tensor:
    """A proper rotation, float64."""
    orthogonal, _ = torch.linalg.qr(torch.randn(3, 3, generator=generator, dtype=torch.float64))
    return orthogonal * torch.linalg.det(orthogonal)


def odd_cameras(*shape: int, seed: int = 0) -> Cameras:
    """Cameras of any batch shape with turned axes, fx != fy and an off-centre principal point, float64."""
    generator = torch.Generator().manual_seed(seed)
    count = math.prod(shape)
    poses = torch.eye(4, dtype=torch.float64).repeat(count, 1, 1)
    for pose in poses:
        pose[:3, :3] = random_rotation(generator)
        pose[:3, 3] = torch.randn(3, generator=generator, dtype=torch.float64)
    scale = 1 + 0.2 * torch.rand(count, 1, 1, generator=generator, dtype=torch.float64)
    near = 0.5 + torch.rand(count, generator=generator, dtype=torch.float64)
    intrinsics = INTRINSICS.repeat(count, 1, 1)
    intrinsics[:, :2] *= scale
    cameras = Cameras(poses, intrinsics, near, near + 1.3)
    return cameras.apply(lambda tensor: tensor.reshape(shape + tensor.shape[1:]))


def image_points(*shape: int) -> Tensor:
    """(u, v, depth) inside the picture and in front of the camera."""
    generator = torch.Generator().manual_seed(1)
    points = torch.rand(*shape, 3, generator=generator, dtype=torch.float64)
    return points + torch.tensor([0.0, 0.0, 0.3])


@pytest.mark.parametrize("shape", [(), (3,), (2, 3)])
def test_unprojecting_undoes_projecting(shape):
    cameras, points = odd_cameras(*shape), image_points(*shape, 5)
    torch.testing.assert_close(cameras.project(cameras.unproject(points)), points, atol=1e-12, rtol=1e-12)


def test_projection_is_the_textbook_one():
    camera, point = odd_cameras(), torch.tensor([0.3, -0.8, 1.1], dtype=torch.float64)
    world_to_camera = torch.linalg.inv(camera.cam_to_world)
    x, y, z, _ = (world_to_camera @ torch.cat([point, torch.ones(1)])).tolist()
    fx, fy = camera.intrinsics[0, 0].item(), camera.intrinsics[1, 1].item()
    cx, cy = camera.intrinsics[0, 2].item(), camera.intrinsics[1, 2].item()
    expected = torch.tensor([fx * x / z + cx, fy * y / z + cy, z], dtype=torch.float64)
    torch.testing.assert_close(camera.project(point[None])[0], expected, atol=1e-12, rtol=1e-12)


def test_a_camera_at_rest_looks_along_z_with_x_right_and_y_down():
    camera = cameras_from_poses(torch.eye(4)[None], pinhole(1.0), object_radius=1.0)[0]
    u, v, depth = camera.project(torch.tensor([[0.2, 0.1, 2.0]]))[0].tolist()
    assert (u, v, depth) == pytest.approx((0.6, 0.55, 2.0))


def test_points_behind_the_camera_have_negative_depth_and_the_centre_stays_finite():
    camera = cameras_from_poses(torch.eye(4)[None], pinhole(), object_radius=1.0)[0]
    projected = camera.project(torch.tensor([[0.1, 0.2, -1.5], [0.0, 0.0, 0.0]]))
    assert projected[0, 2] == -1.5
    assert projected.isfinite().all()


def test_moving_world_and_cameras_together_changes_nothing():
    cameras, points = odd_cameras(2, 3), odd_cameras(2, 3).unproject(image_points(2, 3, 5))
    motion = odd_cameras(seed=7).cam_to_world
    moved_points = points @ motion[:3, :3].T + motion[:3, 3]
    moved = replace(cameras, cam_to_world=motion @ cameras.cam_to_world)
    torch.testing.assert_close(moved.project(moved_points), cameras.project(points), atol=1e-12, rtol=1e-12)


def test_rays_pass_through_the_unprojected_pixel_centres():
    cameras = odd_cameras(2, 3)
    rays = cameras.rays(5, 7)
    centres = torch.tensor([[(col + 0.5) / 7, (row + 0.5) / 5] for row in range(5) for col in range(7)])
    torch.testing.assert_close(pixel_centres(5, 7), centres)
    depth = torch.full((35, 1), 1.7)
    points = cameras.unproject(torch.cat([centres, depth], dim=-1).double().expand(2, 3, 35, 3))
    distance = (points - rays.origins).norm(dim=-1, keepdim=True)
    torch.testing.assert_close(rays.origins + distance * rays.directions, points, atol=1e-6, rtol=1e-6)


def test_ray_bounds_have_the_depth_of_the_cameras_near_and_far():
    cameras = odd_cameras(2, 3)
    rays = cameras.rays(3, 4)
    for distance, depth in ((rays.near, cameras.near), (rays.far, cameras.far)):
        points = rays.origins + distance[..., None] * rays.directions
        torch.testing.assert_close(cameras.project(points)[..., 2], depth[..., None].expand(2, 3, 12))
    torch.testing.assert_close(rays.directions.norm(dim=-1), torch.ones(2, 3, 12, dtype=torch.float64))
    torch.testing.assert_close(rays.cosine * rays.near, cameras.near[..., None].expand(2, 3, 12))


def test_look_at_shows_the_target_in_the_middle_and_up_upwards():
    eye = torch.tensor([[1.0, 2.0, 0.5], [-2.0, 0.3, 1.0]], dtype=torch.float64)
    target = torch.tensor([[0.2, -0.1, 0.4], [0.0, 0.0, -1.0]], dtype=torch.float64)
    cameras = cameras_from_poses(look_at(eye, target), pinhole().double(), object_radius=0.5)
    above = target + torch.tensor([0.0, 0.0, 0.1])
    u, v, depth = cameras.project(torch.stack([target, above], dim=1)).unbind(-1)
    half = torch.full((2,), 0.5, dtype=torch.float64)
    torch.testing.assert_close(torch.stack([u[:, 0], v[:, 0]]), torch.stack([half, half]))
    torch.testing.assert_close(u[:, 1], half)
    assert (v[:, 1] < v[:, 0]).all()
    torch.testing.assert_close(depth[:, 0], (target - eye).norm(dim=-1))


@pytest.mark.parametrize("up", [(0.0, 0.0, 1.0), (0.0, 1.0, 0.0), (1.0, 0.0, 0.0), (0.0, 0.7, 0.7)])
@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_look_at_along_the_up_axis_is_a_proper_pose(up, sign):
    eye = sign * 2 * torch.tensor(up, dtype=torch.float64)
    pose = look_at(eye, torch.zeros(3, dtype=torch.float64), up)
    require_rigid(pose, "pole", tolerance=1e-9)
    torch.testing.assert_close(pose[:3, 2], -eye / eye.norm())


def test_look_at_from_above_has_the_worlds_y_axis_to_the_right():
    pose = look_at(torch.tensor([0.0, 0.0, 2.0]), torch.zeros(3))
    torch.testing.assert_close(pose[:3, 0], torch.tensor([0.0, 1.0, 0.0]))


def test_look_at_refuses_an_eye_in_the_target():
    with pytest.raises(ValueError, match="eye and target coincide"):
        look_at(torch.ones(3), torch.ones(3))


def test_orbit_is_look_at_from_the_sphere():
    azimuth, elevation = torch.tensor([0.3, -2.0, 4.0]).double(), torch.tensor([0.2, -0.7, 1.5]).double()
    poses = orbit(azimuth, elevation, 1.7)
    eye = torch.tensor(
        [
            [1.7 * math.cos(e) * math.cos(a), 1.7 * math.cos(e) * math.sin(a), 1.7 * math.sin(e)]
            for a, e in zip(azimuth.tolist(), elevation.tolist(), strict=True)
        ],
        dtype=torch.float64,
    )
    torch.testing.assert_close(poses, look_at(eye, torch.zeros_like(eye)), atol=1e-12, rtol=1e-12)


def test_orbit_keeps_its_roll_at_the_pole():
    below, pole = (orbit(torch.tensor(0.8), torch.tensor(math.pi / 2 - gap)) for gap in (1e-3, 0.0))
    torch.testing.assert_close(below, pole, atol=2e-3, rtol=0)


def test_srn_test_path_follows_its_formula():
    path = srn_test_path()
    assert path.shape == (251, 4, 4)
    for i in (0, 64, 137, 250):
        elevation, azimuth = math.radians(0.36 * i), 20 - 0.08 * i
        x, y, z = path[i, :3, 3].tolist()
        assert z == pytest.approx(1.3 * math.sin(elevation), abs=1e-6)
        assert x == pytest.approx(1.3 * math.cos(elevation) * math.cos(azimuth), abs=1e-6)
        assert y == pytest.approx(1.3 * math.cos(elevation) * math.sin(azimuth), abs=1e-6)
        torch.testing.assert_close(path[i, :3, 2], -path[i, :3, 3] / 1.3)
        require_rigid(path[i], f"view {i}", tolerance=1e-5)
    torch.testing.assert_close(srn_test_path(126)[32], path[64])


def test_view_64_of_the_srn_test_path_matches_the_files_of_a_real_set():
    # pose/000000.txt and 000001.txt of an SRN test object, first two rows.
    first = torch.tensor(
        [[-0.91294525, 0.0, -0.40808206, 0.53050668], [0.40808206, 0.0, -0.91294525, 1.18682883]]
    )
    second = torch.tensor(
        [
            [-0.87741361, 0.00301424, -0.47972517, 0.62364272],
            [0.47973463, 0.00551292, -0.87739634, 1.14061520],
        ]
    )
    torch.testing.assert_close(srn_test_path()[:2, :2], torch.stack([first, second]), atol=1e-6, rtol=0)


def test_turntable_is_a_circle_at_its_elevation():
    poses = turntable(12, elevation_deg=30.0, radius=2.0)
    torch.testing.assert_close(poses[:, 2, 3], torch.full((12,), 1.0))
    torch.testing.assert_close(poses, circle(poses[0], 12), atol=1e-6, rtol=0)


def test_opengl_conversion_is_its_own_inverse_and_turns_y_and_z():
    poses = odd_cameras(3).cam_to_world
    opengl = opencv_to_opengl(poses)
    assert torch.equal(opengl_to_opencv(opengl), poses)
    torch.testing.assert_close(opengl[:, :3, 2], -poses[:, :3, 2])
    torch.testing.assert_close(opengl[:, :3, 1], -poses[:, :3, 1])
    assert torch.equal(opengl[:, :3, 3], poses[:, :3, 3])


@pytest.mark.parametrize("aspect", [1.0, 0.6, 1.9])
def test_the_seen_sphere_touches_the_border_of_the_picture(aspect):
    poses = orbit(torch.tensor([0.4]).double(), torch.tensor([0.3]).double(), 1.3)
    cameras = cameras_from_poses(poses, pinhole(1.1, aspect=aspect).double())
    radius = seen_radius(poses, cameras.intrinsics)
    generator = torch.Generator().manual_seed(0)
    directions = torch.randn(20000, 3, generator=generator, dtype=torch.float64)
    sphere = radius * directions / directions.norm(dim=-1, keepdim=True)
    offset = (cameras.project(sphere[None])[0, :, :2] - 0.5).abs().max().item()
    assert 0.499 < offset <= 0.5 + 1e-9
    torch.testing.assert_close(cameras.near, 1.3 - radius)
    torch.testing.assert_close(cameras.far, 1.3 + radius)


def test_from_within_the_sphere_near_is_behind_the_camera_and_rays_begin_at_it():
    eye = torch.tensor([[0.3, 0.0, 0.2]])
    found = cameras_from_poses(look_at(eye, torch.zeros(1, 3)), pinhole(), object_radius=0.7)
    distance = eye.norm()
    torch.testing.assert_close(found.near, (distance - 0.7)[None])
    torch.testing.assert_close(found.far, (distance + 0.7)[None])
    rays = found.rays(3, 5)
    assert not rays.near.any()
    torch.testing.assert_close(rays.far * rays.cosine, found.far.expand(1, 15))


def test_resizing_a_picture_leaves_the_normalised_projection_alone():
    fx, fy, cx, cy, width, height = 90.0, 75.0, 70.0, 20.0, 120, 50
    pixel = torch.tensor([[fx, 0.0, cx], [0.0, fy, cy], [0.0, 0.0, 1.0]])
    scale = torch.tensor([[width], [height], [1.0]])
    camera = cameras_from_poses(torch.eye(4)[None], pixel / scale, object_radius=1.0)[0]
    point = torch.tensor([[0.1, -0.2, 2.0]])
    u, v, _ = camera.project(point)[0].tolist()
    halved = torch.diag(torch.tensor([0.5, 0.25, 1.0])) @ pixel  # what the pixels become at 60 x 12.5
    x, y, z = (halved @ point[0]).tolist()
    assert (u * width / 2, v * height / 4) == pytest.approx((x / z, y / z), rel=1e-5)


@pytest.mark.parametrize(
    ("matrix", "problem"),
    [
        (torch.diag(torch.tensor([1.0, 1.0, 0.0, 1.0])), "singular"),
        (torch.diag(torch.tensor([1.0, -1.0, 1.0, 1.0])), "mirrored"),
        (torch.diag(torch.tensor([2.0, 2.0, 2.0, 1.0])), "scaled"),
        (torch.diag(torch.tensor([1.0, 1.0, 1.0, 2.0])), "last row"),
        (torch.diag(torch.tensor([1.0, 1.0, 1.0, math.nan])), "nan"),
        (torch.eye(4), "origin"),
    ],
)
def test_a_pose_that_is_not_rigid_is_refused_by_name(matrix, problem):
    matrix = matrix.clone()
    matrix[:3, 3] = 0.0 if problem == "origin" else 1.0
    with pytest.raises(
        ValueError, match=f"^pose.txt: .*{problem}.*; give a camera-to-world matrix"
    ) as caught:
        require_rigid(matrix, "pose.txt")
    assert "\n" not in str(caught.value)


def test_cameras_can_be_indexed_and_reshaped_together():
    cameras = odd_cameras(2, 3)
    assert cameras.shape == (2, 3)
    assert cameras[1, 2].shape == ()
    assert torch.equal(cameras[1].positions, cameras.cam_to_world[1, :, :3, 3])


@pytest.mark.parametrize("axis", ["x", "y", "z"])
def test_a_mirrored_camera_sees_mirrored_points_flipped_left_to_right(axis):
    cameras = odd_cameras(2, 3)
    skewed = replace(cameras, intrinsics=cameras.intrinsics.clone())
    skewed.intrinsics[..., 0, 1] = 0.13
    points = torch.randn(2, 3, 7, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    mirrored = points.clone()
    mirrored[..., "xyz".index(axis)] *= -1
    seen, found = skewed.project(points), skewed.mirrored(axis).project(mirrored)
    torch.testing.assert_close(found, torch.stack([1 - seen[..., 0], seen[..., 1], seen[..., 2]], dim=-1))
    rotation = skewed.mirrored(axis).cam_to_world[..., :3, :3]
    torch.testing.assert_close(torch.linalg.det(rotation), torch.ones(2, 3, dtype=torch.float64))
    again = skewed.mirrored(axis).mirrored(axis)
    torch.testing.assert_close(again.cam_to_world, skewed.cam_to_world)
    torch.testing.assert_close(again.intrinsics, skewed.intrinsics)
