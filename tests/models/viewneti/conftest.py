"""A tiny base and two sets of embedded cars, made once."""

import json
from functools import partial
from pathlib import Path

import pytest
import torch

import train
from scripts.make_shapes import main as make_shapes
from tests.models.stable_diffusion.tiny_base import write_base

ROOT = Path(__file__).parents[3]


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


@pytest.fixture(scope="session")
def arguments_in(base_folder, cars):
    """Of train.py, for a mode at a tiny size whose run is in a folder `runs`."""

    def of(mode: str, runs: Path, **changes) -> list[str]:
        prompt = "a photo of a {object}" if mode == "object_only" else "{view}. A photo of a {object}"
        keys = {
            "runs": str(runs),
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
        return [str(config), *(f"{key}={value}" for key, value in keys.items())]

    return of


@pytest.fixture
def arguments(arguments_in, tmp_path):
    """The same, with runs in the test's folder."""
    return partial(arguments_in, runs=tmp_path / "runs")


@pytest.fixture(scope="session")
def several(arguments_in, tmp_path_factory) -> Path:
    """A run that learned two scenes."""
    runs = tmp_path_factory.mktemp("several")
    assert train.main(arguments_in("multi_scene", runs)) == 0
    return runs / "viewneti_multi_scene"
