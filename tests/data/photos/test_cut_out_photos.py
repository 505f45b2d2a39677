"""The real network on photographs: embedded cars on grounds that scikit-image carries; and the program."""

import re
import shlex
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import sample_views
from data.formats.srn.writer import INTRINSICS
from data.images.files import read_picture
from data.meshes.ray_casting import look_at_origin, render_views
from data.photos.cut_out import background_remover
from data.photos.framing import frame_photo
from data.photos.squares import Box
from data.shapes.cars import car
from scripts.sampling.arguments import make_parser, subject_request
from scripts.view.subjects import data_flags
from tests.tiny_run import save_tiny_run, tiny_config

DOCS = Path(__file__).parents[3] / "docs/your_own_photo.md"
skimage = pytest.importorskip("skimage", reason="pip install -r requirements-geometry.txt")


def missing() -> str:
    """Why the real network cannot be used; empty: it can."""
    try:
        background_remover()
    except ValueError as error:
        return str(error)
    return ""


needs_network = pytest.mark.skipif(bool(missing()), reason=missing())


def ground(name: str) -> np.ndarray:
    """A photograph inside scikit-image's wheel, or white."""
    if name == "white":
        return np.full((400, 560, 3), 255, np.uint8)
    path = Path(skimage.__file__).parent / "data" / name
    if not path.is_file():
        pytest.skip(f"this scikit-image does not carry {name}")
    return np.array(Image.open(path).convert("RGB"))


@cache
def rendered(number: int) -> tuple[np.ndarray, np.ndarray]:
    """An embedded car from its front left, a little above the ground: colours on white, and opacity."""
    direction = np.array([0.78, 0.54, 0.32])
    pose = look_at_origin(1.3 * direction / np.linalg.norm(direction))
    view = next(iter(render_views(car(number), pose[None], intrinsics=INTRINSICS, height=192, width=192)))
    return view.rgb, view.alpha


def photograph(name: str, number: int, *, side: float, middle: tuple[float, float]) -> tuple[np.ndarray, ...]:
    """A car on a ground, and its true mask; its picture has a side in photo heights and a middle (y, x)."""
    pixels = ground(name).astype(np.float64)
    height, width = pixels.shape[:2]
    size = round(side * height)
    colours, opacity = (np.asarray(Image.fromarray(part).resize((size, size))) for part in rendered(number))
    top, left = round(middle[0] * height - size / 2), round(middle[1] * width - size / 2)
    part = pixels[top : top + size, left : left + size]
    share = opacity[..., None] / 255
    part[:] = colours - 255.0 * (1 - share) + part * (1 - share)
    mask = np.zeros((height, width), bool)
    mask[top : top + size, left : left + size] = opacity > 127
    return pixels.round().clip(0, 255).astype(np.uint8), mask


def box_of(mask: np.ndarray) -> tuple[int, int, int, int]:
    """X0, Y0, X1, Y1."""
    rows, columns = mask.any(axis=1).nonzero()[0], mask.any(axis=0).nonzero()[0]
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


def overlap(first: np.ndarray, second: np.ndarray) -> float:
    """Intersection over union."""
    return float((first & second).sum() / (first | second).sum())


@needs_network
@pytest.mark.parametrize("number", [3, 11])
@pytest.mark.parametrize("name", ["white", "brick.png", "grass.png", "gravel.png"])
def test_a_car_on_plain_ground_is_found(name: str, number: int):
    picture, true = photograph(name, number, side=0.8, middle=(0.5, 0.45))
    found = background_remover()(torch.from_numpy(picture), None)
    assert overlap(found.opacity.numpy() > 127, true) > 0.9
    assert found.doubts == ()


@needs_network
@pytest.mark.parametrize("name", ["rocket.jpg", "chelsea.png"])
def test_a_box_finds_the_car_beside_something_else(name: str):
    picture, true = photograph(name, 11, side=0.5, middle=(0.7, 0.3))
    remover, pixels = background_remover(), torch.from_numpy(picture)
    x0, y0, x1, y1 = box_of(true)
    whole, boxed = (remover(pixels, box).opacity.numpy() > 127 for box in (None, Box(y0, x0, y1, x1)))
    assert overlap(whole, true) < 0.7
    assert overlap(boxed, true) > 0.85
    assert not boxed[:, :x0].any()


@needs_network
def test_what_is_left_has_the_colours_of_the_car_and_the_frame_of_its_true_mask(tmp_path: Path):
    picture, true = photograph("brick.png", 3, side=0.8, middle=(0.55, 0.5))
    Image.fromarray(picture).save(tmp_path / "car.jpg", quality=92)
    Image.fromarray(true).save(tmp_path / "mask.png")
    found = frame_photo(tmp_path / "car.jpg", remover=background_remover())
    known = frame_photo(tmp_path / "car.jpg", tmp_path / "mask.png")
    sizes = [len(framed.picture) for framed in (found, known)]
    assert abs(sizes[0] - sizes[1]) < 0.05 * sizes[1]
    images = [Image.fromarray(framed.picture.numpy()).resize((64, 64)) for framed in (found, known)]
    small = [np.asarray(image).astype(float) for image in images]
    assert np.abs(small[0] - small[1]).mean() < 6


@needs_network
@pytest.mark.parametrize("size", [(1, 1), (2, 90), (9, 7), (1500, 2100)])
def test_photos_of_any_size_give_a_mask_of_that_size_or_one_line(size: tuple[int, int]):
    random = np.random.default_rng(sum(size))
    small = random.integers(0, 256, (min(size[0], 40), min(size[1], 40), 3), dtype=np.uint8)
    picture = torch.from_numpy(np.array(Image.fromarray(small).resize(size[::-1])))
    remover = background_remover()
    for box in (None, Box(0, 0, *size)):
        try:
            shape, message = remover(picture, box).opacity.shape, ""
        except ValueError as error:
            shape, message = size, str(error)
        assert shape == size
        assert message == "" or message.startswith("--cut-out finds no object")


# The program


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


@needs_network
def test_from_a_jpeg_with_a_background_to_a_film_in_one_command(sample, tmp_path, capsys):
    picture, _ = photograph("grass.png", 11, side=0.7, middle=(0.5, 0.5))
    Image.fromarray(picture).save(tmp_path / "car.jpg", quality=90)
    assert sample("--image", tmp_path / "car.jpg", "--cut-out", "--trajectory", "circle") == 0
    assert "sample_views.py:" not in capsys.readouterr().err
    assert (tmp_path / "out/views.mp4").stat().st_size > 0
    shown = read_picture(tmp_path / "out/photo_00.png")
    side = len(shown)
    assert shown.shape == (side, 2 * side + 4, 3)
    assert (shown[:, :side].float() - torch.from_numpy(picture).float()).abs().mean() < 8
    seen = read_picture(tmp_path / "out/cond_00.png")
    assert seen[:4].min() == seen[-4:].min() == 255  # white ground


@needs_network
def test_several_photos_have_a_box_each(sample, tmp_path):
    flags = []
    for number in range(2):
        picture, true = photograph("gravel.png", 3, side=0.5, middle=(0.5, 0.3 + 0.4 * number))
        Image.fromarray(picture).save(tmp_path / f"{number}.jpg", quality=90)
        flags += ["--box", *box_of(true)]
    photos = [tmp_path / f"{number}.jpg" for number in range(2)]
    assert sample("--image", *photos, "--cut-out", *flags, "--azimuth", 0, 180) == 0
    first, second = (read_picture(tmp_path / f"out/photo_0{number}.png").float() for number in range(2))
    side = len(first)
    assert (first[:, side + 4 :] - second[:, side + 4 :]).abs().mean() < 12  # the same car
    assert (first[:, :side] - second[:, :side]).abs().mean() > 3  # elsewhere: two places of the ground differ


ERRORS = {
    "--image a.png --cut-out --camera p.txt": "--cut-out is for photos without --camera; leave one of them",
    "--image a.png --box 1 2 3 4 --camera p.txt": "--box is for photos without --camera; leave one of them",
    "--cut-out": "--cut-out is for photos without --camera",
    "--image a.png --cut-out --mask m.png": "--mask says where the object is, and --cut-out finds it",
    "--image a.png --box 1 2 3": "--box has 3 numbers, not 4 for each --image; give X0 Y0 X1 Y1 of each",
    "--image a.png b.png --azimuth 1 2 --box 1 2 3 4": "--box has 4 numbers, not 4 for each --image",
    "--image a.png --box 5 2 5 4": "--box 5 2 5 4 is empty; give X0 Y0 X1 Y1 with X0 < X1 and Y0 < Y1",
    "--image a.png --box -1 2 5 4": "-1",
}


@pytest.mark.parametrize("flags", ERRORS)
def test_bad_flags_are_one_line_and_leave_no_files(sample, tmp_path, capsys, flags: str):
    assert sample(*flags.split()) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert ERRORS[flags] in lines[0]
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("module", ["onnxruntime", "weights"])
def test_without_the_network_the_program_says_how_to_get_it(
    sample, tmp_path, capsys, monkeypatch, module: str
):
    if module == "weights":
        monkeypatch.setattr("data.photos.cut_out.PACKAGE", "no-such-package-of-weights")
    else:
        monkeypatch.setattr("data.photos.cut_out.read_weights", lambda: b"")
        monkeypatch.setitem(sys.modules, "onnxruntime", None)
    Image.new("RGB", (30, 20)).save(tmp_path / "car.png")
    assert sample("--image", tmp_path / "car.png", "--cut-out") == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("sample_views.py: --cut-out needs ")
    assert "make photos" in lines[0]
    assert not (tmp_path / "out").exists()


def test_the_viewer_gives_the_options_of_a_photo_as_a_command_line():
    given = shlex.split("--transfer x --image a.jpg --cut-out --box 1 2 30 40 --fill 0.5")
    words = data_flags(subject_request(make_parser().parse_args(given)))
    assert make_parser().parse_args(["--transfer", "x", *words]) == make_parser().parse_args(given)


# docs/your_own_photo.md


def commands() -> list[list[str]]:
    """The words of every command of the page."""
    text = DOCS.read_text(encoding="utf-8")
    blocks = re.findall(r"^```sh\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL)
    lines = [line.split("#")[0].strip() for block in blocks for line in block.splitlines()]
    return [shlex.split(line) for line in lines if line]


@needs_network
def test_every_command_of_the_page_runs(run: Path, tmp_path: Path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    picture, true = photograph("brick.png", 3, side=0.8, middle=(0.5, 0.5))
    for name in ("car.jpg", "front.jpg", "side.jpg"):
        Image.fromarray(picture).resize((1600, 1200)).save(name, quality=90)
    Image.fromarray(true).resize((1600, 1200)).save("mask.png")
    there = commands()
    assert len(there) >= 5
    for words in there:
        if words == ["make", "photos"]:  # what `make test` did before it ran this test
            continue
        assert words[:2] == ["python", "sample_views.py"], words
        given = [word.replace("runs/quickstart", str(run)) for word in words[2:]]
        assert sample_views.main([*given, "--views", "2", "--steps", "2"]) == 0, words
        assert "sample_views.py: " not in capsys.readouterr().err, words


def test_the_picture_of_the_page_is_there_and_small():
    for name in re.findall(r"!\[[^]]*\]\(([^)]+)\)", DOCS.read_text(encoding="utf-8")):
        assert 0 < (DOCS.parent / name).stat().st_size < 300_000
