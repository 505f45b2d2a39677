"""A tiny base and two sets of embedded cars, made once."""

import json
from pathlib import Path

import pytest
import torch

from scripts.make_shapes import main as make_shapes
from tests.models.stable_diffusion.tiny_base import write_base

ROOT = Path(__file__).parents[3]
TINY = {
    "object": {"word": "car"},
    "prompts": ["{view}. A photo of a {object}"],
}


@pytest.fixture(scope="session", autouse=True)
def one_thread():
    pytest.importorskip("diffusers")
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def base_folder(tmp_path_factory, one_thread):
    return write_base(tmp_path_factory.mktemp("base"), mid_block=True)


@pytest.fixture(scope="session")
def cars(tmp_path_factory, one_thread):
    """Sets of one car and of two."""
    found = {}
    for count in (1, 2):
        root = tmp_path_factory.mktemp(f"cars{count}")
        sizes = ["--objects", str(count), "--val", "1", "--views", "6", "--size", "16", "--workers", "1"]
        assert make_shapes(["--root", str(root), *sizes]) == 0
        found[count] = root
    return found


@pytest.fixture
def arguments(base_folder, cars, tmp_path):
    """Of train.py, for a mode at a tiny size."""

    def of(mode: str, **changes) -> list[str]:
        prompt = "a photo of a {object}" if mode == "object_only" else TINY["prompts"][0]
        keys = {
            "runs": str(tmp_path / "runs"),
            "model.base.path": str(base_folder),
            "model.object.word": "car",
            "model.prompts": json.dumps([prompt]),
            "data.root": str(cars[2 if mode == "multi_scene" else 1]),
            "data.image_size": 16,
            "data.targets": 2,
            "train.steps": 2,
            "train.device": "cpu",
            "train.preflight": "false",
            "train.accumulate": 1,
            "train.save_every": 2,
            "sample.steps": 3,
        }
        keys |= {key.replace("__", "."): value for key, value in changes.items()}
        config = ROOT / "config" / f"viewneti_{mode}.json"
        return [str(config), *(f"{key}={value}" for key, value in keys.items() if value is not None)]

    return of
