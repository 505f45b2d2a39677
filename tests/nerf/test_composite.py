"""nerf/composite.py: the rendering integral against closed forms and float64."""

import math

import pytest
import torch

from data.cameras.pinhole import Rays
from nerf.composite import Rendering, absorption_weights, composite
from nerf.sampling import RaySamples, uniform

B, R, N, F = 2, 3, 5, 4


def rays(near: float = 0.7, far: float = 2.2, dtype: torch.dtype = torch.float64) -> Rays:
    directions = torch.nn.functional.normalize(
        torch.randn(B, R, 3, generator=torch.Generator().manual_seed(0), dtype=dtype), dim=-1
    )
    ends = [torch.full((B, R), value, dtype=dtype) for value in (near, far)]
    cosine = torch.linspace(0.7, 1, B * R, dtype=dtype).reshape(B, R)
    return Rays(torch.zeros_like(directions), directions, *ends, cosine)


def random_inputs(num: int = N) -> tuple[torch.Tensor, torch.Tensor, RaySamples]:
    generator = torch.Generator().manual_seed(3)
    density = 4 * torch.rand(B, R, num, generator=generator, dtype=torch.float64)
    latent = torch.rand(B, R, num, F, generator=generator, dtype=torch.float64)
    amount = torch.rand(B, R, num, generator=generator, dtype=torch.float64)
    return density, latent, uniform(rays(), num, amount)


def render_by_hand(density, latent, samples, cosine) -> tuple[list[float], float, float]:
    """Walk along one ray, light left over at each step."""
    light, colour, depth, opacity = 1.0, [0.0] * latent.shape[-1], 0.0, 0.0
    for i in range(len(density)):
        share = light * (1 - math.exp(-float(density[i] * samples[1][i])))
        colour = [c + share * float(value) for c, value in zip(colour, latent[i], strict=True)]
        depth, opacity, light = depth + share * float(samples[0][i] * cosine), opacity + share, light - share
    return [c + light * 1.0 for c in colour], depth, opacity


@pytest.mark.parametrize("num", [1, 2, N])
def test_blending_equals_a_walk_along_each_ray(num):
    density, latent, samples = random_inputs(num)
    found = composite(density, latent, rays(), samples)
    for b in range(B):
        for r in range(R):
            along = (samples.distance[b, r], samples.width[b, r])
            colour, depth, opacity = render_by_hand(density[b, r], latent[b, r], along, rays().cosine[b, r])
            assert found.latent[b, r].tolist() == pytest.approx(colour)
            assert found.depth[b, r].item() == pytest.approx(depth)
            assert found.opacity[b, r].item() == pytest.approx(opacity)


@pytest.mark.parametrize("sigma", [0.01, 1.3, 50.0])
def test_a_slab_of_constant_density_absorbs_as_the_formula_says(sigma):
    along, colour = rays(), torch.tensor([0.1, 0.4, 0.8, 0.0], dtype=torch.float64)
    samples = uniform(along, N)
    density = torch.full((B, R, N), sigma, dtype=torch.float64)
    found = composite(density, colour.expand(B, R, N, F), along, samples)
    opaque = 1 - math.exp(-sigma * (2.2 - 0.7))
    torch.testing.assert_close(found.opacity, torch.full((B, R), opaque, dtype=torch.float64))
    torch.testing.assert_close(found.latent, (opaque * colour + (1 - opaque)).expand(B, R, F))


def test_a_thin_opaque_wall_is_seen_at_its_depth_and_hides_what_is_behind():
    along = rays()
    samples = uniform(along, N)
    density = torch.zeros(B, R, N, dtype=torch.float64)
    density[..., 2], density[..., 4] = 1e4, 1e4
    latent = torch.linspace(0, 1, N, dtype=torch.float64)[:, None].expand(B, R, N, F)
    found = composite(density, latent, along, samples)
    torch.testing.assert_close(found.depth, samples.distance[..., 2] * along.cosine)
    torch.testing.assert_close(found.latent, latent[..., 2, :])
    torch.testing.assert_close(found.opacity, torch.ones(B, R, dtype=torch.float64))


def test_weights_and_the_light_that_is_left_make_one():
    density, _, samples = random_inputs()
    left = torch.exp(-(density * samples.width).sum(dim=-1))
    torch.testing.assert_close(
        absorption_weights(density, samples.width).sum(dim=-1) + left, torch.ones(B, R).double()
    )


def test_nothing_in_the_way_is_white_without_depth_and_opacity():
    _, latent, samples = random_inputs()
    found = composite(torch.zeros(B, R, N, dtype=torch.float64), latent, rays(), samples)
    assert torch.equal(found.latent, torch.ones(B, R, F, dtype=torch.float64))
    assert torch.equal(found.depth, torch.zeros(B, R, dtype=torch.float64))
    assert torch.equal(found.opacity, torch.zeros(B, R, dtype=torch.float64))


def test_an_opaque_first_sample_hides_the_rest_however_dense():
    density, latent, samples = random_inputs()
    density[..., 0], density[..., 1:] = 1e30, 1e30
    found = composite(density, latent, rays(), samples)
    torch.testing.assert_close(found.latent, latent[..., 0, :])
    single = [tensor.float() for tensor in (density, samples.width)]
    assert absorption_weights(*single).isfinite().all()


def test_splitting_a_cell_in_two_changes_nothing():
    density, _, samples = random_inputs()
    halves = absorption_weights(
        density.repeat_interleave(2, dim=-1), samples.width.repeat_interleave(2, -1) / 2
    )
    torch.testing.assert_close(
        halves.unflatten(-1, (N, 2)).sum(dim=-1), absorption_weights(density, samples.width)
    )


def smooth_render(num: int) -> Rendering:
    """Density x and colour x^2 along each ray, at distance x from 0 to 2."""
    along = rays(0.0, 2.0)
    samples = uniform(along, num)
    colour = (samples.distance**2 / 4)[..., None].expand(-1, -1, -1, F)
    return composite(samples.distance, colour, along, samples)


def test_more_samples_come_nearer_to_the_integral():
    # Light left at x is exp(-x^2/2), so opacity is 1 - exp(-2), and the colour, by parts, is
    # int x^3/4 exp(-x^2/2) = (2 - (4 + 2) exp(-2)) / 4.
    left = math.exp(-2)
    colour = (2 - 6 * left) / 4 + left
    errors = []
    for num in (8, 16, 32):
        found = smooth_render(num)
        errors.append(abs(found.latent[0, 0, 0].item() - colour))
        assert found.opacity[0, 0].item() == pytest.approx(1 - left)  # the midpoint rule is exact here
    assert errors[0] > 3.5 * errors[1] > 3.5**2 * errors[2] > 0  # second order


def test_single_precision_is_near_to_double():
    density, latent, samples = random_inputs(64)
    exact = composite(density, latent, rays(), samples)
    rough = composite(
        density.float(),
        latent.float(),
        rays(dtype=torch.float64).apply(torch.Tensor.float),
        RaySamples(samples.distance.float(), samples.width.float()),
    )
    assert rough.latent.dtype == torch.float32
    torch.testing.assert_close(rough.latent.double(), exact.latent, atol=2e-6, rtol=0)
    torch.testing.assert_close(rough.depth.double(), exact.depth, atol=2e-6, rtol=0)


def test_a_whiff_of_density_is_not_lost_in_single_precision():
    thin = absorption_weights(torch.full((1, 1, 1), 1e-9), torch.ones(1, 1, 1))
    assert thin.item() == pytest.approx(1e-9)


def test_the_integral_has_the_gradients_of_its_formula():
    density, latent, samples = random_inputs()

    def render(density: torch.Tensor, latent: torch.Tensor) -> tuple[torch.Tensor, ...]:
        found = composite(density, latent, rays(), samples)
        return found.latent, found.depth, found.opacity

    assert torch.autograd.gradcheck(render, (density.requires_grad_(), latent.requires_grad_()))
