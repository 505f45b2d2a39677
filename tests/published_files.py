"""Files in the published format: of the tiniest model, and of the full size from the list of keys."""

import json
import zlib
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from config.run import RunConfig, validate_config
from models.base import NVSModel
from models.checkpoints.format import Checkpoint
from models.checkpoints.loading import open_checkpoint
from models.checkpoints.published import published_names
from tests.reference import rule
from tests.scenes import run_document, tiny_model

# [key, shape, "parameter" or "buffer"] of every distinct tensor, in the order of the published file.
KEYS: list[tuple[str, list[int], str]] = json.loads(
    (Path(__file__).parent / "reference" / "genvs_state_dict_keys.json").read_text(encoding="utf-8")
)
CUBE = [-1.0, -1.0, -1.0, 1.0, 1.0, 1.0]
KEPT = "ddpm_pipeline.inner_model.inner_model."
DOUBLE = "ddpm_pipeline.model.inner_model.inner_model."
PARTS = ("input_unet.", "nerf.", "ddpm_pipeline.")
STEP, EPOCH = 1234, 7


def with_doubles(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The denoiser again under its other name, in the same memory."""
    return state | {
        DOUBLE + key.removeprefix(KEPT): value for key, value in state.items() if key.startswith(KEPT)
    }


def trained_state(parameters: dict[str, Tensor], *, seed: int = 0) -> dict[str, Any]:
    """AdamW's state after two updates of parameters, given by their keys; one has never had a gradient."""
    torch.manual_seed(seed)
    own = {key: nn.Parameter(value.clone()) for key, value in parameters.items()}
    rates = dict(zip(PARTS, (1e-4, 2e-3, 3e-5), strict=True))
    optimizer = torch.optim.AdamW(
        [
            {"params": [value for key, value in own.items() if key.startswith(part)], "lr": rate}
            for part, rate in rates.items()
        ],
        betas=(0.9, 0.98),
    )
    for _ in range(2):
        for value in list(own.values())[1:]:
            value.grad = torch.randn_like(value)
        optimizer.step()
    return optimizer.state_dict()


def tiny_published(*, with_optimizer: bool = True) -> tuple[dict[str, Any], NVSModel]:
    """What the file of the tiniest model holds, and that model."""
    model = tiny_model()
    names, own = published_names(model), model.state_dict()
    parts = {part: {k: own[name] for k, name in names.items() if k.startswith(part)} for part in PARTS}
    cube = {f"nerf.aabb_{use}": torch.tensor(CUBE) for use in ("train", "infer")}
    state = parts["input_unet."] | cube | parts["nerf."] | parts["ddpm_pipeline."]
    trained = {name for name, _ in model.named_parameters()}
    parameters = {key: state[key] for key, name in names.items() if name in trained}
    return {
        "optim": trained_state(parameters) if with_optimizer else None,
        "model": with_doubles(state),
        "step": STEP,
        "epoch": EPOCH,
    }, model


@cache
def tiny_config() -> RunConfig:
    """The config of the tiniest model."""
    return validate_config(run_document("data", "runs"), "test")


def through_disk(content: Any, tmp_path: Path, **options: Any) -> Checkpoint:
    """What is read from genvs.pt, in `tmp_path`, after the content has been written to it."""
    path = tmp_path / "genvs.pt"
    torch.save(content, path, **options)
    return open_checkpoint(path, config=tiny_config())


def complaint(content: Any, tmp_path: Path) -> str:
    """What is said against a file with that content."""
    with pytest.raises(ValueError) as caught:  # noqa: PT011 (its text is what the caller looks at)
        through_disk(content, tmp_path)
    message = str(caught.value)
    assert message.startswith(f"{tmp_path / 'genvs.pt'}: ")
    assert "\n" not in message
    assert len(message) < 400
    return message


def assert_same(one: dict[str, Tensor], other: dict[str, Tensor]) -> None:
    """Both have the same tensors, bit for bit."""
    assert one.keys() == other.keys()
    for key, value in one.items():
        assert value.dtype == other[key].dtype == torch.float32
        assert torch.equal(value, other[key]), key


def full_published() -> dict[str, Any]:
    """A file of the full size: 904 entries of 558 tensors. The optimiser knows of small parameters alone."""
    state = {key: _drawn(key, shape) for key, shape, _ in KEYS}
    parameters = [key for key, _, kind in KEYS if kind == "parameter"]
    numbers = [[i for i, key in enumerate(parameters) if key.startswith(part)] for part in PARTS]
    moments = {
        i: {
            "step": torch.tensor(float(i)),
            "exp_avg": rule.randn(f"first.{key}", state[key].shape),
            "exp_avg_sq": rule.rand(f"second.{key}", state[key].shape),
        }
        for i, key in enumerate(parameters)
        if state[key].numel() < 1000
    }
    groups = [
        {"lr": 1e-4 / (1 + i), "betas": (0.9, 0.98), "params": group} for i, group in enumerate(numbers)
    ]
    optim = {"state": moments, "param_groups": groups}
    return {"optim": optim, "model": with_doubles(state), "step": STEP, "epoch": EPOCH}


def _drawn(key: str, shape: list[int]) -> Tensor:
    """By the reference's rule; large tensors by a quicker generator, which also follows from the key."""
    if key.startswith("nerf.aabb_"):
        return torch.tensor(CUBE)
    if key.endswith(".kernel"):
        row = torch.tensor([[1.0, 3.0, 3.0, 1.0]]) / 8
        return row.T @ row * (4 if ".u_blocks." in key else 1)
    if torch.Size(shape).numel() < 100_000:
        return rule.weight(key, shape)
    generator = torch.Generator().manual_seed(zlib.crc32(key.encode()))
    return torch.rand(shape, generator=generator) - 0.5
