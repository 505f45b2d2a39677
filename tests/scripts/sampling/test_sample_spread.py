"""Where samples differ: figures by another route, and the scale that shows them."""

import numpy as np
import torch

from data.images.display import MARGIN, colourise, with_scale
from data.images.files import read_channel, write_depth, write_mp4
from scripts.sampling.writer import WIDEST, deviation_picture, mean_and_deviation


def test_the_deviation_is_that_of_numpy_over_samples_and_colours():
    pictures = torch.randint(
        0, 256, (5, 3, 7, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(1)
    )
    mean, deviation = mean_and_deviation(pictures)
    values = pictures.numpy().astype(float)
    assert np.abs(mean.numpy() - values.mean(axis=0)).max() <= 0.5
    expected = np.sqrt((values.std(axis=0, ddof=1) ** 2).mean(axis=-1))
    np.testing.assert_allclose(deviation.numpy(), expected, rtol=1e-6)
    assert mean_and_deviation(pictures[:1].expand(4, -1, -1, -1))[1].max() == 0


def test_a_pixel_has_the_colour_that_stands_at_its_number_on_the_scale():
    deviation = torch.tensor([[0.0, WIDEST / 2], [WIDEST / 4, WIDEST]])
    page = deviation_picture(deviation).int()
    side = 256
    bar = page[MARGIN:-MARGIN, side + 10]
    assert len(bar) == side
    for row in (0, 1):
        for column in (0, 1):
            shown = page[MARGIN + 128 * row + 64, 128 * column + 64]
            place = round((1 - deviation[row, column].item() / WIDEST) * (side - 1))
            assert (bar[place] - shown).abs().max() <= 2
    assert (page[:, side + 26 :] < 128).any()  # numbers


def test_the_scale_leaves_a_large_picture_as_it_is():
    picture = colourise(torch.rand(300, 400), 0.0, 1.0)
    page = with_scale(picture, 0.0, 1.0)
    assert torch.equal(page[MARGIN:-MARGIN, :400], picture)


def test_depth_of_16_bits_comes_back_to_half_a_step(tmp_path):
    depth = torch.rand(3, 5, generator=torch.Generator().manual_seed(2)) * 2
    depth[1, 2], depth[0, 0] = 0, 1e9
    write_depth(tmp_path / "depth.png", depth, step=1e-4)
    read = read_channel(tmp_path / "depth.png", bits=16)
    assert read[1, 2] == 0
    assert read[0, 0] == 65535
    assert (read * 1e-4 - depth).abs().flatten()[1:].max() <= 0.51e-4


def test_frames_of_a_film_may_come_one_by_one(tmp_path):
    import imageio.v2 as imageio

    frames = torch.randint(0, 256, (6, 17, 31, 3), dtype=torch.uint8)
    write_mp4(tmp_path / "whole.mp4", frames, scale=2)
    write_mp4(tmp_path / "parts.mp4", (frame for frame in frames), scale=2)
    films = [imageio.get_reader(tmp_path / f"{name}.mp4") for name in ("whole", "parts")]
    whole, parts = ([np.asarray(frame) for frame in film.iter_data()] for film in films)
    for film in films:
        film.close()
    assert len(whole) == len(parts) == 6
    assert whole[0].shape == (34, 62, 3)
    assert all(np.array_equal(one, other) for one, other in zip(whole, parts, strict=True))
