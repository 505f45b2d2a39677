"""Pictures to files and back, sizes, sheets, colours and films."""

import imageio.v2 as imageio
import numpy as np
import pytest
import torch
from PIL import Image

from data.images.display import colourise, enlarge, grid
from data.images.files import picture_size, read_picture, write_mp4, write_png
from data.images.pixels import from_uint8, resize_area, to_uint8


def noise(*shape: int) -> torch.Tensor:
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def test_bytes_survive_the_way_to_floats_and_back():
    pictures = torch.arange(256, dtype=torch.uint8).reshape(1, 64, 4)[..., None].expand(2, 64, 4, 3)[:1]
    images = from_uint8(pictures)
    assert images.shape == (1, 3, 64, 4)
    assert (images.min(), images.max()) == (-1, 1)
    assert torch.equal(to_uint8(images), pictures)


def test_floats_beyond_the_range_are_clipped():
    image = torch.tensor([-3.0, 0.0, 3.0])[:, None, None].expand(3, 1, 1)
    assert to_uint8(image).flatten().tolist() == [0, 128, 255]


def test_a_png_holds_the_picture_exactly(tmp_path):
    picture = noise(5, 7, 3)
    write_png(tmp_path / "new" / "a.png", picture)
    assert torch.equal(read_picture(tmp_path / "new" / "a.png"), picture)
    assert picture_size(tmp_path / "new" / "a.png") == (5, 7)
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["a.png"]


@pytest.mark.parametrize("channels", [1, 4])
def test_grey_and_transparent_pngs_are_written(tmp_path, channels):
    picture = noise(5, 7, channels)
    write_png(tmp_path / "a.png", picture)
    assert np.array_equal(np.array(Image.open(tmp_path / "a.png")).reshape(5, 7, channels), picture.numpy())


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
    write_png(tmp_path / "a.png", torch.zeros(2, 2, 3, dtype=torch.uint8))
    before = (tmp_path / "a.png").read_bytes()

    def full_disk(self, file, **options):
        file.write_bytes(b"half")
        raise OSError("No space left on device")

    monkeypatch.setattr(Image.Image, "save", full_disk)
    with pytest.raises(ValueError, match=r"\A[^\n]*a\.png: cannot be written \(No space left[^\n]*\Z"):
        write_png(tmp_path / "a.png", noise(2, 2, 3))
    assert (tmp_path / "a.png").read_bytes() == before
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize("name", ["a.png", "a.mp4"])
def test_a_folder_that_cannot_be_written_is_named(tmp_path, name):
    (tmp_path / "file").write_text("not a folder")
    path = tmp_path / "file" / name
    with pytest.raises(ValueError, match=r"\A[^\n]*file/a\.[^\n]*: cannot be written[^\n]*\Z"):
        write_png(path, noise(2, 2, 3)) if name == "a.png" else write_mp4(path, noise(2, 2, 2, 3))


@pytest.mark.parametrize(("height", "width"), [(2, 3), (5, 7), (8, 9), (1, 1), (5, 2)])
def test_area_resizing_is_exact_for_any_ratio(height, width):
    picture = noise(5, 7, 3)
    resized = resize_area(picture, height, width)
    # The other route: every pixel repeated until both grids divide the picture, then block means.
    fine = picture.double().repeat_interleave(height, dim=0).repeat_interleave(width, dim=1)
    blocks = fine.reshape(height, 5, width, 7, 3).mean(dim=(1, 3))
    assert (resized.double() - blocks).abs().max() <= 0.5 + 1e-9


def test_enlarging_repeats_pixels():
    picture = noise(2, 3, 1)
    large = enlarge(picture, 3)
    assert large.shape == (6, 9, 1)
    assert all(large[row, col] == picture[row // 3, col // 3] for row in range(6) for col in range(9))


def test_a_grid_has_its_pictures_in_rows_with_white_gaps():
    pictures = noise(5, 3, 4, 3) // 2
    sheet = grid(pictures, columns=3, gap=2)
    assert sheet.shape == (3 + 2 + 3, 4 + 2 + 4 + 2 + 4, 3)
    white = torch.ones(sheet.shape[:2], dtype=torch.bool)
    for i in range(5):
        top, left = 5 * (i // 3), 6 * (i % 3)
        assert torch.equal(sheet[top : top + 3, left : left + 4], pictures[i])
        white[top : top + 3, left : left + 4] = False
    assert (sheet[white] == 255).all()


def test_a_grid_without_gaps_is_a_reshape():
    pictures = noise(4, 2, 2, 3)
    assert torch.equal(grid(pictures, columns=1, gap=0), pictures.flatten(0, 1))


def test_colours_grow_lighter_with_the_number_and_clip():
    values = torch.linspace(0.5, 2.0, 61)[None]
    colours = colourise(values, 0.5, 2.0)[0].double()
    lightness = colours @ torch.tensor([0.2126, 0.7152, 0.0722]).double()
    assert (lightness.diff() > 0).all()
    assert lightness[0] < 20
    assert lightness[-1] > 240
    outside = colourise(torch.tensor([[-5.0, 9.0]]), 0.5, 2.0)[0].double()
    assert torch.equal(outside, colours[[0, -1]])


@pytest.mark.parametrize(("size", "scale"), [((17, 23), 1), ((16, 16), 1), ((9, 7), 3), ((70, 34), 1)])
def test_a_film_has_its_frames_size_and_speed(tmp_path, size, scale):
    height, width = size
    ramp = torch.linspace(0, 200, width)[None, None, :, None] + torch.arange(5)[:, None, None, None] * 10
    frames = ramp.expand(5, height, width, 3).round().to(torch.uint8)
    write_mp4(tmp_path / "a.mp4", frames, fps=5, scale=scale)
    with imageio.get_reader(tmp_path / "a.mp4") as reader:
        read = np.stack(list(reader.iter_data())).astype(float)
        assert reader.get_meta_data()["fps"] == 5
    even = [scale * side + scale * side % 2 for side in size]
    assert read.shape == (5, *even, 3)
    expected = enlarge(frames, scale).numpy().astype(float)
    assert np.abs(read[:, : scale * height, : scale * width] - expected).mean() < 6
    assert [path.name for path in tmp_path.iterdir()] == ["a.mp4"]
