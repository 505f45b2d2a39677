"""GeNVS: generative novel view synthesis with 3D-aware diffusion models (Chan et al. 2023, arXiv:2304.02602).

Source photos become feature volumes, volumes become a latent image at the target camera, and a denoiser
conditioned on the latent image draws the view. Axes: b scene, s source view, t target view, f latent channel,
h, w.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from pydantic import BaseModel, Field
from torch import Tensor, nn

from data.batch import SceneBatch, Views, concatenate
from data.cameras import Cameras, in_frame_of
from data.schedule import NonNegative, Probability, largest, scheduled_values, value_at
from diffusion import transplant
from diffusion.augment import AugmentConfig, augment_pair, conditioning, draw_parameters
from diffusion.denoiser import DenoiserConfig, EDMDenoiser
from diffusion.noise import NoiseConfig, level_at, normal, sigma_from_normal, uniform, view_seeds
from diffusion.samplers import SampleOptions, guided, sample
from models import losses
from models.base import NVSModel, Prediction, SampleCallback
from models.device import to_device_of
from models.encoder import Encoder, EncoderConfig
from models.losses import LossConfig
from nerf.renderer import Jitter, LatentImages, RendererConfig, VolumeRenderer, surfaces
from nerf.volume import FrustumVolume


class GeNVSConfig(BaseModel, frozen=True, extra="forbid", allow_inf_nan=False):
    """The model's three parts and how they learn together."""

    family: Literal["genvs"] = "genvs"
    encoder: EncoderConfig = EncoderConfig()
    renderer: RendererConfig = RendererConfig()
    denoiser: DenoiserConfig = DenoiserConfig()
    noise: NoiseConfig = NoiseConfig()
    augment: AugmentConfig = AugmentConfig()
    loss: LossConfig = LossConfig()
    latent_upsampling: Literal["bilinear", "nearest"] = Field(
        "bilinear", description="how the latent image grows to the size of the view"
    )
    image_range: Literal["symmetric", "unit"] = Field(
        "symmetric", description="of the images that the denoiser learns: -1 to 1, or 0 to 1 (published)"
    )
    frame: Literal["world", "first_source"] = Field(
        "world",
        description="axes of the world that is rendered: as given, or those of the first source (published); "
        "matters where renderer.bounds is a cube",
    )
    drop_condition_prob: Probability = Field(
        0.1, description="share of views trained without condition, which guidance needs"
    )
    denoised_targets: int | None = Field(
        None, ge=1, description="target views that train the denoiser; null = all. The volume learns from all"
    )
    source_noise: NonNegative = Field(
        0.0, description="largest standard deviation of the noise added to source photos in training"
    )


class GeNVS(NVSModel):
    """Encoder, volume renderer and denoiser, trained together."""

    Config = GeNVSConfig
    training_settings = (
        *(f"model.{key}" for key in ("loss", "noise", "augment", "source_noise")),
        "model.drop_condition_prob",
        "model.denoised_targets",
        "model.encoder.weights",
        "model.denoiser.dropout",
    )
    resource_settings = (
        "model.renderer.backend",
        "model.encoder.checkpointing",
        "model.denoiser.checkpointing",
    )

    def __init__(self, config: GeNVSConfig, *, fresh: bool = True):
        super().__init__()
        self.config = config
        self.encoder = Encoder(config.encoder, fresh=fresh)
        self.renderer = VolumeRenderer(config.renderer, channels=config.encoder.channels)
        self.denoiser = EDMDenoiser(config.denoiser, condition_channels=config.renderer.latent_channels)
        # Without its loss the denoiser takes no part; data-parallel training would wait for its gradients.
        self.denoiser.requires_grad_("diffusion" in config.loss.terms)

    @staticmethod
    def check_image_size(config: GeNVSConfig, image_size: int) -> None:
        """Raise ValueError where the denoiser's levels do not divide the size."""
        multiple, smallest = config.denoiser.multiple, config.denoiser.smallest
        if image_size % multiple or image_size < smallest:
            raise ValueError(
                f"data.image_size {image_size} does not suit model.denoiser, which has "
                f"{len(config.denoiser.channels)} levels; use a multiple of {multiple}, at least {smallest}"
            )

    @property
    def notices(self) -> tuple[str, ...]:
        """Initial weights that were not to be had, and what renders on the device the model is on."""
        return tuple(filter(None, (self.encoder.notice, self.renderer.notice)))

    @property
    def needs_geometry(self) -> bool:
        """Whether depth or opacity are taught by the data set."""
        return not {"depth_supervised", "opacity_supervised"}.isdisjoint(self.config.loss.terms)

    def parts(self) -> dict[str, nn.Module]:
        """Encoder, renderer and denoiser."""
        return {"encoder": self.encoder, "renderer": self.renderer, "denoiser": self.denoiser}

    def networks(self) -> tuple[nn.Module, ...]:
        """The encoder's two networks and the U-Net."""
        return self.encoder.backbone, self.encoder.decoder, self.denoiser.inner_model

    def scheduled(self, progress: float) -> dict[str, float]:
        """Noise levels, and keys of the config that are ramps."""
        return scheduled_values(self.config, progress)

    def loss(self, batch: SceneBatch, *, progress: float) -> dict[str, Tensor]:
        """Diffusion loss of the target views, and losses that teach the volume colour and shape."""
        config, weights = self.config.loss, self.config.loss.weights_at(progress)
        source = self._with_noise(batch.source, batch.seeds, progress)
        volume = self.encoder(source, batch.source_places)
        views = _join_first_source(batch) if "rgb_source" in weights else batch.target
        volume, cameras = self._in_frame(volume, views.cameras)
        rendering = self.renderer(volume, cameras, self._jitter(cameras, batch.seeds))
        latent = self.condition(rendering, views.images.shape[-2:])
        num_target = batch.target.images.shape[1]

        terms: dict[str, Callable[[], Tensor]] = {
            "diffusion": lambda: self._diffusion_loss(
                batch.target.images, latent[:, :num_target], batch.seeds, progress
            ),
            "rgb": lambda: losses.rgb(latent[:, :num_target], batch.target.images),
            "rgb_source": lambda: losses.rgb(latent[:, num_target:], views.images[:, num_target:]),
            "opacity": lambda: losses.opacity(rendering),
            "depth": lambda: losses.depth_prior(rendering, cameras, along=config.depth_along),
            "depth_supervised": lambda: losses.depth_supervised(rendering, views.geometry),
            "opacity_supervised": lambda: losses.opacity_supervised(rendering, views.geometry),
        }
        found = {name: term() for name, term in terms.items() if name in weights}
        if not {"depth_consistency", "opacity_consistency"}.isdisjoint(weights):
            found |= self._consistency_losses(volume, cameras[:, :num_target])
        return {name: weights[name] * term for name, term in found.items() if name in weights}

    def encode(self, source: Views) -> FrustumVolume:
        """The volumes of the source photos."""
        return self.encoder(source)

    def draw(
        self,
        scene: FrustumVolume,
        cameras: Cameras,
        seeds: Int[Tensor, "b t"],
        options: SampleOptions,
        *,
        callback: SampleCallback | None = None,
    ) -> Prediction:
        """Render the volumes at the target cameras and draw the views that the latent images suggest."""
        scene, cameras = self._in_frame(scene, cameras)
        rendering = self.renderer(scene, cameras)
        condition = self.condition(rendering, scene.features.shape[-2:])
        images = self._denoise(condition, seeds, options, callback)
        return Prediction(
            images, 2 * condition[:, :, :3] - 1, *surfaces(rendering, cameras, images.shape[-2:])
        )

    def render(self, scene: FrustumVolume, cameras: Cameras) -> LatentImages:
        """Latent images, depth and opacity of an encoded scene from `cameras` [b, t]."""
        return self.renderer(*self._in_frame(scene, cameras))

    def condition(self, rendering: LatentImages, size: Sequence[int]) -> Float[Tensor, "b t f h w"]:
        """What the denoiser is told: the latent images at the `size` (height, width) of the views."""
        mode = self.config.latent_upsampling
        options = {"align_corners": False} if mode == "bilinear" else {}
        latent = rendering.latent
        grown = F.interpolate(latent.flatten(0, 1), size=tuple(size), mode=mode, **options)
        return grown.unflatten(0, latent.shape[:2])

    def adapt(self, weights: dict[str, Tensor]) -> tuple[dict[str, Tensor], list[str]]:
        """Fit a denoiser without condition, or of one level less."""
        prefix = "denoiser."
        theirs = {
            name.removeprefix(prefix): value for name, value in weights.items() if name.startswith(prefix)
        }
        adapted, notes = transplant.adapt(theirs, self.denoiser.state_dict())
        rest = {name: value for name, value in weights.items() if not name.startswith(prefix)}
        return rest | {prefix + name: value for name, value in adapted.items()}, notes

    def _denoise(
        self,
        condition: Float[Tensor, "b t f h w"],
        seeds: Int[Tensor, "b t"],
        options: SampleOptions,
        callback: SampleCallback | None,
    ) -> Float[Tensor, "b t 3 h w"]:
        """Sample views with the denoiser; views of all scenes share its batch axis."""
        b, t, _, h, w = condition.shape
        given, seeds = condition.flatten(0, 1), seeds.flatten().cpu()  # noise is drawn there
        guidance = 0.0 if options.unconditional else options.guidance
        nothing = given if guidance == 1 else self._no_condition(given, seeds)

        def denoise(about: Tensor, noisy: Tensor, sigma: Tensor) -> Tensor:
            return self.denoiser(noisy[:, None], sigma[:, None], about[:, None])[:, 0]

        denoiser = guided(
            lambda noisy, sigma: denoise(given, noisy, sigma),
            lambda noisy, sigma: denoise(nothing, noisy, sigma),
            guidance,
        )
        images = sample(
            denoiser,
            (3, h, w),
            seeds,
            options,
            callback=callback
            and (lambda i, _, clean: callback(i, self._from_denoiser(clean).unflatten(0, (b, t)))),
            device=condition.device,
        )
        return self._from_denoiser(images).unflatten(0, (b, t)).clamp(-1, 1)

    def _diffusion_loss(
        self,
        images: Float[Tensor, "b t 3 h w"],
        latent: Float[Tensor, "b t f h w"],
        seeds: Int[Tensor, "b"],
        progress: float,
    ) -> Float[Tensor, ""]:
        """Denoising loss (Karras et al. 2022, equation 8) at noise levels that suit the progress."""
        config, num = self.config, self.config.denoised_targets
        clean, condition = images[:, :num].flatten(0, 1), latent[:, :num].flatten(0, 1)
        clean = (clean + 1) / 2 if config.image_range == "unit" else clean
        seeds = view_seeds(seeds, len(clean) // len(images))
        drop_prob = value_at(config.drop_condition_prob, progress)
        dropped = uniform(seeds, (1, 1, 1), stream="drop condition") < drop_prob
        condition = torch.where(to_device_of(clean, dropped), self._no_condition(condition, seeds), condition)
        augmentation = None
        if largest(config.augment.prob) > 0:
            parameters = draw_parameters(value_at(config.augment.prob, progress), seeds)
            clean, condition = augment_pair(clean, condition, parameters)
            augmentation = to_device_of(clean, conditioning(parameters)[:, None])
        level = level_at(config.noise, progress)
        sigma = sigma_from_normal(normal(seeds, (1,), stream="noise level"), level)
        sigma = to_device_of(clean, sigma)
        noise = to_device_of(clean, normal(seeds, clean.shape[1:], stream="noise"))
        one_view = [tensor[:, None] for tensor in (clean, noise)]
        return self.denoiser.loss(*one_view, sigma, condition[:, None], augmentation).mean()

    def _consistency_losses(self, volume: FrustumVolume, cameras: Cameras) -> dict[str, Tensor]:
        """How far the volumes of a scene's sources, each rendered alone, disagree about the target views."""
        s = volume.valid.shape[1]
        alone = volume.apply(lambda tensor: tensor.flatten(0, 1)[:, None])
        repeated = cameras.apply(lambda tensor: tensor.repeat_interleave(s, dim=0))
        rendering = self.renderer(alone, repeated)
        parts = [part.unflatten(0, (-1, s)) for part in (rendering.depth, rendering.opacity)]
        return losses.consistency(*parts, volume.valid)

    def _in_frame(self, scene: FrustumVolume, cameras: Cameras) -> tuple[FrustumVolume, Cameras]:
        """A scene and cameras [b, t] in the world in which they are rendered."""
        if self.config.frame == "world":
            return scene, cameras
        first = scene.valid.int().argmax(dim=1)  # of equal ones the first
        pose = scene.cameras.cam_to_world[torch.arange(len(first), device=first.device), first][:, None]
        return replace(scene, cameras=in_frame_of(scene.cameras, pose)), in_frame_of(cameras, pose)

    def _jitter(self, cameras: Cameras, seeds: Tensor) -> Jitter:
        config = self.config.renderer
        num_rays = cameras.shape[1] * config.size**2
        coarse = uniform(seeds, (num_rays, config.coarse), stream="coarse samples")
        fine = uniform(seeds, (num_rays, config.fine), stream="fine samples")
        return Jitter(to_device_of(cameras.near, coarse), to_device_of(cameras.near, fine))

    def _with_noise(self, source: Views, seeds: Tensor, progress: float) -> Views:
        """Noise augmentation of photos, so that the encoder tolerates views that the model drew itself."""
        largest_std = value_at(self.config.source_noise, progress)
        if not largest_std:
            return source
        amount = largest_std * uniform(seeds, (1, 1, 1, 1), stream="source noise level")
        noise = amount * normal(seeds, source.images.shape[1:], stream="source noise")
        return replace(source, images=source.images + to_device_of(source.images, noise))

    def _from_denoiser(self, images: Tensor) -> Tensor:
        return 2 * images - 1 if self.config.image_range == "unit" else images

    @staticmethod
    def _no_condition(condition: Tensor, seeds: Tensor) -> Tensor:
        """What stands in for the latent image where there is none: noise in its range."""
        return to_device_of(condition, uniform(seeds, condition.shape[1:], stream="no condition"))


def _join_first_source(batch: SceneBatch) -> Views:
    """The target views and, behind them, the first source view of each scene."""
    return concatenate([batch.target, batch.source.apply(lambda tensor: tensor[:, :1])], axis=1)
