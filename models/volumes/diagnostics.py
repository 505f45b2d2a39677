"""Diagnostics, from 0 to 1, for collapsed volumes or latent images.

A figure is omitted if there is too little data. Axes: b scene, t target view, r ray, f latent
channel, h, w; k, l of the true views.
"""

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from data.cameras.pinhole import Rays
from nerf.composite import BACKGROUND
from nerf.renderer import LatentImages

WHITE = 0.98  # in [-1, 1]: a pixel brighter than this in every channel is background
FEWEST = 0.01  # fraction of pixels below which a figure is omitted
NEAR = 0.05  # fraction of a ray that counts as the near plane
OPAQUE = 0.5  # opacity above which a pixel shows a surface
END = 0.01  # distance from an end of a latent channel's range, 0 to 1
FLAT = 1e-3  # standard deviation below which a latent channel is constant


def volume_figures(
    rendering: LatentImages, rays: Rays, images: Float[Tensor, "b t 3 k l"], *, num_samples: int
) -> dict[str, float]:
    """Compute the mean opacity, overall and on object and background of the true views, and the fraction of
    opacity on the near plane.

    `rays` [b, t, r] are the rendered rays, with `num_samples` even samples each.
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
    """For latent channels beyond RGB, on surfaces: fractions of saturated pixels and constant channels."""
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
