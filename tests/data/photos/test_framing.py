"""Photos of any size and kind become pictures like those of the training data; and the program for them."""

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import sample_views
from data.cameras.poses import srn_test_path
from data.images.files import read_picture
from data.images.masks import on_white, read_mask, read_opacity
from data.images.pixels import to_uint8
from data.photos.framing import FILL, bounding_box, frame_photo, read_upright
from data.photos.photos import framed_views, orbit_cameras, read_photos
from data.photos.squares import LARGEST
from scripts.sampling.arguments import HELP
from tests.made_photos import GREEN, OBJECT, WHITE, box_of, draw, opacity_of, save
from tests.tiny_run import save_tiny_run, tiny_config


def refuses(message: str):
    """The error has one line, which begins with a path or a key."""
    return pytest.raises(ValueError, match=r"\A[^\n]*" + message + r"[^\n]*\Z")


# (height, width), box of the object, which may be tall or wide, or in the very corner.
CASES = {
    "landscape": ((60, 90), (10, 50, 30, 86)),
    "portrait": ((90, 60), (50, 4, 86, 20)),
    "square": ((80, 80), (12, 40, 48, 60)),
    "corner": ((40, 70), (0, 0, 18, 12)),
}


@pytest.mark.parametrize("fill", [FILL, 0.4, 1.0])
@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("kind", ["white ground", "alpha", "mask"])
def test_an_object_anywhere_comes_to_the_middle_and_fills_its_share(
    tmp_path: Path, kind: str, name: str, fill: float
):
    (height, width), box = CASES[name]
    ground = WHITE if kind == "white ground" else GREEN
    pixels, mask = draw(height, width, box, ground=ground), None
    opacity = opacity_of(height, width, box)
    if kind == "alpha":
        pixels = np.dstack([pixels, opacity])
    elif kind == "mask":
        mask = save(tmp_path / "mask.png", opacity)
    framed = frame_photo(save(tmp_path / "photo.png", pixels), mask, fill=fill)
    assert framed.notice is None
    rows, columns = box[2] - box[0], box[3] - box[1]
    side = round(max(rows, columns) / fill)
    assert framed.picture.shape == (side, side, 3)
    top, left, bottom, right = box_of(framed.picture)
    assert (bottom - top, right - left) == (rows, columns)
    assert abs((top + bottom) - side) <= 1  # in the middle, to half a pixel
    assert abs((left + right) - side) <= 1
    cut = framed.picture[top:bottom, left:right].numpy()
    assert np.array_equal(cut, draw(height, width, box)[box[0] : box[2], box[1] : box[3]])
    outside = framed.picture.clone()
    outside[top:bottom, left:right] = 255
    assert (outside == 255).all()


@pytest.mark.parametrize("orientation", range(1, 9))
def test_photos_are_turned_upright_as_exif_says_whatever_the_kind_of_mask(tmp_path: Path, orientation: int):
    box = (10, 50, 30, 86)
    upright = draw(60, 90, box)
    # What a camera stores so that this turn shows the upright picture: rows and columns by the EXIF standard.
    stored = {
        1: upright, 2: upright[:, ::-1], 3: upright[::-1, ::-1], 4: upright[::-1],
        5: upright.swapaxes(0, 1), 6: upright.swapaxes(0, 1)[::-1],
        7: upright.swapaxes(0, 1)[::-1, ::-1], 8: upright.swapaxes(0, 1)[:, ::-1],
    }[orientation]  # fmt: skip
    exif = Image.Exif()
    exif[0x0112] = orientation
    photo = save(tmp_path / "photo.png", np.ascontiguousarray(stored), exif=exif)
    picture, opacity = read_upright(photo)
    assert opacity is None
    assert np.array_equal(picture.numpy(), upright)
    plain = frame_photo(save(tmp_path / "plain.png", upright))
    assert torch.equal(frame_photo(photo).picture, plain.picture)
    mask = save(tmp_path / "mask.png", opacity_of(60, 90, box))  # of the upright photo, as programs make it
    assert torch.equal(frame_photo(photo, mask).picture, plain.picture)


@pytest.mark.parametrize("mode", ["L", "LA", "P", "CMYK", "I;16", "1", "RGBA"])
def test_every_kind_of_file_is_read(tmp_path: Path, mode: str):
    grey = np.full((30, 40), 255, np.uint8)
    grey[8:20, 5:29] = 0
    if mode == "I;16":
        image = Image.fromarray(grey.astype(np.uint16) * 257)
    else:
        image = Image.fromarray(grey).convert(mode)
    path = tmp_path / ("photo.tif" if mode == "CMYK" else "photo.png")
    image.save(path)
    picture = frame_photo(path).picture
    assert picture.shape == (round(24 / FILL),) * 2 + (3,)
    assert int((picture < 128).all(dim=-1).sum()) == 12 * 24


def test_a_jpeg_on_white_is_framed_despite_its_noise(tmp_path: Path):
    pixels = draw(600, 800, (100, 500, 300, 740))
    pixels[560:562, 20:22] = 0  # a speck of dust
    photo = save(tmp_path / "photo.jpg", pixels, quality=80)
    top, left, bottom, right = box_of(frame_photo(photo).picture)
    assert abs(bottom - top - 200) <= 6
    assert abs(right - left - 240) <= 6


def test_a_large_photo_shrinks_and_keeps_its_share(tmp_path: Path):
    photo = save(tmp_path / "photo.png", draw(1500, 2400, (100, 200, 1000, 1400)))
    picture = frame_photo(photo).picture
    assert picture.shape == (LARGEST, LARGEST, 3)
    top, left, bottom, right = box_of(picture)
    assert (right - left) / LARGEST == pytest.approx(FILL, abs=2 / LARGEST)
    assert (bottom - top) / LARGEST == pytest.approx(FILL * 900 / 1200, abs=2 / LARGEST)


@pytest.mark.parametrize(("height", "width"), [(30, 50), (51, 30)])
def test_a_photo_on_any_other_ground_is_taken_whole_with_a_notice(tmp_path: Path, height: int, width: int):
    pixels = draw(height, width, (10, 5, 20, 25), ground=GREEN)
    framed = frame_photo(save(tmp_path / "photo.png", pixels))
    assert framed.notice.startswith(
        f"{tmp_path / 'photo.png'}: its background is neither white nor transparent"
    )
    assert "--mask" in framed.notice
    assert "\n" not in framed.notice
    side = max(height, width)
    top, left = (side - height) // 2, (side - width) // 2
    assert framed.picture.shape == (side, side, 3)
    assert np.array_equal(framed.picture[top : top + height, left : left + width].numpy(), pixels)
    assert int(framed.picture.long().sum()) == int(pixels.sum()) + 3 * 255 * (side**2 - height * width)


def test_an_opaque_alpha_channel_is_none(tmp_path: Path):
    pixels = np.dstack([draw(30, 40, (5, 5, 20, 30)), np.full((30, 40), 255, np.uint8)])
    with_channel = frame_photo(save(tmp_path / "photo.png", pixels))
    without = frame_photo(save(tmp_path / "plain.png", pixels[..., :3]))
    assert torch.equal(with_channel.picture, without.picture)


@pytest.mark.parametrize("kind", ["white", "transparent", "mask"])
def test_a_photo_of_nothing_is_refused(tmp_path: Path, kind: str):
    photo = save(tmp_path / "photo.png", np.full((20, 30, 4 if kind == "transparent" else 3), 255, np.uint8))
    mask = None
    if kind == "transparent":
        save(photo, np.zeros((20, 30, 4), np.uint8))
    elif kind == "mask":
        mask = save(tmp_path / "mask.png", np.zeros((20, 30), np.uint8))
    with refuses(f"{'mask' if kind == 'mask' else 'photo'}.png: shows no object") as error:
        frame_photo(photo, mask)
    assert str(error.value).startswith(str(tmp_path))


def test_what_cannot_be_used_is_one_line(tmp_path: Path):
    photo = save(tmp_path / "photo.png", draw(20, 30, (5, 5, 15, 20)))
    mask = save(tmp_path / "mask.png", np.zeros((30, 20), np.uint8))
    with refuses(r"mask\.png: is 20 x 30, but .*photo\.png is 30 x 20 when upright; give a mask"):
        frame_photo(photo, mask)
    (tmp_path / "photo.heic").write_bytes(b"ftypheic")
    with refuses(r"photo\.heic: this kind of photo cannot be read; convert it to JPEG or PNG"):
        frame_photo(tmp_path / "photo.heic")
    with refuses(r"none\.jpg: there is no such file"):
        frame_photo(tmp_path / "none.jpg")
    with refuses(r"none\.png: there is no such file"):
        frame_photo(photo, tmp_path / "none.png")


def test_a_mask_may_be_of_zeros_and_ones_of_16_bits_or_transparent(tmp_path: Path):
    opacity = opacity_of(20, 30, (5, 5, 15, 20))
    colours = draw(20, 30, (0, 0, 20, 30))
    kinds = {
        "ones.png": opacity // 255,
        "deep.png": opacity.astype(np.uint16) * 257,
        "bool.png": opacity > 0,
        "colour.png": np.repeat(opacity[..., None], 3, axis=2),
        "cut.png": np.dstack([colours, opacity]),
    }
    for name, pixels in kinds.items():
        assert np.array_equal(read_mask(save(tmp_path / name, pixels)).numpy(), opacity), name
    assert np.array_equal(read_opacity(tmp_path / "cut.png").numpy(), opacity)
    assert read_opacity(tmp_path / "colour.png") is None


def test_a_soft_edge_gets_white_for_the_ground_that_it_holds():
    share = torch.linspace(0, 1, 12)[:, None].expand(12, 9)
    opacity = (share * 255).round().to(torch.uint8)
    share = opacity[..., None].float() / 255
    colour = torch.tensor(OBJECT).float()
    on_green = (share * colour + (1 - share) * torch.tensor(GREEN)).round().to(torch.uint8)
    expected = share * colour + (1 - share) * 255
    assert (on_white(on_green, opacity).float() - expected).abs().max() <= 1
    plain = expected.round().to(torch.uint8)
    assert torch.equal(on_white(plain, opacity), plain)


def test_the_bounding_box_is_half_open_and_ignores_specks():
    seen = torch.zeros(1000, 700, dtype=torch.bool)
    assert bounding_box(seen) is None
    seen[900, 690] = True
    seen[100:140, 30:90] = True
    box = bounding_box(seen)
    assert (box.top, box.left, box.bottom, box.right) == (100, 30, 140, 90)


def test_cameras_of_framed_photos_stand_where_the_angles_say_and_look_at_the_object(tmp_path: Path):
    photo = frame_photo(save(tmp_path / "photo.png", draw(40, 60, (4, 4, 24, 34))))
    cameras = orbit_cameras([0.0, 90.0, 30.0], [0.0, 10.0, 45.0], distance=2.0, focal=0.8, object_radius=0.5)
    views = framed_views([photo] * 3, cameras, image_size=8)
    assert views.images.shape == (1, 3, 3, 8, 8)
    half, root = math.sqrt(0.5), math.sqrt(3) / 2
    expected = [
        [2, 0, 0],
        [0, 2 * math.cos(math.radians(10)), 2 * math.sin(math.radians(10))],
        [2 * half * root, 2 * half * 0.5, 2 * half],
    ]
    torch.testing.assert_close(views.cameras.positions[0], torch.tensor(expected), atol=1e-6, rtol=1e-6)
    middle = views.cameras.project(torch.zeros(1, 3, 1, 3))[0, :, 0]
    torch.testing.assert_close(middle, torch.tensor([[0.5, 0.5, 2.0]] * 3), atol=1e-6, rtol=1e-6)
    above = views.cameras.project(torch.tensor([0, 0, 0.1]).expand(1, 3, 1, 3))[0, :, 0]
    assert (above[:, 1] < 0.5).all()
    assert views.cameras.intrinsics[0, 0, 0, 0].item() == pytest.approx(0.8)
    torch.testing.assert_close(views.cameras.near, torch.full((1, 3), 1.5), atol=1e-6, rtol=1e-6)
    assert orbit_cameras([0.0], [20.0]).intrinsics[0, 0, 0].item() == pytest.approx(131.25 / 128)


def test_a_photo_with_a_pose_is_upright_too_and_keeps_its_frame(tmp_path: Path):
    upright = draw(12, 20, (2, 2, 9, 11))
    exif = Image.Exif()
    exif[0x0112] = 6
    turned = save(tmp_path / "turned.png", np.ascontiguousarray(upright.swapaxes(0, 1)[::-1]), exif=exif)
    plain = save(tmp_path / "plain.png", upright)
    pose = tmp_path / "pose.txt"
    pose.write_text(" ".join(map(str, srn_test_path(5)[1].flatten().tolist())))
    first, second = (read_photos([photo], [pose], image_size=20) for photo in (turned, plain))
    assert torch.equal(first.images, second.images)
    assert torch.equal(first.cameras.intrinsics, second.cameras.intrinsics)
    assert np.array_equal(to_uint8(second.images)[0, 0, 4:16].numpy(), upright)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run directory of a tiny model whose data set does not exist."""
    folder = tmp_path_factory.mktemp("runs")
    return save_tiny_run(tiny_config(folder / "nowhere", folder))


@pytest.fixture
def sample(run: Path, tmp_path: Path) -> Callable[..., int]:
    def sample(*flags: object) -> int:
        fixed = ["--transfer", run, "--output", tmp_path / "out", "--views", 2, "--steps", 2]
        try:
            return sample_views.main([str(flag) for flag in (*fixed, *flags)])
        except SystemExit as error:
            return error.code

    return sample


def test_a_photo_from_a_phone_is_sampled_without_a_camera_and_shown_as_prepared(sample, tmp_path, capsys):
    photo = save(tmp_path / "car.jpg", draw(300, 400, (40, 200, 120, 380)), quality=95)
    assert sample("--image", photo, "--elevation", 35, "--azimuth", -40, "--trajectory", "circle") == 0
    assert "background" not in capsys.readouterr().err
    prepared = read_picture(tmp_path / "out/photo_00.png")
    assert torch.equal(prepared, frame_photo(photo).picture)
    seen = read_picture(tmp_path / "out/cond_00.png").float()
    assert seen.shape == (32, 32, 3)
    assert abs(seen.mean() - prepared.float().mean()) < 1
    document = (tmp_path / "out/transforms.json").read_text()
    assert "view_0001.png" in document
    from data.formats.registry import open_raw

    positions = open_raw(tmp_path / "out", "val").cameras(0)[0][:, :3, 3]  # view 0, at the photo's place
    expected = orbit_cameras([-40.0], [35.0]).positions
    torch.testing.assert_close(positions, expected, atol=1e-5, rtol=1e-5)


def test_a_photo_on_other_ground_is_sampled_with_a_notice_of_one_line(sample, tmp_path, capsys):
    photo = save(tmp_path / "car.png", draw(30, 40, (4, 20, 12, 38), ground=GREEN))
    assert sample("--image", photo) == 0
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("sample_views.py:")]
    assert len(lines) == 1
    assert "its background is neither white nor transparent" in lines[0]


def test_several_photos_have_one_place_each(sample, tmp_path):
    photos = [save(tmp_path / f"{i}.png", draw(30, 40, (4, 20 - i, 12, 38))) for i in range(2)]
    masks = [save(tmp_path / f"m{i}.png", opacity_of(30, 40, (4, 24, 12, 38))) for i in range(2)]
    flags = ["--azimuth", 0, 180, "--mask", *masks, "--distance", 2, "--focal", 0.9, "--fill", 0.5]
    assert sample("--image", *photos, *flags) == 0
    assert read_picture(tmp_path / "out/photo_01.png").shape == (28, 28, 3)


ERRORS = {
    "--image a.png b.png": "2 photos, but some from the same angles; give --azimuth",
    "--image a.png b.png --azimuth 1 2 3": "2 photos, but 3 values of --azimuth",
    "--image a.png b.png --azimuth 1 2 --mask m.png": "2 photos, but 1 masks",
    "--image a.png --intrinsics i.txt": "--intrinsics needs --camera",
    "--image a.png --camera p.txt --elevation 3": "--elevation is for photos without --camera",
    "--elevation 3": "--elevation is for photos without --camera",
    "--image a.png --elevation 91": "91 is not between -90 and 90",
    "--image a.png --fill 0": "0 is not between 0.05 and 1",
    "--image a.png": "a.png: there is no such file",
}


@pytest.mark.parametrize("flags", ERRORS)
def test_bad_flags_for_photos_are_one_line_and_leave_no_files(sample, tmp_path, capsys, flags: str):
    assert sample(*flags.split()) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("sample_views.py: ")
    assert ERRORS[flags] in lines[0]
    assert not (tmp_path / "out").exists()


def test_help_says_the_share_that_is_used():
    assert f"{FILL} of the square's" in HELP
