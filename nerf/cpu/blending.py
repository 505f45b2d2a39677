"""Composite samples, evaluated in two rounds (coarse and fine), along the rays of a block.

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
class Round:
    """Samples of a block that were placed together, and the field at the visible ones."""

    distance: Float[Tensor, "r m"]
    index: Int[Tensor, "k"] | None  # of the visible samples, in ray order; None for all
    density: Float[Tensor, "k"]  # logits, pooled over the sources
    colour: Float[Tensor, "k f"]  # likewise


@dataclass(frozen=True)
class Plan:
    """Sample placement of a block: all that is saved for the backward pass."""

    distances: list[Float[Tensor, "r _"]]  # per round
    samples: RaySamples  # of all rounds, sorted by distance
    order: Int[Tensor, "r n"] | None  # index of each sample among the rounds' concatenated samples


def density_of(logits: Float[Tensor, "k"], config: FieldConfig) -> Float[Tensor, "k"]:
    """Convert logits to density per scene unit."""
    return config.density_scale * F.softplus(logits)


def blend(
    plan: Plan, rounds: Sequence[Round], rays: Rays, config: FieldConfig
) -> tuple[Float[Tensor, "r f"], Float[Tensor, "r"], Float[Tensor, "r"]]:
    """Composite latent colour, depth and opacity of a block's rays."""
    num_rays, samples = len(plan.samples.distance), plan.samples
    density = [spread(turn, density_of(turn.density, config)) for turn in rounds]
    density = density[0] if plan.order is None else torch.cat(density, dim=-1).gather(-1, plan.order)
    weight = absorption_weights(density, samples.width)
    opacity = weight.sum(dim=-1)
    depth = (weight * samples.distance).sum(dim=-1) * rays.cosine
    if plan.order is not None:
        weight = torch.empty_like(weight).scatter(-1, plan.order, weight)
    latent = ((1 - opacity) * BACKGROUND)[:, None]
    weights = weight.split([turn.distance.shape[1] for turn in rounds], dim=-1)
    for turn, share in zip(rounds, weights, strict=True):
        colour = torch.sigmoid(turn.colour)
        if turn.index is None:
            latent = latent + (share[:, None] @ colour.view(*share.shape, -1))[:, 0]
        else:
            known = share.flatten().index_select(0, turn.index)
            latent = latent + _RaySums.apply(colour, known, turn.index // share.shape[1], num_rays)
    return latent, depth, opacity


def blend_backward(
    plan: Plan, rounds: Sequence[Round], rays: Rays, config: FieldConfig, given: Sequence[Tensor]
) -> list[tuple[Tensor, Tensor]]:
    """Backward pass of `blend`: gradients of the density and colour logits, per round."""
    with torch.enable_grad():
        leaves = [
            replace(
                turn,
                density=turn.density.detach().requires_grad_(),
                colour=turn.colour.detach().requires_grad_(),
            )
            for turn in rounds
        ]
        logits = [logit for turn in leaves for logit in (turn.density, turn.colour)]
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


def spread(turn: Round, values: Float[Tensor, "k"]) -> Float[Tensor, "r m"]:
    """Scatter values of the visible samples into zeros."""
    if turn.index is not None:
        values = values.new_zeros(turn.distance.numel()).index_copy(0, turn.index, values)
    return values.view_as(turn.distance)
