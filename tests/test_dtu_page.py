"""Every command of docs/dtu.md is run here at a small size."""

import json
import re
import shlex
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import pytest

from scripts.evaluate.metrics import masked
from scripts.evaluate.metrics.metrics import METRICS
from scripts.evaluate.metrics.set_distances import SET_METRICS
from tests.scenes import TINY_MODEL

pytest.importorskip("torchmetrics", reason="needs requirements-metrics.txt")

ROOT = Path(__file__).parents[1]
SMALL = {
    "scripts.make_shapes": ["--objects", "2", "--val", "1", "--size", "32", "--workers", "1"],
    "scripts.evaluate": ["--views", "4", "--steps", "2", "--device", "cpu", "--batch", "4"],
    "sample_views": ["--views", "2", "--steps", "2", "--device", "cpu"],
    "train": [
        "model=" + json.dumps(TINY_MODEL),
        *("data.image_size=32", "data.image_height=24", "train.steps=1", "train.batch=1", "sample.steps=2"),
        *("train.preflight=false", "train.device=cpu", "train.preview_every=1", "train.previews=1"),
    ],
}


def commands() -> list[str]:
    text = (ROOT / "docs/dtu.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```sh\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL)
    return [line for block in blocks for line in block.splitlines()]


def run(command: str) -> int:
    program, *words = shlex.split(command)[1:]
    if program == "-m":
        program, *words = words
    name = program.removesuffix(".py")
    module = f"{name}.__main__" if find_spec(name).submodule_search_locations else name
    return import_module(module).main([*words, *SMALL.get(name, [])])


def test_every_command_of_the_page_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setattr(masked, "FIRST", (57, 76))
    monkeypatch.setattr(masked, "MEASURED", (30, 40))
    for name in ("stlpips", "ssim", "ssim_7x7"):
        monkeypatch.delitem(METRICS, name)
    monkeypatch.delitem(SET_METRICS, "kid_lite0")
    (tmp_path / "config").symlink_to(ROOT / "config")
    assert len(commands()) == 8
    for command in commands():
        assert run(command) == 0, command
    folder = tmp_path / "runs/dtu_scene/evaluation/dtu_3view"
    assert "scan8,rest" in (folder / "choices.csv").read_text()
