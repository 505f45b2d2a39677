"""Pictures of weights, and the frames of the film that shows where a view comes from."""

from pathlib import Path

import pytest
import torch

from data.images.display import grid, tiles_of_row
from data.images.files import read_picture
from scripts.sampling.weights_film import COLUMNS, SHOWN_STEPS, WeightsFilm

H, W = 5, 7


def shades(*levels: int) -> torch.Tensor:
    """Images of one grey level each."""
    return torch.tensor(levels, dtype=torch.uint8)[:, None, None, None].expand(-1, H, W, 3).contiguous()


def levels_of(frame: torch.Tensor) -> list[list[int]]:
    """The grey levels of the tiles of a frame, by row."""
    centres = frame[H // 2 :: H + 2, W // 2 :: W + 2]
    assert (centres == centres[..., :1]).all()
    return centres[..., 0].tolist()


def film(folder: Path) -> WeightsFilm:
    return WeightsFilm(lambda name: folder / name)


def recorded(made: WeightsFilm, num_steps: int, num_views: int = 2) -> None:
    """Step k of view j has the grey level 100 j + k; a second scene differs."""
    for step in range(num_steps):
        levels = torch.arange(num_views) * 100.0 + step
        clean = (levels / 127.5 - 1)[None, :, None, None, None].expand(2, -1, 3, H, W).clone()
        clean[1] = 0.3
        made.record(step, clean)


def shares(*values: float) -> torch.Tensor:
    return torch.tensor(values)[None, :, None, None, None].expand(2, -1, 3, H, W)


def test_tiles_of_a_row_are_what_a_grid_was_made_of():
    images = torch.randint(0, 256, (3, H, W, 3), dtype=torch.uint8)
    assert torch.equal(tiles_of_row(grid(images, columns=3), 3), images)
    assert torch.equal(tiles_of_row(images[0], 1), images[:1])


def test_a_frame_shows_inputs_weights_estimates_result_and_truth(tmp_path):
    made = film(tmp_path)
    recorded(made, 4)
    made.add([5, 3], shares(0.2, 0.8, 0.0), 3)
    inputs, view = shades(10, 20, 30), shades(77)[0]
    frame = made.frame(3, inputs, view, shades(99)[0])
    # The second of the views; its last estimate is the view itself.
    assert levels_of(frame) == [
        [10, 20, 30, 255, 255],
        [51, 204, 0, 255, 255],
        [100, 101, 102, 77, 99],
    ]
    assert levels_of(made.frame(5, inputs, view, None))[2] == [0, 1, 2, 77, 255]


def test_views_that_another_call_finished_are_in_the_film(tmp_path):
    made = film(tmp_path)
    recorded(made, 3)
    made.add([0, 1], shares(1.0), 1)
    again = film(tmp_path).frame(1, shades(10), shades(77)[0], None)
    assert torch.equal(again, made.frame(1, shades(10), shades(77)[0], None))


def test_many_inputs_take_several_rows_each_above_its_weights(tmp_path):
    made, num = film(tmp_path), COLUMNS + 3
    made.add([0, 1], shares(*[1 / num] * num), num)
    frame = made.frame(0, shades(*range(num)), shades(77)[0], shades(99)[0])
    white = [255] * (COLUMNS - 3)
    share = round(255 / num)
    assert levels_of(frame) == [
        list(range(COLUMNS)),
        [share] * COLUMNS,
        [*range(COLUMNS, num), *white],
        [share] * 3 + white,
        [77, 99] + [255] * (COLUMNS - 2),  # no estimates: none were recorded
    ]


@pytest.mark.parametrize("num_steps", [1, 2, SHOWN_STEPS + 1, 25, 213])
def test_estimates_are_few_rising_and_spread_over_all_steps(tmp_path, num_steps):
    made = film(tmp_path)
    recorded(made, num_steps, num_views=1)
    made.add([0], shares(1.0)[:1], 1)
    (*estimates, result, _) = levels_of(made.frame(0, shades(10), shades(255)[0], None))[-1]
    assert result == 255
    assert len(estimates) == min(SHOWN_STEPS, num_steps - 1)
    assert estimates == sorted(set(estimates))
    assert num_steps - 1 not in estimates
    if num_steps > 2 * SHOWN_STEPS:
        gaps = torch.tensor([0, *estimates, num_steps]).diff()
        assert gaps.max() < 2.5 * num_steps / SHOWN_STEPS


def test_estimates_of_an_interrupted_view_are_not_those_of_the_next(tmp_path):
    made = film(tmp_path)
    recorded(made, 7, num_views=1)
    recorded(made, 2, num_views=1)
    made.add([0], shares(1.0)[:1], 1)
    assert tuple(read_picture(tmp_path / "steps_0000.png").shape) == (H, W, 3)
