"""Sampling of ViewFusion: by any sampler of `diffusion.samplers`, in few steps or as published.

The published sampler is ancestral sampling over all noise levels of training: `levels` "training", sampler
"euler_ancestral", as many steps as the schedule (see diffusion/vp_schedule.py for the equivalence).
"""

from typing import Literal

import torch
from jaxtyping import Float, Int
from pydantic import Field
from torch import Tensor

from data.seeds import normal
from diffusion.samplers import SampleOptions, sample
from diffusion.vp_schedule import PredictNoise, VPSchedule, denoiser_of
from models.base import SampleCallback
from models.denoising.conditional_denoising import ImageRange, to_model_range

CLIP = 1.0  # bound of denoised images, whatever their range, as published


class ViewFusionSampleOptions(SampleOptions, frozen=True):
    """How to sample; the condition is never left out in training, so there is no guidance."""

    sampler: str = Field("dpmpp_2m", json_schema_extra={"flag": "--sampler"})
    sigma_max: float = Field(151.0, gt=0)
    levels: Literal["karras", "training"] = Field(
        "karras",
        description="noise levels of the steps; training: those of the schedule, evenly spaced, which with "
        "sampler euler_ancestral and as many steps as it has is the published sampler",
        json_schema_extra={"flag": "--levels"},
    )
    guidance: Literal[1.0] = 1.0
    unconditional: Literal[False] = False


PUBLISHED_OPTIONS = ViewFusionSampleOptions(sampler="euler_ancestral", steps=2000, levels="training")


def draw_images(
    predict_noise: PredictNoise,
    seeds: Int[Tensor, "b t"],
    size: tuple[int, int],
    options: SampleOptions,
    schedule: VPSchedule,
    *,
    image_range: ImageRange,
    init_images: Float[Tensor, "b t 3 h w"] | None = None,
    callback: SampleCallback | None = None,
    draw=normal,
    device: torch.device | None = None,
) -> Float[Tensor, "b t 3 h w"]:
    """Images in [-1, 1] of a network that predicts noise; those of all scenes share the batch axis."""
    sigmas = None
    if getattr(options, "levels", "karras") == "training":
        sigmas = schedule.sampling_sigmas(options.steps, options.sigma_max)

    def as_views(images: Tensor) -> Tensor:
        return (2 * images - 1 if image_range == "unit" else images).unflatten(0, seeds.shape)

    images = sample(
        denoiser_of(predict_noise, clip=CLIP),
        (3, *size),
        seeds.flatten().cpu(),  # noise is drawn there
        options,
        init_images=None if init_images is None else to_model_range(init_images, image_range).flatten(0, 1),
        callback=callback and (lambda step, _, clean: callback(step, as_views(clean))),
        sigmas=sigmas,
        draw=draw,
        device=device,
    )
    return as_views(images).clamp(-1, 1)
