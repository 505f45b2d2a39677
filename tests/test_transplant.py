"""diffusion/transplant.py: a denoiser that was made to fit computes what it computed before."""

import pytest
import torch

from diffusion.denoiser import DenoiserConfig, EDMDenoiser
from diffusion.layers import Downsample, Upsample
from diffusion.transplant import PROJ_IN, adapt, graft, grow, levels
from diffusion.upstream import k_diffusion

SMALL = {"channels": (32, 64), "depths": (1, 2), "self_attention": (False, True), "mapping_width": 16}
LARGE = {**SMALL, "channels": (32, 32, 64), "depths": (2, 1, 2), "self_attention": (True, False, True)}
KERNEL = torch.outer(torch.tensor([1.0, 3, 3, 1]), torch.tensor([1.0, 3, 3, 1])) / 64


def denoiser(seed: int = 0, *, condition_channels: int = 5, **config) -> EDMDenoiser:
    network = EDMDenoiser(DenoiserConfig(**config), condition_channels=condition_channels).eval()
    return with_random_weights(network, seed)


def with_random_weights(network, seed: int):
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in network.parameters():
            weight.copy_(0.2 * torch.randn(weight.shape, generator=generator))
    return network


def plain(**options):
    """k-diffusion's own network without condition, and its state under our names."""
    network = (
        k_diffusion().models.ImageDenoiserModelV1(3, 16, (1, 2), (32, 64), (False, True), **options).eval()
    )
    with_random_weights(network, 3)
    return network, {f"inner_model.{name}": value for name, value in network.state_dict().items()}


def draw(*shape, seed: int = 1, dtype=torch.float32) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


@torch.no_grad()
@pytest.mark.parametrize("has_variance", [False, True])
@pytest.mark.parametrize("mapping_cond_dim", [0, 9])
def test_a_grafted_denoiser_equals_the_original_to_the_last_bit(has_variance, mapping_cond_dim):
    network, weights = plain(has_variance=has_variance, mapping_cond_dim=mapping_cond_dim)
    ours = denoiser(1, **SMALL)
    ours.load_state_dict(graft(weights, ours.state_dict()))
    images, sigma = draw(4, 3, 6, 10), torch.tensor([0.1, 1.0, 7.0, 60.0])
    told = {"mapping_cond": torch.zeros(4, 9)} if mapping_cond_dim else {}
    expected = network(images, sigma, **told)
    for condition in (torch.zeros(4, 5, 6, 10), draw(4, 5, 6, 10)):
        output = ours.inner_model(images, sigma, mapping_cond=torch.zeros(4, 9), unet_cond=condition)
        assert torch.equal(output, expected)


@torch.no_grad()
def test_a_log_variance_that_is_added_is_zero():
    _, weights = plain()
    ours = denoiser(1, **SMALL)
    ours.load_state_dict(graft(weights, ours.state_dict()))
    _, log_variance = ours._network(draw(2, 1, 3, 4, 8), torch.ones(2, 1), draw(2, 1, 5, 4, 8), None)
    assert not log_variance.any()


@torch.no_grad()
def test_a_grown_denoiser_is_the_smaller_one_between_two_filters():
    small, large = denoiser(1, **SMALL).double(), denoiser(2, **LARGE).double()
    large.load_state_dict(grow(small.state_dict(), large.state_dict()))
    images, condition = draw(3, 3, 12, 20).double(), draw(3, 5, 12, 20, seed=2).double()
    sigma, told = torch.tensor([0.1, 1.0, 60.0]).double(), draw(3, 9, seed=4).double()
    down, up = Downsample(KERNEL.double()), Upsample(4 * KERNEL.double())
    grown = large.inner_model(images, sigma, mapping_cond=told, unet_cond=condition)
    expected = up(small.inner_model(down(images), sigma, mapping_cond=told, unet_cond=down(condition)))
    torch.testing.assert_close(grown, expected, atol=1e-12, rtol=1e-12)
    assert expected.std() > 0.1


def test_everything_in_a_grown_denoiser_that_must_learn_gets_a_gradient():
    small, large = denoiser(1, **SMALL), denoiser(2, **LARGE)
    large.load_state_dict(grow(small.state_dict(), large.state_dict()))
    output = large(draw(1, 1, 3, 8, 8), torch.ones(1, 1), draw(1, 1, 5, 8, 8))
    output.square().sum().backward()
    ends = [weight for name, weight in large.named_parameters() if ".d_blocks.0.1.main.6.weight" in name]
    assert len(ends) == 1
    assert all(weight.grad.any() for weight in ends)


def test_adapting_says_what_it_did():
    _, weights = plain()
    large = denoiser(2, **LARGE)
    adapted, notes = adapt(weights, large.state_dict())
    large.load_state_dict(adapted)
    assert [note.split(": ")[1].split(" ")[0] for note in notes] == ["grown", "5", "log", "description"]
    assert levels(weights) == 2
    assert weights[PROJ_IN].shape[1] == 3  # what was given is as it was


def test_what_fits_already_or_is_no_denoiser_is_left_alone():
    own = denoiser(**SMALL).state_dict()
    for weights in (own, {"something.else": torch.ones(2)}, {}):
        adapted, notes = adapt(weights, own)
        assert adapted is weights
        assert notes == []


@pytest.mark.parametrize(
    "change",
    [
        {"channels": (64, 32, 64)},
        {"depths": (2, 2, 2)},
        {"mapping_width": 32},
        {"self_attention": (True,) * 3},
    ],
)
def test_levels_that_differ_cannot_be_grown(change):
    own = denoiser(**{**LARGE, **change}).state_dict()
    with pytest.raises(ValueError, match=r"model\.denoiser.*must"):
        grow(denoiser(**SMALL).state_dict(), own)
