"""Files of an earlier version: a run that goes on as it did then, and a checkpoint that draws the same.

`old_run` was written by the version before modules moved: three steps of a tiny model, the losses of the next
two, weights of another tiny model, and what that drew.
"""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from config.run import load_config
from models import load
from models.training.interruption import StopSignal
from tests.scenes import cameras, views
from train import train

OLD = Path(__file__).parent / "old_run"


@pytest.fixture(scope="module")
def figures() -> dict[str, np.ndarray]:
    return dict(np.load(OLD / "figures.npz"))


def test_a_run_goes_on_as_it_would_have(plant_object, figures, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for number, name in enumerate(("cars_train/a", "cars_train/bb", "cars_val/c")):
        plant_object(tmp_path / "data" / name, num_views=3 + number, size=(16, 16))
    shutil.copytree(OLD, tmp_path / "runs" / "old_run", ignore=shutil.ignore_patterns("figures*", "genvs*"))
    config = load_config("runs/old_run/config.json", ["train.steps=5"])
    assert train(config, StopSignal()) == 5
    lines = [json.loads(line) for line in Path("runs/old_run/log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [1, 2, 3, 4, 5]
    losses = [line["loss"] for line in lines[3:]]
    np.testing.assert_allclose(losses, figures["losses"], rtol=1e-4)


def test_a_checkpoint_draws_what_it_drew(figures):
    model = load(OLD / "genvs_tiny.safetensors", "cpu")
    given = views(1, 2, size=(16, 16), seed=1), cameras(1, 2, seed=6), torch.tensor([[1, 2]])
    with torch.no_grad():
        drawn = model.sample(*given, model.options)
    for name in ("images", "preview", "depth", "opacity"):
        np.testing.assert_allclose(getattr(drawn, name).numpy(), figures[name], atol=2e-4, err_msg=name)
