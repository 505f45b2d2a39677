"""What a frozen base and its ControlNet do by construction: classes, guidance, losses and ranges."""

from dataclasses import replace

import pytest
import torch

pytest.importorskip("diffusers")

from config.families import family
from models.stable_diffusion import latents
from models.stable_diffusion.base import encode_text, load_base
from models.stable_diffusion.control import control_network
from models.stable_diffusion.denoiser import (
    Condition,
    LatentDenoiser,
    guidance_terms,
    guided_denoise,
    with_context,
)
from models.stable_diffusion.drawing import Texts, draw_group
from models.stable_diffusion.losses import min_snr_weight, weighted_error
from models.stable_diffusion.settings import ControlledSampleOptions
from tests.models.stable_diffusion.tiny_base import require_base, write_base
from tests.scenes import TINY_FAMILIES, scene_batch

MODES = ("none", "drop_control", "text_only", "class_null", "three_way")


def made(folder, *, mid_block: bool = False, trained: bool = True):
    base = load_base(str(write_base(folder, mid_block=mid_block)))
    torch.manual_seed(2)
    control = control_network(base.unet, channels=5, widths=(4, 8, 12))
    if trained:
        with torch.no_grad():
            for parameter in control.parameters():
                parameter.add_(0.1 * torch.randn_like(parameter))
    return base, LatentDenoiser(base.unet, control, base.table)


@pytest.fixture(scope="module")
def parts(tmp_path_factory):
    return made(tmp_path_factory.mktemp("base"))


def inputs(base, num: int = 2):
    generator = torch.Generator().manual_seed(num)
    text = encode_text(base, ["a red car"]).expand(num, -1, -1)
    features = torch.rand(num, 5, 32, 32, generator=generator)
    condition = Condition(text, features, torch.zeros(num, dtype=torch.long))
    return torch.randn(num, 4, 8, 8, generator=generator), torch.tensor(1.5), condition


@pytest.mark.parametrize(("mid_block", "with_mid"), [(False, False), (True, True)])
@torch.no_grad()
def test_residuals_have_the_shapes_of_the_skip_features(tmp_path, mid_block, with_mid):
    base = load_base(str(write_base(tmp_path, mid_block=mid_block)))
    control = control_network(base.unet, channels=5, widths=(4, 8, 12), mid_residual=with_mid)
    noisy, _, condition = inputs(base)
    down, mid = control(
        noisy, torch.tensor([5, 6]), condition.text, condition.features, class_labels=condition.labels,
        return_dict=False,
    )  # fmt: skip
    sizes = [(8, 8), (8, 8), (8, 4), (16, 4), (16, 2), (16, 2)]
    assert [tuple(each.shape[1:3]) for each in down] == sizes
    assert tuple(mid.shape) == ((2, 16, 2, 2) if with_mid else ())


@torch.no_grad()
def test_the_conditioned_class_begins_without_effect_and_the_other_with_one(tmp_path):
    base, model = made(tmp_path, trained=False)
    for parameter in model.control.controlnet_down_blocks.parameters():
        parameter.normal_(std=0.1)
    noisy, _, condition = inputs(base)
    time = torch.tensor([30, 600])
    with_class = model.predict(noisy, time, condition)
    other = model.predict(noisy, time, replace(condition, labels=torch.ones(2, dtype=torch.long)))
    model.control.class_embedding.weight.zero_()
    assert torch.equal(with_class, model.predict(noisy, time, condition))
    assert float((with_class - other).abs().max()) > 1e-4


@pytest.mark.parametrize("mode", MODES)
@torch.no_grad()
def test_guidance_is_affine_in_its_weight_and_of_weight_one_the_condition(parts, mode):
    base, model = parts
    noisy, sigma, condition = inputs(base)
    null, noise = encode_text(base, [""]).expand(2, -1, -1), torch.rand(2, 5, 32, 32)

    def at(weight, second=1.0):
        terms = guidance_terms(mode, condition, null, noise, weight=weight, second_weight=second)
        return guided_denoise(model, terms)(noisy, sigma)

    plain = model.denoise(noisy, sigma.expand(2), condition)
    torch.testing.assert_close(at(1.0), plain, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(at(3.0) - at(2.0), at(2.0) - at(1.0), atol=1e-4, rtol=1e-4)
    assert torch.allclose(at(3.0), plain, atol=1e-4) == (mode == "none")


@torch.no_grad()
def test_without_control_and_text_a_view_is_the_bases_own(parts):
    base, model = parts
    noisy, _, condition = inputs(base)
    null = encode_text(base, [""]).expand(2, -1, -1)
    (_, _), (share, term) = guidance_terms("drop_control", condition, null, None, weight=3.0)
    time = torch.tensor([30, 600])
    assert share == -2
    assert torch.equal(model.predict(noisy, time, term), base.unet(noisy, time, null).sample)


@torch.no_grad()
def test_no_finished_views_change_nothing(parts):
    base, model = parts
    noisy, sigma, condition = inputs(base)
    denoise = guided_denoise(model, [(1.0, condition)])
    beside = with_context(denoise, noisy[:0], lambda _: noisy[:0], num_scenes=1)
    assert torch.equal(beside(noisy, sigma), denoise(noisy, sigma))


def test_a_few_latents_are_learned_by_heart(tmp_path):
    base, model = made(tmp_path, trained=False)
    generator = torch.Generator().manual_seed(4)
    clean, noise = (torch.randn(4, 4, 8, 8, generator=generator) for _ in range(2))
    condition = inputs(base, 4)[2]
    time = torch.tensor([100, 300, 500, 700])
    gamma = base.table.gammas[time][:, None, None, None]
    noisy, weight = (
        gamma.sqrt() * clean + (1 - gamma).sqrt() * noise,
        min_snr_weight(gamma.flatten(), "epsilon"),
    )
    optimizer = torch.optim.AdamW([p for p in model.control.parameters() if p.requires_grad], lr=1e-2)
    found = []
    for _ in range(60):
        loss = weighted_error(model.predict(noisy, time, condition), noise, weight)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        found.append(float(loss.detach()))
    assert found[-1] < 0.75 * found[0]


@pytest.mark.parametrize("name", ["controlnet", "multiview"])
def test_gradients_of_halves_are_those_of_the_whole(name):
    kind = family(name)
    model = kind(kind.Config.model_validate(require_base(TINY_FAMILIES[name]))).eval()
    whole = scene_batch([[True]] * 4, num_target=2)

    def gradients(*batches):
        model.zero_grad()
        for batch in batches:
            (model.loss(batch, progress=0.0)["diffusion"] / len(batches)).backward()
        return {key: p.grad.clone() for key, p in model.named_parameters() if p.grad is not None}

    halves = [
        replace(
            whole,
            source=whole.source.apply(lambda tensor, part=part: tensor[part]),
            target=whole.target.apply(lambda tensor, part=part: tensor[part]),
            scene_ids=whole.scene_ids[part],
            seeds=whole.seeds[part],
        )
        for part in (slice(0, 2), slice(2, 4))
    ]
    one, other = gradients(whole), gradients(*halves)
    assert one.keys() == other.keys()
    largest = max(float(value.abs().max()) for value in one.values())
    for key, value in one.items():
        torch.testing.assert_close(other[key], value, atol=1e-5 * largest, rtol=1e-3)


@torch.no_grad()
def test_drawn_views_are_in_the_range_of_images(parts):
    base, model = parts
    condition = inputs(base)[2]
    texts = Texts(encode_text(base, ["a car"]), encode_text(base, [""]))
    options = ControlledSampleOptions(steps=2, guidance=20.0)
    drawn = draw_group(
        model, condition.features[None], texts, torch.tensor([[1, 2]]), (4, 8, 8), options, joint=False
    )
    images = latents.decode(base.vae, 100 * drawn[0])
    assert images.shape == (2, 3, 32, 32)
    assert -1 <= float(images.min()) < float(images.max()) <= 1
