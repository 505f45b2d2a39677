"""The volume renderer: cameras in, latent images out.

Axes: b scene, t target view, f latent channel, h, w.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from pydantic import BaseModel, Field
from torch import Tensor, nn

from data.cameras import Cameras, Rays
from nerf.composite import absorption_weights, query, render_reference
from nerf.field import FieldConfig, RadianceField
from nerf.sampling import RaySamples, importance, uniform
from nerf.volume import FrustumVolume


class RendererConfig(BaseModel, frozen=True, extra="forbid"):
    """The renderer's resolution and its samples along a ray."""

    size: int = Field(64, ge=1, le=2048, description="height and width of the latent image in rays")
    latent_channels: int = Field(
        16, ge=3, description="channels of the latent image; the first three are RGB"
    )
    coarse: int = Field(64, ge=1, le=4096, description="evenly spaced samples a ray")
    fine: int = Field(64, ge=0, le=4096, description="further samples a ray, placed by importance; 0 = none")
    field: FieldConfig = FieldConfig()


@dataclass(frozen=True)
class LatentImages:
    """A rendering arranged as pictures."""

    latent: Float[Tensor, "b t f h w"]  # 0 to 1, on a white background
    depth: Float[Tensor, "b t 1 h w"]  # weighted by opacity
    opacity: Float[Tensor, "b t 1 h w"]  # 0 to 1


@dataclass(frozen=True)
class Jitter:
    """Random places (0 to 1) of the samples within their cells, for training."""

    coarse: Float[Tensor, "b r n"]
    fine: Float[Tensor, "b r m"]


class VolumeRenderer(nn.Module):
    """Renders feature volumes of any number of source views. Works in float32, also under autocast."""

    def __init__(self, config: RendererConfig, *, channels: int):
        super().__init__()
        self.config = config
        self.field = RadianceField(config.field, channels=channels, latent_channels=config.latent_channels)

    def forward(self, volume: FrustumVolume, cameras: Cameras, jitter: Jitter | None = None) -> LatentImages:
        """Latent images seen by `cameras` [b, t]; without `jitter` the result is deterministic."""
        t, size = cameras.shape[1], self.config.size
        with torch.autocast(volume.features.device.type, enabled=False):
            volume = volume.apply(lambda tensor: tensor.float() if tensor.is_floating_point() else tensor)
            rays = cameras.rays(size, size).apply(lambda tensor: tensor.flatten(1, 2))
            rendering = render_reference(volume, self.field, rays, self._place(volume, rays, jitter))
        shape = (t, size, size)
        return LatentImages(
            rendering.latent.unflatten(1, shape).movedim(-1, 2),
            rendering.depth.unflatten(1, shape)[:, :, None],
            rendering.opacity.unflatten(1, shape)[:, :, None],
        )

    def _place(self, volume: FrustumVolume, rays: Rays, jitter: Jitter | None) -> RaySamples:
        samples = uniform(rays, self.config.coarse, jitter.coarse if jitter else None)
        if self.config.fine == 0:
            return samples
        with torch.no_grad():
            density, _ = query(volume, self.field, rays, samples)
            weight = absorption_weights(density, samples.width)
        return importance(rays, samples, weight, self.config.fine, jitter.fine if jitter else None)
