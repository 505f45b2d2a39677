"""The commands of docs/xfactor.md at a tiny size, and what is refused."""

import json
import re
import shlex
from pathlib import Path

import pytest
import torch

import sample_views
import train
from data.images.files import read_picture
from data.shapes.shifting_textures import read_shift, shifting_texture
from scripts import convert_checkpoint, make_shapes
from scripts.pose_transfer import shifts
from scripts.pose_transfer.__main__ import main as pose_transfer

PAGE = Path(__file__).parents[3] / "docs" / "xfactor.md"
CONFIGS = PAGE.parents[1] / "config"
SMALL_SET = ["--objects", "4", "--val", "3", "--views", "5", "--size", "32", "--workers", "1"]
NETWORK = '{"width": 16, "heads": 2, "layers": 1, "patch": 4, "pose_size": 6, "pose_tokens": 2}'
SMALL_RUN = [f"model.network={NETWORK}", "model.loss.perceptual=0", "data.image_size=32", "train.steps=1"]
SMALL_RUN += ["data.window=3", "train.batch=2", "train.precision=float32", "train.preflight=false"]


def commands() -> list[list[str]]:
    blocks = re.findall(r"^```sh\n(.*?)^```", PAGE.read_text(), flags=re.MULTILINE | re.DOTALL)
    return [shlex.split(line) for block in blocks for line in block.splitlines()]


def run(words: list[str]) -> int:
    """A command of the page, made small."""
    program, arguments = (words[2], words[3:]) if words[1] == "-m" else (words[1], words[2:])
    if program == "scripts.make_shapes":
        return make_shapes.main([*arguments, *SMALL_SET])
    if program == "train.py":
        return train.main([*arguments, *SMALL_RUN])
    if program == "sample_views.py":
        return sample_views.main([word.replace("000200", "000005") for word in arguments])
    if program == "scripts.convert_checkpoint":
        return convert_checkpoint.main(arguments)
    assert program == "scripts.pose_transfer"
    return pose_transfer(arguments)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Where all commands of the page ran."""
    place = tmp_path_factory.mktemp("page")
    (place / "config").symlink_to(CONFIGS)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        assert [run(words) for words in commands()] == [0] * len(commands())
    return place


def test_the_driving_video_is_beside_what_was_drawn(folder):
    written = folder / "samples" / "xfactor_shapes" / "000004"
    names = {path.name for path in written.iterdir()}
    assert {"views.mp4", "transfer.mp4", "cond_00.png", "view_0004.png"} <= names
    sheet = read_picture(written / "transfer.png")
    assert sheet.shape == (64, 5 * 32, 3)
    driving = read_picture(folder / "sets" / "shapes_videos" / "val" / "000005" / "0003.png")
    assert torch.equal(sheet[:32, 96:128], driving)
    assert torch.equal(sheet[32:, 96:128], read_picture(written / "view_0003.png"))


def test_figures_are_written_with_their_baselines(folder, monkeypatch):
    monkeypatch.chdir(folder)
    assert pose_transfer(["runs/xfactor_shapes", "--n", "2", "--frames", "3", "--output", "out.json"]) == 0
    figures = json.loads((folder / "out.json").read_text())
    assert list(figures) == ["transfer", "random", "constant", "auto-encoding"]
    assert all(set(row) == {"psnr", "stlpips"} for row in figures.values())


def test_movements_are_no_longer_than_in_the_training(folder, monkeypatch):
    """Videos have 5 frames, but the training saw at most 3 of them."""
    monkeypatch.chdir(folder)
    counts = []

    def still(model, scene, driving):
        counts.append(driving.images.shape[1])
        return scene.images[0, :1].expand(driving.images.shape[1] - 1, -1, -1, -1)

    monkeypatch.setattr(shifts, "draw_under", still)
    found = shifts.measure_shifts("runs/xfactor_shifts", root=None, split="val", pairs=2, frames=6)
    assert counts == [3, 3]
    assert found["transfer"] == found["constant"] > 0


def test_several_frames_of_a_scene_may_be_given(folder, monkeypatch):
    monkeypatch.chdir(folder)
    drive = ["--drive", "sets/shapes_videos/val/000005", "--views", "2", "--output", "several"]
    arguments = ["--transfer", "runs/xfactor_shapes", "--split", "val", *drive, "--cond-views", "0", "4", "2"]
    assert sample_views.main(arguments) == 0
    first = read_picture(folder / "several" / "cond_00.png")
    assert torch.equal(first, read_picture(folder / "sets" / "shapes_videos" / "val" / "000004" / "0002.png"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--drive", "nowhere"], "nowhere: is no video; give a video file or a folder of frames"),
        (["--drive", "sets/shapes_videos/val/000005", "--views", "9"], "has 5 frames, but 9 are asked of it"),
        (
            ["--drive", "sets/shapes_videos/val/000005", "--cond-views", "7"],
            "view 7 requested, but the object has 5",
        ),
        (["--drive", "x", "--policy", "nearest"], "leave out --image, --policy"),
        (["--split", "val"], "is video without cameras"),
    ],
)
def test_what_cannot_be_drawn_is_said_in_one_line(folder, monkeypatch, capsys, arguments, message):
    monkeypatch.chdir(folder)
    code = sample_views.main(["--transfer", "runs/xfactor_shapes", "--split", "val", *arguments])
    lines = capsys.readouterr().err.strip().splitlines()
    assert (code, len(lines)) == (2, 1)
    assert message in lines[0]


def test_phase_correlation_reads_the_shifts_of_the_textures():
    frames = torch.from_numpy(shifting_texture(3, 4, 32)).movedim(-1, 1).float()
    step = read_shift(frames[0], frames[1])
    assert all(1 <= abs(part) <= 2 for part in step)
    assert read_shift(frames[0], frames[3]) == tuple(3 * part for part in step)
