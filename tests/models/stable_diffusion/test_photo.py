"""A ControlNet that also sees the source photo, as latents beside the noisy ones."""

from dataclasses import replace

import pytest
import torch

pytest.importorskip("diffusers")

from config.families import family
from models.stable_diffusion.denoiser import Condition
from models.stable_diffusion.latents import first_photo
from tests.models.stable_diffusion.test_programs import document, plant, sampled, trained
from tests.models.stable_diffusion.tiny_base import require_base
from tests.scenes import TINY_FAMILIES, cameras, scene_batch, views

FAMILIES = ("controlnet", "multiview")
PHOTO = {"control": {"photo": True}}


def made(name: str, **changes):
    torch.manual_seed(0)
    kind = family(name)
    model = kind(kind.Config.model_validate(require_base(TINY_FAMILIES[name]) | changes)).eval()
    with torch.no_grad():
        for parameter in model.control.controlnet_down_blocks.parameters():
            parameter.normal_(std=0.1)
    return model


def with_and_without(name: str):
    """A model that sees photos, with the weights of one that does not."""
    plain, model = made(name), made(name, **PHOTO)
    given, notes = model.adapt(plain.state_dict())
    model.load_state_dict(given)
    assert any("ignores the other 4 beside the noisy latents" in note for note in notes)
    return plain, model


def draw(model):
    return model.sample(
        views(1, 2, seed=3), cameras(1, 3, seed=6), torch.tensor([[1, 2, 3]]), model.SampleConfig(steps=2)
    ).images


@pytest.mark.parametrize("name", FAMILIES)
def test_the_photo_has_no_effect_before_training_and_one_after(name):
    plain, model = with_and_without(name)
    torch.testing.assert_close(draw(model), draw(plain))
    batch = scene_batch([[True, True]], num_target=2)
    losses = [each.loss(batch, progress=0.0)["diffusion"] for each in (plain, model)]
    torch.testing.assert_close(*losses)
    losses[1].backward()
    weight = model.control.conv_in.weight
    assert weight.shape[1] == 8
    assert weight.grad[:, 4:].abs().max() > 0
    before = draw(model)
    with torch.no_grad():
        weight[:, 4:].normal_()
    assert float((draw(model) - before).abs().max()) > 1e-4


@torch.no_grad()
def test_views_without_condition_do_not_see_it():
    model = made("controlnet", **PHOTO)
    model.control.conv_in.weight.normal_()
    denoiser = model._denoiser(model._frozen.on(torch.device("cpu")))
    features = torch.rand(2, model.config.renderer.latent_channels, 16, 16)
    condition = Condition(torch.randn(2, 6, 24), features, torch.tensor([0, 1]), torch.randn(2, 4, 4, 4))
    noisy, time = torch.randn(2, 4, 4, 4), torch.tensor([10, 10])
    found, moved = (
        denoiser.predict(noisy, time, each)
        for each in (condition, replace(condition, photo=condition.photo + 1))
    )
    assert not torch.allclose(found[0], moved[0], atol=1e-4)
    assert torch.equal(found[1], moved[1])


def test_the_first_photo_that_is_no_padding():
    photos = torch.arange(6.0).reshape(2, 3, 1, 1, 1)
    valid = torch.tensor([[True, False, True], [False, True, True]])
    assert first_photo(photos, valid).flatten().tolist() == [0, 4]


@pytest.mark.parametrize("name", FAMILIES)
def test_a_run_trains_and_draws(tmp_path, plant_object, name):
    plant(tmp_path, plant_object)
    assert trained(tmp_path, document(tmp_path, name, model=PHOTO)) == 0
    for mode in ("class_null", "three_way"):
        words = ["--trajectory", "circle", "--views", "3", "--guidance-mode", mode, "--cfg", "2"]
        assert sampled(tmp_path, *words, out=mode) == 0
    assert sampled(tmp_path, "--views", "2", "--unconditional", "--cfg", "2", out="none") == 0
