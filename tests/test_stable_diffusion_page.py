"""Every command of docs/stable_diffusion.md is run here at a small size, on a tiny base."""

import re
import shlex
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import pytest

pytest.importorskip("diffusers")

from tests.models.stable_diffusion.tiny_base import write_base

ROOT = Path(__file__).parents[1]
SMALL_SET = ["--objects", "4", "--val", "2", "--views", "6", "--size", "32", "--workers", "1"]
SMALL_RUN = [
    *("data.image_size=32", "data.workers=0", "train.steps=1", "train.batch=1", "train.device=cpu"),
    *("model.encoder.backbone=tu-tf_mobilenetv3_small_minimal_100", "model.encoder.planes=4"),
    *("model.renderer.size=8", "model.renderer.coarse=5", "model.renderer.fine=3"),
    *("sample.steps=2", "train.preflight=false", "train.precision=float32"),
]
FEWER = {"24": "3", "6": "3", "50": "3"}  # views, steps


def commands() -> list[str]:
    text = (ROOT / "docs/stable_diffusion.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```sh\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL)
    return [line for block in blocks for line in block.splitlines() if not line.startswith("pip ")]


def run(command: str) -> int:
    program, *words = shlex.split(command)[1:]
    words = [FEWER.get(word, word) for word in words]
    if program != "-m":
        more = SMALL_RUN if program == "train.py" else ["--device", "cpu"]
        return import_module(program.removesuffix(".py")).main([*words, *more])
    name, *words = words
    module = f"{name}.__main__" if find_spec(name).submodule_search_locations else name
    return import_module(module).main([*words, *(SMALL_SET if name == "scripts.make_shapes" else [])])


def test_every_command_of_the_page_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "config").symlink_to(ROOT / "config")
    write_base(tmp_path / "bases/cars")
    assert len(commands()) > 9
    for command in commands():
        assert run(command) == 0, command
    assert len(list((tmp_path / "samples/one_by_one").rglob("view_000?.png"))) == 3
    assert list((tmp_path / "samples/chunked").rglob("progress.mp4"))
