"""What the user should know of a data set reaches the terminal, once, whichever program opens it."""

import json
from pathlib import Path

import pytest
import torch

import sample_views
import train
from data.formats.registry import open_raw
from data.scenes.objects import RawObjects, notices_of
from scripts import check_data, export_transforms, pack
from tests.scene_files import plant_scene, poses
from tests.scenes import run_document
from tests.tiny_run import save_tiny_run, tiny_config

Y_UP = torch.tensor([[1.0, 0, 0], [0, 0, 1], [0, -1, 0]])
TURNED = "its cameras are level about y, so the world was rotated to make that z, up"
UNKNOWN = "`warp` is unknown; check that poses and images are valid without"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A scene that two things must be said of."""
    return plant_scene(tmp_path / "scene", turn=Y_UP, warp=1.5)


def expected(program: str, folder: Path) -> list[str]:
    return [f"{program}: {folder / 'transforms.json'}: {text}" for text in (UNKNOWN, TURNED)]


def said(capsys, folder: Path) -> list[str]:
    """The lines on stderr about the scene."""
    return [line for line in capsys.readouterr().err.splitlines() if str(folder / "transforms.json") in line]


def test_training_says_it(folder: Path, tmp_path: Path, capsys):
    document = run_document(folder, tmp_path / "runs", train={"preview_every": 2, "previews": 1, "steps": 1})
    (tmp_path / "tiny.json").write_text(json.dumps(document))
    assert train.main([str(tmp_path / "tiny.json")]) == 0
    assert said(capsys, folder) == expected("train.py", folder)


def test_sampling_says_it(folder: Path, tmp_path: Path, capsys):
    run = save_tiny_run(tiny_config(folder, tmp_path))
    flags = ["--transfer", run, "--output", tmp_path / "out", "--trajectory", "circle", "--views", 1]
    assert sample_views.main([*map(str, flags), "--steps", "2"]) == 0
    assert said(capsys, folder) == expected("sample_views.py", folder)


def test_sampling_says_it_of_the_cameras_of_photos(folder: Path, tmp_path: Path, capsys):
    run = save_tiny_run(tiny_config(folder, tmp_path))
    flags = ["--transfer", run, "--output", tmp_path / "out", "--trajectory", "circle", "--views", 1]
    flags += ["--image", folder / "images/001.png", "--camera", folder / "transforms.json"]
    assert sample_views.main([*map(str, flags), "--steps", "2"]) == 0
    known, up = said(capsys, folder)
    assert known == expected("sample_views.py", folder)[0]
    assert up.endswith("its cameras are not upright along z; rotate the world so that z is up")


def test_the_check_says_it(folder: Path, tmp_path: Path, capsys):
    flags = [str(folder), "--workers", "1", "--output", str(tmp_path / "check")]
    assert check_data.main(flags) in (0, 1)
    (line,) = (line for line in capsys.readouterr().out.splitlines() if line.startswith("notices"))
    assert line.split()[:3] == ["notices", "note", "1"]
    assert line.endswith(f"transforms.json: {UNKNOWN}; transforms.json: {TURNED}")


@pytest.mark.parametrize("program", [pack, export_transforms])
def test_conversions_say_it(program, folder: Path, tmp_path: Path, capsys):
    assert program.main([str(folder), "--output", str(tmp_path / "out")]) == 0
    assert said(capsys, folder) == expected(program.__name__.removeprefix("scripts."), folder)
    # What was converted stands upright.
    assert notices_of(open_raw(tmp_path / "out", "train")) == ()


def test_of_many_scenes_each_kind_is_said_once(tmp_path: Path):
    for name in "abcde":
        plant_scene(tmp_path / name, turn=None if name == "b" else Y_UP)
    raw = open_raw(tmp_path, "train")
    turned = [index for index, name in enumerate(raw.ids) if name != "b"]
    (notice,) = notices_of(raw)
    others = f" (and {len(turned) - 1} of the other objects)"
    assert notice == f"{raw.place(turned[0])}/transforms.json: {TURNED}{others}"


def test_what_cannot_be_read_says_nothing_yet(tmp_path: Path):
    for name in "abcde":
        (plant_scene(tmp_path / name) / "transforms.json").write_text("{")
    assert notices_of(open_raw(tmp_path, "train")) == ()


class Upright(RawObjects):
    """An object of a layout that says nothing itself."""

    def __init__(self, turn: torch.Tensor):
        self.ids, self._turn = ("a",), turn

    def place(self, index: int) -> str:
        return "set/a"

    def num_views(self, index: int) -> int:
        return 11

    def cameras(self, index: int):
        cameras = poses()
        cameras[:, :3] = self._turn @ cameras[:, :3]
        return cameras, torch.eye(3).expand(11, 3, 3)

    def picture(self, index: int, view: int):
        raise AssertionError("nobody needs it")


def test_of_any_layout_it_is_said_where_z_is_not_up():
    assert notices_of(Upright(torch.eye(3))) == ()
    told = "set/a: its cameras are not upright along z; rotate the world so that z is up"
    assert notices_of(Upright(Y_UP)) == (told,)
