"""Backgrounds are removed: the network's input and output, its file, masks of known objects, the program."""

import hashlib
from importlib import metadata
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from data.photos.cut_out import (
    MEAN,
    SIDE,
    STD,
    beside,
    cut_out,
    from_output,
    load_network,
    read_weights,
    to_input,
)
from data.photos.framing import frame_photo
from data.photos.squares import Box

pytest.importorskip("scipy.ndimage", reason="make photos")
GREY = (120, 120, 120)


def installed() -> bool:
    """Whether the real network can be loaded."""
    try:
        load_network()
    except ValueError:
        return False
    return True


needs_network = pytest.mark.skipif(
    not installed(), reason="onnxruntime or u2netp.onnx is missing: make photos"
)


def picture_of(height: int, width: int, box: tuple[int, int, int, int], colour=(200, 60, 20)) -> torch.Tensor:
    """An object that fills a box (top, left, bottom, right) on grey ground."""
    pixels = torch.tensor(GREY, dtype=torch.uint8).expand(height, width, 3).clone()
    pixels[box[0] : box[2], box[1] : box[3]] = torch.tensor(colour, dtype=torch.uint8)
    return pixels


def red_network(pixels: np.ndarray) -> np.ndarray:
    """A network that takes for salient what is red, and sees 320 x 320 pixels as the real one does."""
    red, green = pixels[:, :1] * STD[0] + MEAN[0], pixels[:, 1:2] * STD[1] + MEAN[1]
    return np.where(red - green > 0.3, 0.98, 0.01).astype(np.float32)


def overlap(first: np.ndarray, second: np.ndarray) -> float:
    """Intersection over union."""
    return (first & second).sum() / (first | second).sum()


# The network's input and output


def test_pixels_are_divided_by_the_largest_and_normalised_as_in_imagenet():
    pixels = np.zeros((7, 5, 3), np.uint8)
    pixels[...] = (30, 60, 120)
    expected = [(value / 120 - mean) / std for value, mean, std in zip((30, 60, 120), MEAN, STD, strict=True)]
    seen = to_input(pixels)
    assert seen.shape == (1, 3, SIDE, SIDE)
    assert seen.dtype == np.float32
    for channel, value in enumerate(expected):
        np.testing.assert_allclose(seen[0, channel], value, atol=1e-6)
    np.testing.assert_allclose(to_input(np.zeros((1, 1, 3), np.uint8))[0, 0], -MEAN[0] / STD[0], rtol=1e-6)


def test_resizing_keeps_a_slope_and_which_axis_is_which():
    rows = np.arange(160, dtype=np.uint8)[:, None].repeat(640, axis=1)
    seen = to_input(np.dstack([rows] * 3))[0, 0] * STD[0] + MEAN[0]
    # Row r of 320 lies at (r + 0.5) / 2 - 0.5 of 160, and of columns only the number changes.
    expected = ((np.arange(SIDE) + 0.5) / 2 - 0.5) / 159
    np.testing.assert_allclose(seen[2:-2], expected[2:-2, None].repeat(SIDE, axis=1), atol=0.6 / 159)


def test_the_output_is_stretched_to_the_unit_interval_and_resized_to_the_picture():
    slope = np.linspace(0.2, 0.7, SIDE, dtype=np.float32)[None, None, None].repeat(SIDE, axis=2)
    values = from_output(slope, 11, 2 * SIDE)
    assert values.shape == (11, 2 * SIDE)
    expected = (((np.arange(2 * SIDE) + 0.5) / 2 - 0.5) / (SIDE - 1)).clip(0, 1)
    np.testing.assert_allclose(values, expected[None].repeat(11, axis=0), atol=1e-5)


def test_a_map_that_is_sure_of_nothing_is_not_stretched_into_an_object():
    faint = np.linspace(0, 0.4, SIDE, dtype=np.float32)[None, None, None].repeat(SIDE, axis=2)
    assert not from_output(faint, 9, 13).any()


# From saliency to opacity


@pytest.mark.parametrize("size", [(1, 1), (3, 5), (90, 61), (700, 1100)])
def test_an_object_is_cut_out_of_photos_of_all_sizes(size: tuple[int, int]):
    height, width = size
    box = (height // 3, width // 4, max(height // 3 + 1, height * 2 // 3), max(width // 4 + 1, width // 2))
    found = cut_out(picture_of(height, width, box), red_network)
    true = np.zeros(size, bool)
    true[box[0] : box[2], box[1] : box[3]] = True
    assert found.opacity.shape == size
    assert overlap(found.opacity.numpy() > 127, true) > 0.97


def test_the_second_look_makes_the_outline_of_a_small_object_finer():
    box = (400, 900, 431, 947)
    picture = picture_of(1000, 1600, box)
    seen = []

    def network(pixels: np.ndarray) -> np.ndarray:
        seen.append(pixels)
        return red_network(pixels)

    opacity = cut_out(picture, network).opacity.numpy()
    true = np.zeros((1000, 1600), bool)
    true[box[0] : box[2], box[1] : box[3]] = True
    first = from_output(red_network(seen[0]), 1000, 1600) > 0.5
    assert len(seen) == 2
    assert overlap(opacity > 127, true) > 0.97 > overlap(first, true)


def test_outside_a_box_everything_is_background():
    picture = picture_of(120, 200, (10, 10, 110, 90))
    picture[40:80, 130:180] = torch.tensor((210, 40, 30), dtype=torch.uint8)
    found = cut_out(picture, red_network, Box(35, 125, 85, 185))
    rows, columns = (found.opacity > 127).nonzero().T
    assert (int(rows.min()), int(rows.max()), int(columns.min()), int(columns.max())) == (40, 79, 130, 179)
    assert not found.opacity[:, :125].any()
    assert found.doubts == ()
    cut_through = cut_out(picture, red_network, Box(20, 20, 60, 150)).opacity
    assert cut_through[20:60, 20:89].min() == 255
    assert not cut_through[60:].any()
    assert not cut_through[:, 150:].any()


def test_opacity_leaves_out_the_faint_ground_and_keeps_the_sure_object():
    levels = np.array([0.0, 0.3, 0.4, 0.5, 0.6, 0.7, 1.0])
    steps = np.repeat(levels, 50)[None].repeat(350, axis=0).astype(np.float32)
    small = np.asarray(Image.fromarray(steps).resize((SIDE, SIDE), Image.Resampling.NEAREST))
    # A box of the whole photo: one look, of which the levels are known.
    opacity = cut_out(picture_of(350, 350, (0, 0, 1, 1)), lambda _: small[None, None], Box(0, 0, 350, 350))
    middles = opacity.opacity[175, 25::50].numpy()
    np.testing.assert_allclose(middles, 255 * ((levels - 0.3) / 0.4).clip(0, 1), atol=0.6)


def test_specks_are_left_out_and_large_pieces_are_kept_and_mentioned():
    picture = picture_of(320, 320, (100, 60, 200, 160))
    red = torch.tensor((200, 60, 20), dtype=torch.uint8)
    picture[30:36, 250:256] = red
    found = cut_out(picture, red_network)
    assert not found.opacity[:50].any()
    assert found.doubts == ()
    picture[100:200, 200:240] = red
    found = cut_out(picture, red_network)
    assert found.opacity[150, 220] == 255
    assert found.doubts == ("what is left is in 2 pieces",)


DOUBTS = {
    "touches the edge": ((100, 0, 200, 160), None, "the object touches the edge of the photo"),
    "nearly nothing": ((100, 100, 106, 112), None, "only 0.1% of the photo is left"),
    "nearly all": ((2, 2, 318, 318), None, "98% of the photo is left, as if there were no background"),
    "little of the box": ((100, 100, 110, 120), (50, 50, 150, 150), "only 2.0% of the box is left"),
    "all of the box": ((40, 40, 280, 280), (60, 60, 260, 260), "100% of the box is left"),
}


@pytest.mark.parametrize("name", DOUBTS)
def test_an_implausible_mask_is_doubted(name: str):
    where, box, message = DOUBTS[name]
    doubts = cut_out(picture_of(320, 320, where), red_network, box and Box(*box)).doubts
    assert len(doubts) == 1
    assert doubts[0].startswith(message)


def test_looks_that_disagree_are_doubted():
    looks = iter([(80, 80, 240, 240), (0, 0, 160, 320)])

    def network(_: np.ndarray) -> np.ndarray:
        top, left, bottom, right = next(looks)
        saliency = np.zeros((1, 1, SIDE, SIDE), np.float32)
        saliency[..., top:bottom, left:right] = 1
        return saliency

    assert (
        "the object is hard to tell from the background"
        in cut_out(picture_of(400, 400, (0, 0, 1, 1)), network).doubts
    )


def test_a_photo_without_an_object_is_refused():
    with pytest.raises(ValueError, match=r"\A--cut-out finds no object; .*--box.*--mask"):
        cut_out(picture_of(50, 70, (0, 0, 0, 0)), red_network)
    with pytest.raises(ValueError, match=r"\A--cut-out finds no object"):
        cut_out(picture_of(90, 90, (0, 0, 20, 20)), red_network, Box(50, 50, 80, 80))


# Photos


def save(path: Path, pixels: np.ndarray | torch.Tensor, **options: object) -> Path:
    Image.fromarray(np.asarray(pixels)).save(path, **options)
    return path


def red_remover(picture: torch.Tensor, box: Box | None):
    return cut_out(picture, red_network, box)


def test_a_turned_photo_is_cut_out_upright_and_its_box_is_upright_too(tmp_path: Path):
    upright = picture_of(120, 200, (40, 20, 80, 90))
    upright[30:60, 130:190] = torch.tensor((210, 40, 30), dtype=torch.uint8)
    exif = Image.Exif()
    exif[0x0112] = 6
    stored = np.ascontiguousarray(upright.numpy().swapaxes(0, 1)[::-1])
    turned = save(tmp_path / "turned.png", stored, exif=exif)
    plain = save(tmp_path / "plain.png", upright)
    box = (120, 20, 200, 70)
    first, second = (frame_photo(photo, box=box, remover=red_remover) for photo in (turned, plain))
    assert torch.equal(first.picture, second.picture)
    assert first.box == Box(20, 120, 70, 200)
    assert first.notice is None
    colours = first.picture[(first.picture != 255).any(dim=-1)]
    assert (colours.float().mean(dim=0) - torch.tensor([210.0, 40.0, 30.0])).abs().max() < 3


def test_a_photo_that_is_cut_out_already_keeps_its_alpha_and_says_so(tmp_path: Path):
    pixels = np.dstack([picture_of(40, 60, (0, 0, 40, 60)).numpy(), np.zeros((40, 60), np.uint8)])
    pixels[10:30, 5:45, 3] = 255
    photo = save(tmp_path / "cut.png", pixels)

    def never(*_: object):
        raise AssertionError("looked at")

    framed = frame_photo(photo, remover=never)
    assert torch.equal(framed.picture, frame_photo(photo).picture)
    assert framed.notice == (f"{photo}: already has a transparent background; --cut-out leaves it unchanged")


def test_doubts_become_a_notice_of_one_line_with_advice(tmp_path: Path):
    photo = save(tmp_path / "car.png", picture_of(100, 100, (40, 0, 60, 50)))
    notice = frame_photo(photo, remover=red_remover).notice
    assert notice.startswith(f"{photo}: --cut-out may be wrong (the object touches the edge")
    assert "--box, or --mask" in notice
    assert "\n" not in notice
    assert "--box" not in frame_photo(photo, box=(0, 30, 60, 70), remover=red_remover).notice


GROUNDS: dict[str, tuple[int, int, int]] = {"white": (255, 255, 255), "grey": GREY}


@pytest.mark.parametrize("ground", GROUNDS)
def test_a_box_frames_the_object_without_cut_out_too(tmp_path: Path, ground: str):
    pixels = torch.tensor(GROUNDS[ground], dtype=torch.uint8).expand(100, 160, 3).clone()
    pixels[30:60, 20:80] = 50
    pixels[10:90, 100:150] = 80  # something else
    framed = frame_photo(save(tmp_path / "car.png", pixels), box=(10, 20, 90, 70), fill=0.5)
    # On white the object fills half of the square, on other ground the box does, and says so.
    wide, tall = (60, 30) if ground == "white" else (80, 50)
    assert framed.picture.shape == (2 * wide, 2 * wide, 3)
    assert int((framed.picture != 255).any(dim=-1).sum()) == wide * tall
    assert not (framed.picture == 80).all(dim=-1).any()
    if ground == "white":
        assert framed.notice is None
    else:
        assert "so the whole box is used; give --cut-out" in framed.notice


def test_a_box_and_a_mask_work_together(tmp_path: Path):
    photo = save(tmp_path / "car.png", picture_of(60, 80, (0, 0, 60, 80)))
    opacity = np.zeros((60, 80), np.uint8)
    opacity[10:30, 10:30] = opacity[35:55, 40:70] = 255
    mask = save(tmp_path / "mask.png", opacity)
    framed = frame_photo(photo, mask, box=(35, 30, 80, 60), fill=1.0)
    assert framed.picture.shape == (30, 30, 3)
    assert int((framed.picture != 255).any(dim=-1).sum()) == 20 * 30


def test_a_box_beyond_the_photo_is_refused(tmp_path: Path):
    photo = save(tmp_path / "car.png", picture_of(60, 80, (10, 10, 20, 20)))
    for box in ((0, 0, 81, 60), (0, 0, 80, 61), (90, 10, 95, 20)):
        with pytest.raises(ValueError, match=r"\A[^\n]*car\.png: --box .* is not inside it \(80 x 60 when"):
            frame_photo(photo, box=box)


def test_the_photo_is_shown_beside_the_result_with_its_box(tmp_path: Path):
    pixels = picture_of(60, 100, (20, 20, 40, 60))
    framed = frame_photo(save(tmp_path / "car.png", pixels), box=(10, 10, 80, 50), remover=red_remover)
    shown = beside(framed)
    assert shown.shape == (100, 204, 3)
    assert torch.equal(shown[30, 30], pixels[10, 30]) is False  # the line of the box
    assert shown[30, 30].tolist() == [255, 0, 0]
    assert torch.equal(shown[50, 50], pixels[30, 50])
    assert shown[50, 154].tolist() == [200, 60, 20]
    assert shown[5, 154].tolist() == [255, 255, 255]


# The file of the network


class FakeFile:
    """An entry of the files of an installed package."""

    name = "u2netp.onnx"

    def __init__(self, path: Path):
        self.path = path

    def locate(self) -> Path:
        return self.path


def test_a_missing_or_other_file_is_one_line_that_says_how_to_get_it(tmp_path: Path, monkeypatch):
    def not_installed(name: str):
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "files", not_installed)
    with pytest.raises(ValueError, match=r"\A--cut-out needs u2netp\.onnx .*make photos[^\n]*\Z"):
        load_network()
    for entries in (None, [], [FakeFile(tmp_path / "gone.onnx")]):
        monkeypatch.setattr(metadata, "files", lambda name, entries=entries: entries)
        with pytest.raises(ValueError, match=r"\A--cut-out needs u2netp\.onnx .*make photos[^\n]*\Z"):
            load_network()
    (tmp_path / "other.onnx").write_bytes(b"other")
    monkeypatch.setattr(metadata, "files", lambda name: [FakeFile(tmp_path / "other.onnx")])
    with pytest.raises(ValueError, match=r"other\.onnx: is not the expected file .*make photos"):
        load_network()


@needs_network
def test_the_package_of_the_file_is_not_imported():
    import sys

    load_network()
    assert "rembg" not in sys.modules
    contents = read_weights()
    assert len(contents) == 4_574_861
    assert hashlib.sha256(contents).hexdigest().startswith("309c8469")


@needs_network
def test_without_onnxruntime_one_line_says_how_to_get_it(monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(ValueError, match=r"\A--cut-out needs onnxruntime, .*make photos[^\n]*\Z"):
        load_network()
