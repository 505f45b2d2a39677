"""Training and sampling of a conditional denoiser, shared by families.

A condition is a feature image for each view, of the view's size. Axes: b scene, t target view,
f feature, h, w.
"""

from typing import Literal

import torch
from jaxtyping import Float, Int
from pydantic import BaseModel, Field, model_validator
from torch import Tensor

from data.schedule import Probability, largest, value_at
from data.seeds import normal, uniform, view_seeds
from diffusion import adaptation
from diffusion.augment import AugmentConfig, augment_pair, conditioning, draw_parameters
from diffusion.denoiser import DenoiserConfig, EDMDenoiser
from diffusion.noise import NoiseConfig, level_at, sigma_from_normal
from diffusion.samplers import SampleOptions, guided, sample
from models.base import SampleCallback
from models.device import to_device_of

ImageRange = Literal["symmetric", "unit"]


class DenoisingConfig(BaseModel, frozen=True, extra="forbid", allow_inf_nan=False):
    """The denoiser and its training."""

    denoiser: DenoiserConfig = DenoiserConfig()
    noise: NoiseConfig = NoiseConfig()
    augment: AugmentConfig = AugmentConfig()
    image_range: ImageRange = Field(
        "symmetric", description="value range of the denoiser's images: -1 to 1, or 0 to 1 (published)"
    )
    drop_condition_prob: Probability = Field(
        0.1, description="probability of training a view without condition, needed for guidance"
    )
    denoised_targets: int | None = Field(
        None, ge=1, description="target views that train the denoiser; null = all. Volumes always use all"
    )

    @model_validator(mode="after")
    def _centre_has_its_range(self) -> "DenoisingConfig":
        if self.denoiser.centre == "condition" and self.image_range != "symmetric":
            raise ValueError("denoiser.centre: condition needs image_range symmetric, not unit; set that")
        return self


def denoising_loss(
    denoiser: EDMDenoiser,
    images: Float[Tensor, "b t 3 h w"],
    condition: Float[Tensor, "b t f h w"],
    seeds: Int[Tensor, "b"],
    config: DenoisingConfig,
    *,
    progress: float,
) -> Float[Tensor, ""]:
    """Compute the mean denoising loss (Karras et al. 2022, equation 8) of images in [-1, 1].

    Noise levels, condition dropout and augmentation follow their schedules at `progress`, from 0 to 1. All
    randomness follows from the seeds of the scenes.
    """
    clean, condition = images.flatten(0, 1), condition.flatten(0, 1)
    clean = to_model_range(clean, config.image_range)
    seeds = view_seeds(seeds, images.shape[1])
    drop_prob = value_at(config.drop_condition_prob, progress)
    dropped = uniform(seeds, (1, 1, 1), stream="drop condition") < drop_prob
    nothing = no_condition(condition, seeds, denoiser)
    condition = torch.where(to_device_of(clean, dropped), nothing, condition)
    augmentation = None
    if largest(config.augment.prob) > 0:
        parameters = draw_parameters(value_at(config.augment.prob, progress), seeds)
        clean, condition = augment_pair(clean, condition, parameters)
        augmentation = to_device_of(clean, conditioning(parameters)[:, None])
    level = level_at(config.noise, progress)
    sigma = to_device_of(clean, sigma_from_normal(normal(seeds, (1,), stream="noise level"), level))
    noise = to_device_of(clean, normal(seeds, clean.shape[1:], stream="noise"))
    one_view = [tensor[:, None] for tensor in (clean, noise)]
    return denoiser.loss(*one_view, sigma, condition[:, None], augmentation).mean()


def draw_views(
    denoiser: EDMDenoiser,
    condition: Float[Tensor, "b t f h w"],
    seeds: Int[Tensor, "b t"],
    options: SampleOptions,
    *,
    image_range: ImageRange,
    init_images: Float[Tensor, "b t 3 h w"] | None = None,
    callback: SampleCallback | None = None,
) -> Float[Tensor, "b t 3 h w"]:
    """Sample views in [-1, 1] given their conditions; views of all scenes form one batch.

    With `init_images`, denoising starts from these plus noise of level sigma_max.
    """
    b, t, _, h, w = condition.shape
    given, seeds = condition.flatten(0, 1), seeds.flatten().cpu()  # noise is drawn on the CPU
    guidance = 0.0 if options.unconditional else options.guidance
    nothing = given if guidance == 1 else no_condition(given, seeds, denoiser)
    if init_images is not None:
        initial = to_model_range(init_images, image_range).flatten(0, 1)
    else:
        initial = denoiser.centre((nothing if guidance == 0 else given)[:, None])[:, 0]

    def denoise(about: Tensor, noisy: Tensor, sigma: Tensor) -> Tensor:
        return denoiser(noisy[:, None], sigma[:, None], about[:, None])[:, 0]

    def as_views(images: Tensor) -> Tensor:
        return (2 * images - 1 if image_range == "unit" else images).unflatten(0, (b, t))

    images = sample(
        guided(
            lambda noisy, sigma: denoise(given, noisy, sigma),
            lambda noisy, sigma: denoise(nothing, noisy, sigma),
            guidance,
        ),
        (3, h, w),
        seeds,
        options,
        init_images=initial,
        callback=callback and (lambda step, _, clean: callback(step, as_views(clean))),
        device=condition.device,
    )
    return as_views(images).clamp(-1, 1)


def to_model_range(
    images: Float[Tensor, "*batch 3 h w"], image_range: ImageRange
) -> Float[Tensor, "*batch 3 h w"]:
    """Map images from [-1, 1] to the denoiser's range."""
    return (images + 1) / 2 if image_range == "unit" else images


def no_condition(
    condition: Float[Tensor, "n f h w"], seeds: Int[Tensor, "n"], denoiser: EDMDenoiser
) -> Float[Tensor, "n f h w"]:
    """Replacement for dropped conditions: noise in their range, 0 to 1.

    For a denoiser centred on its condition, the middle of the range, so that the centre is 0.
    """
    if denoiser.config.centre == "condition":
        return torch.full_like(condition, 0.5)
    return to_device_of(condition, uniform(seeds, condition.shape[1:], stream="no condition"))


def check_image_size(config: DenoiserConfig, image_size: int) -> None:
    """Raise ValueError if the image size does not suit the denoiser's levels."""
    if image_size % config.multiple or image_size < config.smallest:
        raise ValueError(
            f"data.image_size {image_size} does not suit model.denoiser, which has "
            f"{len(config.channels)} levels; use a multiple of {config.multiple}, at least {config.smallest}"
        )


def adapt_denoiser(weights: dict[str, Tensor], denoiser: EDMDenoiser) -> tuple[dict[str, Tensor], list[str]]:
    """Adapt weights of a model whose `denoiser` has no condition, or fewer levels.

    Returns them with a message for each change. Raises ValueError if levels differ in anything but their
    number.
    """
    prefix = "denoiser."
    theirs = {name.removeprefix(prefix): value for name, value in weights.items() if name.startswith(prefix)}
    adapted, notes = adaptation.adapt(theirs, denoiser.state_dict())
    rest = {name: value for name, value in weights.items() if not name.startswith(prefix)}
    return rest | {prefix + name: value for name, value in adapted.items()}, notes
