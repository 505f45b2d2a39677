"""nerf/volume.py: frustum coordinates and trilinear features, against formulas and a loop in float64."""

import itertools
from dataclasses import replace

import pytest
import torch

from data.cameras.pinhole import Cameras
from nerf.volume import FrustumVolume
from tests.scenes import as_double, cameras

B, S, C, D, H, W = 2, 3, 2, 4, 5, 7


@pytest.fixture(autouse=True)
def _same_points_every_time():
    torch.manual_seed(0)


def random_volume(seed: int = 0) -> FrustumVolume:
    generator = torch.Generator().manual_seed(seed)
    features = torch.randn(B, S, C, D, H, W, generator=generator)
    return FrustumVolume(features, cameras(B, S, seed=seed), torch.ones(B, S, dtype=torch.bool)).apply(
        as_double
    )


def points_of(camera: Cameras, image_points: torch.Tensor) -> torch.Tensor:
    """World points [b n 3] that the first source of every scene sees at (u, v, depth)."""
    return camera[:, 0].unproject(image_points.expand(camera.shape[0], -1, -1).to(camera.near))


def linear_volume(weights: torch.Tensor) -> FrustumVolume:
    """Features weights[c] . (u, v, depth, 1) at texel centres: linear in the place within the picture."""
    camera = cameras(B, S).apply(as_double)
    u, v = (torch.arange(W) + 0.5) / W, (torch.arange(H) + 0.5) / H
    steps = torch.arange(D) / (D - 1)
    features = torch.empty(B, S, C, D, H, W, dtype=torch.float64)
    for b, s, z in itertools.product(range(B), range(S), range(D)):
        depth = camera.near[b, s] + (camera.far[b, s] - camera.near[b, s]) * steps[z]
        grid = torch.stack(
            [
                u.expand(H, W),
                v[:, None].expand(H, W),
                depth.expand(H, W),
                torch.ones(H, W),
            ],
            dim=-1,
        ).double()
        features[b, s, :, z] = torch.einsum("hwk,ck->chw", grid, weights)
    return FrustumVolume(features, camera, torch.ones(B, S, dtype=torch.bool))


def interior_points(camera: Cameras, num: int = 50) -> torch.Tensor:
    """Random (u, v, depth) at least half a texel from the borders of the first source's frustum."""
    place = torch.rand(num, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    u = 0.5 / W + place[:, 0] * (1 - 1 / W)
    v = 0.5 / H + place[:, 1] * (1 - 1 / H)
    near, far = camera.near[:1, 0], camera.far[:1, 0]
    return torch.stack([u, v, near + place[:, 2] * (far - near)], dim=-1)


def test_a_feature_that_is_linear_in_the_picture_and_in_depth_is_reproduced():
    weights = torch.tensor([[1.0, -2.0, 0.5, 0.3], [0.2, 0.7, -1.1, -0.4]], dtype=torch.float64)
    volume = linear_volume(weights)
    first = volume.apply(lambda tensor: tensor[:1, :1])
    asked = interior_points(first.cameras)
    found = first.sample(first.cameras[:, 0].unproject(asked[None]))[0, 0]
    torch.testing.assert_close(found, asked @ weights[:, :3].T + weights[:, 3])


def test_texel_centres_return_texel_values():
    volume = random_volume().apply(lambda tensor: tensor[:1, :1])
    for z, y, x in itertools.product(range(D), range(H), range(W)):
        depth = volume.cameras.near + (volume.cameras.far - volume.cameras.near) * z / (D - 1)
        asked = torch.tensor([[(x + 0.5) / W, (y + 0.5) / H, depth.item()]], dtype=torch.float64)
        found = volume.sample(points_of(volume.cameras, asked))
        # Poses were rounded to float32, so their rotations are orthogonal to 1e-7 only.
        torch.testing.assert_close(found[0, 0, 0], volume.features[0, 0, :, z, y, x], atol=2e-6, rtol=0)


def test_the_lookup_is_trilinear_interpolation_done_by_hand():
    volume = random_volume()
    points = (torch.rand(B, 11, 3, dtype=torch.float64) - 0.5) * 3  # many lie outside of some frustum
    found = volume.sample(points)
    at = volume.coordinates(points)
    for b, s, n in itertools.product(range(B), range(S), range(11)):
        x, y, z = at[b, s, n].tolist()
        texel = [((x + 1) * W - 1) / 2, ((y + 1) * H - 1) / 2, (z + 1) / 2 * (D - 1)]
        expected = trilinear(volume.features[b, s], texel)
        torch.testing.assert_close(found[b, s, n], expected)


def trilinear(features: torch.Tensor, texel: list[float]) -> torch.Tensor:
    """Features [c d h w] at (x, y, z) in texels; beyond the border, those of the border."""
    total = torch.zeros(features.shape[0], dtype=features.dtype)
    sizes = [features.shape[3], features.shape[2], features.shape[1]]
    clamped = [min(max(t, 0.0), size - 1.0) for t, size in zip(texel, sizes, strict=True)]
    for corner in itertools.product((0, 1), repeat=3):
        place, weight = [], 1.0
        for t, size, upper in zip(clamped, sizes, corner, strict=True):
            low = min(int(t), size - 2)
            place.append(low + upper)
            weight *= t - low if upper else 1 - (t - low)
        x, y, z = place
        total += weight * features[:, z, y, x]
    return total


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_coordinates_are_minus_one_and_one_on_the_faces_of_the_frustum(axis):
    camera = random_volume().cameras[:1, :1]
    volume = replace(random_volume().apply(lambda tensor: tensor[:1, :1]), cameras=camera)
    near, far = camera.near.item(), camera.far.item()
    for end in (0, 1):
        asked = torch.tensor([[0.3, 0.6, near + 0.4 * (far - near)]], dtype=torch.float64)
        asked[0, axis] = (near, far)[end] if axis == 2 else end
        at = volume.coordinates(points_of(camera, asked))[0, 0, 0]
        assert at[axis].item() == pytest.approx(2 * end - 1)
        assert at.abs().argmax() == axis


def test_outside_a_frustum_the_border_is_seen():
    volume = random_volume().apply(lambda tensor: tensor[:1, :1])
    far = volume.cameras.far.item()
    beyond = points_of(volume.cameras, torch.tensor([[0.5 / W, 0.5 / H, far + 7.0]], dtype=torch.float64))
    torch.testing.assert_close(volume.sample(beyond)[0, 0, 0], volume.features[0, 0, :, -1, 0, 0])
    beside = points_of(volume.cameras, torch.tensor([[3.0, 0.5 / H, far]], dtype=torch.float64))
    torch.testing.assert_close(volume.sample(beside)[0, 0, 0], volume.features[0, 0, :, -1, 0, -1])


def test_points_behind_a_camera_or_at_its_centre_are_finite_and_outside():
    volume = random_volume()
    behind = volume.cameras.positions[:, :1] * 1.5  # the cameras look at the origin
    centre = volume.cameras.positions[:, :1]
    for points in (behind, centre):
        assert volume.sample(points).isfinite().all()
        assert not volume.inside(points)[:, 0].any()


def test_what_is_behind_a_camera_and_to_its_right_is_right_of_its_frustum():
    volume = random_volume().apply(lambda tensor: tensor[:1, :1])
    pose = torch.eye(4, dtype=torch.float64).expand(1, 1, 4, 4)
    volume = replace(volume, cameras=replace(volume.cameras, cam_to_world=pose))
    points = torch.tensor([[[0.3, -0.2, -1.0], [0.3, 0.2, 0.0], [0.0, 0.0, 0.0]]], dtype=torch.float64)
    right, both, centre = volume.coordinates(points)[0, 0]
    assert right[0] > 1e4
    assert right[1] < -1e4
    assert both[0] > 1e4
    assert both[1] > 1e4
    assert centre.isfinite().all()
    assert (volume.coordinates(points)[..., 2] < -1).all()


def test_inside_is_what_project_says_is_in_the_picture_and_in_the_working_volume():
    volume = random_volume()
    points = (torch.rand(B, 200, 3, dtype=torch.float64) - 0.5) * 1.8
    seen = volume.cameras.project(points[:, None].expand(-1, S, -1, -1))
    u, v, depth = seen.unbind(-1)
    near, far = volume.cameras.near[..., None], volume.cameras.far[..., None]
    expected = (depth >= near) & (depth <= far) & (u >= 0) & (u <= 1) & (v >= 0) & (v <= 1)
    assert torch.equal(volume.inside(points), expected)
    assert 0.1 < expected.float().mean() < 0.9


def test_moving_the_world_and_the_cameras_together_changes_nothing():
    volume = random_volume()
    rotation, _ = torch.linalg.qr(torch.randn(3, 3, dtype=torch.float64))
    motion = torch.eye(4, dtype=torch.float64)
    motion[:3, :3], motion[:3, 3] = rotation * rotation.det(), torch.tensor([0.3, -2.0, 1.1])
    moved = replace(
        volume, cameras=replace(volume.cameras, cam_to_world=motion @ volume.cameras.cam_to_world)
    )
    points = torch.rand(B, 30, 3, dtype=torch.float64) - 0.5
    torch.testing.assert_close(moved.sample(points @ motion[:3, :3].T + motion[:3, 3]), volume.sample(points))


def test_scenes_and_sources_do_not_see_one_another():
    volume = random_volume()
    points = torch.rand(B, 9, 3, dtype=torch.float64) - 0.5
    together = volume.sample(points)
    for b, s in itertools.product(range(B), range(S)):
        alone = volume.apply(lambda tensor, b=b, s=s: tensor[b : b + 1, s : s + 1])
        torch.testing.assert_close(alone.sample(points[b : b + 1])[0, 0], together[b, s])


def test_the_lookup_has_the_gradients_of_its_formula():
    volume = random_volume().apply(lambda tensor: tensor[:1, :2])
    points = 0.4 * (torch.rand(1, 4, 3, dtype=torch.float64) - 0.5)

    def sample(features: torch.Tensor, points: torch.Tensor) -> torch.Tensor:
        return replace(volume, features=features).sample(points)

    assert torch.autograd.gradcheck(
        sample, (volume.features.clone().requires_grad_(), points.requires_grad_())
    )


@pytest.mark.parametrize("axis", ["x", "y", "z"])
def test_a_mirrored_volume_holds_at_a_point_what_the_volume_holds_at_its_mirror_image(axis):
    volume = random_volume()
    both = volume.with_mirrored(axis)
    assert both.features.shape == (B, 2 * S, C, D, H, W)
    points = points_of(volume.cameras, interior_points(volume.cameras))
    mirrored = points.clone()
    mirrored[..., "xyz".index(axis)] *= -1
    here, there = both.sample(points), both.sample(mirrored)
    torch.testing.assert_close(here[:, :S], volume.sample(points))
    torch.testing.assert_close(here[:, S:], there[:, :S])
    torch.testing.assert_close(both.inside(mirrored)[:, S:], volume.inside(points))
    assert (here[:, S:] - here[:, :S]).abs().mean() > 0.1
