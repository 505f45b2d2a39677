"""Where photos were taken from: solids in closed form, two routes to one regression, and the program."""

import math
import re
import shlex
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

import sample_views
from config.run import validate_config
from data.cameras.pinhole import Cameras, cameras_from_poses, pinhole
from data.cameras.poses import orbit
from data.config import DataConfig
from data.formats.registry import open_split
from data.photos.framing import frame_photo, frame_picture
from models.sampling.pose_from_photo import (
    SIDE,
    Examples,
    PoseRegression,
    _kernel,
    _targets,
    angles_deg,
    describe,
    fit,
    read_examples,
)
from tests.tiny_run import save_tiny_run, tiny_config

SIZE = 48


def camera(azimuth_deg: float, elevation_deg: float) -> Cameras:
    angles = torch.deg2rad(torch.tensor([[azimuth_deg], [elevation_deg]], dtype=torch.float64))
    return cameras_from_poses(orbit(*angles, 1.3).float(), pinhole())


def solid(azimuth_deg: float, elevation_deg: float, scale: float) -> np.ndarray:
    """A long dark box with a bright cabin towards -x, from the given direction, 48 x 48 on white.

    Every ray is met with two boxes in closed form (slabs), nearest first.
    """
    rays = camera(azimuth_deg, elevation_deg).rays(SIZE, SIZE)
    origin, direction = rays.origins[0], rays.directions[0] + 1e-9
    boxes = (((-0.4, -0.17, -0.12), (0.4, 0.17, 0.03), 60), ((-0.38, -0.15, 0.03), (0.05, 0.15, 0.15), 150))
    shade, nearest = torch.full((SIZE * SIZE,), 255.0), torch.full((SIZE * SIZE,), math.inf)
    for low, high, grey in boxes:
        faces = torch.stack([torch.tensor(low), torch.tensor(high)]) * torch.tensor([scale, 1.0, 1.0])
        first, second = ((face - origin) / direction for face in faces)
        enters, leaves = torch.minimum(first, second).amax(1), torch.maximum(first, second).amin(1)
        met = (enters < leaves) & (enters < nearest)
        shade[met], nearest[met] = float(grey), enters[met]
    grey = shade.reshape(SIZE, SIZE).numpy().astype(np.uint8)
    return np.stack([grey] * 3, axis=-1)


def plant(folder: Path, angles: list[tuple[float, float]], scale: float) -> None:
    """An SRN object of that solid, longer or shorter by `scale`."""
    for part in ("rgb", "pose"):
        (folder / part).mkdir(parents=True)
    for view, (azimuth, elevation) in enumerate(angles):
        Image.fromarray(solid(azimuth, elevation, scale)).save(folder / f"rgb/{view:06d}.png")
        pose = camera(azimuth, elevation).cam_to_world[0]
        text = " ".join(f"{number:.9g}" for number in pose.flatten().tolist())
        (folder / f"pose/{view:06d}.txt").write_text(text)
    focal = pinhole()[0, 0].item() * SIZE
    (folder / "intrinsics.txt").write_text(f"{focal} {SIZE / 2} {SIZE / 2} 0.\n0. 0. 0.\n1.\n{SIZE} {SIZE}")


@pytest.fixture(scope="module")
def solids(tmp_path_factory) -> Path:
    """Four solids seen from 60 random directions each."""
    root, generator = tmp_path_factory.mktemp("solids"), torch.Generator().manual_seed(1)
    for number, scale in enumerate((0.8, 0.9, 1.0, 1.1)):
        azimuth, elevation = torch.rand(2, 60, generator=generator)
        angles = list(zip((360 * azimuth - 180).tolist(), (70 * elevation).tolist(), strict=True))
        plant(root / f"cars_train/o{number}", angles, scale)
    for name, scale in (("v", 0.95), ("w", 1.05)):
        plant(root / "cars_val" / name, [(0.0, 10.0), (100.0, 40.0)], scale)
    return root


@pytest.fixture(scope="module")
def regression(solids: Path) -> PoseRegression:
    return fit(read_examples(open_split(DataConfig(root=str(solids)), "train")))


def picture(azimuth_deg: float, elevation_deg: float, scale: float = 0.95) -> Tensor:
    return frame_picture(torch.from_numpy(solid(azimuth_deg, elevation_deg, scale)))


def apart(first: float, second: float) -> float:
    return abs((first - second + 180) % 360 - 180)


def test_the_directions_of_an_unseen_solid_are_found(regression):
    truth = [(azimuth, elevation) for azimuth in (-160, -70, 25, 110) for elevation in (5, 30, 60)]
    found = regression.estimate([picture(*angles) for angles in truth])
    elevations = [abs(one.elevation_deg - angles[1]) for one, angles in zip(found, truth, strict=True)]
    azimuths = [apart(one.azimuth_deg, angles[0]) for one, angles in zip(found, truth, strict=True)]
    assert np.median(elevations) < 4  # 20 for all: 15
    assert np.median(azimuths) < 8  # by chance: 90
    within = [error <= one.elevation_error_deg for error, one in zip(elevations, found, strict=True)]
    assert np.mean(within) > 0.7


def test_where_a_photo_shows_the_object_does_not_matter_and_its_size_hardly(regression):
    small = torch.from_numpy(solid(40.0, 25.0, 0.95))
    moved = torch.nn.functional.pad(small, (0, 0, 23, 0, 0, 11), value=255)
    large = small.repeat_interleave(3, dim=0).repeat_interleave(3, dim=1)
    first, second, third = regression.estimate([frame_picture(one) for one in (small, moved, large)])
    assert first == second
    assert abs(first.elevation_deg - third.elevation_deg) < 4  # framing rounds to pixels
    assert apart(first.azimuth_deg, third.azimuth_deg) < 4


def test_estimates_are_the_same_every_time_and_alone(solids, regression):
    photos = [picture(30.0, 12.0), picture(-100.0, 44.0), picture(170.0, 3.0)]
    together = regression.estimate(photos)
    assert together == [regression.estimate([photo])[0] for photo in photos]
    again = fit(read_examples(open_split(DataConfig(root=str(solids)), "train")))
    assert again.estimate(photos) == together


def noise_examples(num: int = 23, objects: int = 4) -> Examples:
    generator = torch.Generator().manual_seed(3)
    pictures = torch.randint(0, 256, (num, SIDE, SIDE, 3), generator=generator, dtype=torch.uint8)
    directions = torch.nn.functional.normalize(torch.randn(num, 3, generator=generator), dim=-1)
    return Examples(pictures, directions, torch.arange(num) ** 2 % objects)


def test_errors_without_an_object_are_those_of_a_fit_without_it():
    """The block formula of the residuals, and the fit made anew for each object."""
    examples = noise_examples()
    whole = fit(examples)
    assert len(examples.objects.unique()) == 2
    for number in examples.objects.unique():
        held_out = examples.objects == number
        rest = Examples(*(part[~held_out] for part in vars(examples).values()))
        found = fit(rest, scale=whole.scale).predict(describe(examples.pictures[held_out]))
        truth = angles_deg(examples.directions[held_out])
        errors = ((found - truth + 180) % 360 - 180).abs()
        torch.testing.assert_close(whole.errors_deg[held_out], errors, atol=1e-6, rtol=1e-6)


def test_weights_solve_the_ridge_regression():
    examples = noise_examples()
    found = fit(examples)
    kernel = _kernel(found.features, found.features, found.scale) + 0.03 * torch.eye(23).double()
    expected = torch.linalg.solve(kernel, _targets(examples.directions))
    torch.testing.assert_close(found.weights, expected, atol=1e-8, rtol=1e-8)


@pytest.mark.parametrize("elevation", [-35.0, 0.0, 88.0])
@pytest.mark.parametrize("azimuth", [-179.0, 0.0, 91.0])
def test_angles_are_those_of_an_orbit(azimuth, elevation):
    found = angles_deg(3 * camera(azimuth, elevation).positions)
    expected = torch.tensor([[elevation, azimuth]]).double()
    torch.testing.assert_close(found, expected, atol=1e-3, rtol=0)


def test_histograms_turn_with_the_picture():
    """A vertical edge is a gradient to the right, in bin 0; a quarter turn makes that bin 4 of 8."""
    upright = torch.full((1, SIDE, SIDE, 3), 255, dtype=torch.uint8)
    upright[:, :, SIDE // 2 :] = 0
    lying = upright.transpose(1, 2)
    first, second = (describe(one)[0, : 8 * 64].reshape(8, 8, 8) for one in (upright, lying))
    assert first.flatten(1).sum(1).nonzero().tolist() == [[0]]
    assert second.flatten(1).sum(1).nonzero().tolist() == [[4]]
    torch.testing.assert_close(second[4], first[0].T)


def test_examples_are_spread_over_objects_and_skip_empty_views(solids, tmp_path):
    objects = open_split(DataConfig(root=str(solids)), "train")
    assert len(read_examples(objects, 4096).objects) == 240
    assert read_examples(objects, 10).objects.tolist() == [0, 0, 1, 1, 2, 2, 3, 3]
    assert read_examples(objects, 2).objects.tolist() == [0, 2]
    few = read_examples(objects, 4)
    assert few.pictures.shape == (4, SIDE, SIDE, 3)
    plant(tmp_path / "cars_train/a", [(0.0, 5.0), (50.0, 5.0)], 1.0)
    plant(tmp_path / "cars_train/b", [(9.0, 5.0), (80.0, 5.0), (120.0, 9.0)], 1.0)
    plant(tmp_path / "cars_val/v", [(0.0, 5.0)], 1.0)
    Image.new("RGB", (SIZE, SIZE), "white").save(tmp_path / "cars_train/b/rgb/000001.png")
    found = read_examples(open_split(DataConfig(root=str(tmp_path)), "train"))
    assert found.objects.tolist() == [0, 0, 1, 1]


def test_one_object_is_not_enough(tmp_path):
    plant(tmp_path / "cars_train/a", [(0.0, 5.0), (50.0, 5.0)], 1.0)
    plant(tmp_path / "cars_val/v", [(0.0, 5.0)], 1.0)
    with pytest.raises(ValueError, match=r"\Adata.root=[^\n]*two objects or more; give --elevation[^\n]*\Z"):
        read_examples(open_split(DataConfig(root=str(tmp_path)), "train"))


@pytest.fixture
def sample(solids: Path, tmp_path: Path):
    run = save_tiny_run(tiny_config(solids, tmp_path / "runs"))
    Image.fromarray(solid(40.0, 30.0, 0.95)).save(tmp_path / "photo.png")
    Image.fromarray(solid(-120.0, 10.0, 0.95)).save(tmp_path / "other.png")

    def sample(*flags: object) -> int:
        photo = ["--image", tmp_path / "photo.png"] if "--image" not in flags else []
        fixed = ["--transfer", run, "--output", tmp_path / "out", "--views", 2, "--steps", 2, *photo]
        try:
            return sample_views.main([str(flag) for flag in (*fixed, "--trajectory", "circle", *flags)])
        except SystemExit as error:
            return error.code

    return sample


def first_angles(folder: Path) -> tuple[float, float]:
    """Azimuth and elevation of the first view of a circle, which is the photo's."""
    from data.formats.registry import open_raw

    position = open_raw(folder, "val").cameras(0)[0][0, :3, 3]
    (elevation, azimuth), *_ = angles_deg(position[None]).tolist()
    return azimuth, elevation


def test_the_program_puts_the_camera_where_it_says(sample, solids, regression, tmp_path, capsys):
    assert sample("--elevation", "auto", "--azimuth", "auto") == 0
    (estimate,) = regression.estimate([frame_photo(tmp_path / "photo.png").picture])
    azimuth, elevation = first_angles(tmp_path / "out")
    assert azimuth == pytest.approx(estimate.azimuth_deg, abs=0.01)
    assert elevation == pytest.approx(estimate.elevation_deg, abs=0.01)
    said = capsys.readouterr().err
    numbers = re.search(r"photo.png: estimated elevation (\S+) \+- \S+ degrees, azimuth (\S+) \+- ", said)
    assert [float(number) for number in numbers.groups()] == [round(elevation), round(azimuth)]


def test_an_angle_that_is_given_stays(sample, tmp_path, capsys):
    assert sample("--elevation", "auto", "--azimuth", -33) == 0
    azimuth, elevation = first_angles(tmp_path / "out")
    assert azimuth == pytest.approx(-33, abs=0.01)
    assert abs(elevation - 20) > 0.1
    said = capsys.readouterr().err
    assert "estimated elevation" in said
    assert "azimuth" not in said


@pytest.mark.parametrize("fill", [0.2, 1.0])
def test_how_large_the_object_is_drawn_does_not_change_its_angles(sample, tmp_path, fill):
    assert sample("--elevation", "auto", "--azimuth", "auto") == 0
    azimuth, elevation = first_angles(tmp_path / "out")
    flags = ["--fill", fill, "--output", tmp_path / "other"]
    assert sample("--elevation", "auto", "--azimuth", "auto", *flags) == 0
    found = first_angles(tmp_path / "other")
    assert apart(found[0], azimuth) < 3
    assert abs(found[1] - elevation) < 3


def test_several_photos_are_estimated_one_by_one(sample, tmp_path, capsys):
    photos = [tmp_path / "photo.png", tmp_path / "other.png"]
    assert sample("--image", *photos, "--azimuth", "auto") == 0
    said = capsys.readouterr().err
    assert said.count("estimated azimuth") == 2
    assert sample("--image", *photos, "--azimuth", "auto", 7, "--elevation", 3, "auto") == 0
    said = capsys.readouterr().err
    assert re.search(r"photo.png: estimated azimuth[^\n]*\n[^\n]*other.png: estimated elevation", said)


def test_the_training_data_may_have_moved(sample, solids, tmp_path, capsys):
    home = solids.rename(solids.with_name("elsewhere"))
    try:
        assert sample("--elevation", "auto") == 2
        lines = capsys.readouterr().err.splitlines()
        assert len(lines) == 1
        assert "auto needs the data that the model was trained on: give --data" in lines[0]
        assert not (tmp_path / "out").exists()
        assert sample("--elevation", "auto", "--data", home) == 0
    finally:
        home.rename(solids)


@pytest.mark.parametrize(
    ("flags", "message"),
    {
        "--azimuth north": "argument --azimuth",
        "--elevation 95": "95 is not between -90 and 90",
        "--azimuth auto auto": "1 photos, but 2 values of --azimuth",
        "--data there": "--data is for data sets and --image for photos",
        "--elevation auto --n 2": "--n is for data sets and --image for photos",
        "--camera pose.txt --elevation auto": "--elevation is for photos without --camera",
    }.items(),
)
def test_bad_flags_are_one_line(sample, tmp_path, capsys, flags, message):
    assert sample(*flags.split()) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert message in lines[0]
    assert not (tmp_path / "out").exists()


def test_what_the_page_says_runs(solids, tmp_path, monkeypatch, capsys):
    page = (Path(__file__).parents[3] / "docs/pose_of_a_photo.md").read_text(encoding="utf-8")
    document = tiny_config(solids, Path("runs")).model_dump(mode="json") | {"name": "quickstart"}
    monkeypatch.chdir(tmp_path)
    save_tiny_run(validate_config(document, "test"))
    for name, azimuth in (("photo.png", 40.0), ("other.png", 150.0)):
        Image.fromarray(solid(azimuth, 30.0, 0.95)).save(name)
    (commands,) = re.findall(r"^```sh\n(.*?)^```", page, flags=re.MULTILINE | re.DOTALL)
    for command in commands.splitlines():
        program, *arguments = shlex.split(command)[1:]
        assert program == "sample_views.py"
        assert sample_views.main(arguments) == 0
    angle = r"-?\d+ \+- \d+ degrees"
    form = rf"(\S+): estimated elevation {angle}, azimuth {angle} \(for 9 in 10 training views like it\)"
    (example,) = re.findall(r"^    " + form, page, flags=re.MULTILINE)
    assert example in re.findall(r"sample_views.py: " + form, capsys.readouterr().err)

    (code,) = re.findall(r"^```python\n(.*?)^```", page, flags=re.MULTILINE | re.DOTALL)
    assert 'root="data/embedded"' in code
    exec(code.replace("data/embedded", solids.as_posix()), {})
    assert 0 <= float(capsys.readouterr().out) < 90
