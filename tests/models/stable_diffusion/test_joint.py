"""Views of a scene look at each other, and at nothing else."""

import pytest
import torch

pytest.importorskip("diffusers")

from models.stable_diffusion.attention import attend_jointly
from models.stable_diffusion.base import encode_text, load_base
from models.stable_diffusion.control import control_network
from models.stable_diffusion.denoiser import (
    Condition,
    LatentDenoiser,
    guidance_terms,
    guided_denoise,
    with_context,
)
from models.stable_diffusion.losses import min_snr_weight, offset_noise, prediction_target, weighted_error
from tests.models.stable_diffusion.tiny_base import write_base


@pytest.fixture(scope="module")
def parts(tmp_path_factory):
    base = load_base(str(write_base(tmp_path_factory.mktemp("base"))))
    control = control_network(base.unet, channels=5, widths=(4, 8, 12))
    torch.manual_seed(1)
    for parameter in control.parameters():  # a control that is heeded
        if parameter.requires_grad:
            parameter.data.add_(0.1 * torch.randn_like(parameter))
    plain = LatentDenoiser(base.unet, control, base.table)
    return base, plain


@pytest.fixture
def model(parts):
    base, model = parts
    before = [(network, dict(network.attn_processors)) for network in (base.unet, model.control)]
    attend_jointly(base.unet)
    attend_jointly(model.control)
    yield model
    for network, processors in before:
        network.set_attn_processor(processors)


def inputs(base, n):
    generator = torch.Generator().manual_seed(n)
    text = encode_text(base, ["a red car"]).expand(n, -1, -1)
    labels = torch.arange(n) % 2
    features = torch.rand(n, 5, 32, 32, generator=generator)
    return (
        torch.randn(n, 4, 8, 8, generator=generator),
        torch.full((n,), 2.0),
        Condition(text, features, labels),
    )


def subset(condition, index):
    return Condition(condition.text[index], condition.features[index], condition.labels[index])


@torch.no_grad()
def test_a_scene_of_one_view_equals_plain_attention_whatever_ran_before(parts, model):
    from diffusers.models.attention_processor import AttnProcessor2_0

    noisy, sigma, condition = inputs(parts[0], 4)
    model.denoise(noisy, sigma, condition, num_views=4)
    alone = model.denoise(noisy, sigma, condition)
    for network in (model.unet, model.control):
        network.set_attn_processor(AttnProcessor2_0())
    plain = model.denoise(noisy, sigma, condition)
    torch.testing.assert_close(alone, plain, atol=2e-6, rtol=0)


@torch.no_grad()
def test_views_may_come_in_any_order_and_scenes_do_not_meet(parts, model):
    base = parts[0]
    noisy, sigma, condition = inputs(base, 6)
    guided = guided_denoise(
        model,
        guidance_terms(
            "drop_control", condition, encode_text(base, [""]).expand(6, -1, -1), None, weight=2.0
        ),
        num_views=3,
    )
    before = guided(noisy, sigma)
    order = torch.tensor([2, 0, 1, 3, 4, 5])
    moved_terms = guidance_terms(
        "drop_control",
        subset(condition, order),
        encode_text(base, [""]).expand(6, -1, -1),
        None,
        weight=2.0,
    )
    moved = guided_denoise(model, moved_terms, num_views=3)(noisy[order], sigma)
    torch.testing.assert_close(moved, before[order], atol=2e-5, rtol=0)
    other = noisy.clone()
    other[:3] += 1
    assert torch.equal(guided(other, sigma)[3:], before[3:])
    assert (guided(other, sigma)[:3] != before[:3]).any()


@torch.no_grad()
def test_equal_views_see_what_one_sees(parts, model):
    noisy, sigma, condition = inputs(parts[0], 4)
    same = torch.zeros(4, dtype=torch.long)
    joint = model.denoise(noisy[same], sigma, subset(condition, same), num_views=4)
    alone = model.denoise(noisy[:1], sigma[:1], subset(condition, same[:1]))
    torch.testing.assert_close(joint, alone.expand(4, -1, -1, -1), atol=2e-5, rtol=0)


def test_gradients_pass_from_view_to_view_and_not_from_scene_to_scene(parts, model):
    noisy, sigma, condition = inputs(parts[0], 4)
    noisy.requires_grad_()
    model.denoise(noisy, sigma, condition, num_views=2)[1].sum().backward()
    reached = noisy.grad.abs().sum(dim=(1, 2, 3)) > 0
    assert reached.tolist() == [True, True, False, False]


def test_checkpointing_changes_no_gradient(parts, model):
    noisy, sigma, condition = inputs(parts[0], 4)
    gradients = []
    for checkpointing in (False, True):
        for network in (model.unet, model.control):
            network.enable_gradient_checkpointing() if checkpointing else None
            network.train()
        model.control.zero_grad()
        model.denoise(noisy, sigma, condition, num_views=2).square().mean().backward()
        gradients.append([p.grad.clone() for p in model.control.parameters() if p.requires_grad])
    for network in (model.unet, model.control):
        network.disable_gradient_checkpointing()
    model.unet.eval()
    assert all(torch.equal(*pair) for pair in zip(*gradients, strict=True))


def test_a_broken_scene_is_refused(parts, model):
    with pytest.raises(ValueError, match="5 views are no whole number of scenes of 2"):
        model.denoise(*inputs(parts[0], 5), num_views=2)


def test_finished_views_are_put_under_noise_of_the_current_level_and_are_not_changed():
    seen = []

    def denoise(noisy, sigma):
        seen.append((noisy, sigma))
        return 0 * noisy

    finished, new = torch.randn(2 * 3, 1, 64, 64), torch.randn(2 * 2, 1, 64, 64)
    kept = finished.clone()
    generator = torch.Generator().manual_seed(0)
    fresh = lambda call: torch.randn(6, 1, 64, 64, generator=generator)  # noqa: E731
    beside = with_context(denoise, finished, fresh, num_scenes=2)
    for level in (7.0, 0.5):
        assert beside(new, torch.tensor(level)).shape == new.shape
    assert torch.equal(finished, kept)
    for (noisy, sigma), level in zip(seen, (7.0, 0.5), strict=True):
        scenes = noisy.unflatten(0, (2, 5))
        assert torch.equal(scenes[:, 3:].flatten(0, 1), new)
        added = scenes[:, :3].flatten(0, 1) - finished
        assert float(added.std()) == pytest.approx(level, rel=0.03)
        assert sigma.tolist() == [level] * 10


@pytest.mark.parametrize("guidance", ["none", "drop_control", "text_only", "class_null", "three_way"])
def test_the_weights_of_guidance_sum_to_one(guidance):
    condition = Condition(torch.zeros(2, 7, 3), torch.zeros(2, 5, 8, 8), torch.zeros(2, dtype=torch.long))
    noise = torch.rand(2, 5, 8, 8)
    terms = guidance_terms(guidance, condition, condition.text, noise, weight=2.5, second_weight=4.0)
    assert sum(share for share, _ in terms) == 1
    plain = guidance_terms(guidance, condition, condition.text, noise, weight=1.0, second_weight=1.0)
    assert [share for share, _ in plain] == [1.0]


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
def test_a_perfect_prediction_gives_the_clean_latents_and_no_loss(parts, monkeypatch, prediction):
    table = parts[0].table
    clean, noise, time = torch.randn(3, 4, 8, 8), torch.randn(3, 4, 8, 8), torch.tensor([5, 400, 990])
    model = LatentDenoiser(torch.nn.Identity(), torch.nn.Identity(), table, prediction)
    target = prediction_target(clean, noise, table.gammas[time], prediction)
    monkeypatch.setattr(model, "predict", lambda *_, **__: target)
    sigma = table.sigmas[time]
    found = model.denoise(clean + sigma[:, None, None, None] * noise, sigma, Condition(torch.zeros(3, 7, 3)))
    torch.testing.assert_close(found, clean, atol=2e-4, rtol=0)
    assert float(weighted_error(target, target, torch.ones(3))) == 0


def test_weights_are_one_at_high_noise_and_agree_with_the_library(parts):
    from diffusers import DDPMScheduler
    from diffusers.training_utils import compute_snr

    scheduler = DDPMScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear")
    time = torch.arange(0, 1000, 37)
    snr, gamma = compute_snr(scheduler, time), parts[0].table.gammas[time]
    torch.testing.assert_close(min_snr_weight(gamma, "epsilon"), snr.clamp_max(10) / snr, rtol=1e-4, atol=0)
    torch.testing.assert_close(
        min_snr_weight(gamma, "v_prediction"), snr.clamp_max(10) / (snr + 1), rtol=1e-4, atol=0
    )
    assert (min_snr_weight(gamma, "epsilon")[snr <= 10] == 1).all()


def test_offset_noise_moves_whole_channels():
    generator = torch.Generator().manual_seed(0)
    normal = torch.randn(4000, 4, 8, 8, generator=generator)
    means = offset_noise(normal, torch.randn(4000, 4, 1, 1, generator=generator)).mean(dim=(2, 3))
    assert float(means.var()) == pytest.approx(1 / 64 + 0.01, rel=0.05)
