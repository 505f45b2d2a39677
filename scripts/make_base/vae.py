"""Train the VAE of a base, and measure its latents and its reconstructions."""

from pathlib import Path
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from scripts.make_base.cars import CaptionedImages
from scripts.make_base.networks import make_vae
from scripts.make_base.options import BaseOptions
from scripts.make_base.training import Stop, train

if TYPE_CHECKING:
    from diffusers import AutoencoderKL

KL_WEIGHT = 1e-4  # of the mean over latents, beside the mean squared error of pixels in [-1, 1]
LEARNING_RATE = 2e-3
BATCH = 64  # for encoding without gradients


def train_vae(
    cars: CaptionedImages, path: Path, options: BaseOptions, stop: Stop
) -> tuple["AutoencoderKL", float]:
    """The trained VAE, with its scaling factor, and the CPU seconds it took; `path` holds the state.

    Raises StoppedError at a stop, and OSError if the state cannot be saved.
    """
    vae = make_vae(options)

    def loss(_: int, generator: torch.Generator) -> Tensor:
        images = cars.images(torch.randint(len(cars), (options.vae_batch,), generator=generator))
        posterior = vae.encode(images).latent_dist
        noise = torch.randn(posterior.mean.shape, generator=generator)
        decoded = vae.decode(posterior.mean + posterior.std * noise).sample
        kl = 0.5 * (posterior.mean.float() ** 2 + posterior.var.float() - 1 - posterior.logvar.float()).mean()
        return F.mse_loss(decoded.float(), images) + KL_WEIGHT * kl

    settings = {"steps": options.vae_steps, "lr": LEARNING_RATE, "seed": options.seed, "ema": 0.99}
    spent_s = train(vae, loss, path, name="VAE", stop=stop, **settings)
    vae.eval().requires_grad_(False)
    vae.register_to_config(scaling_factor=1 / float(latent_means(vae, cars).std()))
    return vae, spent_s


@torch.no_grad()
def latent_means(vae: "AutoencoderKL", cars: CaptionedImages) -> Float[Tensor, "n 4 h w"]:
    """The means of the latents of all images, not scaled."""
    chunks = torch.arange(len(cars)).split(BATCH)
    return torch.cat([vae.encode(cars.images(chunk)).latent_dist.mean for chunk in chunks])


@torch.no_grad()
def reconstruct(vae: "AutoencoderKL", cars: CaptionedImages) -> Float[Tensor, "n 3 h w"]:
    """What remains of the images, in [-1, 1], after encoding (the mean) and decoding."""
    latents = latent_means(vae, cars)
    return torch.cat([vae.decode(part).sample.clamp(-1, 1) for part in latents.split(BATCH)])
