"""Composite samples, evaluated in two passes (coarse and fine), along the rays of a block.

Computes `nerf.composite.composite` over the samples visible in a source. Axes: r ray, n sample, k visible
sample, c feature, f latent channel, p MLP row.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor
from torch.autograd.function import once_differentiable

from data.cameras.pinhole import Rays
from nerf.composite import BACKGROUND, absorption_weights
from nerf.field import FieldConfig
from nerf.sampling import RaySamples


@dataclass(frozen=True)
class PassSamples:
    """Samples of a block that were placed together, and the field at the visible ones."""

    distance: Float[Tensor, "r m"]
    index: Int[Tensor, "k"] | None  # of the visible samples, in ray order; None for all
    density: Float[Tensor, "k"]  # logits, pooled over the sources
    colour: Float[Tensor, "k f"]  # likewise


@dataclass(frozen=True)
class Plan:
    """Sample placement of a block: all that is saved for the backward pass."""

    distances: list[Float[Tensor, "r _"]]  # per pass
    samples: RaySamples  # of all passes, sorted by distance
    order: Int[Tensor, "r n"] | None  # index of each sample among the passes' concatenated samples


def density_of(logits: Float[Tensor, "k"], config: FieldConfig) -> Float[Tensor, "k"]:
    """Convert logits to density per scene unit."""
    return config.density_scale * F.softplus(logits)


def blend(
    plan: Plan, passes: Sequence[PassSamples], rays: Rays, config: FieldConfig
) -> tuple[Float[Tensor, "r f"], Float[Tensor, "r"], Float[Tensor, "r"]]:
    """Composite latent colour, depth and opacity of a block's rays."""
    num_rays, samples = len(plan.samples.distance), plan.samples
    density = [spread(each, density_of(each.density, config)) for each in passes]
    density = density[0] if plan.order is None else torch.cat(density, dim=-1).gather(-1, plan.order)
    weight = absorption_weights(density, samples.width)
    opacity = weight.sum(dim=-1)
    depth = (weight * samples.distance).sum(dim=-1) * rays.cosine
    if plan.order is not None:
        weight = torch.empty_like(weight).scatter(-1, plan.order, weight)
    latent = ((1 - opacity) * BACKGROUND)[:, None]
    weights = weight.split([each.distance.shape[1] for each in passes], dim=-1)
    for each, share in zip(passes, weights, strict=True):
        colour = torch.sigmoid(each.colour)
        if each.index is None:
            latent = latent + (share[:, None] @ colour.view(*share.shape, -1))[:, 0]
        else:
            known = share.flatten().index_select(0, each.index)
            latent = latent + _RaySums.apply(colour, known, each.index // share.shape[1], num_rays)
    return latent, depth, opacity


def blend_backward(
    plan: Plan, passes: Sequence[PassSamples], rays: Rays, config: FieldConfig, given: Sequence[Tensor]
) -> list[tuple[Tensor, Tensor]]:
    """Backward pass of `blend`: gradients of the density and colour logits, per pass."""
    with torch.enable_grad():
        leaves = [
            replace(
                each,
                density=each.density.detach().requires_grad_(),
                colour=each.colour.detach().requires_grad_(),
            )
            for each in passes
        ]
        logits = [logit for each in leaves for logit in (each.density, each.colour)]
        found = torch.autograd.grad(blend(plan, leaves, rays, config), logits, given)
    return list(zip(found[::2], found[1::2], strict=True))


class _RaySums(torch.autograd.Function):
    """Weighted sums over the samples of each ray."""

    @staticmethod
    def forward(ctx: Any, colour: Tensor, weight: Tensor, ray: Tensor, num_rays: int) -> Tensor:
        ctx.save_for_backward(colour, weight, ray)
        first = torch.searchsorted(ray, torch.arange(num_rays))
        samples = torch.arange(len(ray))
        return F.embedding_bag(samples, colour, first, per_sample_weights=weight, mode="sum")

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        colour, weight, ray = ctx.saved_tensors
        given = gradient.index_select(0, ray)
        of_weight = torch.linalg.vecdot(colour, given)
        return given.mul_(weight[:, None]), of_weight, None, None


def spread(samples: PassSamples, values: Float[Tensor, "k"]) -> Float[Tensor, "r m"]:
    """Scatter values of the visible samples into zeros."""
    if samples.index is not None:
        values = values.new_zeros(samples.distance.numel()).index_copy(0, samples.index, values)
    return values.view_as(samples.distance)
