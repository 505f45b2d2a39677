"""nerf/sampling.py: cells along rays, and importance sampling against a brute-force inverse in float64."""

from itertools import pairwise

import pytest
import torch

from data.cameras.pinhole import Rays
from nerf.sampling import WEIGHT_FLOOR, RaySamples, importance, merge, uniform, with_widths

B, R, N, M = 2, 3, 5, 7


def rays(dtype: torch.dtype = torch.float64) -> Rays:
    generator = torch.Generator().manual_seed(0)
    near = 0.5 + torch.rand(B, R, generator=generator, dtype=dtype)
    far = near + 0.5 + torch.rand(B, R, generator=generator, dtype=dtype)
    directions = torch.nn.functional.normalize(torch.randn(B, R, 3, generator=generator, dtype=dtype), dim=-1)
    return Rays(torch.zeros_like(directions), directions, near, far, torch.ones_like(near))


def jitter(*shape: int) -> torch.Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(9), dtype=torch.float64)


def refined(along: Rays, samples: RaySamples, weight: torch.Tensor, num: int, amount=None) -> RaySamples:
    """The samples and `num` more; `merge` must say which of them each was."""
    more = importance(along, samples, weight, num, amount)
    merged, order = merge(along, samples, more)
    both = torch.cat([samples.distance, more], dim=-1)
    assert torch.equal(order.sort(dim=-1).values, torch.arange(both.shape[-1]).expand(both.shape))
    torch.testing.assert_close(both.gather(-1, order), merged.distance, rtol=0, atol=0)
    return merged


def edges_by_hand(near: float, far: float, distances: list[float]) -> list[float]:
    return [near, *[(a + b) / 2 for a, b in pairwise(distances)], far]


def test_even_samples_are_the_middles_of_equal_cells():
    along = rays()
    samples = uniform(along, N)
    for b in range(B):
        for r in range(R):
            near, far = along.near[b, r].item(), along.far[b, r].item()
            step = (far - near) / N
            expected = [near + (i + 0.5) * step for i in range(N)]
            assert samples.distance[b, r].tolist() == pytest.approx(expected)
            assert samples.width[b, r].tolist() == pytest.approx([step] * N)


def test_widths_cover_the_ray_without_gaps():
    along = rays()
    for samples in (
        uniform(along, N),
        uniform(along, N, jitter(B, R, N)),
        uniform(along, 1),
        refined(along, uniform(along, N), jitter(B, R, N), M),
    ):
        torch.testing.assert_close(samples.width.sum(dim=-1), along.far - along.near)
        assert (samples.width > 0).all()


def test_jittered_samples_stay_in_their_cells_and_so_in_order():
    along = rays()
    for amount in (torch.zeros(B, R, N).double(), jitter(B, R, N), torch.full((B, R, N), 0.999).double()):
        distance = uniform(along, N, amount).distance
        step = ((along.far - along.near) / N)[..., None]
        cell = (distance - along.near[..., None]) / step - torch.arange(N)
        torch.testing.assert_close(cell, amount)
        assert (distance.diff(dim=-1) > 0).all()


def test_half_a_cell_of_jitter_is_no_jitter():
    along = rays()
    moved = uniform(along, N, torch.full((B, R, N), 0.5).double())
    torch.testing.assert_close(moved.distance, uniform(along, N).distance)


def inverse_by_hand(edges: list[float], weights: list[float], wanted: float) -> float:
    """Where a piecewise constant density over the cells has gathered the share `wanted` (0 to 1)."""
    mass = [weight + WEIGHT_FLOOR for weight in weights]
    left = wanted * sum(mass)
    for low, high, amount in zip(edges[:-1], edges[1:], mass, strict=True):
        if left <= amount:
            return low + (high - low) * left / amount
        left -= amount
    return edges[-1]


@pytest.mark.parametrize("jittered", [False, True])
def test_importance_samples_are_the_inverse_of_the_gathered_weight(jittered):
    along = rays()
    coarse = uniform(along, N, jitter(B, R, N))
    weight = jitter(B, R, N) ** 4
    weight[0, 0] = torch.tensor([0.0, 0.0, 3.0, 0.0, 1e-9])
    amount = jitter(B, R, M) if jittered else None
    found = refined(along, coarse, weight, M, amount)
    for b in range(B):
        for r in range(R):
            near, far = along.near[b, r].item(), along.far[b, r].item()
            distances = coarse.distance[b, r].tolist()
            edges = edges_by_hand(near, far, distances)
            steps = [(i + (amount[b, r, i].item() if jittered else 0.5)) / M for i in range(M)]
            fine = [inverse_by_hand(edges, weight[b, r].tolist(), step) for step in steps]
            assert found.distance[b, r].tolist() == pytest.approx(sorted(distances + fine))


def test_the_share_of_samples_in_a_cell_is_its_share_of_the_weight():
    along, many = rays(), 4000
    coarse, weight = uniform(along, N), jitter(B, R, N)
    fine = refined(along, coarse, weight, many).distance
    step = ((along.far - along.near) / N)[..., None]
    cell = ((fine - along.near[..., None]) / step).long().clamp(0, N - 1)
    counts = torch.nn.functional.one_hot(cell, N).sum(dim=-2).double() - 1  # the coarse sample of each
    expected = weight / weight.sum(dim=-1, keepdim=True)
    torch.testing.assert_close(counts / many, expected, atol=1e-3, rtol=0)


def test_where_nothing_is_seen_samples_are_spread_evenly():
    along = rays()
    found = refined(along, uniform(along, N), torch.zeros(B, R, N).double(), M).distance
    merged = torch.cat([uniform(along, N).distance, uniform(along, M).distance], dim=-1).sort(dim=-1).values
    torch.testing.assert_close(found, merged)


def test_samples_are_sorted_and_stay_on_the_ray_also_in_single_precision():
    along = rays(torch.float32)
    weight = torch.zeros(B, R, N)
    weight[..., -1] = 1e6
    for amount in (None, torch.full((B, R, M), 1 - 2**-24), torch.zeros(B, R, M)):
        found = refined(along, uniform(along, N), weight, M, amount)
        assert (found.distance.diff(dim=-1) >= 0).all()
        assert (found.width >= 0).all()
        assert (found.distance >= along.near[..., None]).all()
        assert (found.distance <= along.far[..., None] * (1 + 1e-6)).all()


def test_no_gradient_passes_through_the_places():
    along = rays()
    weight = jitter(B, R, N).requires_grad_()
    assert not importance(along, uniform(along, N), weight, M).requires_grad


def test_cells_end_halfway_between_neighbours():
    along = rays()
    samples = with_widths(along, uniform(along, N, jitter(B, R, N)).distance)
    assert isinstance(samples, RaySamples)
    edges = edges_by_hand(along.near[1, 2].item(), along.far[1, 2].item(), samples.distance[1, 2].tolist())
    widths = [high - low for low, high in pairwise(edges)]
    assert samples.width[1, 2].tolist() == pytest.approx(widths)
