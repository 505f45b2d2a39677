"""The sampling program from its command line to its files, with the smallest untrained model."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import imageio.v2 as imageio
import numpy as np
import pytest
import torch
from PIL import Image

import sample_views
from data.cameras.poses import spiral, srn_test_path
from data.cameras.transforms_json import from_transforms
from data.images.files import read_picture
from models.checkpoints import loading
from scripts.evaluate import __main__ as evaluate
from scripts.sampling.jobs import with_choices
from scripts.sampling.request import SampleRequest, SubjectRequest
from tests.tiny_run import STEPS, save_tiny_run, tiny_config

VIEWS = 5
PLANTED = {"cars_train/a": 3, "cars_val/bb": 4, "cars_val/ccc": 6}  # object: views


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run directory of a tiny model whose data set does not exist."""
    folder = tmp_path_factory.mktemp("runs")
    return save_tiny_run(tiny_config(folder / "nowhere", folder))


@pytest.fixture
def root(tmp_path: Path, plant_object: Callable[..., Path]) -> Path:
    for name, num_views in PLANTED.items():
        plant_object(tmp_path / "data" / name, num_views=num_views, size=(9, 9))
    return tmp_path / "data"


@pytest.fixture
def sample(run: Path, root: Path, tmp_path: Path) -> Callable[..., Path]:
    """sample(flags, folder="out"): the folder with the files of a run that must go well."""

    def sample(flags: str = "", folder: str = "out") -> Path:
        fixed = ["--transfer", run, "--data", root, "--output", tmp_path / folder]
        views = [] if "--views" in flags else ["--views", VIEWS]
        assert sample_views.main([*map(str, fixed + views), *flags.split()]) == 0
        return tmp_path / folder

    return sample


def pictures(folder: Path, pattern: str) -> np.ndarray:
    """All pictures of that name, in order, as int."""
    return np.stack([read_picture(path).numpy() for path in sorted(folder.glob(pattern))]).astype(int)


def film_frames(path: Path) -> np.ndarray:
    """All frames of a film, as int."""
    with imageio.get_reader(path) as film:
        return np.stack([np.asarray(frame) for frame in film.iter_data()]).astype(int)


def cameras_of(folder: Path) -> torch.Tensor:
    document = json.loads((folder / "transforms.json").read_text())
    cameras, names = from_transforms(document)
    assert names == [f"view_{number:04d}.png" for number in range(len(names))]
    return cameras.cam_to_world


def test_a_spiral_of_the_first_held_out_object_is_written(sample, root: Path, capsys):
    folder = sample()
    files = {path.name for path in folder.iterdir()}
    numbered = {
        f"{name}_{number:04d}.png"
        for name in ("view", "preview", "depth", "depth16")
        for number in range(VIEWS)
    }
    assert files == numbered | {"cond_00.png", "views.mp4", "sheet.png", "transforms.json", "sampling.json"}
    assert str(folder / "views.mp4") in capsys.readouterr().out.splitlines()
    # The conditioning view is the photo itself, enlarged from 9 to 32 pixels: the mean survives.
    photo = read_picture(root / "cars_val/bb/rgb/000000.png").float()
    assert pictures(folder, "cond_00.png").shape == (1, 32, 32, 3)
    assert abs(pictures(folder, "cond_00.png").mean() - photo.mean()) < 1
    views = pictures(folder, "view_*.png")
    assert np.abs(views[0] - views[1]).mean() > 1
    torch.testing.assert_close(cameras_of(folder), spiral(VIEWS), atol=1e-5, rtol=1e-5)


def test_a_data_set_may_have_another_layout_than_that_of_the_training(tmp_path):
    config = tiny_config(tmp_path, tmp_path)
    data = config.data.model_copy(update={"layout": "transforms", "shards": "rank", "views": "list.json"})
    config = config.model_copy(update={"data": data})
    request = SampleRequest("run", SubjectRequest(data=str(tmp_path / "cars")))
    chosen = with_choices(config, request).data
    assert (chosen.layout, chosen.shards, chosen.views) == ("auto", "all", None)
    assert with_choices(config, SampleRequest("run")).data == data


def test_a_shorter_trajectory_leaves_none_of_a_longer_one_behind(sample):
    sample("--views 4")
    folder = sample("--views 2")
    assert len(pictures(folder, "view_*.png")) == len(pictures(folder, "depth_*.png")) == 2


def test_the_film_shows_every_view_above_its_preview(sample):
    folder = sample("--fps 7")
    with imageio.get_reader(folder / "views.mp4") as film:
        assert film.get_meta_data()["fps"] == 7
    frames = film_frames(folder / "views.mp4")
    assert frames.shape == (VIEWS, 512, 256, 3)
    stills = np.concatenate([pictures(folder, "view_*.png"), pictures(folder, "preview_*.png")], axis=1)
    # Mean over each pixel's 8 x 8 block; films are compressed and have half the resolution in colour.
    small = frames.reshape(VIEWS, 64, 8, 32, 8, 3).mean(axis=(2, 4))
    right = np.abs(small - stills).mean()
    wrong = np.abs(small - np.roll(stills, 1, axis=0)).mean()
    assert right < 30
    assert right < wrong / 1.5


def test_the_sheet_holds_source_views_and_previews(sample):
    folder = sample("--cond-views 1,2")
    sheet = np.asarray(Image.open(folder / "sheet.png")).astype(int)
    factor = 4  # of enlargement; tiles of 32 with gaps of 2
    small = sheet[::factor, ::factor]
    assert small.shape == (3 * 34 - 2, VIEWS * 34 - 2, 3)
    assert np.array_equal(small[:32, 34:66], pictures(folder, "cond_01.png")[0])
    assert np.array_equal(small[34:66, 3 * 34 :][:, :32], pictures(folder, "view_0003.png")[0])
    assert np.array_equal(small[68:, 4 * 34 :], pictures(folder, "preview_0004.png")[0])


def test_a_view_is_the_same_whatever_the_batch_and_the_number_of_views(sample):
    whole = sample("--batch 5")
    for batch in (1, 3):
        parts = sample(f"--batch {batch}", f"batch{batch}")
        for name in ("view", "preview", "depth"):
            ours, theirs = (pictures(folder, f"{name}_*.png") for folder in (parts, whole))
            assert np.abs(ours - theirs).max() <= 1, name


def test_the_same_seed_gives_the_same_files_and_another_gives_others(sample):
    first, again, other = (sample(f"--seed {seed}", f"{i}") for i, seed in enumerate((3, 3, 4)))
    for path in first.glob("*.png"):
        assert path.read_bytes() == (again / path.name).read_bytes(), path.name
    assert np.array_equal(pictures(first, "preview_*"), pictures(other, "preview_*"))
    assert not np.array_equal(pictures(first, "view_*"), pictures(other, "view_*"))


def test_an_object_looks_the_same_alone_and_among_others(sample):
    both = sample("--n 2")
    assert {path.name for path in both.iterdir()} == {"bb", "ccc"}
    alone = sample("--object ccc", "alone")
    assert np.abs(pictures(both / "ccc", "view_*") - pictures(alone, "view_*")).max() <= 1
    assert np.abs(pictures(both / "bb", "view_*") - pictures(alone, "view_*")).max() > 1


def test_a_prefix_begins_all_names(sample):
    folder = sample("--prefix mid- --progress")
    assert len(list(folder.iterdir())) == len(list(folder.glob("mid-*"))) == 4 * VIEWS + 6
    document = json.loads((folder / "mid-transforms.json").read_text())
    assert document["frames"][4]["file_path"] == "mid-view_0004.png"


@pytest.mark.parametrize("flags", ["", "--autoregressive", "--batch 3"])
def test_progress_is_a_film_of_the_steps_of_the_first_views(sample, flags: str):
    folder = sample(f"--progress --fps 4 {flags}")
    frames = film_frames(folder / "progress.mp4")
    assert frames.shape == (STEPS + 4, 256, 4 * 272 - 16, 3)
    last = frames[-1, :, :256].reshape(32, 8, 32, 8, 3).mean(axis=(1, 3))
    assert np.abs(last - pictures(folder, "view_0000.png")[0]).mean() < 30


def test_autoregressive_views_begin_alike_and_part_later(sample):
    one_by_one, independent = sample("--autoregressive"), sample("", "independent")
    difference = np.abs(pictures(one_by_one, "view_*") - pictures(independent, "view_*"))
    assert difference[0].max() <= 1
    assert difference[1:].reshape(VIEWS - 1, -1).max(axis=1).min() > 1


def test_unconditional_views_do_not_depend_on_the_conditioning_views_and_others_do(sample):
    first, second = (sample(f"--unconditional --cond-views {v}", f"u{v}") for v in (0, 1))
    assert np.abs(pictures(first, "view_*") - pictures(second, "view_*")).max() <= 1
    first, second = (sample(f"--guidance 1.5 --cond-views {v}", f"g{v}") for v in (0, 1))
    assert np.abs(pictures(first, "view_*") - pictures(second, "view_*")).max() > 1


def test_stochastic_adds_noise_also_where_the_sampler_of_the_run_has_none(sample):
    plain, noisy = sample(), sample("--stochastic", "noisy")
    named = sample("--stochastic --sampler dpmpp_2m_sde", "named")
    assert np.abs(pictures(plain, "view_*") - pictures(noisy, "view_*")).max() > 1
    assert np.array_equal(pictures(noisy, "view_*"), pictures(named, "view_*"))


@pytest.mark.parametrize("name", ["circle", "turntable", "srn_test"])
def test_trajectories_keep_the_distance(sample, name: str):
    poses = cameras_of(sample(f"--trajectory {name} --cond-views 1 --steps 2"))
    torch.testing.assert_close(poses[:, :3, 3].norm(dim=1), torch.full((VIEWS,), 1.3), atol=1e-5, rtol=1e-5)
    if name == "circle":
        torch.testing.assert_close(poses[0], srn_test_path(4)[1], atol=1e-5, rtol=1e-5)


def test_the_trajectory_of_the_data_is_the_objects_other_views(sample):
    poses = cameras_of(sample("--object ccc --cond-views 1 3 --trajectory data --views 4 --steps 2"))
    torch.testing.assert_close(poses, srn_test_path(6)[[0, 2, 4, 5]], atol=1e-5, rtol=1e-5)


def test_photos_with_pose_files_equal_the_same_views_of_a_data_set(run, root, sample, tmp_path):
    files = root / "cars_val/ccc"
    photos = [str(files / f"rgb/00000{view}.png") for view in (2, 4)]
    poses = [str(files / f"pose/00000{view}.txt") for view in (2, 4)]
    flags = ["--transfer", str(run), "--views", str(VIEWS), "--output", str(tmp_path / "photos")]
    flags += ["--intrinsics", str(files / "intrinsics.txt"), "--trajectory", "circle"]
    assert sample_views.main([*flags, "--image", *photos, "--camera", *poses]) == 0
    data = sample("--object ccc --cond-views 2 4 --trajectory circle")
    for name in ("cond", "preview", "depth"):
        ours, theirs = pictures(tmp_path / "photos", f"{name}_*"), pictures(data, f"{name}_*")
        assert np.abs(ours - theirs).max() <= 1, name


def test_a_photo_whose_object_is_not_where_its_camera_looks_is_a_warning(run, root, tmp_path, capsys):
    photo, pose = tmp_path / "off.png", root / "cars_val/ccc/pose/000002.txt"
    image = np.full((40, 40, 3), 255, dtype=np.uint8)
    image[4:12, 4:12] = 90
    Image.fromarray(image).save(photo)
    flags = ["--transfer", run, "--image", photo, "--camera", pose, "--views", 2, "--trajectory", "circle"]
    assert sample_views.main([*map(str, flags), "--output", str(tmp_path / "off")]) == 0
    (line,) = (line for line in capsys.readouterr().err.splitlines() if "sample_views.py" in line)
    assert line.startswith(f"sample_views.py: {photo}: the object's centre is ")


ERRORS = {
    "--transfer nowhere": "no such run",
    "--data nowhere": "no such folder",
    "--n 3": "3 objects requested, but the split has 2",
    "--n 0": "--n",
    "--n 2 --object bb": "only one",
    "--object bbb": "bb",
    "--object bb bb": "twice",
    "--cond-views 4": "view 4",
    "--cond-views 64 104": "view 64",
    "--n 2 --cond-views 5": "bb",
    "--cond-views -1": "view numbers",
    "--cond-views 1,x": "view numbers",
    "--cond-views 1 1": "twice",
    "--trajectory data --views 4": "bb",
    "--trajectory helix": "--trajectory",
    "--views 0": "--views",
    "--views many": "--views",
    "--steps 1": "--steps",
    "--sampler best": "sample.sampler",
    "--sampler lms --stochastic": "cannot be stochastic",
    "--guidance nan": "--guidance",
    "--guidance 2 --unconditional": "guidance",
    f"--seed {10**400}": "--seed",
    "--batch 0": "--batch",
    "--fps inf": "--fps",
    "--device tpu": "device",
    "--device cuda:99": "device",
    "--device meta": "device",
    "--prefix ../x": "--prefix",
    "--policy best": "--policy",
    "--look-at 3": "--policy",
    "--order outward": "--policy",
    "--policy all --context-views 3": "--context-views",
    "--refine-jointly 1": "--refine-jointly",
    "--refine-sigma 2": "--refine-jointly",
    "--refine-jointly 3 --progress": "--progress",
    "--joint 3 --joint-sigma 90": "sigma 90",  # by their old names
    "--samples 0": "--samples",
    "--camera pose.txt": "--image",
    "--view 3": "--view",
    "--image x.png --camera x.txt": "--data",
}


@pytest.mark.parametrize("flags", ERRORS)
def test_bad_input_is_one_line_and_leaves_no_files(run, root, tmp_path, capsys, flags: str):
    fixed = ["--transfer", str(run), "--data", str(root), "--output", str(tmp_path / "out")]
    try:
        code = sample_views.main([*fixed, *flags.split()])
    except SystemExit as error:
        code = error.code
    lines = capsys.readouterr().err.splitlines()
    assert code == 2
    assert len(lines) == 1, lines
    assert lines[0].startswith("sample_views.py: ")
    assert ERRORS[flags] in lines[0]
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("CUDA out of memory. Tried"), KeyError("a")])
@pytest.mark.parametrize(
    ("program", "work"),
    [
        (sample_views, "scripts.sampling.draw.sample_views"),
        (evaluate, "scripts.evaluate.__main__.evaluate_quickly"),
    ],
)
def test_too_little_memory_is_one_line_and_other_errors_are_not(program, work, error, monkeypatch, capsys):
    def fail(arguments) -> None:
        raise error

    monkeypatch.setattr(work, fail)
    command = ["--transfer", "run"]
    if isinstance(error, KeyError):
        with pytest.raises(KeyError):
            program.main(command)
    else:
        assert program.main(command) == 2
        assert re.fullmatch(
            r"[\w.]+: [^\n]*out of memory[^\n]*; lower --batch[^\n]*\n", capsys.readouterr().err
        )


def test_an_output_folder_that_cannot_be_written_is_found_before_anything_is_drawn(
    run, root, tmp_path, capsys, monkeypatch
):
    (tmp_path / "file").touch()
    monkeypatch.setattr("scripts.sampling.draw.draw", pytest.fail)
    cases = [(tmp_path / "file", ""), (tmp_path / "file/deeper", ""), (Path("/proc/nowhere"), "")]
    for output, prefix in (*cases, (tmp_path / "out", "x" * 300)):
        flags = ["--transfer", str(run), "--data", str(root), "--output", str(output), "--prefix", prefix]
        assert sample_views.main(flags) == 2
        lines = capsys.readouterr().err.splitlines()
        assert len(lines) == 1
        assert str(output) in lines[0]
    assert not list((tmp_path / "out").iterdir())


def test_an_interruption_leaves_whole_files_and_one_line(run, root, tmp_path, capsys, monkeypatch):
    from scripts.sampling.writer import SampleWriter

    add = SampleWriter.add

    def add_then_interrupt(self, *given) -> None:
        add(self, *given)
        raise KeyboardInterrupt

    monkeypatch.setattr(SampleWriter, "add", add_then_interrupt)
    flags = ["--transfer", str(run), "--data", str(root), "--output", str(tmp_path / "out"), "--batch", "2"]
    assert sample_views.main(flags) == 130
    assert capsys.readouterr().err.splitlines()[-1].startswith("sample_views.py: interrupted")
    names = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert names == [
        "cond_00.png",
        *(f"{n}_000{i}.png" for n in ("depth16", "depth", "preview") for i in (0, 1)),
        "sampling.json",
        *(f"view_000{i}.png" for i in (0, 1)),
    ]
    assert pictures(tmp_path / "out", "view_*").shape == (2, 32, 32, 3)


@pytest.mark.parametrize(
    "flags",
    [
        "--batch 2",
        "--policy nearest --look-at 2 --order outward",
        "--policy budget --look-at 3 --same-noise --samples 2",
        "--autoregressive --joint 3 --steps 4",
    ],
)
def test_an_interrupted_run_goes_on_where_it_was_and_equals_an_uninterrupted_one(sample, flags, monkeypatch):
    from scripts.sampling.writer import SampleWriter

    whole, drawn, write = sample(flags, "whole"), [], SampleWriter._write
    stops = [3, 6 if "joint" in flags else 4]

    def write_some(self, name: str, number: int, samples) -> None:
        if len(drawn) in stops:
            stops.remove(len(drawn))
            raise KeyboardInterrupt
        write(self, name, number, samples)
        drawn.append((name, number))

    monkeypatch.setattr(SampleWriter, "_write", write_some)
    for _ in range(2):
        with pytest.raises(AssertionError):  # exit code 130
            sample(flags, "parts")
    parts = sample(flags, "parts")
    # Of a batch that had begun, all is drawn again.
    again = {entry for entry in drawn if drawn.count(entry) > 1}
    assert again == ({("view", 2)} if "batch" in flags else set())
    assert {path.name for path in parts.iterdir()} == {path.name for path in whole.iterdir()}
    for path in (*whole.glob("*.png"), *whole.glob("*.json")):
        assert path.read_bytes() == (parts / path.name).read_bytes(), path.name
    assert np.array_equal(film_frames(whole / "views.mp4"), film_frames(parts / "views.mp4"))


def test_a_finished_run_is_not_drawn_again_and_another_one_leaves_nothing_of_it(sample, monkeypatch, capsys):
    from scripts.sampling.writer import SampleWriter

    folder = sample("--samples 2 --fps 5")
    before = pictures(folder, "view_*.png")
    with monkeypatch.context() as patch:
        patch.setattr(SampleWriter, "add", pytest.fail)
        sample("--samples 2 --fps 9")
    with imageio.get_reader(folder / "views.mp4") as film:
        assert film.get_meta_data()["fps"] == 9
    (folder / "view_0001.png").unlink()
    sample("--samples 2 --fps 9")
    assert np.array_equal(pictures(folder, "view_*.png"), before)
    sample("--samples 2 --prefix other_")
    assert capsys.readouterr().err.count("replaced") == 0
    sample("--seed 1")
    replaced = f"sample_views.py: {folder}: views of another command (other seed, samples) are "
    assert f"{replaced}replaced; give --output or --prefix to keep both\n" in capsys.readouterr().err
    assert not np.array_equal(pictures(folder, "view_*.png"), before)
    assert len([*folder.glob("other_view_*")]) == VIEWS
    for path in folder.glob("other_*"):
        path.unlink()
    assert not [*folder.glob("sample_*"), *folder.glob("spread_*")]


def test_samples_of_a_view_have_a_mean_and_a_spread(sample):
    folder = sample("--samples 3 --batch 6 --guidance 1.5")
    alone = sample("--guidance 1.5", "alone")
    assert np.abs(pictures(folder, "view_*.png") - pictures(alone, "view_*.png")).max() <= 1
    several = np.stack([pictures(folder, n) for n in ("view_*", "sample_*_01.png", "sample_*_02.png")])
    assert np.abs(several[1] - several[2]).mean() > 1
    assert np.abs(several.mean(axis=0) - pictures(folder, "spread_mean_*")).max() <= 0.51
    spread = pictures(folder, "spread_std_*")
    assert spread.shape[1] > 256
    assert spread.shape[2] > 256
    # Where all agree the colour is the scale's darkest, at its lower end; the most uncertain is lighter.
    deviation = np.sqrt(several.var(axis=0, ddof=1).mean(axis=-1))[0]
    least, most = (np.unravel_index(find(deviation), deviation.shape) for find in (np.argmin, np.argmax))
    shown = spread[0].sum(axis=-1)
    assert shown[6 + 8 * least[0] + 4, 8 * least[1] + 4] < shown[6 + 8 * most[0] + 4, 8 * most[1] + 4]


def test_the_same_noise_is_that_of_the_first_view(sample):
    own, same = sample(), sample("--same-noise", "same")
    difference = np.abs(pictures(own, "view_*") - pictures(same, "view_*")).reshape(VIEWS, -1).max(axis=1)
    assert difference[0] <= 1
    assert difference[1:].min() > 1


def test_joint_views_keep_what_their_drafts_have_in_common_with_independent_ones(sample):
    folder, independent = sample("--joint 3 --joint-sigma 0.05"), sample("", "independent")
    drafts = pictures(folder, "draft_*.png")
    assert np.abs(drafts - pictures(independent, "view_*.png")).max() <= 1
    difference = np.abs(pictures(folder, "view_*.png") - drafts)
    assert 0 < difference.mean() < np.abs(np.roll(drafts, 1, axis=0) - drafts).mean() / 4


def test_depth_of_16_bits_is_that_of_the_coloured_picture_and_a_folder_is_a_data_set(sample):
    from data.config import DataConfig
    from data.formats.registry import open_split
    from data.images.display import RAMP
    from data.images.files import read_channel

    folder = sample("--trajectory turntable")
    document = json.loads((folder / "transforms.json").read_text())
    assert document["depth_unit_scale_factor"] == 1e-4
    for number, frame in enumerate(document["frames"]):
        assert frame["depth_file_path"] == f"depth16_{number:04d}.png"
        depth = read_channel(folder / frame["depth_file_path"], bits=16) / 10_000
        assert ((depth == 0) | ((depth > 0.6) & (depth < 2.0))).all()
    assert len(RAMP) == 6
    objects = open_split(DataConfig(root=str(folder), image_size=32), "train")
    cameras = objects.read_views(0, list(range(VIEWS - 1))).cameras
    torch.testing.assert_close(cameras.cam_to_world[0], cameras_of(folder)[1:], atol=1e-5, rtol=1e-5)


def test_weights_that_give_nan_are_named_and_nothing_is_drawn_from_them(
    run, root, tmp_path, capsys, monkeypatch
):
    load_model = loading.load_model

    def load_broken(path):
        model, config, step = load_model(path)
        model.denoiser.get_parameter(next(name for name, _ in model.denoiser.named_parameters())).fill_(
            torch.nan
        )
        return model, config, step

    monkeypatch.setattr("scripts.sampling.draw.load_model", load_broken)
    flags = ["--transfer", str(run), "--data", str(root), "--output", str(tmp_path / "out"), "--views", "1"]
    assert sample_views.main(flags) == 2
    assert "view 0" in capsys.readouterr().err.splitlines()[-1]
    assert not list((tmp_path / "out").glob("view_*"))


def test_without_an_output_folder_the_files_go_to_the_samples_of_the_run(run, root, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert sample_views.main(["--transfer", str(run), "--data", str(root), "--views", "1"]) == 0
    assert (tmp_path / "samples/tiny/bb/views.mp4").is_file()


def test_help_answers_without_heavy_imports():
    code = "import sys, sample_views\ntry: sample_views.main(['--help'])\n"
    code += "finally: assert 'torch' not in sys.modules"
    folder = Path(sample_views.__file__).parent
    answer = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=folder, env=dict(os.environ)
    )
    assert answer.returncode == 0, answer.stderr
    assert "--cond-views" in answer.stdout
