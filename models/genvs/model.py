"""GeNVS: generative novel view synthesis with 3D-aware diffusion models (Chan et al. 2023, arXiv:2304.02602).

Source photos are encoded as feature volumes, the volumes are rendered to a latent image at the target camera,
and a denoiser conditioned on the latent image samples the view. Axes: b scene, s source view, t target view,
f latent channel, h, w.
"""

from typing import Literal

from jaxtyping import Float, Int
from pydantic import Field
from torch import Tensor, nn

from data.cameras.pinhole import Cameras
from data.scenes.batch import SceneBatch, Views
from data.schedule import NonNegative, largest
from diffusion.denoiser import EDMDenoiser
from diffusion.samplers import SampleOptions
from models.base import Prediction, SampleCallback
from models.denoising import diagnostics
from models.denoising.conditional_denoising import (
    DenoisingConfig,
    adapt_denoiser,
    check_image_size,
    denoising_loss,
    draw_views,
    to_model_range,
)
from models.volumes import diagnostics as volume_diagnostics
from models.volumes.losses import VolumeLossConfig
from models.volumes.volume_model import VolumeConfig, VolumeModel
from nerf.renderer import surfaces
from nerf.volume import FrustumVolume


class LossConfig(VolumeLossConfig, frozen=True):
    """Volume losses plus the denoising loss."""

    diffusion: NonNegative = Field(1.0, description="denoising of the target views")

    @property
    def teaches_volume(self) -> bool:
        """Whether any term supervises the volumes."""
        return self.terms != ("diffusion",)


class GeNVSConfig(DenoisingConfig, VolumeConfig, frozen=True):
    """The model's three parts and their training."""

    family: Literal["genvs"] = "genvs"
    loss: LossConfig = LossConfig()

    @property
    def denoiser_alone(self) -> bool:
        """Whether only the denoiser is trained, and without condition, so that no volume is needed."""
        return self.drop_condition_prob == 1 and not self.loss.teaches_volume


class GeNVS(VolumeModel):
    """Encoder, volume renderer and denoiser, trained together."""

    Config = GeNVSConfig
    training_settings = (
        *VolumeModel.training_settings,
        "model.noise",
        "model.augment",
        "model.drop_condition_prob",
        "model.denoised_targets",
        "model.denoiser.dropout",
    )
    resource_settings = (*VolumeModel.resource_settings, "model.denoiser.checkpointing")

    def __init__(self, config: GeNVSConfig, *, init_weights: bool = True):
        super().__init__(config, init_weights=init_weights)
        self.denoiser = EDMDenoiser(config.denoiser, condition_channels=config.renderer.latent_channels)
        # Freeze parts without gradient: data-parallel training would wait for them.
        self.denoiser.requires_grad_("diffusion" in config.loss.terms)
        for part in (self.encoder, self.renderer):
            part.requires_grad_(not config.denoiser_alone)

    @staticmethod
    def check_image_size(config: GeNVSConfig, image_size: int) -> None:
        """Raise ValueError if the image size does not suit the denoiser's levels."""
        check_image_size(config.denoiser, image_size)

    def parts(self) -> dict[str, nn.Module]:
        """Encoder, renderer and denoiser."""
        return super().parts() | {"denoiser": self.denoiser}

    def networks(self) -> tuple[nn.Module, ...]:
        """The encoder's two networks and the U-Net."""
        return *super().networks(), self.denoiser.inner_model

    def loss(self, batch: SceneBatch, *, progress: float) -> dict[str, Tensor]:
        """Compute the diffusion loss of the target views, and colour and shape losses of the volume."""
        images, weights = batch.target.images, self.config.loss.weights_at(progress)
        if self.config.denoiser_alone:
            b, t, _, h, w = images.shape
            unseen = images.new_zeros(()).expand(b, t, self.config.renderer.latent_channels, h, w)
            return {"diffusion": weights["diffusion"] * self._diffusion_loss(batch, unseen, progress)}
        seen, terms = self.render_batch(batch, progress=progress), {}
        if "diffusion" in weights:
            terms["diffusion"] = weights["diffusion"] * self._diffusion_loss(batch, seen.of_targets, progress)
        return terms | self.volume_losses(seen, progress=progress)

    def draw(
        self,
        scene: FrustumVolume,
        cameras: Cameras,
        seeds: Int[Tensor, "b t"],
        options: SampleOptions,
        *,
        init_images: Float[Tensor, "b t 3 h w"] | None = None,
        callback: SampleCallback | None = None,
    ) -> Prediction:
        """Render the volumes at the target cameras and sample views given the latent images."""
        scene, cameras = self._in_frame(scene, cameras)
        rendering = self.renderer(scene, cameras)
        condition = self.condition(rendering, scene.features.shape[-2:])
        settings = {"image_range": self.config.image_range, "init_images": init_images, "callback": callback}
        images = draw_views(self.denoiser, condition, seeds, options, **settings)
        return Prediction(
            images, 2 * condition[:, :, :3] - 1, *surfaces(rendering, cameras, images.shape[-2:])
        )

    def diagnose(self, scene: FrustumVolume, target: Views, seeds: Int[Tensor, "b t"]) -> dict[str, float]:
        """Compute diagnostics of the volumes, and of the denoiser if it is trained with its condition."""
        config = self.config
        conditioned = "diffusion" in config.loss.terms and largest(config.drop_condition_prob) < 1
        trained = conditioned or not {"rgb", "rgb_source"}.isdisjoint(config.loss.terms)
        if not trained:
            return {}
        rendering = self.render(scene, target.cameras)
        found = self._diagnose_volumes(rendering, scene, target)
        if conditioned:
            images = to_model_range(target.images, config.image_range)
            condition = self.condition(rendering, images.shape[-2:])
            found |= volume_diagnostics.latent_figures(rendering)
            found |= diagnostics.denoiser_figures(self.denoiser, images, condition, seeds)
        return found

    def adapt(self, weights: dict[str, Tensor]) -> tuple[dict[str, Tensor], list[str]]:
        """Adapt a denoiser without condition, or with fewer levels."""
        return adapt_denoiser(weights, self.denoiser)

    def _diffusion_loss(
        self, batch: SceneBatch, latent: Float[Tensor, "b t f h w"], progress: float
    ) -> Float[Tensor, ""]:
        """Compute the denoising loss of the target views that train the denoiser."""
        config, num = self.config, self.config.denoised_targets
        shown = batch.target.images[:, :num], latent[:, :num]
        return denoising_loss(self.denoiser, *shown, batch.seeds, config, progress=progress)
