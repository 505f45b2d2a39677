"""Which views the next one looks at, in which order they come, and that it can be interrupted."""

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from data.cameras.pinhole import Cameras, cameras_from_poses, pinhole
from data.cameras.poses import orbit, turntable
from data.scenes.batch import all_valid
from models.sampling import names
from models.sampling.conditioning import ORDERS, POLICIES, ConditioningContext, make_policy, outward

NUM = 12


def positions(num: int = NUM) -> Tensor:
    return turntable(num)[:, :3, 3]


def context(view: int, drawn: list[int], num_source: int = 1, seed: int = 3) -> ConditioningContext:
    return ConditioningContext(view, drawn, positions(), num_source, seed)


def random_drawn() -> Iterator[tuple[int, list[int]]]:
    """Views to draw, and some others in any order."""
    generator = torch.Generator().manual_seed(4)
    for num in range(NUM):
        view, *drawn = torch.randperm(NUM, generator=generator)[: num + 1].tolist()
        yield view, drawn


def test_all_policies_and_orders_have_names_for_the_command_line():
    assert tuple(POLICIES) == names.POLICIES
    assert tuple(ORDERS) == names.ORDERS


@pytest.mark.parametrize("name", POLICIES)
def test_a_policy_chooses_different_views_out_of_those_drawn_and_never_anything_else(name: str):
    for view, drawn in random_drawn():
        chosen = make_policy(name)(context(view, drawn))
        assert len(set(chosen)) == len(chosen)
        assert set(chosen) <= set(drawn)
        assert bool(chosen) == bool(drawn)


def test_published_looks_at_the_last_view_drawn_whatever_its_number():
    for view, drawn in random_drawn():
        chosen = make_policy("published", 2)(context(view, drawn))
        assert chosen[-1:] == drawn[-1:]
        assert len(chosen) == min(3, len(drawn))


def test_views_that_share_a_seed_do_not_all_look_at_the_same_ones():
    chosen = [make_policy("published", 1)(context(num, list(range(num))))[0] for num in range(3, NUM)]
    assert len(set(chosen)) > 3


def test_nearest_looks_at_neighbours_on_a_circle_on_both_sides_of_its_seam():
    policy = make_policy("nearest", 3)
    assert policy(context(0, [1, 2, 4, 5, 10, 11])) == [1, 2, 11]  # of 2 and 10, as near, the first
    assert policy(context(6, [0, 1, 3, 11])) == [1, 3, 11]
    # However far away a camera stands: the direction counts.
    farther = positions()
    farther[4] *= 9
    assert make_policy("nearest", 1)(ConditioningContext(5, [1, 4], farther, 1, 0)) == [4]


def test_nearest_by_another_route_is_the_least_distance_on_a_sphere():
    generator = torch.Generator().manual_seed(7)
    azimuth, elevation = 6 * torch.rand(9, generator=generator), torch.rand(9, generator=generator)
    places = orbit(azimuth, elevation, 1.3)[:, :3, 3]
    distance = (places[:-1] - places[8]).norm(dim=1)
    chosen = make_policy("nearest", 4)(ConditioningContext(8, list(range(8)), places, 1, 0))
    assert set(chosen) == set(distance.argsort()[:4].tolist())


def test_all_looks_at_all():
    for view, drawn in random_drawn():
        assert make_policy("all")(context(view, drawn)) == drawn


def test_a_budget_is_filled_and_never_exceeded_but_for_the_last_view():
    for num_source in (1, 3, 8):
        for view, drawn in random_drawn():
            chosen = make_policy("budget", 6)(context(view, drawn, num_source))
            assert len(chosen) == min(len(drawn), max(1, 6 - num_source))
            assert chosen[-1:] == drawn[-1:]
    assert make_policy("budget", 4)(context(11, list(range(11)))) == [2, 7, 10]


def test_unknown_policies_and_needless_numbers_are_named():
    with pytest.raises(ValueError, match="no policy 'best'; choose one of published, nearest, all, budget"):
        make_policy("best")
    with pytest.raises(ValueError, match="policy all"):
        make_policy("all", 3)


def cameras(azimuth_deg: list[float]) -> Cameras:
    angle = torch.deg2rad(torch.tensor(azimuth_deg))
    return cameras_from_poses(orbit(angle, torch.zeros_like(angle)), pinhole())[None]


def test_outward_begins_at_the_input_and_goes_both_ways():
    source = all_valid(torch.zeros(1, 1, 3, 4, 4), cameras([100.0]))
    assert outward(source, cameras([0.0, 30.0, 90.0, 120.0, 150.0, 280.0])) == [2, 3, 4, 1, 0, 5]


def test_outward_does_not_look_at_padding():
    source = all_valid(torch.zeros(1, 2, 3, 4, 4), cameras([100.0, 0.0]))
    alone = type(source)(source.images, source.cameras, torch.tensor([[True, False]]))
    path = cameras([8.0, 60.0, 110.0])
    assert outward(source, path) == [0, 2, 1]
    assert outward(alone, path) == [2, 1, 0]
