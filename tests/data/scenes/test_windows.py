"""Stretches of video that views are taken from."""

import pytest
import torch

from data.scenes.windows import middle_first, window_views


@pytest.mark.parametrize(
    ("frames", "order"),
    [
        ([0, 1, 2, 3, 4], [2, 1, 3, 0, 4]),
        ([0, 1, 2, 9, 10], [2, 1, 3, 0, 4]),
        ([10, 9, 5, 4, 0], [2, 3, 1, 0, 4]),
        ([0, 7, 8, 9, 10], [1, 2, 3, 0, 4]),
    ],
)
def test_frames_are_ordered_as_published(frames, order):
    assert middle_first(frames) == order


def test_two_views_are_the_ends_of_a_window_in_either_order():
    generator = torch.Generator().manual_seed(0)
    drawn = [window_views(11, 2, 5, generator) for _ in range(2000)]
    spans = [last - first for first, last in drawn]
    assert {abs(span) for span in spans} == {1, 2, 3, 4}
    assert 0.45 < sum(span < 0 for span in spans) / 2000 < 0.55
    assert {min(pair) for pair in drawn} == set(range(10))


def test_several_views_lie_in_a_window_and_the_reference_in_its_middle():
    generator = torch.Generator().manual_seed(0)
    for _ in range(300):
        views = window_views(50, 5, 13, generator)
        low, high = min(views), max(views)
        assert len(set(views)) == 5
        assert 4 <= high - low <= 12
        distance = [max(view - low, high - view) for view in views]
        assert distance[0] == min(distance)
    assert window_views(5, 5, 5, generator)[0] == 2
