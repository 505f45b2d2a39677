"""Images to a VAE's latents and back. Axes: n images, c channels of latents, h, w."""

from jaxtyping import Float
from torch import Tensor, nn


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
