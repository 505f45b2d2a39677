"""models/training/ema.py: the average of weights, against a loop."""

import copy

import pytest
import torch
from torch import nn

from models.training.ema import EMA


def layer(value: float = 0.0) -> nn.Linear:
    module = nn.Linear(2, 3)
    nn.init.constant_(module.weight, value)
    nn.init.constant_(module.bias, -value)
    return module


@pytest.mark.parametrize("decay", [0.0, 0.5, 0.9999])
def test_the_average_equals_a_loop_with_warm_up(decay):
    module, expected = layer(1.0), 1.0
    ema = EMA(module, decay)
    for update in range(1, 30):
        with torch.no_grad():
            module.weight.fill_(update**2)
        ema.update(module, update)
        keep = min(decay, (1 + update) / (10 + update))
        expected = keep * expected + (1 - keep) * update**2
    torch.testing.assert_close(ema.shadow["weight"], torch.full((3, 2), expected))


def test_weights_that_stand_still_are_their_own_average():
    module = layer(0.3)
    ema = EMA(module, 0.99)
    for update in range(1, 20):
        ema.update(module, update)
    torch.testing.assert_close(ema.shadow["bias"], module.bias.detach())


def test_early_weights_are_soon_forgotten():
    module = layer(1000.0)
    ema = EMA(module, 0.9999)
    with torch.no_grad():
        module.weight.zero_()
    for update in range(1, 60):
        ema.update(module, update)
    assert ema.shadow["weight"].max() < 0.02


def test_exchanging_twice_restores_both_to_the_last_bit():
    module = nn.Linear(5, 7)
    ema = EMA(module, 0.9)
    with torch.no_grad():
        module.weight.add_(1)
    weights, average = module.weight.detach().clone(), ema.shadow["weight"].clone()
    ema.swap(module)
    assert torch.equal(module.weight, average)
    assert torch.equal(ema.shadow["weight"], weights)
    ema.swap(module)
    assert torch.equal(module.weight, weights)
    assert torch.equal(ema.shadow["weight"], average)


def test_the_average_does_not_share_memory_with_the_weights():
    module = layer(1.0)
    ema = EMA(module, 0.9)
    with torch.no_grad():
        module.weight.fill_(5.0)
    assert (ema.shadow["weight"] == 1).all()
    ema.reset(module)
    assert (ema.shadow["weight"] == 5).all()
    with torch.no_grad():
        module.weight.fill_(6.0)
    assert (ema.shadow["weight"] == 5).all()


def test_the_average_of_half_precision_weights_is_kept_in_single():
    module = layer(1.0).bfloat16()
    ema = EMA(module, 0.999)
    with torch.no_grad():
        module.weight.fill_(1.0078125)  # the next number in bfloat16
    for update in range(1, 5):
        ema.update(module, update)
    assert ema.shadow["weight"].dtype == torch.float32
    assert 1 < ema.shadow["weight"].max() < 1.0078125


def test_weights_with_channels_last_are_averaged_the_same():
    torch.manual_seed(0)
    modules = [nn.Conv2d(3, 4, 2)]
    modules.append(copy.deepcopy(modules[0]).to(memory_format=torch.channels_last))
    averages = [EMA(module, 0.9) for module in modules]
    for module, ema in zip(modules, averages, strict=True):
        with torch.no_grad():
            module.weight.add_(torch.arange(48.0).reshape(4, 3, 2, 2))
        ema.update(module, 5)
    plain, turned = (ema.shadow["weight"] for ema in averages)
    assert turned.stride() == modules[1].weight.stride() != plain.stride()
    assert torch.equal(turned, plain)
