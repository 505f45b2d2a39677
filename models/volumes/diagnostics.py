"""Figures from 0 to 1 that tell whether volumes, latent images or the denoiser have collapsed, and how.

Where there is too little to judge by, a figure is left out. Axes: b scene, t target view, r ray, f latent
channel, h, w; k, l of the true views.
"""

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from data.cameras.pinhole import Rays
from nerf.composite import BACKGROUND
from nerf.renderer import LatentImages

WHITE = 0.98  # of [-1, 1]: a pixel that is brighter in every channel shows background
FEWEST = 0.01  # share of the pixels below which they say nothing
NEAR = 0.05  # of a ray: what lies before it lies on the near plane
OPAQUE = 0.5  # opacity above which a pixel tells the colour of a surface
END = 0.01  # of a latent channel's range, 0 to 1
FLAT = 1e-3  # standard deviation below which a latent channel shows nothing


def volume_figures(
    rendering: LatentImages, rays: Rays, images: Float[Tensor, "b t 3 k l"], *, num_samples: int
) -> dict[str, float]:
    """Mean opacity, everywhere and where the true views show object and background, and the share of what is
    seen that lies on the near plane.

    `rays` [b, t, r] are those that were rendered, with `num_samples` even samples each.
    """
    opacity = rendering.opacity[:, :, 0]
    size = opacity.shape[-2:]
    white = F.interpolate((images > WHITE).all(dim=2).to(opacity), size, mode="area")
    shown = {"object": white == 0, "background": white == 1}
    figures = {"health/opacity": opacity.mean().item()}
    for name, pixels in shown.items():
        if pixels.float().mean() > FEWEST:
            figures[f"health/opacity_{name}"] = opacity[pixels].mean().item()
    if opacity.mean() > FEWEST:
        begin, end = ((part * rays.cosine).unflatten(-1, size) for part in (rays.near, rays.far))
        place = (rendering.depth[:, :, 0] / opacity.clamp_min(1e-6) - begin) / (end - begin).clamp_min(1e-6)
        glued = place < max(NEAR, 1 / num_samples)
        figures["health/near_plane"] = ((opacity * glued).sum() / opacity.sum()).item()
    return figures


def latent_figures(rendering: LatentImages) -> dict[str, float]:
    """Of the latent channels beyond RGB, on surfaces: the share of pixels at an end of the range, and the
    share of channels that look the same everywhere."""
    opacity, latent = (part.movedim(2, -1).flatten(0, 3) for part in (rendering.opacity, rendering.latent))
    solid = opacity[:, 0] > OPAQUE
    if latent.shape[1] == 3 or solid.float().mean() < FEWEST:
        return {}
    opacity, latent = opacity[solid], latent[solid, 3:]
    colour = (latent - (1 - opacity) * BACKGROUND) / opacity
    at_end = (colour < END) | (colour > 1 - END)
    flat = colour.std(dim=0, correction=0) < FLAT
    return {
        "health/latent_saturated": at_end.float().mean().item(),
        "health/latent_flat": flat.float().mean().item(),
    }
