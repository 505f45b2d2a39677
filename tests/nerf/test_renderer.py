"""nerf/renderer.py: whole pictures of volumes whose content is known."""

from dataclasses import replace

import pytest
import torch

from data.cameras.pinhole import Cameras, cameras_from_poses, pinhole
from data.cameras.poses import orbit
from nerf.backends import prepared
from nerf.renderer import Jitter, RendererConfig, VolumeRenderer
from nerf.volume import FrustumVolume
from tests.scenes import cameras

RADIUS = 0.3
C, D, H, W = 3, 33, 24, 28


def renderer(size: int = 9, coarse: int = 40, fine: int = 0, **field) -> VolumeRenderer:
    torch.manual_seed(2)
    config = RendererConfig(size=size, latent_channels=4, coarse=coarse, fine=fine, field=field)
    return VolumeRenderer(config, channels=C)


def random_volume(b: int = 2, s: int = 3) -> FrustumVolume:
    features = torch.randn(b, s, C, D, H, W, generator=torch.Generator().manual_seed(1))
    return FrustumVolume(features, cameras(b, s), torch.ones(b, s, dtype=torch.bool))


def front_cameras() -> Cameras:
    """One camera [1, 1] on the x axis, 1.4 away."""
    pose = orbit(torch.tensor([0.0]), torch.tensor([0.0]), 1.4)
    return cameras_from_poses(pose, pinhole(1.1), object_radius=0.6).apply(lambda tensor: tensor[None])


def ball_volume(camera: Cameras) -> FrustumVolume:
    """Feature 0 is large within RADIUS of the origin, features 1 and 2 are the world's y and z."""
    v, u = torch.meshgrid((torch.arange(H) + 0.5) / H, (torch.arange(W) + 0.5) / W, indexing="ij")
    depth = torch.linspace(camera.near.item(), camera.far.item(), D)
    grid = [tensor.expand(D, H, W) for tensor in (u, v, depth[:, None, None])]
    points = camera[0].unproject(torch.stack(grid, dim=-1).reshape(1, -1, 3)).reshape(D, H, W, 3)
    ball = 2.0 * (points.norm(dim=-1) < RADIUS) - 1
    features = torch.stack([ball, points[..., 1], points[..., 2]])
    return FrustumVolume(features[None, None], camera, torch.ones(1, 1, dtype=torch.bool))


def ball_renderer(size: int, **numbers) -> VolumeRenderer:
    """Density is about exp(feature 0) to a high power: solid within the ball, air outside."""
    net = renderer(size, **numbers)
    with torch.no_grad():
        for parameter in net.field.parameters():
            parameter.zero_()
        for i in range(C):
            net.field.hidden.weight[i, i] = 40.0  # softplus is then max(0, 40 x)
        net.field.output.weight[0, 0], net.field.output.bias[0] = 10.0, -20.0
        net.field.output.weight[1, 1], net.field.output.weight[2, 2] = 0.5, 0.5
    return net


def test_a_ball_is_seen_where_and_as_large_as_it_is():
    camera, size = front_cameras(), 32
    with torch.no_grad():
        found = ball_renderer(size, coarse=96)(ball_volume(camera), camera)
    rays = camera[0].rays(size, size)
    nearest = (-(rays.origins * rays.directions).sum(-1, keepdim=True) * rays.directions + rays.origins).norm(
        dim=-1
    )
    nearest = nearest.reshape(size, size)
    opacity = found.opacity[0, 0, 0]
    assert (opacity[nearest < 0.85 * RADIUS] > 0.99).all()
    assert (opacity[nearest > 1.15 * RADIUS] < 0.01).all()
    middle = found.depth[0, 0, 0, 15:17, 15:17].mean().item()
    assert middle == pytest.approx(1.4 - RADIUS, abs=0.05)
    # From the x axis, looking at the origin with z up: right in the picture is +y, down is -z.
    right_hand, top = found.latent[0, 0, 0], found.latent[0, 0, 1]
    assert right_hand[16, 20] > right_hand[16, 11] + 0.3
    assert top[11, 16] > top[20, 16] + 0.3
    assert (found.latent[0, 0, :, 0, 0] > 0.99).all()  # the corner is white


def test_a_ball_is_round_from_a_camera_that_is_no_source():
    source, size = front_cameras(), 24
    pose = orbit(torch.tensor([1.2]), torch.tensor([0.4]), 1.4)
    other = cameras_from_poses(pose, pinhole(1.1), object_radius=0.6).apply(lambda tensor: tensor[None])
    with torch.no_grad():
        found = ball_renderer(size, coarse=96, outside="mask")(ball_volume(source), other)
    rays = other[0].rays(size, size)
    along = -(rays.origins * rays.directions).sum(-1, keepdim=True)
    nearest = (along * rays.directions + rays.origins).norm(dim=-1).reshape(size, size)
    opacity = found.opacity[0, 0, 0]
    assert (opacity[nearest < 0.8 * RADIUS] > 0.98).all()
    assert (opacity[nearest > 1.2 * RADIUS] < 0.02).all()


def test_autocast_does_not_touch_the_renderer():
    net, volume, targets = renderer(), random_volume(), cameras(2, 2, seed=8)
    exact = net(volume, targets)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = net(volume, targets)
        from_half = net(replace(volume, features=volume.features.bfloat16()), targets)
    assert found.latent.dtype == from_half.latent.dtype == torch.float32
    assert torch.equal(found.latent, exact.latent)
    assert torch.equal(found.depth, exact.depth)


@pytest.mark.parametrize("pool", ["before", "after"])
@pytest.mark.parametrize("outside", ["clamp", "mask"])
@pytest.mark.parametrize("num_source", [1, 2, 3])
def test_padding_sources_change_nothing(num_source, pool, outside):
    net, volume, targets = (
        renderer(pool=pool, outside=outside, fine=5),
        random_volume(),
        cameras(2, 1, seed=8),
    )
    valid = torch.arange(3).expand(2, 3) < num_source
    padded = FrustumVolume(
        torch.where(valid[:, :, None, None, None, None], volume.features, 77.0), volume.cameras, valid
    )
    alone = volume.apply(lambda tensor: tensor[:, :num_source])
    for name in ("latent", "depth", "opacity"):
        torch.testing.assert_close(
            getattr(net(padded, targets), name), getattr(net(alone, targets), name), atol=2e-6, rtol=1e-5
        )


@pytest.mark.parametrize("outside", ["clamp", "mask"])
def test_without_a_valid_source_the_picture_is_white(outside):
    volume = replace(random_volume(), valid=torch.zeros(2, 3, dtype=torch.bool))
    found = renderer(outside=outside, fine=5)(volume, cameras(2, 1, seed=8))
    assert (found.latent == 1).all()
    assert (found.opacity == 0).all()


def test_points_outside_all_frusta_are_empty_when_masked_and_smeared_when_clamped():
    source = front_cameras()
    volume = FrustumVolume(torch.ones(1, 1, C, D, H, W), source, torch.ones(1, 1, dtype=torch.bool))
    away = source.apply(torch.clone)  # the same camera, turned round
    away.cam_to_world[..., :3, [0, 2]] *= -1
    assert (renderer(outside="mask")(volume, away).opacity == 0).all()
    assert (renderer(outside="clamp")(volume, away).opacity > 0.1).all()


def test_importance_samples_improve_the_picture_of_a_ball():
    camera = front_cameras()
    volume = ball_volume(camera)
    with torch.no_grad():
        exact = ball_renderer(16, coarse=1500)(volume, camera)
        even = ball_renderer(16, coarse=24)(volume, camera)
        placed = ball_renderer(16, coarse=12, fine=12)(volume, camera)  # as many in all

    def error(found):
        return (found.depth - exact.depth).abs().mean()

    assert error(placed) < 0.7 * error(even)


def test_without_jitter_a_picture_is_always_the_same_and_with_it_almost():
    net, volume, targets = renderer(coarse=60, fine=20), random_volume(), cameras(2, 1, seed=8)
    first, second = net(volume, targets), net(volume, targets)
    assert torch.equal(first.latent, second.latent)
    generator = torch.Generator().manual_seed(4)
    jitter = Jitter(torch.rand(2, 81, 60, generator=generator), torch.rand(2, 81, 20, generator=generator))
    moved = net(volume, targets, jitter)
    assert not torch.equal(moved.latent, first.latent)
    torch.testing.assert_close(moved.latent, first.latent, atol=0.05, rtol=0)


def test_half_jitter_is_no_jitter():
    net, volume, targets = renderer(coarse=6, fine=4), random_volume(), cameras(2, 1, seed=8)
    half = Jitter(torch.full((2, 81, 6), 0.5), torch.full((2, 81, 4), 0.5))
    torch.testing.assert_close(net(volume, targets, half).latent, net(volume, targets).latent)


def test_a_scene_and_a_view_look_the_same_alone():
    net, volume, targets = renderer(fine=5), random_volume(), cameras(2, 3, seed=8)
    together = net(volume, targets)
    for b, t in ((0, 0), (1, 2)):
        alone = net(volume.apply(lambda tensor, b=b: tensor[b : b + 1]), targets[b : b + 1, t : t + 1])
        torch.testing.assert_close(alone.latent[0, 0], together.latent[b, t], atol=2e-6, rtol=1e-5)
        torch.testing.assert_close(alone.depth[0, 0], together.depth[b, t], atol=2e-6, rtol=1e-5)


def test_pixels_are_where_their_rays_are():
    net, volume, targets = renderer(size=5), random_volume(1, 1), cameras(1, 1, seed=8)
    picture = net(volume, targets).latent[0, 0]
    larger = renderer(size=15)(volume, targets).latent[0, 0]  # every third pixel has the same centre
    torch.testing.assert_close(larger[:, 1::3, 1::3], picture, atol=2e-6, rtol=1e-5)


def test_gradients_reach_the_features_and_every_weight_of_the_field():
    net, volume = renderer(fine=5), random_volume()
    volume.features.requires_grad_()
    found = net(volume, cameras(2, 1, seed=8))
    (found.latent.sum() + found.depth.sum()).backward()
    assert (volume.features.grad != 0).any()
    assert all((parameter.grad != 0).any() for parameter in net.parameters())


def test_only_the_fused_backend_reads_half_precision():
    volume = random_volume(1, 1).apply(lambda t: t.to(torch.bfloat16) if t.is_floating_point() else t)
    assert prepared("blocked", volume).features.dtype == torch.float32
    kept = prepared("fused", volume).features
    assert kept.dtype == torch.bfloat16
    assert kept.movedim(2, -1).is_contiguous()
    torch.testing.assert_close(kept, volume.features, rtol=0, atol=0)


def test_the_choice_of_backend_is_told_where_it_was_left_open():
    assert renderer().notice == "model.renderer.backend auto: blocked on cpu"
    config = RendererConfig(latent_channels=4, backend="reference")
    assert VolumeRenderer(config, channels=C).notice is None
    with pytest.raises(
        ValueError, match="fused needs a CUDA device and Triton, but the model is on cpu; use auto"
    ):
        _ = VolumeRenderer(config.model_copy(update={"backend": "fused"}), channels=C).notice
