"""Base of families with feature volumes: encoding, rendering and losses.

Axes: b scene, s source view, t target view, f latent channel, h, w.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from pydantic import BaseModel, Field
from torch import Tensor, nn

from data.cameras.pinhole import Cameras, in_frame_of
from data.scenes.batch import SceneBatch, Views, concatenate
from data.schedule import NonNegative, scheduled_values, value_at
from data.seeds import normal, uniform
from models.base import NVSModel
from models.device import to_device_of
from models.volumes import diagnostics as volume_diagnostics
from models.volumes import losses
from models.volumes.encoder import Encoder, EncoderConfig
from models.volumes.losses import VolumeLossConfig
from nerf.renderer import Jitter, LatentImages, RendererConfig, VolumeRenderer
from nerf.volume import FrustumVolume


class VolumeConfig(BaseModel, frozen=True, extra="forbid", allow_inf_nan=False):
    """The encoder, the renderer and their training."""

    encoder: EncoderConfig = EncoderConfig()
    renderer: RendererConfig = RendererConfig()
    loss: VolumeLossConfig = VolumeLossConfig()
    latent_upsampling: Literal["bilinear", "nearest"] = Field(
        "bilinear", description="interpolation of the latent image to the size of the view"
    )
    frame: Literal["world", "first_source"] = Field(
        "world",
        description="axes of the rendered world: as given, or those of the first source (published); "
        "matters if renderer.bounds is cube",
    )
    mirror: Literal["x", "y", "z"] | None = Field(
        None,
        description="normal of the objects' symmetry plane through the world origin: every photo's "
        "volume is also used mirrored, like that of a second photo; null: none",
    )
    source_noise: NonNegative = Field(
        0.0, description="largest standard deviation of the noise added to source photos in training"
    )


@dataclass(frozen=True)
class RenderedBatch:
    """The volumes of a batch, rendered from the cameras of its views."""

    volume: FrustumVolume
    views: Views  # the targets and, if supervised, the first source of each scene
    cameras: Cameras  # of these views, in the rendered world
    rendering: LatentImages
    latent: Float[Tensor, "b v f h w"]  # the latent images at the size of the views
    num_target: int

    @property
    def of_targets(self) -> Float[Tensor, "b t f h w"]:
        """Return only the latent images of the targets."""
        return self.latent[:, : self.num_target]


class VolumeModel(NVSModel):
    """Base class: an encoder and a volume renderer."""

    training_settings = ("model.loss", "model.source_noise", "model.encoder.weights")
    resource_settings = ("model.renderer.backend", "model.encoder.checkpointing")

    def __init__(self, config: VolumeConfig, *, init_weights: bool = True):
        super().__init__()
        self.config = config
        self.encoder = Encoder(config.encoder, init_weights=init_weights)
        self.renderer = VolumeRenderer(config.renderer, channels=config.encoder.channels)

    @property
    def notices(self) -> tuple[str, ...]:
        """Messages about unavailable initial weights and the renderer's backend."""
        return tuple(filter(None, (self.encoder.notice, self.renderer.notice)))

    @property
    def requires(self) -> frozenset[str]:
        """Includes geometry if depth or opacity are supervised."""
        supervised = {"depth_supervised", "opacity_supervised"} & set(self.config.loss.terms)
        return super().requires | ({"geometry"} if supervised else set())

    @property
    def renders_source(self) -> bool:
        """Whether the first source view of each scene is rendered in training, too."""
        return "rgb_source" in self.config.loss.terms

    def parts(self) -> dict[str, nn.Module]:
        """Encoder and renderer."""
        return {"encoder": self.encoder, "renderer": self.renderer}

    def networks(self) -> tuple[nn.Module, ...]:
        """The encoder's two networks."""
        return self.encoder.backbone, self.encoder.decoder

    def encode(self, source: Views) -> FrustumVolume:
        """Encode the source photos as volumes and, for symmetric objects, their mirror images."""
        return self._volumes(source)

    def render(
        self, scene: FrustumVolume, cameras: Cameras, *, size: tuple[int, int] | None = None
    ) -> LatentImages:
        """Render latent images, depth and opacity of an encoded scene from `cameras` [b, t].

        At the renderer's own size, or another (height, width).
        """
        return self.renderer(*self._in_frame(scene, cameras), size=size)

    def placed(self, scene: FrustumVolume) -> FrustumVolume:
        """Return the scene with the working volumes used in rendering, but in its original world, for field
        queries at points of that world.
        """
        moved, _ = self._in_frame(scene, scene.cameras)
        cameras = replace(scene.cameras, near=moved.cameras.near, far=moved.cameras.far)
        return replace(scene, features=scene.features.float(), cameras=cameras)

    def condition(self, rendering: LatentImages, size: Sequence[int]) -> Float[Tensor, "b t f h w"]:
        """Resize the latent images to the `size` (height, width) of the views, as a denoiser's condition."""
        mode = self.config.latent_upsampling
        options = {"align_corners": False} if mode == "bilinear" else {}
        latent = rendering.latent
        grown = F.interpolate(latent.flatten(0, 1), size=tuple(size), mode=mode, **options)
        return grown.unflatten(0, latent.shape[:2])

    def diagnose(self, scene: FrustumVolume, target: Views, seeds: Int[Tensor, "b t"]) -> dict[str, float]:
        """Compute `models.volumes.diagnostics` of the volumes."""
        return self._diagnose_volumes(self.render(scene, target.cameras), scene, target)

    def scheduled(self, progress: float) -> dict[str, float]:
        """Return the current values of ramps in the config, and noise levels."""
        return scheduled_values(self.config, progress)

    def render_batch(self, batch: SceneBatch, *, progress: float) -> RenderedBatch:
        """Encode and render a batch for training: with noise on the photos, and jittered samples."""
        source = self._with_noise(batch.source, batch.seeds, progress)
        volume = self._volumes(source, batch.source_indices)
        views = _join_first_source(batch) if self.renders_source else batch.target
        volume, cameras = self._in_frame(volume, views.cameras)
        rendering = self.renderer(volume, cameras, self._jitter(cameras, batch.seeds))
        latent = self.condition(rendering, views.images.shape[-2:])
        return RenderedBatch(volume, views, cameras, rendering, latent, batch.target.images.shape[1])

    def volume_losses(self, seen: RenderedBatch, *, progress: float) -> dict[str, Float[Tensor, ""]]:
        """Compute the weighted terms of `models.volumes.losses`; those without weight are skipped."""
        config, weights = self.config.loss, self.config.loss.weights_at(progress)
        rendering, cameras, views, num = seen.rendering, seen.cameras, seen.views, seen.num_target
        terms: dict[str, Callable[[], Tensor]] = {
            "rgb": lambda: losses.rgb(seen.of_targets, views.images[:, :num]),
            "rgb_source": lambda: losses.rgb(seen.latent[:, num:], views.images[:, num:]),
            "opacity": lambda: losses.opacity(rendering),
            "depth": lambda: losses.depth_prior(rendering, cameras, along=config.depth_along),
            "depth_supervised": lambda: losses.depth_supervised(rendering, views.geometry),
            "opacity_supervised": lambda: losses.opacity_supervised(rendering, views.geometry),
        }
        found = {name: term() for name, term in terms.items() if name in weights}
        if not {"depth_consistency", "opacity_consistency"}.isdisjoint(weights):
            found |= self._consistency_losses(seen.volume, cameras[:, :num])
        return {name: weights[name] * term for name, term in found.items() if name in weights}

    def _volumes(self, source: Views, places: Int[Tensor, "k"] | None = None) -> FrustumVolume:
        volume = self.encoder(source, places)
        return volume.with_mirrored(self.config.mirror) if self.config.mirror else volume

    def _diagnose_volumes(
        self, rendering: LatentImages, scene: FrustumVolume, target: Views
    ) -> dict[str, float]:
        """Diagnostics of a scene's rendering from the cameras of the true views."""
        _, cameras = self._in_frame(scene, target.cameras)
        rays, num = self.renderer.rays(cameras), self.config.renderer.coarse
        return volume_diagnostics.volume_figures(rendering, rays, target.images, num_samples=num)

    def _in_frame(self, scene: FrustumVolume, cameras: Cameras) -> tuple[FrustumVolume, Cameras]:
        """Transform a scene and cameras [b, t] to the rendered world."""
        if self.config.frame == "world":
            return scene, cameras
        first = scene.valid.int().argmax(dim=1)  # argmax returns the first of equal values
        pose = scene.cameras.cam_to_world[torch.arange(len(first), device=first.device), first][:, None]
        return replace(scene, cameras=in_frame_of(scene.cameras, pose)), in_frame_of(cameras, pose)

    def _consistency_losses(self, volume: FrustumVolume, cameras: Cameras) -> dict[str, Tensor]:
        """Measure the disagreement about the target views between a scene's volumes, each rendered alone."""
        s = volume.valid.shape[1]
        alone = volume.apply(lambda tensor: tensor.flatten(0, 1)[:, None])
        repeated = cameras.apply(lambda tensor: tensor.repeat_interleave(s, dim=0))
        rendering = self.renderer(alone, repeated)
        parts = [part.unflatten(0, (-1, s)) for part in (rendering.depth, rendering.opacity)]
        return losses.consistency(*parts, volume.valid)

    def _jitter(self, cameras: Cameras, seeds: Tensor) -> Jitter:
        config = self.config.renderer
        num_rays = cameras.shape[1] * config.size**2
        coarse = uniform(seeds, (num_rays, config.coarse), stream="coarse samples")
        fine = uniform(seeds, (num_rays, config.fine), stream="fine samples")
        return Jitter(to_device_of(cameras.near, coarse), to_device_of(cameras.near, fine))

    def _with_noise(self, source: Views, seeds: Tensor, progress: float) -> Views:
        """Add noise augmentation to photos, so that the encoder tolerates generated views."""
        largest_std = value_at(self.config.source_noise, progress)
        if not largest_std:
            return source
        amount = largest_std * uniform(seeds, (1, 1, 1, 1), stream="source noise level")
        noise = amount * normal(seeds, source.images.shape[1:], stream="source noise")
        return replace(source, images=source.images + to_device_of(source.images, noise))


def _join_first_source(batch: SceneBatch) -> Views:
    """Append the first source view of each scene to the target views."""
    return concatenate([batch.target, batch.source.apply(lambda tensor: tensor[:, :1])], axis=1)


def volumes_of(model: NVSModel, run: Path | str) -> VolumeModel:
    """Return the model of a `run` if it has volumes. Raises ValueError otherwise."""
    if not isinstance(model, VolumeModel):
        raise ValueError(f"{run}: its model has no volumes, so it has no geometry; use another family")
    return model
