"""nerf/published.py: where rays enter and leave the cube, against walking along them."""

import torch
import torch.nn.functional as F

from data.cameras.pinhole import Rays
from nerf.published import within_cube


def rays(origins: torch.Tensor, directions: torch.Tensor) -> Rays:
    ones = torch.ones(origins.shape[:-1])
    return Rays(origins, F.normalize(directions, dim=-1), 0 * ones, ones, ones)


def test_rays_are_cut_where_a_walk_enters_and_leaves_the_cube():
    generator = torch.Generator().manual_seed(0)
    origins = 3 * torch.rand(5, 40, 3, generator=generator) - 1.5
    given = rays(origins, 4 * torch.rand(5, 40, 3, generator=generator) - 2 - origins)
    nearest, step = 0.3, 1e-3
    found = within_cube(given, nearest)
    walk = torch.arange(nearest, 6, step)
    points = given.origins[..., None, :] + walk[:, None] * given.directions[..., None, :]
    inside = (points.abs() <= 1).all(dim=-1)
    hit = inside.any(dim=-1)
    assert 0.5 < hit.float().mean() < 1
    first = walk[inside.int().argmax(dim=-1)]
    last = walk[len(walk) - 1 - inside.flip(-1).int().argmax(dim=-1)]
    torch.testing.assert_close(found.near[hit], first[hit], atol=2 * step, rtol=0)
    torch.testing.assert_close(found.far[hit], last[hit], atol=2 * step, rtol=0)
    # A walk that never meets the cube: no length, wherever that is.
    assert ((found.far - found.near)[~hit] < 2 * step).all()


def test_a_ray_that_misses_has_no_length_and_finite_ends():
    found = within_cube(rays(torch.tensor([[0.0, 0.0, 3.0]]), torch.tensor([[0.0, 1.0, 0.1]])), 0.5)
    assert found.near == found.far
    assert found.near.isfinite().all()


def test_a_ray_along_a_face_stays_finite():
    found = within_cube(rays(torch.tensor([[0.5, 0.0, 3.0]]), torch.tensor([[0.0, 0.0, -1.0]])), 0.5)
    torch.testing.assert_close((found.near, found.far), (torch.tensor([2.0]), torch.tensor([4.0])))


def test_within_the_cube_and_close_to_its_face_the_ray_is_empty():
    found = within_cube(rays(torch.tensor([[0.0, 0.0, 0.9]]), torch.tensor([[0.0, 0.0, 1.0]])), 0.5)
    torch.testing.assert_close((found.near, found.far), (torch.tensor([0.5]), torch.tensor([0.5])))
