"""models/training/optimizer.py: groups by part and the schedule of the learning rate."""

import math

import pytest
import torch

from config.run import OptimConfig
from models.training.optimizer import (
    clip_gradients,
    learning_rate_factor,
    make_optimizer,
    set_learning_rate,
)
from tests.scenes import tiny_model


@pytest.fixture(scope="module")
def model():
    return tiny_model()


@pytest.fixture(autouse=True)
def _thaw(model):
    model.requires_grad_(True)


def test_the_rate_rises_linearly_and_then_stays():
    config = OptimConfig(warmup=4)
    factors = [learning_rate_factor(config, step, 0.0) for step in (0, 1, 2, 3, 4, 1_000_000)]
    assert factors == [0.25, 0.5, 0.75, 1, 1, 1]
    assert learning_rate_factor(OptimConfig(warmup=0), 0, 0.0) == 1


def factors(steps: int, **schedule) -> list[float]:
    """The factors of a run of so many steps and of what would come after it."""
    config = OptimConfig(**schedule)
    return [learning_rate_factor(config, step, step / steps) for step in range(steps + 1)]


@pytest.mark.parametrize("final", [0.0, 0.1])
def test_the_rate_falls_along_a_cosine_to_its_final_share_at_the_end_of_the_run(final):
    found = factors(150, warmup=0, schedule="cosine", decay_from=2 / 3, final=final)
    assert found[:101] == [1.0] * 101
    assert found[125] == pytest.approx((1 + final) / 2)
    assert found[150] == pytest.approx(final, abs=1e-12)
    assert found[100:] == sorted(found[100:], reverse=True)
    # A second route: torch's own schedule, of the last 50 steps.
    weight = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([weight], lr=1.0)
    theirs = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=50, eta_min=final)
    for ours in found[100:]:
        assert ours == pytest.approx(theirs.get_last_lr()[0], abs=1e-9)
        optimizer.step()
        theirs.step()


def test_warm_up_and_decay_may_overlap():
    found = factors(15, warmup=10, schedule="cosine", decay_from=1 / 3)
    assert found[9] == pytest.approx((1 + math.cos(0.4 * math.pi)) / 2)
    assert found[7] == pytest.approx(0.8 * (1 + math.cos(0.2 * math.pi)) / 2)


def test_the_inverse_square_root_is_that_of_vaswani_and_knows_no_end():
    wanted = [min(n**-0.5, n * 8**-1.5) / 8**-0.5 for n in range(1, 102)]
    assert factors(100, warmup=8, schedule="inverse_square_root") == pytest.approx(wanted)
    longer = factors(200, warmup=8, schedule="inverse_square_root")
    assert longer[:101] == factors(100, warmup=8, schedule="inverse_square_root")


def test_with_a_reference_of_its_own_the_inverse_square_root_is_that_of_karras():
    found = factors(100, warmup=0, schedule="inverse_square_root", reference_steps=25)
    wanted = [1 / math.sqrt(max(n / 25, 1)) for n in range(1, 102)]
    assert found == pytest.approx(wanted)
    assert found[24] == 1
    assert found[99] == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"decay_from": 0.5}, "need schedule=cosine, not constant"),
        ({"final": 0.5, "schedule": "inverse_square_root"}, "need schedule=cosine"),
        ({"reference_steps": 9, "schedule": "cosine"}, "reference_steps needs schedule=inverse"),
        ({"schedule": "cosine", "decay_from": 1.5}, "decay_from"),
        ({"schedule": "cosine", "final": -0.1}, "final"),
        ({"schedule": "linear"}, "cosine"),
    ],
)
def test_keys_that_would_have_no_effect_or_no_meaning_are_refused(changes, words):
    with pytest.raises(ValueError, match=words):
        OptimConfig(**changes)


def test_every_part_has_its_own_rate(model):
    config = OptimConfig(lr=0.01, lr_scale={"encoder": 0.5, "denoiser": 2}, warmup=4)
    optimizer = make_optimizer(model, config)
    set_learning_rate(optimizer, config, 1, 0.0)
    assert [group["lr"] for group in optimizer.param_groups] == pytest.approx([0.0025, 0.005, 0.01])
    held = [id(p) for group in optimizer.param_groups for p in group["params"]]
    assert sorted(held) == sorted(id(p) for p in model.parameters())


def test_a_module_within_a_part_may_have_a_rate_of_its_own(model):
    config = OptimConfig(lr=0.01, lr_scale={"encoder.backbone": 0.1, "encoder": 0.5}, warmup=0)
    optimizer = make_optimizer(model, config)
    rates = {id(p): group["full_lr"] for group in optimizer.param_groups for p in group["params"]}
    assert len(rates) == len(list(model.parameters()))
    for part, rate in (
        (model.encoder.backbone, 0.001),
        (model.encoder.decoder, 0.005),
        (model.renderer, 0.01),
        (model.denoiser, 0.01),
    ):
        assert all(rates[id(p)] == pytest.approx(rate) for p in part.parameters())


def test_a_module_within_a_part_may_be_frozen_alone():
    model = tiny_model()
    make_optimizer(model, OptimConfig(lr_scale={"encoder.backbone": 0}))
    assert not any(p.requires_grad for p in model.encoder.backbone.parameters())
    assert all(p.requires_grad for p in model.encoder.decoder.parameters())


def test_a_factor_of_zero_freezes_a_part(model):
    optimizer = make_optimizer(model, OptimConfig(lr_scale={"renderer": 0}))
    held = {id(p) for group in optimizer.param_groups for p in group["params"]}
    assert not held & {id(p) for p in model.renderer.parameters()}
    assert not any(p.requires_grad for p in model.renderer.parameters())
    assert all(p.requires_grad for p in model.encoder.parameters())


@pytest.mark.parametrize(
    ("scale", "words"),
    [
        ({"encodr": 1.0}, "no part 'encodr'.*encoder, renderer, denoiser"),
        ({"encodr.backbone": 1.0}, "no part 'encodr.backbone'.*encoder, renderer, denoiser"),
        ({"encoder.spine": 1.0}, "no part 'encoder.spine'.*encoder.backbone, encoder.decoder"),
    ],
)
def test_a_factor_for_a_part_that_does_not_exist_is_named(model, scale, words):
    with pytest.raises(ValueError, match=words):
        make_optimizer(model, OptimConfig(lr_scale=scale))


def test_a_negative_factor_is_refused():
    with pytest.raises(ValueError, match="lr_scale"):
        OptimConfig(lr_scale={"encoder": -1.0})


def test_nothing_to_train_is_one_clear_line(model):
    nothing = OptimConfig(lr_scale=dict.fromkeys(model.parts(), 0))
    with pytest.raises(ValueError, match=r"optim\.lr_scale"):
        make_optimizer(model, nothing)


def test_a_step_moves_weights_by_the_rate_of_their_part(model):
    config = OptimConfig(lr=0.01, lr_scale={"encoder": 0.1}, warmup=0)
    optimizer = make_optimizer(model, config)
    set_learning_rate(optimizer, config, 0, 0.0)
    chosen = [next(part.parameters()) for part in model.parts().values()]
    before = [p.detach().clone() for p in chosen]
    for p in chosen:
        p.grad = torch.ones_like(p)
    optimizer.step()  # AdamW's first step is the sign of the gradient times the rate
    moved = [(old - p.detach()).mean().item() for old, p in zip(before, chosen, strict=True)]
    assert moved == pytest.approx([0.001, 0.01, 0.01], rel=1e-3)


def test_a_part_that_takes_no_part_in_the_loss_is_not_trained():
    model = tiny_model(loss={"diffusion": 0.0})
    names = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    optimizer = make_optimizer(model, OptimConfig())
    trained = sum(len(group["params"]) for group in optimizer.param_groups)
    assert trained == len(names) > 0
    assert not any(name.startswith("denoiser") for name in names)


def test_gradients_are_scaled_to_the_largest_norm_and_their_own_is_told():
    generator = torch.Generator().manual_seed(0)
    weights = [torch.nn.Parameter(torch.zeros(*shape)) for shape in ((3,), (2, 5), (4,))]
    idle = torch.nn.Parameter(torch.zeros(7))  # no gradient reached it
    parts = {"field": weights[:2], "unet": [weights[2], idle], "unused": [idle]}
    for largest in (0.1, 100.0):
        for weight in weights:
            weight.grad = torch.randn(weight.shape, generator=generator)
        before = torch.cat([weight.grad.flatten() for weight in weights])
        norms = clip_gradients(parts, largest)
        assert list(norms) == ["gradient_norm", "gradient_norm/field", "gradient_norm/unet"]
        naive = {"gradient_norm": 0.0, "gradient_norm/field": 0.0, "gradient_norm/unet": 0.0}
        for place, number in enumerate(before.tolist()):
            part = "field" if place < 13 else "unet"
            for name in ("gradient_norm", f"gradient_norm/{part}"):
                naive[name] += number**2
        for name, squares in naive.items():
            assert norms[name].item() == pytest.approx(squares**0.5)
        norm = norms["gradient_norm"]
        after = torch.cat([weight.grad.flatten() for weight in weights])
        torch.testing.assert_close(after, before * min(1.0, largest / norm.item()), rtol=1e-5, atol=1e-6)


def test_a_fused_step_equals_a_plain_one_also_with_channels_last():
    generator = torch.Generator().manual_seed(0)
    weight, gradients = torch.randn(4, 3, 2, 5, generator=generator), torch.randn(3, 4, 3, 2, 5)
    found = []
    for order, fused in ((torch.contiguous_format, False), (torch.channels_last, True)):
        parameter = torch.nn.Parameter(weight.clone().to(memory_format=order))
        optimizer = torch.optim.AdamW([parameter], lr=0.01, betas=(0.9, 0.99), fused=fused)
        for gradient in gradients:
            parameter.grad = gradient.to(memory_format=order)
            optimizer.step()
        found.append(parameter.detach())
    torch.testing.assert_close(found[1], found[0], atol=1e-7, rtol=1e-6)
