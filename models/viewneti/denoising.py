"""A base with layered text as a denoiser of latents in EDM's variables."""

import torch
from torch import Tensor

from diffusion.samplers import Denoise, SampleOptions, guided
from diffusion.vp_schedule import gamma_from_sigma, noise_from_velocity
from models.stable_diffusion.base import Base
from models.stable_diffusion.layered_text import LayeredText, predict


def with_guidance(conditional: Denoise, unconditional: Denoise, options: SampleOptions) -> Denoise:
    """What the options ask for."""
    if options.unconditional:
        return unconditional
    return guided(conditional, unconditional, options.guidance)


def denoise(base: Base, noisy: Tensor, sigma: Tensor, text: LayeredText) -> Tensor:
    """E[clean | clean + sigma noise] of latents."""
    level = sigma.to(noisy).expand(len(noisy))
    gamma, time = gamma_from_sigma(level), whole_times(base.table.time_of(level))
    scaled = noisy * gamma.sqrt()[:, None, None, None]
    predicted = predict(base.unet, scaled, time, text)
    if base.prediction == "v_prediction":
        predicted = noise_from_velocity(predicted, scaled, gamma)
    return noisy - level[:, None, None, None] * predicted


def whole_times(time: Tensor) -> Tensor:
    """Times of the table as whole numbers, others as they are."""
    return torch.where((time - time.round()).abs() < 0.01, time.round(), time)


def latent_size(base: Base, size: tuple[int, int]) -> tuple[int, int, int]:
    """Channels, height and width of the latents of images of that height and width."""
    factor = 2 ** (len(base.vae.config.block_out_channels) - 1)
    return base.vae.config.latent_channels, size[0] // factor, size[1] // factor
