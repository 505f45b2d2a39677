"""A regression baseline for novel views (after pixelNeRF: Yu et al. 2021, arXiv:2012.02190).

GeNVS without its denoiser: the same encoder and renderer, but the latent image is the output. Where the
photos are ambiguous, it predicts the mean, which is blurred. Axes: b scene, t target view, h, w.
"""

from typing import Literal

from jaxtyping import Float, Int
from torch import Tensor

from data.cameras.pinhole import Cameras
from data.scenes.batch import SceneBatch
from diffusion.samplers import SampleOptions
from models.base import Prediction, SampleCallback
from models.volumes.volume_model import VolumeConfig, VolumeModel
from nerf.renderer import RendererConfig, surfaces
from nerf.volume import FrustumVolume


class ColourRendererConfig(RendererConfig, frozen=True):
    """A renderer of RGB only."""

    latent_channels: Literal[3] = 3  # red, green, blue


class PixelNeRFConfig(VolumeConfig, frozen=True):
    """The encoder, the renderer and their training."""

    family: Literal["pixelnerf"] = "pixelnerf"
    renderer: ColourRendererConfig = ColourRendererConfig()


class PixelNeRF(VolumeModel):
    """Encoder and volume renderer. Views are rendered: seeds and sampling options have no effect."""

    Config = PixelNeRFConfig
    deterministic = True

    def loss(self, batch: SceneBatch, *, progress: float) -> dict[str, Tensor]:
        """Compute the squared error of the rendered colours, and shape losses of the volume."""
        return self.volume_losses(self.render_batch(batch, progress=progress), progress=progress)

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
        """Render the volumes at the target cameras: the image and its preview are the same.

        There is no denoising: seeds, options, `init_images` and `callback` are not used.
        """
        scene, cameras = self._in_frame(scene, cameras)
        rendering = self.renderer(scene, cameras)
        size = scene.features.shape[-2:]
        images = 2 * self.condition(rendering, size) - 1
        return Prediction(images, images, *surfaces(rendering, cameras, size))
