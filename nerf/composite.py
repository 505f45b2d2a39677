"""Volume rendering by emission and absorption (Max 1995; Mildenhall et al. 2020, equation 3).

The reference for the faster implementations. Axes: b scene, r ray, n sample, f latent channel.
"""

from dataclasses import dataclass, fields

import torch
from jaxtyping import Float
from torch import Tensor

from data.cameras.pinhole import Rays
from nerf.field import RadianceField
from nerf.sampling import RaySamples
from nerf.volume import FrustumVolume

BACKGROUND = 1.0  # white, in every latent channel


@dataclass(frozen=True)
class Rendering:
    """Per-ray outputs of volume rendering."""

    latent: Float[Tensor, "b r f"]  # 0 to 1, on a white background
    depth: Float[Tensor, "b r"]  # weighted by opacity: divide by it for the expected surface depth
    opacity: Float[Tensor, "b r"]  # 0 to 1


def absorption_weights(
    density: Float[Tensor, "*batch r n"], width: Float[Tensor, "*batch r n"]
) -> Float[Tensor, "*batch r n"]:
    """Rendering weight of each sample: transmittance times opacity."""
    thickness = density * width
    before = torch.cumsum(thickness, dim=-1) - thickness
    return torch.exp(-before) * -torch.expm1(-thickness)


def composite(
    density: Float[Tensor, "b r n"], latent: Float[Tensor, "b r n f"], rays: Rays, samples: RaySamples
) -> Rendering:
    """Composite samples over a white background; depth is along the optical axis."""
    weight = absorption_weights(density, samples.width)
    opacity = weight.sum(dim=-1)
    blended = torch.einsum("brn,brnf->brf", weight, latent) + (1 - opacity)[..., None] * BACKGROUND
    return Rendering(blended, (weight * samples.distance).sum(dim=-1) * rays.cosine, opacity)


def field_at(
    volume: FrustumVolume, field: RadianceField, points: Float[Tensor, "b n 3"]
) -> tuple[Float[Tensor, "b n"], Float[Tensor, "b n f"]]:
    """Evaluate density and latent colour of the field at points in the volume's world frame."""
    weight = volume.valid[..., None].to(points).expand(-1, -1, points.shape[1])
    features, inside = volume.look_up(points)
    if field.config.outside == "mask":
        weight = weight * inside
    return field(features, weight)


def query(
    volume: FrustumVolume, field: RadianceField, rays: Rays, samples: RaySamples
) -> tuple[Float[Tensor, "b r n"], Float[Tensor, "b r n f"]]:
    """Evaluate density and latent colour of the field at the samples."""
    distance = samples.distance[..., None]
    points = (rays.origins[..., None, :] + distance * rays.directions[..., None, :]).flatten(1, 2)
    density, latent = field_at(volume, field, points)
    size = samples.distance.shape[1:]
    return density.unflatten(1, size), latent.unflatten(1, size)


def density_reference(
    volume: FrustumVolume, field: RadianceField, rays: Rays, samples: RaySamples
) -> Float[Tensor, "b r n"]:
    """Evaluate the density of the field at the samples."""
    return query(volume, field, rays, samples)[0]


def render_reference(
    volume: FrustumVolume, field: RadianceField, rays: Rays, samples: RaySamples
) -> Rendering:
    """Render rays through a volume at given samples, in plain PyTorch; deterministic."""
    density, latent = query(volume, field, rays, samples)
    return composite(density, latent, rays, samples)


def refuse_gradients(volume: FrustumVolume, rays: Rays, samples: RaySamples) -> None:
    """Raise ValueError if rays, samples or cameras require gradients, which only the reference supports."""
    for owner in (rays, samples, volume.cameras):
        for part in fields(owner):
            if getattr(owner, part.name).requires_grad:
                raise ValueError(
                    f"{type(owner).__name__}.{part.name} requires a gradient, which only the reference "
                    "renderer supports; use model.renderer.backend=reference"
                )
