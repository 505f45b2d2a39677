"""Sampling that begins with images under a little noise, on a Gaussian whose denoiser is known."""

import pytest
import torch

from data.seeds import normal
from diffusion.samplers import SampleOptions, karras_sigmas, last_part, sample
from tests.diffusion.test_samplers import gaussian_denoiser, probability_flow
from tests.scenes import cameras, reconfigured, tiny_model, views

SHAPE, SEEDS = (2, 3, 5), torch.tensor([4, 5, 6])


def images() -> torch.Tensor:
    return torch.rand(3, *SHAPE, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("sampler", ["heun", "dpmpp_2m"])
def test_images_under_noise_flow_where_the_noise_and_they_lead(sampler: str):
    options = SampleOptions(sampler=sampler, steps=200, sigma_max=0.7, sigma_min=1e-3)
    ours = sample(gaussian_denoiser, SHAPE, SEEDS, options, init_images=images())
    noisy = images() + 0.7 * normal(SEEDS, SHAPE, stream="initial")
    torch.testing.assert_close(ours, probability_flow(noisy, 0.7), atol=2e-3, rtol=2e-3)


@pytest.mark.parametrize("sampler", ["euler", "dpmpp_sde", "dpmpp_2m_sde"])
def test_beginning_with_nothing_is_beginning_with_zeros(sampler: str):
    options = SampleOptions(sampler=sampler, steps=4)
    plain = sample(gaussian_denoiser, SHAPE, SEEDS, options)
    zeros = sample(gaussian_denoiser, SHAPE, SEEDS, options, init_images=torch.zeros(3, *SHAPE))
    assert torch.equal(plain, zeros)


def test_the_last_part_of_a_sampling_has_the_steps_that_lie_there():
    whole = SampleOptions(sampler="euler", steps=25)
    part = last_part(whole, 1.0)
    assert (part.sigma_max, part.sigma_min, part.sampler) == (1.0, whole.sigma_min, "euler")
    below = [sigma for sigma in karras_sigmas(whole).tolist() if 0 < sigma <= 1.0]
    assert part.steps == len(below)
    assert last_part(whole, whole.sigma_max) == whole
    assert last_part(SampleOptions(steps=2), 0.02).steps == 2
    for sigma in (0.0, 0.01, 81.0):
        with pytest.raises(ValueError, match="is not between"):
            last_part(whole, sigma)


@torch.no_grad()
@pytest.mark.parametrize("image_range", ["symmetric", "unit"])
def test_a_model_gives_images_back_where_there_is_hardly_any_noise(image_range: str):
    model = reconfigured(tiny_model().eval(), image_range=image_range)
    scene, begin = model.encode(views(2, 1, seed=5)), views(2, 3, seed=8).images
    options = SampleOptions(sampler="euler", steps=2, sigma_max=2e-3, sigma_min=1e-3)
    given = (scene, cameras(2, 3, seed=6), torch.arange(6).reshape(2, 3), options)
    near = model.draw(*given, init_images=begin)
    assert (near.images - begin).abs().mean() < 0.02
    assert (model.draw(*given).images - begin).abs().mean() > 0.2
