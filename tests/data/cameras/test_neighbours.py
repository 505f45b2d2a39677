"""Views that see an object from similar directions."""

import math

import torch

from data.cameras.neighbours import cosines, nearest_first


def test_cosines_do_not_depend_on_lengths():
    vectors = torch.tensor([[2.0, 0, 0], [0, 0.5, 0], [-3, 0, 0], [1, 1, 0]])
    expected = torch.tensor([1, 0, -1, math.sqrt(0.5)])
    torch.testing.assert_close(cosines(vectors, torch.tensor([7.0, 0, 0])), expected)


def test_other_views_are_sorted_by_angle_whatever_their_distance():
    angles_deg = torch.tensor([0.0, 50, 10, 340, 180])
    radii = torch.tensor([1.0, 0.1, 9, 2, 3])
    around = torch.deg2rad(angles_deg)
    positions = torch.stack([around.cos(), around.sin(), torch.zeros(5)], dim=1) * radii[:, None]
    assert nearest_first(positions, 1) == [2, 0, 3, 4]
    assert nearest_first(positions, 4) == [1, 3, 2, 0]
