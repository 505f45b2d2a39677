"""DDPM's noise in EDM's variables: identities, and samplers on what is known in closed form."""

import pytest
import torch

from diffusion.samplers import SAMPLERS, SampleOptions, sample
from diffusion.vp_schedule import (
    BETAS,
    VPSchedule,
    add_noise,
    denoiser_of,
    gamma_from_sigma,
    noise_from_velocity,
    sigma_from_gamma,
    velocity_of,
)

MEAN, STD = 0.4, 0.3  # of Gaussian images


def predict_noise(noisy: torch.Tensor, gamma: torch.Tensor) -> torch.Tensor:
    """E[noise | y] where clean images are normally distributed."""
    share = gamma[:, None, None, None]
    variance = share * STD**2 + 1 - share
    return (1 - share).sqrt() * (noisy - share.sqrt() * MEAN) / variance


def three(stream: int) -> torch.Tensor:
    return torch.randn(3, 2, 5, 7, generator=torch.Generator().manual_seed(stream))


def test_noise_levels_are_the_same_there_and_back():
    gamma = VPSchedule().gammas
    torch.testing.assert_close(gamma_from_sigma(sigma_from_gamma(gamma)), gamma)
    assert float(VPSchedule().sigmas[-1]) == pytest.approx(150.99, abs=0.01)
    assert float(VPSchedule().sigmas[0]) == pytest.approx(0.001, abs=1e-6)


def test_noisy_images_are_the_same_in_both_variables():
    clean, noise, gamma = three(0), three(1), torch.tensor([0.9, 0.3, 0.01])
    sigma = sigma_from_gamma(gamma)[:, None, None, None]
    other = (clean + sigma * noise) * gamma.sqrt()[:, None, None, None]
    torch.testing.assert_close(add_noise(clean, noise, gamma), other)


def test_who_predicts_the_noise_that_was_added_denoises_to_what_was_there():
    clean, noise, sigma = three(0), three(1), torch.tensor([0.01, 1.0, 20.0])
    asked = []

    def truth(noisy, gamma):
        asked.append((noisy, gamma))
        return noise

    found = denoiser_of(truth)(clean + sigma[:, None, None, None] * noise, sigma)
    torch.testing.assert_close(found, clean, atol=1e-4, rtol=1e-4)
    noisy, gamma = asked[0]
    torch.testing.assert_close(noisy, add_noise(clean, noise, gamma))
    clipped = denoiser_of(truth, clip=0.5)(clean + sigma[:, None, None, None] * noise, sigma)
    torch.testing.assert_close(clipped, clean.clamp(-0.5, 0.5), atol=1e-4, rtol=1e-4)


def test_velocity_says_what_noise_says():
    clean, noise, gamma = three(0), three(1), torch.tensor([0.999, 0.3, 0.001])
    noisy, velocity = add_noise(clean, noise, gamma), velocity_of(clean, noise, gamma)
    torch.testing.assert_close(noise_from_velocity(velocity, noisy, gamma), noise, atol=1e-5, rtol=1e-5)
    share = gamma[:, None, None, None]
    torch.testing.assert_close(
        share.sqrt() * noisy - (1 - share).sqrt() * velocity, clean, atol=1e-5, rtol=1e-5
    )


def test_the_ancestral_sampler_draws_the_distribution_whose_noise_is_known():
    schedule = VPSchedule(steps=300, start=1e-5, end=0.06)
    sigmas = schedule.sampling_sigmas(300)
    seeds = torch.arange(40)
    options = SampleOptions(sampler="euler_ancestral")
    images = sample(denoiser_of(predict_noise), (1, 16, 16), seeds, options, sigmas=sigmas)
    assert float(images.mean()) == pytest.approx(MEAN, abs=0.02)
    assert float(images.std()) == pytest.approx(STD, abs=0.02)


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_every_sampler_takes_noise_levels_of_a_schedule(sampler):
    sigmas = VPSchedule().sampling_sigmas(200)
    options = SampleOptions(sampler=sampler, steps=3)
    images = sample(denoiser_of(predict_noise), (1, 8, 8), torch.arange(9), options, sigmas=sigmas)
    assert float(images.mean()) == pytest.approx(MEAN, abs=0.1)
    assert 0.15 < float(images.std()) < 0.5  # evenly spaced steps of the schedule are coarse at high noise


@pytest.mark.parametrize("kind", BETAS)
def test_schedules_rise_in_noise_and_count_their_steps(kind):
    betas = BETAS[kind](30, 1e-4, 0.02)
    assert betas.shape == (30,)
    assert betas.dtype == torch.float64
    assert ((betas > 0) & (betas <= 1)).all()
    assert (betas.diff() >= 0).all()


def test_gammas_between_two_steps_are_on_the_line():
    schedule, step = VPSchedule(), torch.tensor([1, 700, 1999])
    ends = [schedule.gamma_between(step, torch.full((3,), share)) for share in (0.0, 1.0)]
    torch.testing.assert_close(ends[0], schedule.gammas[step - 1].float())
    torch.testing.assert_close(ends[1], schedule.gammas[step].float())
    middle = schedule.gamma_between(step, torch.full((3,), 0.5))
    torch.testing.assert_close(middle, (ends[0] + ends[1]) / 2)
