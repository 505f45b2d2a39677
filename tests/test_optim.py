"""models/optim.py: groups by part and the schedule of the learning rate."""

import math

import pytest
import torch
from scenes import tiny_model

from models.optim import OptimConfig, clip_gradients, learning_rate_factor, make_optimizer, set_learning_rate


@pytest.fixture(scope="module")
def model():
    return tiny_model()


@pytest.fixture(autouse=True)
def _thaw(model):
    model.requires_grad_(True)


def test_the_rate_rises_linearly_and_then_stays():
    config = OptimConfig(warmup=4)
    factors = [learning_rate_factor(config, step) for step in (0, 1, 2, 3, 4, 1_000_000)]
    assert factors == [0.25, 0.5, 0.75, 1, 1, 1]
    assert learning_rate_factor(OptimConfig(warmup=0), 0) == 1


def test_the_rate_falls_along_a_cosine_from_a_step_on_and_stays_at_zero():
    config = OptimConfig(warmup=0, decay_from=100, decay_steps=50)
    for step, expected in ((99, 1.0), (100, 1.0), (125, 0.5), (150, 0.0), (10_000, 0.0)):
        assert learning_rate_factor(config, step) == pytest.approx(expected, abs=1e-12)
    at_a_third = 100 + 50 / 3
    lower, upper = (
        learning_rate_factor(config, step) for step in (math.ceil(at_a_third), math.floor(at_a_third))
    )
    assert lower < (1 + math.cos(math.pi / 3)) / 2 < upper


def test_warm_up_and_decay_may_overlap():
    config = OptimConfig(warmup=10, decay_from=5, decay_steps=10)
    assert learning_rate_factor(config, 9) == pytest.approx((1 + math.cos(0.4 * math.pi)) / 2)
    assert learning_rate_factor(config, 7) == pytest.approx(0.8 * (1 + math.cos(0.2 * math.pi)) / 2)


def test_every_part_has_its_own_rate(model):
    config = OptimConfig(lr=0.01, lr_scale={"encoder": 0.5, "denoiser": 2}, warmup=4)
    optimizer = make_optimizer(model, config)
    set_learning_rate(optimizer, config, 1)
    assert [group["lr"] for group in optimizer.param_groups] == pytest.approx([0.0025, 0.005, 0.01])
    held = [id(p) for group in optimizer.param_groups for p in group["params"]]
    assert sorted(held) == sorted(id(p) for p in model.parameters())


def test_a_factor_of_zero_freezes_a_part(model):
    optimizer = make_optimizer(model, OptimConfig(lr_scale={"renderer": 0}))
    held = {id(p) for group in optimizer.param_groups for p in group["params"]}
    assert not held & {id(p) for p in model.renderer.parameters()}
    assert not any(p.requires_grad for p in model.renderer.parameters())
    assert all(p.requires_grad for p in model.encoder.parameters())


@pytest.mark.parametrize(
    ("scale", "words"), [({"encodr": 1.0}, "no part 'encodr'.*encoder, renderer, denoiser")]
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
    set_learning_rate(optimizer, config, 0)
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
    weights = [torch.nn.Parameter(torch.zeros(*shape)) for shape in ((3,), (2, 5))]
    for largest in (0.1, 100.0):
        for weight in weights:
            weight.grad = torch.randn(weight.shape, generator=generator)
        before = torch.cat([weight.grad.flatten() for weight in weights])
        norm = clip_gradients(weights, largest)
        torch.testing.assert_close(norm, before.square().sum().sqrt())
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
