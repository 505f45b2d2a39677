"""Images to a VAE's latents and back, and volumes with those of their photos.

Axes: b scene, k photo, n images, c or a channel of latents, h, w, and of latents y, x.
"""

from collections.abc import Callable
from dataclasses import dataclass, fields

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from data.cameras.pinhole import Cameras
from nerf.volume import FrustumVolume


def encode(
    vae: nn.Module, images: Float[Tensor, "n 3 h w"], noise: Float[Tensor, "n c h2 w2"] | None = None
) -> Float[Tensor, "n c h2 w2"]:
    """Latents of images in [-1, 1], of about unit variance: drawn with normal `noise`, or the mean."""
    posterior = vae.encode(images).latent_dist
    drawn = posterior.mean if noise is None else posterior.mean + posterior.std * noise
    return drawn * vae.config.scaling_factor


def decode(vae: nn.Module, latents: Float[Tensor, "n c h w"]) -> Float[Tensor, "n 3 h2 w2"]:
    """Images in [-1, 1] of such latents."""
    return vae.decode(latents / vae.config.scaling_factor).sample.clamp(-1, 1)


def factor(vae: nn.Module) -> int:
    """Pixels along one side of a latent."""
    return 2 ** (len(vae.config.block_out_channels) - 1)


@dataclass(frozen=True, kw_only=True)
class PhotoVolume(FrustumVolume):
    """The volumes of photos, and the photos themselves as latents."""

    photos: Float[Tensor, "b k a y x"]
    photo_cameras: Cameras  # [b, k]
    photo_valid: Bool[Tensor, "b k"]

    def apply(self, function: Callable[[Tensor], Tensor]) -> "PhotoVolume":
        """Return the same with `function` applied to every tensor."""
        volume = super().apply(function)
        photos, cameras = function(self.photos), self.photo_cameras.apply(function)
        return with_photos(volume, photos, cameras, function(self.photo_valid))


def with_photos(volume: FrustumVolume, photos: Tensor, cameras: Cameras, valid: Tensor) -> PhotoVolume:
    """The volumes with their photos [b, k] as latents, and the cameras of these."""
    own = {field.name: getattr(volume, field.name) for field in fields(FrustumVolume)}
    return PhotoVolume(**own, photos=photos, photo_cameras=cameras, photo_valid=valid)


def first_photo(photos: Float[Tensor, "b k c y x"], valid: Bool[Tensor, "b k"]) -> Float[Tensor, "b c y x"]:
    """The first photo of each scene that is no padding."""
    scenes = torch.arange(len(valid), device=valid.device)
    return photos[scenes, valid.int().argmax(dim=1)]  # argmax returns the first of equal values
