"""What families with feature volumes share: photos to volumes, volumes to pictures, and what teaches both.

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
    """The encoder, the renderer and how they learn."""

    encoder: EncoderConfig = EncoderConfig()
    renderer: RendererConfig = RendererConfig()
    loss: VolumeLossConfig = VolumeLossConfig()
    latent_upsampling: Literal["bilinear", "nearest"] = Field(
        "bilinear", description="how the latent image grows to the size of the view"
    )
    frame: Literal["world", "first_source"] = Field(
        "world",
        description="axes of the world that is rendered: as given, or those of the first source (published); "
        "matters where renderer.bounds is a cube",
    )
    mirror: Literal["x", "y", "z"] | None = Field(
        None,
        description="axis normal to the objects' plane of symmetry, which holds the world's origin: every "
        "photo's volume is used mirrored, too, as that of a second photo; null: none",
    )
    source_noise: NonNegative = Field(
        0.0, description="largest standard deviation of the noise added to source photos in training"
    )


@dataclass(frozen=True)
class RenderedBatch:
    """What the volumes of a batch show from where its pictures were taken."""

    volume: FrustumVolume
    views: Views  # the targets and, where its colours are taught, the first source of each scene
    cameras: Cameras  # of these views, in the world in which they are rendered
    rendering: LatentImages
    latent: Float[Tensor, "b v f h w"]  # the latent images at the size of the views
    num_target: int

    @property
    def of_targets(self) -> Float[Tensor, "b t f h w"]:
        """The latent images of the targets alone."""
        return self.latent[:, : self.num_target]


class VolumeModel(NVSModel):
    """An encoder and a volume renderer, for a family to build on."""

    training_settings = ("model.loss", "model.source_noise", "model.encoder.weights")
    resource_settings = ("model.renderer.backend", "model.encoder.checkpointing")

    def __init__(self, config: VolumeConfig, *, init_weights: bool = True):
        super().__init__()
        self.config = config
        self.encoder = Encoder(config.encoder, init_weights=init_weights)
        self.renderer = VolumeRenderer(config.renderer, channels=config.encoder.channels)

    @property
    def notices(self) -> tuple[str, ...]:
        """Initial weights that were not to be had, and what renders on the device the model is on."""
        return tuple(filter(None, (self.encoder.notice, self.renderer.notice)))

    @property
    def requires(self) -> frozenset[str]:
        """Geometry, too, where depth or opacity are taught by the data set."""
        taught = {"depth_supervised", "opacity_supervised"} & set(self.config.loss.terms)
        return super().requires | ({"geometry"} if taught else set())

    def parts(self) -> dict[str, nn.Module]:
        """Encoder and renderer."""
        return {"encoder": self.encoder, "renderer": self.renderer}

    def networks(self) -> tuple[nn.Module, ...]:
        """The encoder's two networks."""
        return self.encoder.backbone, self.encoder.decoder

    def encode(self, source: Views) -> FrustumVolume:
        """The volumes of the source photos and, where objects are symmetric, their mirror images."""
        return self._volumes(source)

    def render(
        self, scene: FrustumVolume, cameras: Cameras, *, size: tuple[int, int] | None = None
    ) -> LatentImages:
        """Latent images, depth and opacity of an encoded scene from `cameras` [b, t].

        They are of the renderer's own size, or of another (height, width).
        """
        return self.renderer(*self._in_frame(scene, cameras), size=size)

    def placed(self, scene: FrustumVolume) -> FrustumVolume:
        """The same scene with the working volumes with which it is rendered, still in the world it came in:
        to ask the renderer's field about points of that world."""
        moved, _ = self._in_frame(scene, scene.cameras)
        cameras = replace(scene.cameras, near=moved.cameras.near, far=moved.cameras.far)
        return replace(scene, features=scene.features.float(), cameras=cameras)

    def condition(self, rendering: LatentImages, size: Sequence[int]) -> Float[Tensor, "b t f h w"]:
        """The latent images at the `size` (height, width) of the views: what a denoiser is told."""
        mode = self.config.latent_upsampling
        options = {"align_corners": False} if mode == "bilinear" else {}
        latent = rendering.latent
        grown = F.interpolate(latent.flatten(0, 1), size=tuple(size), mode=mode, **options)
        return grown.unflatten(0, latent.shape[:2])

    def diagnose(self, scene: FrustumVolume, target: Views, seeds: Int[Tensor, "b t"]) -> dict[str, float]:
        """What `models.volumes.diagnostics` finds of the volumes."""
        return self._diagnose_volumes(self.render(scene, target.cameras), scene, target)

    def scheduled(self, progress: float) -> dict[str, float]:
        """Keys of the config that are ramps, and noise levels."""
        return scheduled_values(self.config, progress)

    def render_batch(self, batch: SceneBatch, *, progress: float) -> RenderedBatch:
        """Encode and render a batch as training does: with noise on the photos, and samples that jitter."""
        source = self._with_noise(batch.source, batch.seeds, progress)
        volume = self._volumes(source, batch.source_indices)
        views = _join_first_source(batch) if "rgb_source" in self.config.loss.terms else batch.target
        volume, cameras = self._in_frame(volume, views.cameras)
        rendering = self.renderer(volume, cameras, self._jitter(cameras, batch.seeds))
        latent = self.condition(rendering, views.images.shape[-2:])
        return RenderedBatch(volume, views, cameras, rendering, latent, batch.target.images.shape[1])

    def volume_losses(self, seen: RenderedBatch, *, progress: float) -> dict[str, Float[Tensor, ""]]:
        """Weighted terms of `models.volumes.losses`; those without weight are left out and cost nothing."""
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
        """A scene and cameras [b, t] in the world in which they are rendered."""
        if self.config.frame == "world":
            return scene, cameras
        first = scene.valid.int().argmax(dim=1)  # of equal ones the first
        pose = scene.cameras.cam_to_world[torch.arange(len(first), device=first.device), first][:, None]
        return replace(scene, cameras=in_frame_of(scene.cameras, pose)), in_frame_of(cameras, pose)

    def _consistency_losses(self, volume: FrustumVolume, cameras: Cameras) -> dict[str, Tensor]:
        """How far the volumes of a scene's sources, each rendered alone, disagree about the target views."""
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
        """Noise augmentation of photos, so that the encoder tolerates views that the model drew itself."""
        largest_std = value_at(self.config.source_noise, progress)
        if not largest_std:
            return source
        amount = largest_std * uniform(seeds, (1, 1, 1, 1), stream="source noise level")
        noise = amount * normal(seeds, source.images.shape[1:], stream="source noise")
        return replace(source, images=source.images + to_device_of(source.images, noise))


def _join_first_source(batch: SceneBatch) -> Views:
    """The target views and, behind them, the first source view of each scene."""
    return concatenate([batch.target, batch.source.apply(lambda tensor: tensor[:, :1])], axis=1)


def volumes_of(model: NVSModel, run: Path | str) -> VolumeModel:
    """The model of a `run`, if it has volumes. Raises ValueError if it has none."""
    if not isinstance(model, VolumeModel):
        raise ValueError(f"{run}: its model has no volumes, so it knows no geometry; use another family")
    return model
