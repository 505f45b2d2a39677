"""Drawing views in a base's latents: a group of them, and films of any number of groups.

Axes: b scene, k finished view, t new view, v = k + t, c y x latents, f h w the condition.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from data.seeds import normal, uniform
from diffusion.samplers import SAMPLERS, sample
from models.device import to_device_of
from models.stable_diffusion.denoiser import (
    CONDITIONED,
    UNCONDITIONAL,
    Condition,
    LatentDenoiser,
    guidance_terms,
    guided_denoise,
    with_context,
)
from models.stable_diffusion.noise_table import churn_gamma
from models.stable_diffusion.planner import Step
from models.stable_diffusion.settings import ControlledSampleOptions

NOISE_FEATURES = "no condition"  # stream of what takes the place of a condition


@dataclass(frozen=True)
class Finished:
    """Views that new ones look at."""

    latents: Float[Tensor, "b k c y x"]
    seeds: Int[Tensor, "b k"]  # on the CPU


@dataclass(frozen=True)
class Texts:
    """States of the prompt and of no text, each [1, l, w]."""

    prompt: Tensor
    empty: Tensor


def draw_group(
    denoiser: LatentDenoiser,
    features: Float[Tensor, "b v f h w"],
    texts: Texts,
    seeds: Int[Tensor, "b t"],
    size: tuple[int, int, int],
    options: ControlledSampleOptions,
    *,
    joint: bool,
    finished: Finished | None = None,
    photo: Float[Tensor, "b c y x"] | None = None,
    initial: Float[Tensor, "b t c y x"] | None = None,
    callback: Callable[[int, Tensor], None] | None = None,
) -> Float[Tensor, "b t c y x"]:
    """Latents of `size` (c, y, x) of new views, which come after the finished ones in `features`.

    `joint`: the views of a scene look at each other. `photo`: of each scene, for a ControlNet that sees it.
    `seeds` are on the CPU. `initial` are latents to begin
    from, under noise of the first level.
    """
    b, v = features.shape[:2]
    seen = seeds if finished is None else torch.cat([finished.seeds, seeds], dim=1)
    beside = None if photo is None else photo.repeat_interleave(v, dim=0)
    denoise = guided_denoise(
        denoiser,
        _terms(features.flatten(0, 1), texts, seen.flatten(), options, beside),
        num_views=v if joint else 1,
    )
    if finished is not None:
        own, latents = finished.seeds.flatten(), finished.latents.flatten(0, 1)
        denoise = with_context(
            denoise,
            latents,
            lambda call: to_device_of(latents, normal(own, latents.shape[1:], stream=f"renoise.{call}")),
            num_scenes=b,
        )
    strength = options.strength
    churned = SAMPLERS[options.sampler] == "churn"
    drawn = sample(
        denoise,
        size,
        seeds.flatten(),
        options.model_copy(update={"stochastic": strength > 0 and churned}),
        init_images=None if initial is None else initial.flatten(0, 1),
        callback=callback and (lambda step, _, clean: callback(step, clean.unflatten(0, (b, -1)))),
        sigmas=denoiser.table.sampling_sigmas(
            options.steps, options.levels, ends=(options.sigma_min, options.sigma_max), rho=options.rho
        ),
        churn=(churn_gamma(strength), 1.0),
        device=features.device,
    )
    return drawn.unflatten(0, (b, -1))


def draw_film(
    steps: Iterable[Step],
    photos: Finished | None,
    seeds: Int[Tensor, "b t"],
    draw: Callable[[Step, Finished | None], Float[Tensor, "b n c y x"]],
) -> Float[Tensor, "b t c y x"]:
    """Latents of all views, step by step: `draw` is given those of the finished views that a step looks at,
    photos first."""
    kept: dict[int, Tensor] = {}
    for step in steps:
        parts = [photos] if step.photos and photos is not None else []
        if step.finished:
            earlier = torch.stack([kept[view] for view in step.finished], dim=1)
            parts.append(Finished(earlier, seeds[:, list(step.finished)]))
        finished = None
        if parts:
            finished = Finished(
                torch.cat([part.latents for part in parts], dim=1),
                torch.cat([part.seeds for part in parts], dim=1),
            )
        kept |= dict(zip(step.new, draw(step, finished).unbind(1), strict=True))
    return torch.stack([kept[view] for view in range(seeds.shape[1])], dim=1)


def noise_features(features: Float[Tensor, "n f h w"], seeds: Int[Tensor, "n"]) -> Float[Tensor, "n f h w"]:
    """What takes the place of features without condition: noise in their range, 0 to 1."""
    return to_device_of(features, uniform(seeds, features.shape[1:], stream=NOISE_FEATURES))


def _terms(
    features: Float[Tensor, "n f h w"],
    texts: Texts,
    seeds: Int[Tensor, "n"],
    options: ControlledSampleOptions,
    photo: Float[Tensor, "n c y x"] | None,
) -> list[tuple[float, Condition]]:
    """What guides the sampling."""
    n, noise = len(features), None
    if options.unconditional or options.guidance_mode in ("class_null", "three_way"):
        noise = noise_features(features, seeds)
    label = UNCONDITIONAL if options.unconditional else CONDITIONED
    labels = torch.full((n,), label, device=features.device)
    text, empty = (states.expand(n, -1, -1) for states in (texts.prompt, texts.empty))
    condition = Condition(text, noise if options.unconditional else features, labels, photo)
    weights = {"weight": options.guidance, "second_weight": options.second_guidance}
    return guidance_terms(options.guidance_mode, condition, empty, noise, **weights)
