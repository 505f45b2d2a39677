"""A diffusion baseline for novel views without a volume: GeNVS without its encoder and renderer.

The denoiser takes a source photo and the rays of both cameras as channels concatenated to the noisy view: the
simplest conditioning (3DiM, Watson et al. 2022, arXiv:2210.04628, improves on it with cross-view attention).
Several sources are averaged after a small shared convolution. Axes: b scene, s source view, t target view, f
feature, h, w.
"""

from dataclasses import replace
from typing import Literal

import torch
from jaxtyping import Float, Int
from pydantic import Field, model_validator
from torch import Tensor, nn

from data.cameras.pinhole import Cameras
from data.scenes.batch import SceneBatch, Views
from data.schedule import largest, scheduled_values
from diffusion.denoiser import EDMDenoiser
from diffusion.samplers import SampleOptions
from models.base import NVSModel, Prediction, SampleCallback
from models.denoising.conditional_denoising import (
    DenoisingConfig,
    adapt_denoiser,
    check_image_size,
    denoising_loss,
    draw_views,
    to_model_range,
)
from models.denoising.diagnostics import denoiser_figures

NUM_CONDITION_CHANNELS = 3 + 3 + 6  # channels of a photo, of its pixels' directions, and of the target's rays


class ImageDiffusionConfig(DenoisingConfig, frozen=True):
    """The denoiser, its conditioning and its training."""

    family: Literal["image_diffusion"] = "image_diffusion"
    condition_channels: int = Field(
        16, ge=1, le=1024, description="feature channels of the sources' embedding"
    )

    @model_validator(mode="after")
    def _is_centred_on_nothing(self) -> "ImageDiffusionConfig":
        if self.denoiser.centre != "zero":
            raise ValueError("denoiser.centre: without a volume there is no preview to centre on; set zero")
        return self


class ImageDiffusion(NVSModel):
    """A denoiser and the convolution that embeds the source photos."""

    Config = ImageDiffusionConfig
    training_settings = (
        "model.noise",
        "model.augment",
        "model.drop_condition_prob",
        "model.denoised_targets",
        "model.denoiser.dropout",
    )
    resource_settings = ("model.denoiser.checkpointing",)

    def __init__(self, config: ImageDiffusionConfig, *, init_weights: bool = True):
        super().__init__()
        self.config = config
        self.embedding = nn.Conv2d(NUM_CONDITION_CHANNELS, config.condition_channels, 3, padding=1)
        self.denoiser = EDMDenoiser(config.denoiser, condition_channels=config.condition_channels)
        nn.init.kaiming_normal_(self.embedding.weight)

    @staticmethod
    def check_image_size(config: ImageDiffusionConfig, image_size: int) -> None:
        """Raise ValueError if the image size does not suit the denoiser's levels."""
        check_image_size(config.denoiser, image_size)

    def parts(self) -> dict[str, nn.Module]:
        """The embedding of the sources and the denoiser."""
        return {"embedding": self.embedding, "denoiser": self.denoiser}

    def networks(self) -> tuple[nn.Module, ...]:
        """The U-Net."""
        return (self.denoiser.inner_model,)

    def scheduled(self, progress: float) -> dict[str, float]:
        """Return the current noise levels, and values of ramps in the config."""
        return scheduled_values(self.config, progress)

    def loss(self, batch: SceneBatch, *, progress: float) -> dict[str, Tensor]:
        """Compute the diffusion loss of the target views."""
        num = self.config.denoised_targets
        diffusion = denoising_loss(
            self.denoiser,
            batch.target.images[:, :num],
            self.condition(batch.source, batch.target.cameras[:, :num]),
            batch.seeds,
            self.config,
            progress=progress,
        )
        return {"diffusion": diffusion}

    def encode(self, source: Views) -> Views:
        """Return the photos themselves, without their geometry."""
        return replace(source, geometry=None)

    def draw(
        self,
        scene: Views,
        cameras: Cameras,
        seeds: Int[Tensor, "b t"],
        options: SampleOptions,
        *,
        init_images: Float[Tensor, "b t 3 h w"] | None = None,
        callback: SampleCallback | None = None,
    ) -> Prediction:
        """Sample views given the source photos. Without a volume there are only images."""
        condition = self.condition(scene, cameras)
        settings = {"image_range": self.config.image_range, "init_images": init_images, "callback": callback}
        return Prediction(draw_views(self.denoiser, condition, seeds, options, **settings))

    def condition(self, source: Views, cameras: Cameras) -> Float[Tensor, "b t f h w"]:
        """Compute the denoiser's condition, 0 to 1: the mean over the sources of features of each photo, its
        own rays, and the rays of `cameras` [b, t] in that photo's camera frame.
        """
        (s, t), size = (source.valid.shape[1], cameras.shape[1]), source.images.shape[-2:]
        one = source.cameras.apply(lambda tensor: tensor[:, None].expand(-1, t, *tensor.shape[1:]))
        other = cameras.apply(lambda tensor: tensor[:, :, None].expand(-1, -1, s, *tensor.shape[2:]))
        photos = source.images[:, None].expand(-1, t, -1, -1, -1, -1)
        channels = torch.cat([photos, ray_map(one, one, size)[:, :, :, :3], ray_map(other, one, size)], dim=3)
        features = self.embedding(channels.flatten(0, 2)).sigmoid().unflatten(0, channels.shape[:3])
        share = source.valid / source.valid.sum(dim=1, keepdim=True).clamp_min(1)
        return torch.einsum("btsfhw,bs->btfhw", features, share.to(features))

    def diagnose(self, scene: Views, target: Views, seeds: Int[Tensor, "b t"]) -> dict[str, float]:
        """Compute diagnostics of the denoiser, if it is trained with its condition."""
        if largest(self.config.drop_condition_prob) == 1:
            return {}
        images = to_model_range(target.images, self.config.image_range)
        return denoiser_figures(self.denoiser, images, self.condition(scene, target.cameras), seeds)

    def adapt(self, weights: dict[str, Tensor]) -> tuple[dict[str, Tensor], list[str]]:
        """Adapt a denoiser without condition, or with fewer levels."""
        return adapt_denoiser(weights, self.denoiser)


def ray_map(
    cameras: Cameras, frame: Cameras, size: tuple[int, int]
) -> Float[Tensor, "*batch 6 {size[0]} {size[1]}"]:
    """Compute Pluecker coordinates of the ray of each pixel, in the axes of the cameras `frame`.

    First the unit direction, then the moment, position x direction, in scene units, which is the same for all
    points of the ray (Sitzmann et al. 2021, arXiv:2106.02634).
    """
    rays = cameras.rays(*size)
    rotation = frame.cam_to_world[..., :3, :3]
    with torch.autocast(rotation.device.type, enabled=False):  # 8 bits are too few for a ray
        directions = rays.directions @ rotation
        positions = frame.to_camera(rays.origins)
    moments = torch.linalg.cross(positions, directions)
    return torch.cat([directions, moments], dim=-1).movedim(-1, -2).unflatten(-1, size)
