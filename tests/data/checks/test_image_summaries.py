"""Silhouettes: holes and margins."""

import numpy as np

from data.checks.image_summaries import dilate, fill_holes


def outside_by_steps(mask: np.ndarray) -> np.ndarray:
    """The free pixels that are reached from beyond the border, one pixel at a time."""
    height, width = mask.shape
    reached = np.zeros((height + 2, width + 2), bool)
    todo = [(0, 0)]
    while todo:
        row, column = todo.pop()
        if not (0 <= row < height + 2 and 0 <= column < width + 2) or reached[row, column]:
            continue
        if 0 < row <= height and 0 < column <= width and mask[row - 1, column - 1]:
            continue
        reached[row, column] = True
        todo += [(row + 1, column), (row - 1, column), (row, column + 1), (row, column - 1)]
    return reached[1:-1, 1:-1]


def test_what_is_not_reached_from_the_border_is_filled_in_each_mask_alone():
    masks = np.random.default_rng(0).random((6, 9, 13)) < np.linspace(0.35, 0.75, 6)[:, None, None]
    masks[0] = False
    filled = fill_holes(masks)
    assert (filled & ~masks).any()
    for mask, found in zip(masks, filled, strict=True):
        np.testing.assert_array_equal(found, ~outside_by_steps(mask))
    np.testing.assert_array_equal(fill_holes(masks[:1]), filled[:1])  # a lone one, too


def test_a_margin_is_everything_within_so_many_rows_and_columns():
    masks = np.random.default_rng(1).random((2, 9, 13)) < 0.03
    for times in (0, 1, 3):
        grown = dilate(masks, times)
        for view, row, column in np.ndindex(masks.shape):
            near = masks[
                view, max(0, row - times) : row + times + 1, max(0, column - times) : column + times + 1
            ]
            assert grown[view, row, column] == near.any()
