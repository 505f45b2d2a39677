"""DPM-Solver++ (Lu et al. 2022, arXiv:2211.01095) as published with ViewNeTI, and every other sampler.

The published solver starts from noise that is not scaled, at times round(k 999 / steps), and ends at time 0,
where a little noise is left; with fewer than 15 steps the last is of first order. In EDM's variables
(diffusion/vp_schedule.py) its steps are those of k-diffusion's "dpmpp_2m".
"""

from collections.abc import Callable

import torch
from jaxtyping import Float, Int
from torch import Tensor

from data.seeds import normal
from diffusion.samplers import Callback, Denoise, SampleOptions, sample
from diffusion.vp_schedule import gamma_from_sigma
from models.stable_diffusion.noise_table import NoiseTable

LOW_ORDER_BELOW = 15  # steps


def published_sigmas(table: NoiseTable, steps: int) -> Float[Tensor, "k"]:
    """The falling noise levels of that many steps: one more."""
    # Multiples of the step: torch.linspace rounds otherwise at 499.5, for 30 steps.
    times = torch.arange(steps + 1, dtype=torch.float64, device="cpu") * (table.last_time / steps)
    return table.sigmas[times.round().long().flip(0)]


def draw_latents(
    denoise: Denoise,
    shape: tuple[int, int, int],
    seeds: Int[Tensor, "n"],
    options: SampleOptions,
    table: NoiseTable,
    *,
    init: Float[Tensor, "n c h w"] | None = None,
    callback: Callback | None = None,
    draw: Callable[..., Tensor] = normal,
    device: torch.device | None = None,
) -> Float[Tensor, "n c h w"]:
    """Latents from noise, or from `init` under noise of level `options.sigma_max`."""
    ways = {"init_images": init, "callback": callback, "device": device}
    if getattr(options, "levels", "karras") == "karras":
        sigmas = _below(table.sampling_sigmas(options.steps, "karras"), options.sigma_max)
        return sample(denoise, shape, seeds, options, sigmas=sigmas, draw=draw, **ways)
    sigmas = _below(published_sigmas(table, options.steps), options.sigma_max)
    if options.sampler != "dpmpp_2m":
        sigmas = torch.cat([sigmas[:-1], torch.zeros(1)])
        return sample(denoise, shape, seeds, options, sigmas=sigmas, draw=draw, **ways)
    return _published(denoise, shape, seeds, options, sigmas, draw=draw, **ways)


def _published(denoise, shape, seeds, options, sigmas, *, init_images, callback, draw, device) -> Tensor:
    whole = options.steps >= LOW_ORDER_BELOW
    start = 1.0 if init_images is not None else float((1 + 1 / sigmas[0].double() ** 2).sqrt())

    def scaled(of: Tensor, size: tuple[int, ...], *, stream: str) -> Tensor:
        return start * draw(of, size, stream=stream)

    ways = {"init_images": init_images, "callback": callback, "draw": scaled, "device": device}
    levels = sigmas if whole else sigmas[:-1]
    noisy = sample(denoise, shape, seeds, options, sigmas=levels, **ways)
    if not whole:
        clean = denoise(noisy, levels[-1].to(noisy).expand(len(noisy)))
        if callback is not None:
            callback(len(levels) - 1, noisy, clean)
        noisy = torch.lerp(clean, noisy, float(sigmas[-1] / sigmas[-2]))
    return noisy * float(gamma_from_sigma(sigmas[-1])) ** 0.5


def _below(sigmas: Float[Tensor, "k"], largest: float) -> Float[Tensor, "j"]:
    """Those up to the largest, at least three. Raises ValueError where fewer are left."""
    left = sigmas[sigmas <= largest]
    if len(left) < 3:
        raise ValueError(f"sigma_max {largest:g}: leaves fewer than two steps; raise it, or take more steps")
    return left
