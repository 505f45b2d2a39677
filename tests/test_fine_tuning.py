"""Every command of docs/fine_tuning.md is run here on tiny sets."""

import re
import shlex
import shutil
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
import torch
import trimesh

from config.run import validate_config
from data.formats.registry import open_raw
from scripts.make_shapes import main as make_shapes
from tests.data.formats.test_colmap import to_quaternion
from tests.scenes import TINY_MODEL
from tests.test_readme import program_of
from tests.tiny_run import save_tiny_run

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "fine_tuning.md").read_text(encoding="utf-8")
SIZE = 32
SMALL_RUN = ["train.steps=1", "train.batch=1", "train.preflight=false", "optim.warmup=1"]


def commands() -> list[str]:
    blocks = re.findall(r"^```sh\n(.*?)^```", PAGE, flags=re.MULTILINE | re.DOTALL)
    return [line for block in blocks for line in block.splitlines() if line.strip()]


def colmap_scene(folder: Path, made: Path) -> None:
    """The views of a made object as COLMAP's programs would leave them."""
    raw = open_raw(made, "train")
    poses, intrinsics = raw.cameras(0)
    (folder / "images").mkdir(parents=True)
    (folder / "sparse").mkdir()
    lines = ["# Image list with two lines of data per image:"]
    for view, pose in enumerate(poses.double().numpy()):
        shutil.copy(Path(raw.place(0)) / "rgb" / f"{view:06d}.png", folder / "images" / f"{view:03d}.png")
        turn, position = pose[:3, :3].T, pose[:3, 3]
        numbers = " ".join(f"{number:.12g}" for number in (*to_quaternion(turn), *(-turn @ position)))
        lines += [f"{view + 1} {numbers} 1 {view:03d}.png", ""]
    focal = intrinsics[0, 0, 0].item() * SIZE
    (folder / "sparse/images.txt").write_text("\n".join(lines) + "\n")
    (folder / "sparse/cameras.txt").write_text(
        f"# Camera list\n1 PINHOLE {SIZE} {SIZE} {focal} {focal} {SIZE / 2} {SIZE / 2}\n"
    )


def meshes(folder: Path) -> None:
    """Boxes of different shapes and colours."""
    folder.mkdir(parents=True)
    for number in range(5):
        box = trimesh.creation.box((1 + number, 2, 3))
        box.visual.face_colors = (40 * number, 200 - 30 * number, 90, 255)
        box.export(folder / f"box{number}.glb")


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder in which the page's relative paths lead somewhere, with an untrained runs/quickstart."""
    monkeypatch.chdir(tmp_path)
    make_shapes(["--root", "made", "--objects", "1", "--val", "1", "--views", "36", "--size", str(SIZE)])
    colmap_scene(Path("data/my_car"), Path("made"))
    meshes(Path("data/meshes"))
    example = next(Path("made/cars_val").iterdir())
    shutil.copy(example / "rgb/000000.png", "photo.png")
    document = {
        "name": "quickstart",
        "model": TINY_MODEL,
        "data": {"root": "made", "image_size": SIZE, "sources": [1, 1]},
        "sample": {"steps": 2},
        "train": {"device": "cpu"},
    }
    folder = save_tiny_run(validate_config(document, "test"))
    (folder / "config.json").write_text(validate_config(document, "test").model_dump_json())
    return tmp_path


def run(command: str) -> int:
    """Run a command in this process, with fewer views and steps."""
    words = shlex.split(command.replace("/data/", "data/"))
    assert words[0] == "python", command
    if words[1] != "-m":
        program, arguments = words[1].removesuffix(".py"), words[2:]
        return import_module(program).main(
            arguments + (SMALL_RUN if program == "train" else ["--views", "2"])
        )
    small = ["--views", "6", "--test-views", "5", "--size", str(SIZE), "--val", "0.2", "--test", "0.2"]
    return program_of(words[2]).main(words[3:] + (small if words[2] == "scripts.render_meshes" else []))


def test_every_command_of_the_page_runs(checkout: Path, capsys: pytest.CaptureFixture[str]):
    names = [shlex.split(command) for command in commands()]
    programs = {words[2] if words[1] == "-m" else words[1] for words in names}
    assert programs == {
        "scripts.check_data", "scripts.render_meshes", "scripts.evaluate", "train.py", "sample_views.py"
    }  # fmt: skip
    said = ""
    for command in commands():
        code, captured = run(command), capsys.readouterr()
        assert code == 0, f"{command}: {captured}"
        said += captured.err
    taken = re.findall(r"transfer: (\d+) of (\d+) tensors from runs/quickstart", said)
    assert len(taken) == 2  # of both runs, all weights
    assert all(fitting == total for fitting, total in taken)
    for name in ("my_car", "my_meshes"):
        assert (checkout / f"sets/check_{name}/REPORT.md").is_file()
        assert list((checkout / "runs" / name / "checkpoints").iterdir())
        assert list((checkout / "samples" / name).rglob("view_0001.png"))


def test_the_scene_of_the_page_has_the_cameras_it_was_made_with(checkout: Path):
    made, scene = open_raw(checkout / "made", "train"), open_raw(checkout / "data/my_car", "train")
    held_out = open_raw(checkout / "data/my_car", "val")
    assert (scene.num_views(0), held_out.num_views(0)) == (31, 5)  # every eighth, from the first
    turns = made.cameras(0)[0][[0, 8], :3, :3]
    # Up to a turn of the world, the same for all cameras.
    between = held_out.cameras(0)[0][:, :3, :3]
    torch.testing.assert_close(between[0].T @ between[1], turns[0].T @ turns[1], atol=1e-5, rtol=1e-5)
    assert np.array_equal(held_out.picture(0, 1).numpy(), made.picture(0, 8).numpy())
