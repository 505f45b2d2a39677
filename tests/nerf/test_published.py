"""nerf/published.py: closed forms. Published figures of it are in tests/reference."""

import pytest
import torch
from pydantic import ValidationError

from data.cameras.pinhole import Rays
from nerf import published
from nerf.composite import absorption_weights
from nerf.renderer import RendererConfig

B, R, N = 2, 3, 7


def rays() -> Rays:
    near = torch.tensor([[0.5, 0.7, 1e9], [0.2, 1.1, 0.9]])
    length = torch.tensor([[1.0, 0.4, 0.0], [2.2, 0.0, 1.3]])  # two miss
    directions = torch.tensor([0.0, 0.0, 1.0]).expand(B, R, 3)
    return Rays(torch.zeros(B, R, 3), directions, near, near + length, torch.ones(B, R))


def test_samples_reach_from_near_to_far_and_the_last_has_the_mean_width():
    given, samples = rays(), published.uniform(rays(), N)
    torch.testing.assert_close(samples.distance[..., 0], given.near)
    torch.testing.assert_close(samples.distance[..., -1], given.far)
    length = given.far - given.near
    torch.testing.assert_close(samples.width[..., -1], length / N)
    torch.testing.assert_close(samples.width.sum(dim=-1), length * (1 + 1 / N))


def test_a_haze_absorbs_as_if_the_ray_were_one_interval_longer():
    given, samples = rays(), published.uniform(rays(), N)
    opacity = absorption_weights(torch.full((B, R, N), 1.7), samples.width).sum(dim=-1)
    expected = 1 - torch.exp(-1.7 * (given.far - given.near) * (1 + 1 / N))
    torch.testing.assert_close(opacity, expected)


@pytest.mark.parametrize("jitter", [0.0, 0.5, 1.0])
def test_jitter_moves_by_up_to_half_an_interval_and_keeps_the_order(jitter):
    still = published.uniform(rays(), N)
    moved = published.uniform(rays(), N, torch.full((B, R, N), jitter))
    step = (rays().far - rays().near)[..., None] / N
    torch.testing.assert_close(moved.distance, still.distance + (jitter - 0.5) * step)
    random = published.uniform(rays(), N, torch.rand(B, R, N, generator=torch.Generator().manual_seed(1)))
    assert (random.width >= 0).all()


def test_importance_goes_where_the_weight_is_and_keeps_what_was_there():
    given, coarse = rays(), published.uniform(rays(), N)
    weight = torch.zeros(B, R, N)
    weight[..., 3] = 1.0  # between the midpoints of samples 2, 3 and 3, 4
    merged, order = published.merge(given, coarse, published.importance(given, coarse, weight, 50))
    assert ((order < N).sum(dim=-1) == N).all()
    low = (coarse.distance[..., 2] + coarse.distance[..., 3])[..., None] / 2
    high = (coarse.distance[..., 3] + coarse.distance[..., 4])[..., None] / 2
    within = ((merged.distance >= low - 1e-6) & (merged.distance <= high + 1e-6)).sum(dim=-1)
    hits = given.far > given.near
    assert (within[hits] == 51).all()
    assert (merged.width >= 0).all()
    assert merged.distance.shape == (B, R, N + 50)
    torch.testing.assert_close(merged.width[..., -1], (given.far - given.near) / N)


def test_importance_passes_no_gradient():
    coarse, weight = published.uniform(rays(), N), torch.rand(B, R, N, requires_grad=True)
    assert not published.importance(rays(), coarse, weight, 5).requires_grad


def test_too_few_samples_for_importance_are_refused():
    RendererConfig(quadrature="left_edge", coarse=2, fine=0)
    with pytest.raises(ValidationError, match="coarse: 2 samples leave no cells"):
        RendererConfig(quadrature="left_edge", coarse=2, fine=4)
