"""models/checkpoints/k_diffusion.py: k-diffusion's own checkpoints as the beginning of a model of ours."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from config.run import OptimConfig, validate_config
from diffusion.k_diffusion import k_diffusion
from models.base import NVSModel
from models.checkpoints.loading import load_model, open_checkpoint
from models.training.ema import EMA
from models.training.optimizer import make_optimizer
from models.training.run_directory import RunFolder
from tests.scenes import TINY_MODEL, run_document, tiny_model

OURS = "denoiser.inner_model."


@pytest.fixture(scope="module")
def networks() -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """An unconditional network of k-diffusion's of the tiniest denoiser's size, and its average."""
    size = TINY_MODEL["denoiser"]
    torch.manual_seed(12)
    states = []
    for _ in range(2):
        network = k_diffusion().models.ImageDenoiserModelV1(
            3, size["mapping_width"], size["depths"], size["channels"], size["self_attention"]
        )
        states.append({name: value + 0.01 for name, value in network.state_dict().items()})
    return states[0], states[1]


def begun(path: Path, tmp_path: Path, **changes: Any) -> tuple[NVSModel, dict[str, Tensor], str]:
    """A model that began with the file, what it was before, and what the user is told."""
    config = validate_config(run_document("data", tmp_path, transfer=str(path), **changes), "test")
    model = tiny_model()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    ema = EMA(model, 0.9)
    step, report = RunFolder(config).start(model, ema, make_optimizer(model, OptimConfig()))
    assert step == 0
    assert all(torch.equal(ema.shadow[name], value) for name, value in model.named_parameters())
    return model, before, report


def assert_begun_with(model: NVSModel, before: dict[str, Tensor], given: dict[str, Tensor]) -> None:
    after = model.state_dict()
    for name, value in after.items():
        if not name.startswith(OURS):
            assert torch.equal(value, before[name]), name
    for name, value in given.items():
        own = after[OURS + name]
        assert torch.equal(own[tuple(slice(length) for length in value.shape)], value), name
    assert after[f"{OURS}proj_in.weight"].shape[1] == 3 + 4  # condition
    assert not after[f"{OURS}proj_in.weight"][:, 3:].any()


def prefixed(state: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {prefix + name: value for name, value in state.items()}


@pytest.mark.parametrize("prefix", ["", "inner_model.", "module.inner_model.inner_model."])
def test_a_training_checkpoint_gives_its_average_and_the_rest_stays(networks, tmp_path, prefix):
    raw, average = networks
    path = tmp_path / "kdiff.pth"
    config = {"model": {"type": "image_v1", "sigma_data": 0.25}, "dataset": {}}
    content = {"model": prefixed(raw, prefix), "model_ema": prefixed(average, prefix), "opt": {"state": {}}}
    torch.save(content | {"config": config, "step": 31, "epoch": 2}, path)
    model, before, report = begun(path, tmp_path)
    assert_begun_with(model, before, average)
    assert "4 condition channels added" in report
    assert "(step 31)" in report
    assert "trained with another model.denoiser.sigma_data (0.25, now 0.5)" in report
    assert report.count("trained with another") == 1


@pytest.mark.parametrize("kind", ["model alone", "bare", "safetensors"])
def test_other_ways_to_keep_a_network_are_known(networks, tmp_path, kind):
    raw, _ = networks
    path = tmp_path / ("net.safetensors" if kind == "safetensors" else "net.pth")
    if kind == "safetensors":
        save_file(raw, path, {"config": json.dumps({"model": {"sigma_data": 0.5}})})
    else:
        torch.save({"model": raw} if kind == "model alone" else raw, path)
    model, before, report = begun(path, tmp_path)
    assert_begun_with(model, before, raw)
    assert "trained with another" not in report  # the same sigma_data, or none known


def test_a_denoiser_alone_cannot_draw_views(networks, tmp_path):
    path = tmp_path / "net.pth"
    torch.save({"model_ema": networks[1]}, path)
    with pytest.raises(ValueError, match="denoiser alone") as caught:
        load_model(path)
    assert "\n" not in str(caught.value)
    assert f"train.py CONFIG transfer={path}" in str(caught.value)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("proj_in.weight", torch.zeros(32, 3, 1, 1, dtype=torch.float64)),
        ("proj_in.weight", torch.zeros(32)),
        ("proj_out.bias", None),
        ("mapping.0.bias", "text"),
        ("mapping.0.bias", torch.zeros(1).expand(10**12)),
    ],
    ids=str,
)
def test_an_entry_that_makes_no_sense_is_named(networks, tmp_path, name, value):
    path = tmp_path / "net.pth"
    state = networks[0] | {name: value}
    torch.save(state if value is not None else {k: v for k, v in state.items() if k != name}, path)
    with pytest.raises(ValueError, match=rf"net\.pth: '{name}' ") as caught:
        open_checkpoint(path)
    assert "\n" not in str(caught.value)


def test_safetensors_of_something_else_stay_refused(tmp_path):
    path = tmp_path / "bert.safetensors"
    for metadata in (None, {"config": "{"}, {"config": "[1]"}):
        save_file({"layer.weight": torch.zeros(3)}, path, metadata)
        with pytest.raises(ValueError, match="no checkpoint of this project"):
            open_checkpoint(path)
