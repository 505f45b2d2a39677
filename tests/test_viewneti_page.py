"""Every command of docs/viewneti.md is run here at a small size."""

import json
import re
import shlex
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch

pytest.importorskip("diffusers")

from tests.models.stable_diffusion.tiny_base import write_base

ROOT = Path(__file__).parents[1]
SMALL_SET = ["--size", "16", "--views", "6", "--workers", "1"]
SMALL_RUN = [
    *("model.base.path=base", "data.image_size=16", "data.targets=2", "train.steps=1", "train.accumulate=1"),
    *("train.save_every=1", "sample.steps=2", "train.preflight=false", "train.device=cpu"),
]
FEWER = {"40": "2", "8": "2", "4": "2"}  # cars, views
SHORT = "model.prompts=" + json.dumps(["a photo of a {object}"])


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def commands() -> list[str]:
    text = (ROOT / "docs/viewneti.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```sh\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL)
    return [line for block in blocks for line in block.splitlines()]


def run(command: str) -> int:
    program, *words = shlex.split(command)[1:]
    words = [FEWER.get(word, word) for word in words]
    if program == "train.py":
        own = [SHORT] if "object_only" in words[0] else []  # the tiny base knows few words
        return import_module("train").main([*words, *SMALL_RUN, *own])
    if program != "-m":
        return import_module("sample_views").main([*words, "--device", "cpu"])
    name, *words = words
    module = f"{name}.__main__" if find_spec(name).submodule_search_locations else name
    return import_module(module).main([*words, *SMALL_SET])


def test_every_command_of_the_page_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "config").symlink_to(ROOT / "config")
    write_base(tmp_path / "base")
    assert len(commands()) == 12
    for command in commands():
        assert run(command) == 0, command
    modes = {json.loads(path.read_text())["model"]["mode"] for path in Path("runs").glob("*/config.json")}
    assert modes == {"object_only", "single_scene", "multi_scene", "finetune", "frozen_views"}
    assert list((tmp_path / "samples/red").glob("*.png"))
