"""The baseline: each part as a plain composition of PyTorch operations, as in the published code.

It has the same weights as the model and, up to rounding, the same results. It processes whole batches in
float32 with contiguous tensors and without compilation. Axes: b scene, s source view, t target view, r ray,
n sample, f latent channel.
"""

import copy
from collections.abc import Callable
from dataclasses import replace

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn
from torchvision.ops import FrozenBatchNorm2d

from data.cameras.pinhole import Cameras, Rays
from data.scenes.batch import SceneBatch, Views, concatenate
from diffusion.denoiser import EDMDenoiser, k_diffusion_network
from diffusion.layers import AttentionDropout
from models.base import NVSModel
from models.volumes.backbone import FrozenNorm
from models.volumes.encoder import UpBlock, VolumeUpBlock
from nerf.renderer import QUADRATURES, Jitter, LatentImages, VolumeRenderer
from nerf.sampling import RaySamples
from nerf.volume import FrustumVolume

CERTAIN = 1e-10  # light that even an opaque sample lets through: the gradient of cumprod divides by it


class PlainRenderer(nn.Module):
    """A `VolumeRenderer` of the same weights: F.grid_sample source by source, F.linear, cumprod.

    The importance pass also computes latent colours and records gradients that are not needed; then all
    samples are evaluated, the coarse ones a second time.
    """

    def __init__(self, renderer: VolumeRenderer):
        super().__init__()
        self.renderer = renderer
        self.field, self.config = renderer.field, renderer.config

    def forward(
        self,
        volume: FrustumVolume,
        cameras: Cameras,
        jitter: Jitter | None = None,
        *,
        size: tuple[int, int] | None = None,
    ) -> LatentImages:
        """As `VolumeRenderer.forward`. Volumes that are valid in no scene are left out."""
        used = volume.valid.any(dim=0)
        volume = volume if bool(used.all()) else volume.apply(lambda tensor: tensor[:, used])
        rays = self.renderer.rays(cameras, size).apply(lambda tensor: tensor.flatten(1, 2))
        quadrature = QUADRATURES[self.config.quadrature]
        samples = quadrature.uniform(rays, self.config.coarse, jitter.coarse if jitter else None)
        if self.config.fine:
            density, _ = self._query(volume, rays, samples)
            weight = _weights(density, samples)
            further = jitter.fine if jitter else None
            more = quadrature.importance(rays, samples, weight, self.config.fine, further)
            samples, _ = quadrature.merge(rays, samples, more)
        density, latent = self._query(volume, rays, samples)
        weight = _weights(density, samples)
        opacity = weight.sum(dim=-1)
        blended = (weight[..., None] * latent).sum(dim=-2) + (1 - opacity)[..., None]
        depth = (weight * samples.distance).sum(dim=-1) * rays.cosine
        shape = (cameras.shape[1], *(size or (self.config.size, self.config.size)))
        images = [part.unflatten(1, shape) for part in (blended, depth[..., None], opacity[..., None])]
        return LatentImages(*(image.movedim(-1, 2) for image in images))

    def _query(self, volume: FrustumVolume, rays: Rays, samples: RaySamples) -> tuple[Tensor, Tensor]:
        """Density [b, r, n] and latent colour [b, r, n, f]."""
        points = rays.origins[..., None, :] + samples.distance[..., None] * rays.directions[..., None, :]
        coordinates = volume.coordinates(points.flatten(1, 2))
        inside = (coordinates.abs() <= 1).all(dim=-1)
        weight = volume.valid[..., None].to(points).expand(-1, -1, inside.shape[-1])
        if self.config.field.outside == "mask":
            weight = weight * inside
        share = weight / weight.sum(dim=1, keepdim=True).clamp_min(1e-12)
        after = self.config.field.pool == "after"
        united = 0.0
        for source in range(volume.valid.shape[1]):
            features = _gather(volume, coordinates, source)
            found = self._mlp(features) if after else features
            united = united + share[:, source, :, None] * found
        logits = united if after else self._mlp(united)
        known = weight.amax(dim=1) > 0
        density = self.config.field.density_scale * F.softplus(logits[..., 0]) * known
        size = samples.distance.shape[1:]
        return density.unflatten(1, size), torch.sigmoid(logits[..., 1:]).unflatten(1, size)

    def _mlp(self, features: Tensor) -> Tensor:
        hidden, output = self.field.hidden, self.field.output
        return F.linear(
            F.softplus(F.linear(features, hidden.weight, hidden.bias)), output.weight, output.bias
        )


class PlainUpBlock(nn.Module):
    """Doubles the resolution first, and convolves then."""

    def __init__(self, block: UpBlock):
        super().__init__()
        self.up, self.conv = block.up, block.conv

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        """As `UpBlock.forward`."""
        return self.conv(torch.cat([self.up(x), skip], dim=1))


class PlainVolumeUpBlock(PlainUpBlock):
    """The channels of the result are features, and of a feature planes, as torch lays them."""

    def __init__(self, block: VolumeUpBlock):
        super().__init__(block)
        self.channels = block.channels

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        """As `VolumeUpBlock.forward`."""
        return super().forward(x, skip).unflatten(1, (self.channels, -1))


class PlainEncoder(nn.Module):
    """Encodes every photo, including those whose volumes are not used, with torchvision's norms."""

    def __init__(self, encoder: nn.Module):
        super().__init__()
        self.encoder = encoder
        for name, layer in list(encoder.named_modules()):
            if type(layer) is FrozenNorm:
                theirs = FrozenBatchNorm2d(len(layer.weight), eps=layer.eps).to(layer.weight.device)
                theirs.load_state_dict(layer.state_dict())
                encoder.set_submodule(name, theirs)
            elif isinstance(layer, UpBlock):
                plain = PlainVolumeUpBlock if isinstance(layer, VolumeUpBlock) else PlainUpBlock
                encoder.set_submodule(name, plain(layer))

    def forward(self, views: Views, places: Int[Tensor, "k"] | None = None) -> FrustumVolume:
        """As `Encoder.forward`, but with volumes also of padding; `places` is not looked at."""
        volume = self.encoder(replace(views, valid=torch.ones_like(views.valid)))
        return replace(volume, valid=views.valid)


def plain_denoiser(denoiser: EDMDenoiser) -> EDMDenoiser:
    """The same weights in k-diffusion's own layers, with their dense [c, c, 4, 4] kernels for resizing."""
    plain, num_channels = copy.deepcopy(denoiser), denoiser.inner_model.unet_cond_dim
    plain.inner_model = k_diffusion_network(denoiser.config, condition_channels=num_channels)
    # Its dropout would go on in evaluation, where attention is then slower and its result another.
    for name, layer in list(plain.inner_model.named_modules()):
        if type(layer) is nn.Dropout:
            plain.inner_model.set_submodule(name, AttentionDropout(layer.p))
    plain.inner_model.load_state_dict(denoiser.inner_model.state_dict())
    weight = next(denoiser.parameters())
    return plain.to(weight.device).train(denoiser.training)


def plain_model(model: NVSModel) -> NVSModel:
    """A copy of the model of which every part is plain."""
    plain = copy.deepcopy(model)
    plain.encoder = PlainEncoder(plain.encoder)
    plain.renderer = PlainRenderer(plain.renderer)
    plain.denoiser = plain_denoiser(plain.denoiser)
    return plain.to(memory_format=torch.contiguous_format)


def with_all_photos(batch: SceneBatch) -> SceneBatch:
    """The batch with its target views among the sources, where they are encoded but not valid."""
    unused = replace(batch.target, valid=torch.zeros_like(batch.target.valid))
    return replace(batch, source=concatenate([batch.source, unused], axis=1))


def plain_update(model: NVSModel, learning_rate: float, clip: float) -> Callable[[SceneBatch], float]:
    """A training step that encodes all photos, updates tensors one by one and waits for every loss."""
    trained = [weight for weight in model.parameters() if weight.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=learning_rate, foreach=False, fused=False)
    average = [weight.detach().clone() for weight in trained]

    def update(batch: SceneBatch) -> float:
        terms = model.loss(with_all_photos(batch), progress=0.0)
        sum(terms.values()).backward()
        total = sum(term.item() for term in terms.values())
        torch.nn.utils.clip_grad_norm_(trained, clip, foreach=False)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        with torch.no_grad():
            for slow, weight in zip(average, trained, strict=True):
                slow.lerp_(weight, 1e-4)
        return total

    return update


def _gather(volume: FrustumVolume, coordinates: Float[Tensor, "b s n 3"], source: int) -> Tensor:
    """Trilinear features [b, n, c] of one source. Depth planes lie on the faces, see `FrustumVolume`."""
    planes = volume.features.shape[3]
    scale = 1.0 if volume.align_corners else (planes - 1) / planes
    at = coordinates[:, source] * coordinates.new_tensor([1.0, 1.0, scale])
    options = {"padding_mode": "border", "align_corners": volume.align_corners}
    found = F.grid_sample(volume.features[:, source], at[:, None, None], **options)
    return found[:, :, 0, 0].transpose(1, 2)


def _weights(density: Float[Tensor, "b r n"], samples: RaySamples) -> Float[Tensor, "b r n"]:
    """Share of the light that ends in each sample, by the product of what those before it let through."""
    opacity = 1 - torch.exp(-density * samples.width)
    before = torch.cat([torch.ones_like(opacity[..., :1]), 1 - opacity[..., :-1] + CERTAIN], dim=-1)
    return opacity * torch.cumprod(before, dim=-1)
