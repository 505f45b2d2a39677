"""Quadrature of the published code: samples at the left edges of intervals, including both ray ends.

For weights that were trained with it. The field is constant from each sample to the next; the last one has an
interval of the mean length. Same interface as `nerf.sampling`. Axes: r ray, n sample, m more of them, k both.
"""

from dataclasses import replace

import torch
from jaxtyping import Float, Int
from torch import Tensor

from data.cameras.pinhole import Rays
from nerf.sampling import WEIGHT_FLOOR, RaySamples

ELSEWHERE = 1e9  # scene units; rays that miss the cube start and end here, with zero length

PARALLEL = 1e-15  # keeps the quotient finite for rays parallel to a face


FEWEST_FOR_IMPORTANCE = 3  # the first and the last sample have no cell of their own
EMPTY_CELL = 1e-5  # fraction of the weight below which the position within a cell is not interpolated


def uniform(rays: Rays, num: int, jitter: Float[Tensor, "*batch r n"] | None = None) -> RaySamples:
    """Place `num` even samples from near to far; `jitter` (0 to 1) moves each by up to half an interval."""
    near, far = rays.near[..., None], rays.far[..., None]
    distance = near + (far - near) * torch.linspace(0, 1, num, device=near.device)
    if jitter is not None:
        distance = distance + (jitter - 0.5) * (far - near) / num
    return _with_widths(distance, _mean_interval(rays, num))


def importance(
    rays: Rays,
    samples: RaySamples,
    weight: Float[Tensor, "*batch r n"],
    num: int,
    jitter: Float[Tensor, "*batch r m"] | None = None,
) -> Float[Tensor, "*batch r num"]:
    """Importance-sample the distances of `num` more samples from `weight`. Detached from the graph.

    Cells are between the midpoints of neighbouring samples, so the outermost half intervals get none.
    """
    borders = (samples.distance[..., 1:] + samples.distance[..., :-1]) / 2
    mass = weight.detach()[..., 1:-1] + WEIGHT_FLOOR
    share = mass / mass.sum(dim=-1, keepdim=True)
    cumulative = torch.cat([torch.zeros_like(share[..., :1]), share.cumsum(dim=-1)], dim=-1)
    wanted = (torch.arange(num, device=weight.device) + (0.5 if jitter is None else jitter)) / num
    wanted = wanted.to(share).expand(*share.shape[:-1], num).contiguous()
    above = torch.searchsorted(cumulative, wanted, right=True)
    low, high = (above - 1).clamp_min(0), above.clamp_max(cumulative.shape[-1] - 1)
    start, end = cumulative.gather(-1, low), cumulative.gather(-1, high)
    width = torch.where(end - start < EMPTY_CELL, 1.0, end - start)
    distance = torch.lerp(borders.gather(-1, low), borders.gather(-1, high), (wanted - start) / width)
    return distance.detach()


def merge(
    rays: Rays, samples: RaySamples, more: Float[Tensor, "*batch r m"]
) -> tuple[RaySamples, Int[Tensor, "*batch r k"]]:
    """Merge `samples` with those at distances `more`; also return each one's index in their concatenation."""
    distance, order = torch.cat([samples.distance, more], dim=-1).sort(dim=-1)
    return _with_widths(distance, _mean_interval(rays, samples.distance.shape[-1])), order


def _mean_interval(rays: Rays, num: int) -> Tensor:
    return (rays.far - rays.near)[..., None] / num


def _with_widths(distance: Tensor, last: Tensor) -> RaySamples:
    return RaySamples(distance, torch.cat([distance.diff(dim=-1), last], dim=-1))


def within_cube(rays: Rays, nearest: float) -> Rays:
    """Clip rays to the cube from -1 to 1, from at least `nearest` (slab test, Kay and Kajiya 1986)."""
    to_low = (-1 - rays.origins) / (rays.directions + PARALLEL)
    to_high = (1 - rays.origins) / (rays.directions + PARALLEL)
    enter = torch.minimum(to_low, to_high).amax(dim=-1)
    leave = torch.maximum(to_low, to_high).amin(dim=-1)
    missed = leave < enter
    near = torch.where(missed, ELSEWHERE, enter.clamp_min(nearest))
    return replace(rays, near=near, far=torch.where(missed, near, torch.maximum(leave, near)))
