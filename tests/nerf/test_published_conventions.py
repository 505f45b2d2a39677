"""Each option of the published conventions by itself: what it does, and that the default does otherwise."""

from dataclasses import replace

import torch

from data.cameras.pinhole import in_frame_of, opencv_to_opengl
from data.scenes.batch import Views
from diffusion.samplers import SampleOptions
from models.genvs.model import GeNVS, GeNVSConfig
from models.volumes.encoder import Encoder, EncoderConfig
from models.volumes.losses import depth_prior
from nerf.renderer import LatentImages
from nerf.volume import FrustumVolume
from tests.scenes import TINY_MODEL, cameras, reconfigured, scene_batch, tiny_model, views

CUBE = {"renderer": {"bounds": "cube", "nearest": 0.1}}
TWO_STEPS = SampleOptions(sampler="euler", steps=2)


def encoders(**options) -> tuple[Encoder, Encoder]:
    """The same weights with and without `options`."""
    torch.manual_seed(1)
    usual = Encoder(EncoderConfig.model_validate(TINY_MODEL["encoder"]))
    other = Encoder(EncoderConfig.model_validate(TINY_MODEL["encoder"] | options))
    other.load_state_dict(usual.state_dict())
    return usual, other


@torch.no_grad()
def test_an_upside_down_encoder_sees_the_mirrored_photo_and_volumes_stand_upright():
    usual, other = encoders(upside_down=True)
    source = views(2, 3, size=(16, 32))
    mirrored = Views(source.images.flip(-2), source.cameras, source.valid)
    torch.testing.assert_close(other(source).features, usual(mirrored).features.flip(-2))
    assert not torch.allclose(other(source).features, usual(source).features)


@torch.no_grad()
def test_the_first_plane_may_be_the_farthest():
    usual, other = encoders(first_plane="far")
    source = views(1, 2)
    assert torch.equal(other(source).features, usual(source).features.flip(3))


@torch.no_grad()
def test_aligned_corners_put_the_corner_texel_in_the_corner_of_the_frustum():
    camera, features = cameras(1, 1), torch.randn(1, 1, 2, 3, 4, 5)
    valid = torch.ones(1, 1, dtype=torch.bool)
    corner = camera[0, 0].unproject(
        torch.tensor([[0.0, 1.0, 0.0]]) + camera.near[0, 0] * torch.tensor([0, 0, 1.0])
    )
    aligned = FrustumVolume(features, camera, valid, align_corners=True)
    torch.testing.assert_close(
        aligned.sample(corner[None])[0, 0, 0], features[0, 0, :, 0, -1, 0], atol=1e-4, rtol=0
    )
    assert aligned.apply(lambda tensor: tensor).align_corners
    # One texel from the middle of the picture, in x alone: 1/4 of the way with corners aligned, else 1/5.
    centre = (torch.tensor([[0.5 + 1 / 4, 0.5, 0.0]]), torch.tensor([[0.5 + 1 / 5, 0.5, 0.0]]))
    for volume, uv in zip((aligned, FrustumVolume(features, camera, valid)), centre, strict=True):
        point = camera[0, 0].unproject(uv + camera.near[0, 0] * torch.tensor([0, 0, 1.0]))
        expected = features[0, 0, :, 0, 1:3, 3].mean(dim=-1)
        torch.testing.assert_close(volume.sample(point[None])[0, 0, 0], expected, atol=1e-4, rtol=0)


@torch.no_grad()
def test_the_first_source_s_frame_makes_the_world_s_axes_immaterial():
    source, target = views(2, 2, seed=3), cameras(2, 3, seed=4)
    angle = torch.tensor(0.7)
    turn = torch.eye(4)
    turn[:2, :2] = torch.stack([angle.cos(), -angle.sin(), angle.sin(), angle.cos()]).reshape(2, 2)
    turned = [moved(each, turn) for each in (source.cameras, target)]
    elsewhere = Views(source.images, turned[0], source.valid)
    for frame, immaterial in (("first_source", True), ("world", False)):
        model = tiny_model(frame=frame, **CUBE).eval()
        before = model.render(model.encode(source), target).latent
        after = model.render(model.encode(elsewhere), turned[1]).latent
        assert torch.allclose(before, after, atol=2e-4) == immaterial


@torch.no_grad()
def test_sources_that_agree_have_no_consistency_loss_whatever_the_frame():
    everywhere = {"renderer": CUBE["renderer"] | {"field": {"outside": "clamp"}}}
    weights = {"depth_consistency": 1.0, "opacity_consistency": 1.0}
    model = tiny_model(frame="first_source", loss=weights, **everywhere)
    batch = scene_batch([[True, True, True]])
    volume = model.encode(batch.source)
    alike = replace(volume, features=torch.full_like(volume.features, 0.3))
    model.encoder.forward = lambda views, places: alike
    terms = model.eval().loss(batch, progress=0.0)
    assert terms["depth_consistency"] < 1e-9
    assert terms["opacity_consistency"] < 1e-9


@torch.no_grad()
def test_autocast_rounds_neither_the_frame_nor_the_depth_prior():
    model, source, target = (
        tiny_model(frame="first_source", **CUBE).eval(),
        views(1, 2, seed=3),
        cameras(1, 2, seed=4),
    )
    volume = model.encode(source)
    exact = model.render(volume, target)
    prior = depth_prior(exact, target, along="ray")
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(model.render(volume, target).latent, exact.latent)
        assert depth_prior(exact, target, along="ray") == prior


def moved(given, motion):
    """Cameras moved with the world."""
    return type(given)(motion @ given.cam_to_world, given.intrinsics, given.near, given.far)


def test_in_the_first_source_s_frame_it_stands_on_the_z_axis_and_looks_at_the_origin():
    given = cameras(2, 3, seed=5)
    seen = in_frame_of(given, given.cam_to_world[:, :1])
    first = opencv_to_opengl(seen.cam_to_world[:, 0])
    torch.testing.assert_close(first[:, :3, :3], torch.eye(3).expand(2, 3, 3), atol=1e-6, rtol=0)
    expected = torch.zeros(2, 3)
    expected[:, 2] = given.positions[:, 0].norm(dim=-1)
    torch.testing.assert_close(first[:, :3, 3], expected, atol=1e-6, rtol=0)
    between = [each.positions[:, 1] - each.positions[:, 2] for each in (given, seen)]
    torch.testing.assert_close(between[0].norm(dim=-1), between[1].norm(dim=-1))
    # Cameras that look at the origin keep their working volume; others would get one round the new origin.
    torch.testing.assert_close(seen.near, given.near, atol=1e-5, rtol=0)
    aside = moved(given, torch.tensor([[1.0, 0, 0, 0.3], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]))
    seen = in_frame_of(aside, aside.cam_to_world[:, :1])
    radius = [each.far - each.near for each in (aside, seen)]
    torch.testing.assert_close(radius[0], radius[1])
    middle = (seen.near + seen.far) / 2 - seen.positions.norm(dim=-1)
    torch.testing.assert_close(
        middle, (aside.near + aside.far) / 2 - aside.positions.norm(dim=-1), atol=1e-5, rtol=0
    )


@torch.no_grad()
def test_images_from_0_to_1_are_denoised_there_and_come_back():
    model = tiny_model().eval()
    other = reconfigured(model, image_range="unit")
    source, target, seeds = views(1, 2), cameras(1, 2, seed=7), torch.tensor([[1, 2]])
    raw, given = [], []
    original = other.denoiser.forward
    other.denoiser.forward = lambda *arguments: raw.append(original(*arguments)) or raw[-1]
    try:
        images = other.sample(
            source, target, seeds, TWO_STEPS, callback=lambda _, clean: given.append(clean)
        ).images
    finally:
        del other.denoiser.forward
    # The last Euler step ends at what was denoised.
    torch.testing.assert_close(
        images, (2 * raw[-1].unflatten(0, (1, 2))[:, :, 0] - 1).clamp(-1, 1), atol=1e-5, rtol=0
    )
    torch.testing.assert_close(given[-1].clamp(-1, 1), images, atol=1e-5, rtol=0)
    assert not torch.allclose(images, model.sample(source, target, seeds, TWO_STEPS).images)


def test_training_also_denoises_in_that_range():
    model = tiny_model().eval()
    other = reconfigured(model, image_range="unit")
    batch = scene_batch([[True]])
    in_unit = batch.apply(lambda tensor: (tensor + 1) / 2 if tensor.shape[-3:] == (3, 16, 16) else tensor)
    seen = type(batch)(batch.source, in_unit.target, batch.scene_ids, batch.seeds)
    torch.testing.assert_close(
        other.loss(batch, progress=0.0)["diffusion"], model.loss(seen, progress=0.0)["diffusion"]
    )


def test_the_depth_prior_along_the_ray_wants_a_sphere_and_along_the_axis_a_plane():
    camera = cameras(1, 1)
    middle = ((camera.near + camera.far) / 2)[:, :, None, None, None]
    opaque = torch.ones(1, 1, 1, 5, 7)
    cosine = camera.rays(5, 7).cosine.unflatten(-1, (5, 7))[:, :, None]
    latent = torch.ones(1, 1, 3, 5, 7)
    plane, sphere = middle * opaque, middle * cosine
    for along, wanted, other in (("axis", plane, sphere), ("ray", sphere, plane)):
        assert depth_prior(LatentImages(latent, wanted, opaque), camera, along=along) < 1e-8
        assert depth_prior(LatentImages(latent, other, opaque), camera, along=along) > 1e-3


def test_a_smaller_model_is_grown_and_says_so():
    small = tiny_model(denoiser={"channels": [32], "depths": [1], "self_attention": [False]})
    large = tiny_model(denoiser={"channels": [32, 32], "depths": [1, 1], "self_attention": [False, False]})
    adapted, notes = large.adapt(small.state_dict())
    large.load_state_dict(adapted)
    assert len(notes) == 1
    assert "level" in notes[0]
    same, nothing = large.adapt(large.state_dict())
    assert nothing == []
    assert all(torch.equal(value, large.state_dict()[name]) for name, value in same.items())


def test_every_setting_that_matters_in_training_alone_is_a_key_of_the_config():
    document = GeNVSConfig().model_dump(mode="json")
    for name in GeNVS.training_settings:
        part = {"model": document}
        for key in name.split("."):
            assert key in part, name
            part = part[key]
