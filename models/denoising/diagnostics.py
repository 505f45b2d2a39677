"""Diagnostics of denoisers: whether the network denoises, and whether the condition matters."""

from collections.abc import Callable

import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from data.seeds import normal
from models.device import to_device_of

Denoise = Callable[[Tensor, Tensor, Tensor], Tensor]  # clean views from noisy ones, levels and conditions


SIGMA = 5.0  # noise level at which little of the view is visible, and which occurs in any training
LOW = 0.1  # noise level at which all but the finest of the view is visible
DIFFERENT = 0.01  # least mean squared difference between scenes, relative to the variance of their views


def denoiser_figures(
    denoise: Denoise,
    clean: Float[Tensor, "b t 3 k l"],
    condition: Float[Tensor, "b t f k l"],
    seeds: Int[Tensor, "b t"],
) -> dict[str, float]:
    """Compute what views denoised at a high and at a low noise level reveal.

    `denoiser_error` is the squared error at level SIGMA, relative to the variance of the views, at most 1;
    `condition_gain` is its relative reduction compared with another scene's conditions. The latter is 0 if
    the condition is ignored. It needs scenes that differ, and a denoiser that is already better than a
    constant colour. `noise_left` is the share of the noise's amplitude that is still there after denoising at
    level LOW: samplers leave about that share of their last steps' noise in the views, which look mottled.
    """
    noise = to_device_of(clean, normal(seeds.flatten(), clean.shape[2:], stream="health")).view_as(clean)
    noisy, sigma = clean + SIGMA * noise, clean.new_full(clean.shape[:2], SIGMA)

    def error(given: Tensor) -> float:
        return F.mse_loss(denoise(noisy, sigma, given).float(), clean).item()

    own, variance = error(condition), clean.var(correction=0).item()
    figures = {"health/denoiser_error": min(1.0, own / max(variance, 1e-12))}
    low = denoise(clean + LOW * noise, clean.new_full(clean.shape[:2], LOW), condition).float() - clean
    figures["health/noise_left"] = ((low * noise).mean() / (LOW * noise.square().mean())).item()
    if own < variance and F.mse_loss(clean.roll(1, dims=0), clean) > DIFFERENT * variance:
        figures["health/condition_gain"] = max(0.0, 1 - own / error(condition.roll(1, dims=0)))
    return figures
