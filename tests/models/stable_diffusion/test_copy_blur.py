"""The first stage of the published training: a ControlNet on blurred copies of the targets."""

import pytest
import torch

pytest.importorskip("diffusers")

from config.families import family
from models.stable_diffusion.control import FIRST_LAYER
from models.stable_diffusion.losses import RGB, blurred
from tests.models.stable_diffusion.tiny_base import require_base
from tests.scenes import TINY_FAMILIES, scene_batch

NAMES = ("controlnet", "multiview")
BLURRED = {"condition": "blurred_target", "loss": {"diffusion": 1, "rgb": 0, "opacity": 0}}


def made(name: str = "controlnet", **changes):
    torch.manual_seed(0)
    kind = family(name)
    return kind(kind.Config.model_validate(require_base(TINY_FAMILIES[name]) | changes))


def test_a_blurred_target_is_colours_and_zeros():
    images, seeds = 2 * torch.rand(2, 3, 3, 24, 16) - 1, torch.tensor([4, 5])
    found = blurred(images, seeds, 5)
    assert found.shape == (2, 3, 5, 24, 16)
    assert not found[:, :, RGB:].any()
    assert 0 <= float(found.min()) < float(found.max()) <= 1
    before = ((images + 1) / 2).var(dim=(-1, -2))
    assert bool((found[:, :, :RGB].var(dim=(-1, -2)) < 0.5 * before).all())
    torch.testing.assert_close(blurred(images[1:], seeds[1:], 5), found[1:])
    plain = torch.full((1, 2, 3, 8, 8), 0.5)
    torch.testing.assert_close(blurred(plain, seeds[:1], 3), torch.full((1, 2, 3, 8, 8), 0.75))


def test_the_strength_of_the_blur_differs_between_views():
    edge = torch.ones(1, 40, 3, 32, 32)
    edge[..., 16:] = -1
    found = blurred(edge, torch.tensor([7]), 3)[0, :, 0, 16]
    slopes = {round(float(row[15] - row[16]), 4) for row in found}
    assert 5 <= len(slopes) <= 9


@pytest.mark.parametrize("name", NAMES)
def test_only_the_control_learns_and_what_it_will_see_later_has_no_effect_yet(name):
    model = made(name, **BLURRED)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.01)
    batch, first = scene_batch([[True], [True]]), model.control.state_dict()[FIRST_LAYER]
    for _ in range(3):
        optimizer.zero_grad()
        terms = model.loss(batch, progress=0.0)
        assert set(terms) == {"diffusion"}
        terms["diffusion"].backward()
        optimizer.step()
    assert all(weight.grad is None for weight in model.encoder.parameters())
    assert all(weight.grad is None for weight in model.renderer.parameters())
    assert first[:, :RGB].any()
    assert not first[:, RGB:].any()

    later = made(name)
    later.load_state_dict(later.adapt(model.state_dict())[0])
    features = torch.rand(1, later.config.renderer.latent_channels, 16, 16)
    other = torch.cat([features[:, :RGB], torch.rand_like(features[:, RGB:])], dim=1)
    embed = later.control.controlnet_cond_embedding
    assert torch.equal(embed(features), embed(other))


def test_a_control_on_three_channels_is_handed_over():
    narrow = made(renderer=TINY_FAMILIES["controlnet"]["renderer"] | {"latent_channels": 3})
    wide = made()
    given, notes = wide.adapt(narrow.state_dict())
    assert any("sees 3 channels" in note for note in notes)
    own = {name: value for name, value in given.items() if name.startswith("control.")}
    wide.load_state_dict(own, strict=False)
    features = torch.rand(2, wide.config.renderer.latent_channels, 16, 16)
    embedded = [
        model.control.controlnet_cond_embedding.conv_in(features[:, :channels])
        for model, channels in ((narrow, 3), (wide, features.shape[1]))
    ]
    torch.testing.assert_close(*embedded)


def test_losses_of_volumes_are_refused():
    with pytest.raises(ValueError, match=r"set loss\.rgb to 0"):
        made(**BLURRED | {"loss": {"diffusion": 1, "rgb": 1, "opacity": 0}})
