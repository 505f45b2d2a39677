"""Sampling: a common interface to k-diffusion's samplers (Karras et al. 2022, algorithm 2, and others).

Here n is views, of any number of scenes. All randomness is drawn from the seed of its view (`data.seeds`), so
a view does not depend on its batch.
"""

import inspect
from collections.abc import Callable, Sequence
from difflib import get_close_matches
from functools import cache
from itertools import count
from types import FunctionType

import torch
from jaxtyping import Float, Int
from pydantic import BaseModel, Field, field_validator, model_validator
from torch import Tensor

from data.seeds import derived_seed, normal
from diffusion.k_diffusion import k_diffusion

Denoise = Callable[[Tensor, Tensor], Tensor]  # noisy [n, c, h, w], sigma [n] -> denoised [n, c, h, w]
Callback = Callable[[int, Tensor, Tensor], None]  # step, noisy images, denoised images
Draw = Callable[..., Tensor]  # (seeds, shape, *, stream), as `data.seeds.normal`

# k-diffusion's samplers on a fixed schedule, with their source of randomness: "none"; "churn", optional noise
# before a step; "ancestral", independent noise after a step; "brownian", increments of one Brownian path.
# Increments over disjoint intervals are independent, and 50 times faster to draw as such; only dpmpp_sde has
# overlapping intervals.
SAMPLERS = {
    "euler": "churn",
    "heun": "churn",
    "dpm_2": "churn",
    "lms": "none",
    "dpmpp_2m": "none",
    "euler_ancestral": "ancestral",
    "dpm_2_ancestral": "ancestral",
    "dpmpp_2s_ancestral": "ancestral",
    "dpmpp_sde": "brownian",
    "dpmpp_2m_sde": "ancestral",
    "dpmpp_3m_sde": "ancestral",
}
# Relative increase of sigma before each step, as in the published code; EDM allows up to sqrt(2) - 1.
CHURN_GAMMA = 0.4
CHURN_NOISE = 1.003  # EDM's S_noise


class SampleOptions(BaseModel, frozen=True, extra="forbid", allow_inf_nan=False):
    """Sampling options. Guidance and `unconditional` are applied by `guided`, not by the sampler.

    Fields with a `flag` can be set on the command line of sample_views.py and scripts.evaluate.
    """

    sampler: str = Field("dpmpp_2m_sde", json_schema_extra={"flag": "--sampler"})
    steps: int = Field(25, ge=2, le=10_000, json_schema_extra={"flag": "--steps"})
    sigma_min: float = Field(0.01, gt=0)
    sigma_max: float = Field(80.0, gt=0)
    rho: float = Field(7.0, gt=0)  # larger values put more steps at low noise
    # Churn; "ancestral" and "brownian" samplers are always stochastic.
    stochastic: bool = Field(False, json_schema_extra={"flag": "--stochastic"})
    # 1 is none; larger values follow the condition more closely, see `guided`.
    guidance: float = Field(1.0, json_schema_extra={"flag": "--guidance"})
    # Ignore the condition.
    unconditional: bool = Field(False, json_schema_extra={"flag": "--unconditional"})

    @field_validator("sampler")
    @classmethod
    def _sampler_exists(cls, name: str) -> str:
        if name not in SAMPLERS:
            close = get_close_matches(name, SAMPLERS, n=1)
            guess = f" (did you mean {close[0]!r}?)" if close else ""
            raise ValueError(f"there is no sampler {name!r}{guess}; choose one of {', '.join(SAMPLERS)}")
        return name

    @model_validator(mode="after")
    def _options_agree(self) -> "SampleOptions":
        if self.sigma_min >= self.sigma_max:
            raise ValueError(f"sigma_min {self.sigma_min} must be below sigma_max {self.sigma_max}")
        if self.stochastic and SAMPLERS[self.sampler] == "none":
            random = ", ".join(name for name, source in SAMPLERS.items() if source != "none")
            raise ValueError(
                f"sampler {self.sampler} cannot be stochastic; switch that off or choose one of {random}"
            )
        if self.unconditional and self.guidance != 1:
            raise ValueError(
                f"guidance {self.guidance} has no meaning for unconditional sampling; leave it at 1"
            )
        return self


def karras_sigmas(options: SampleOptions) -> Float[Tensor, "k"]:
    """Return noise levels from sigma_max down to sigma_min, then 0: steps + 1 numbers (EDM eq. 5)."""
    sampling = k_diffusion().sampling
    return sampling.get_sigmas_karras(options.steps, options.sigma_min, options.sigma_max, options.rho)


def last_part(options: SampleOptions, sigma: float) -> SampleOptions:
    """Return the options for sampling from `sigma` down, with about the same steps there, at least 2.

    Raises ValueError if sigma is not between sigma_min and sigma_max.
    """
    if not options.sigma_min < sigma <= options.sigma_max:
        raise ValueError(
            f"sigma {sigma:g}: is not between {options.sigma_min:g} and {options.sigma_max:g}, the noise "
            "levels of the sampling; choose one between"
        )
    steps = int((karras_sigmas(options)[:-1] <= sigma).sum())
    return type(options)(**options.model_dump() | {"sigma_max": sigma, "steps": max(2, steps)})


@torch.no_grad()
def sample(
    denoise: Denoise,
    shape: Sequence[int],
    seeds: Int[Tensor, "n"],
    options: SampleOptions,
    *,
    init_images: Float[Tensor, "n c h w"] | None = None,
    callback: Callback | None = None,
    sigmas: Float[Tensor, "k"] | None = None,
    churn: tuple[float, float] = (CHURN_GAMMA, CHURN_NOISE),
    draw: Draw = normal,
    device: torch.device | None = None,
) -> Float[Tensor, "n c h w"]:
    """Sample images of shape [c, h, w], one per seed, as float32 on `device` (default: that of `seeds`).

    With `init_images`, noise of level sigma_max is added to these first, so that coarse structure is
    kept (SDEdit: Meng et al. 2022, arXiv:2108.01073); without, sampling starts from pure noise.
    `denoise` gives E[clean | noisy] for sigma > 0; it may use random numbers of its own. `callback` is called
    at each step with the step's index, the noisy images and the denoised ones. `draw` gives all noise,
    by streams named "initial", "churn.STEP" and "ancestral.STEP"; tests put known noise there. Brownian paths
    are seeded directly. `sigmas` are falling noise levels and a 0, on the CPU, in place of `karras_sigmas`.
    `churn` is how much sigma rises before each step if sampling is stochastic, and the factor of the noise
    that is added for it. No step waits for the device.
    """
    device, host_seeds = device or seeds.device, seeds.cpu()
    ends = (options.sigma_min, options.sigma_max)
    if sigmas is None:
        sigmas = karras_sigmas(options)
    else:
        ends = (float(sigmas[-2]), float(sigmas[0]))

    def noise(stream: str) -> Tensor:
        return _on_device(draw(host_seeds, shape, stream=stream), device)

    initial = sigmas[0] * noise("initial")
    if init_images is not None:
        initial = initial + init_images.to(initial)
    function = _with_host_levels(options.sampler)
    source = SAMPLERS[options.sampler]
    if source == "churn":
        gamma, factor = churn if options.stochastic else (0.0, 1.0)
        return _sample_with_churn(function, denoise, initial, sigmas, (gamma, factor), callback, noise)
    arguments = {"callback": _adapted(callback), "disable": True}
    if source == "ancestral":
        arguments["noise_sampler"] = _ancestral_noise(noise)
    if source == "brownian":
        arguments["noise_sampler"] = _brownian_noise(host_seeds, shape, ends, device)
    return function(denoise, initial, sigmas, **arguments)


def guided(conditional: Denoise, unconditional: Denoise, guidance: float) -> Denoise:
    """Classifier-free guidance D_u + guidance (D_c - D_u) (Ho and Salimans 2022, arXiv:2207.12598).

    At 1 only the conditional denoiser is evaluated, at 0 only the unconditional one.
    """
    if guidance in (0, 1):
        return conditional if guidance == 1 else unconditional

    def denoise(noisy: Tensor, sigma: Tensor) -> Tensor:
        return torch.lerp(unconditional(noisy, sigma), conditional(noisy, sigma), guidance)

    return denoise


@cache
def num_evaluations(options: SampleOptions) -> int:
    """Return the number of network evaluations per view.

    Counted on a one-pixel image: some samplers need two evaluations per step, but only one in the last step,
    or if rounding makes the second redundant.
    """
    calls = 0

    def denoise(noisy: Tensor, sigma: Tensor) -> Tensor:
        nonlocal calls
        calls += 1
        return noisy

    sample(guided(denoise, denoise, options.guidance), (1, 1, 1), torch.zeros(1, dtype=torch.int64), options)
    return calls


@cache
def _with_host_levels(name: str) -> Callable[..., Tensor]:
    """Wrap k-diffusion's sampler for noise levels on the CPU and images on any device.

    Samplers branch on noise levels at every step, which would synchronise with a device that holds them. A
    CPU scalar may be used in arithmetic on any device, but only while it has no axes; of k-diffusion's
    functions only `to_d` adds axes, so the sampler is given a replacement.
    """
    sampler = inspect.unwrap(getattr(k_diffusion().sampling, f"sample_{name}"))
    names = {**sampler.__globals__, "to_d": _derivative}
    return FunctionType(sampler.__code__, names, sampler.__name__, sampler.__defaults__)


def _derivative(noisy: Tensor, sigma: Tensor, denoised: Tensor) -> Tensor:
    """Return d noisy / d sigma along the probability flow (EDM eq. 3)."""
    return (noisy - denoised) / sigma


def _on_device(noise: Tensor, device: torch.device) -> Tensor:
    """Copy `noise` from the CPU asynchronously, through pinned memory."""
    return noise.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else noise.to(device)


def _sample_with_churn(function, denoise, noisy, sigmas, churn, callback, noise) -> Tensor:
    """Run a one-step method step by step, with optional noise before each step (EDM algorithm 2).

    The methods are stateless between steps, so calling them once per step is equivalent; their own churn
    would use the global generator. They draw from it even without churn, so its state is put back.
    """
    gamma, factor = churn
    used = [noisy.device] if noisy.device.type == "cuda" else []
    with torch.random.fork_rng(devices=used):
        for step in range(len(sigmas) - 1):
            sigma_hat = sigmas[step] * (1 + gamma)
            if gamma > 0:
                added = (sigma_hat**2 - sigmas[step] ** 2).sqrt()
                noisy = noisy + factor * added * noise(f"churn.{step}")
            pair = torch.stack([sigma_hat, sigmas[step + 1]])
            noisy = function(denoise, noisy, pair, callback=_adapted(callback, step), disable=True)
    return noisy


def _ancestral_noise(noise: Callable[[str], Tensor]) -> Callable[[Tensor, Tensor], Tensor]:
    """Return a `noise_sampler` for k-diffusion, which it calls once per step: independent noise each time."""
    steps = count()
    return lambda sigma, sigma_next: noise(f"ancestral.{next(steps)}")


def _brownian_noise(
    seeds: Tensor, shape: Sequence[int], ends: tuple[float, float], device: torch.device
) -> Callable[[Tensor, Tensor], Tensor]:
    """Return a `noise_sampler` for SDEs: normalised increments of Brownian paths, one per view."""
    # Slightly wider than the schedule: samplers round levels through a logarithm and back.
    sampler = k_diffusion().sampling.BrownianTreeNoiseSampler(
        torch.empty(len(seeds), *shape),
        0.99 * ends[0],
        1.01 * ends[1],
        seed=[derived_seed(seed, "brownian") for seed in seeds.tolist()],
    )
    return lambda sigma, sigma_next: _on_device(sampler(sigma, sigma_next), device)


def _adapted(callback: Callback | None, step: int | None = None) -> Callable[[dict], None] | None:
    """Adapt `callback` to k-diffusion's interface; `step` overrides its count if that differs."""
    if callback is None:
        return None
    return lambda state: callback(state["i"] if step is None else step, state["x"], state["denoised"])
