"""Variance-preserving diffusion (DDPM), and its exact change of variables to EDM's noise levels.

DDPM's noisy images are y = sqrt(gamma) clean + sqrt(1 - gamma) noise, with gamma falling from 1 to almost 0
(Ho et al. 2020, arXiv:2006.11239; gamma is their alpha bar). Those of `diffusion.samplers` are
x = clean + sigma noise. With sigma^2 = (1 - gamma) / gamma both are the same image but for a factor,
x = y / sqrt(gamma), so a network that predicts noise serves every sampler (Karras et al. 2022,
arXiv:2206.00364, section 3 and table 1).

DDPM's ancestral sampler is k-diffusion's "euler_ancestral" on the schedule's own noise levels
(`VPSchedule.sigmas`): the posterior of equation 7 of Ho et al. in these variables has the mean
clean + (sigma'^2 / sigma^2)(x - clean) and the variance sigma'^2 (sigma^2 - sigma'^2) / sigma^2.
"""

from collections.abc import Callable
from functools import cache
from typing import Literal

import torch
from jaxtyping import Float, Int
from pydantic import BaseModel, Field, model_validator
from torch import Tensor

from diffusion.samplers import Denoise

PredictNoise = Callable[[Tensor, Tensor], Tensor]  # y [n, c, h, w], gamma [n] -> noise [n, c, h, w]
COSINE_OFFSET = 0.008
LARGEST_BETA = 0.999  # of the cosine schedule


class VPSchedule(BaseModel, frozen=True, extra="forbid", allow_inf_nan=False):
    """A variance schedule beta_1 ... beta_T and what follows from it, as float64."""

    kind: Literal["linear", "quadratic", "warmup10", "warmup50", "constant", "harmonic", "cosine"] = Field(
        "linear",
        description="how beta rises; warmupN: linearly in the first N percent; constant: always end; "
        "harmonic: 1/T to 1; cosine: as Nichol and Dhariwal 2021",
    )
    steps: int = Field(2000, ge=2, le=100_000, description="number of noise levels")
    start: float = Field(1e-6, gt=0, lt=1, description="first beta")
    end: float = Field(1e-2, gt=0, lt=1, description="last beta")

    @model_validator(mode="after")
    def _some_noise_is_left_out(self) -> "VPSchedule":
        if not float(self.gammas[-1]) > 1e-30:
            raise ValueError("nothing is left of the image at the last step; lower steps or end")
        return self

    @property
    def betas(self) -> Float[Tensor, "k"]:
        """Variance that each step adds."""
        return BETAS[self.kind](self.steps, self.start, self.end)

    @property
    def gammas(self) -> Float[Tensor, "k"]:
        """Share of the image's variance that is left after each step."""
        return _gammas(self)

    @property
    def sigmas(self) -> Float[Tensor, "k"]:
        """The same as noise levels, rising."""
        return sigma_from_gamma(self.gammas)

    def gamma_between(self, step: Int[Tensor, "*n"], share: Float[Tensor, "*n"]) -> Float[Tensor, "*n"]:
        """gamma on the way from `step` - 1 to `step`, which count from 0, as float32 (Chen et al. 2021,
        arXiv:2009.00713, section 3.3: a noise level that is continuous)."""
        gammas = self.gammas.float()
        before, after = gammas[step - 1], gammas[step]
        return before + share * (after - before)

    def sampling_sigmas(self, steps: int, largest: float = float("inf")) -> Float[Tensor, "k"]:
        """Falling noise levels of the schedule and a 0: evenly spaced steps of it from `largest` down.

        With as many `steps` as there are levels, they are those of DDPM's ancestral sampler.
        """
        levels = self.sigmas[self.sigmas <= largest]
        if not len(levels):
            raise ValueError(f"sigma_max {largest:g}: no noise level of the training is so low; raise it")
        chosen = _linear(min(steps, len(levels)), len(levels) - 1.0, 0.0).round()
        return torch.cat([levels[chosen.long()], levels.new_zeros(1)]).float()


@cache
def _gammas(schedule: VPSchedule) -> Float[Tensor, "k"]:
    return torch.cumprod(1 - schedule.betas, dim=0)


def sigma_from_gamma(gamma: Float[Tensor, "*n"]) -> Float[Tensor, "*n"]:
    """EDM's noise level of the image that is left with the share gamma of its variance."""
    return ((1 - gamma) / gamma).sqrt()


def gamma_from_sigma(sigma: Float[Tensor, "*n"]) -> Float[Tensor, "*n"]:
    """The inverse of `sigma_from_gamma`."""
    return 1 / (1 + sigma**2)


def add_noise(
    clean: Float[Tensor, "n c h w"], noise: Float[Tensor, "n c h w"], gamma: Float[Tensor, "n"]
) -> Float[Tensor, "n c h w"]:
    """DDPM's noisy images (Ho et al. 2020, equation 4)."""
    share = gamma[:, None, None, None]
    return share.sqrt() * clean + (1 - share).sqrt() * noise


def velocity_of(
    clean: Float[Tensor, "n c h w"], noise: Float[Tensor, "n c h w"], gamma: Float[Tensor, "n"]
) -> Float[Tensor, "n c h w"]:
    """sqrt(gamma) noise - sqrt(1 - gamma) clean (Salimans and Ho 2022, arXiv:2202.00512, section 4).

    Its scale is the same at all noise levels, so that errors of a network are not magnified at high ones.
    """
    share = gamma[:, None, None, None]
    return share.sqrt() * noise - (1 - share).sqrt() * clean


def noise_from_velocity(
    velocity: Float[Tensor, "n c h w"], noisy: Float[Tensor, "n c h w"], gamma: Float[Tensor, "n"]
) -> Float[Tensor, "n c h w"]:
    """The noise in DDPM's noisy images of that velocity."""
    share = gamma[:, None, None, None]
    return (1 - share).sqrt() * noisy + share.sqrt() * velocity


def denoiser_of(predict_noise: PredictNoise, *, clip: float | None = None) -> Denoise:
    """E[clean | x] of a network that predicts noise from y and gamma; `clip` bounds it to [-clip, clip]."""

    def denoise(noisy: Tensor, sigma: Tensor) -> Tensor:
        level = sigma.to(noisy)
        gamma = gamma_from_sigma(level)
        axes = (slice(None), None, None, None)
        predicted = predict_noise(noisy * gamma.sqrt()[axes], gamma)
        clean = noisy - level[axes] * predicted.to(noisy)
        return clean if clip is None else clean.clamp(-clip, clip)

    return denoise


def _linear(steps: int, start: float, end: float) -> Tensor:
    return torch.linspace(start, end, steps, dtype=torch.float64, device="cpu")


def _quadratic(steps: int, start: float, end: float) -> Tensor:
    return torch.linspace(start**0.5, end**0.5, steps, dtype=torch.float64, device="cpu") ** 2


def _warmup(share: float) -> Callable[[int, float, float], Tensor]:
    def betas(steps: int, start: float, end: float) -> Tensor:
        rising = int(steps * share)
        return torch.cat([_linear(rising, start, end), _constant(steps - rising, start, end)])

    return betas


def _constant(steps: int, start: float, end: float) -> Tensor:
    return torch.full((steps,), end, dtype=torch.float64, device="cpu")


def _harmonic(steps: int, start: float, end: float) -> Tensor:
    return 1 / torch.linspace(steps, 1, steps, dtype=torch.float64, device="cpu")


def _cosine(steps: int, start: float, end: float) -> Tensor:
    time = torch.arange(steps + 1, dtype=torch.float64, device="cpu") / steps
    left = torch.cos((time + COSINE_OFFSET) / (1 + COSINE_OFFSET) * torch.pi / 2) ** 2
    return (1 - left[1:] / left[:-1]).clamp_max(LARGEST_BETA)


BETAS = {
    "linear": _linear,
    "quadratic": _quadratic,
    "warmup10": _warmup(0.1),
    "warmup50": _warmup(0.5),
    "constant": _constant,
    "harmonic": _harmonic,
    "cosine": _cosine,
}
