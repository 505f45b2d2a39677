"""Checkpoints of the earlier open implementation's ControlNet, `genvs_control`: reading and writing.

Such a file is like `genvs.pt` (models/checkpoints/published.py), with a ControlNet in the place of the
denoiser. It may also hold the frozen Stable Diffusion, which is left out here: a model names its base.
"""

from pathlib import Path
from typing import Any

import torch
from torch import nn

from config.run import RunConfig, load_config
from models.checkpoints.building import empty_model
from models.checkpoints.format import Checkpoint
from models.checkpoints.opened_file import CheckpointFile
from models.checkpoints.published import (
    CONSTANTS,
    CUBE,
    LAYERS,
    envelope_of,
    our_tensors,
    published_names,
    weights_to_pack,
)
from models.checkpoints.torch_file import separate

# The config with which a model computes the same as the published code from the same weights.
PUBLISHED_CONTROL_CONFIG = Path(__file__).parents[2] / "config" / "controlnet_srn_cars_published.json"
PIPELINE = "sd_pipeline."
FROZEN = tuple(f"{PIPELINE}{part}." for part in ("unet", "vae", "text_encoder"))
CONTROL_LAYERS = {ours: theirs for ours, theirs in LAYERS.items() if not ours.startswith("denoiser")} | {
    "control": f"{PIPELINE}controlnet"
}


def is_published_control(file: CheckpointFile) -> bool:
    """Whether any name in a file, without prefixes of wrappers, is one of its Stable Diffusion."""
    return any(name.startswith(PIPELINE) for name in file.names("model"))


def load_published_control(file: CheckpointFile, config: RunConfig | None) -> Checkpoint:
    """Load a published file as a checkpoint of ours; its optimiser is left out, like its frozen weights.

    Such a file has no config; the default is config/controlnet_srn_cars_published.json. Raises ValueError if
    the file has weights of another model, or the base of the config is not there.
    """
    config = load_config(PUBLISHED_CONTROL_CONFIG) if config is None else config
    return unpack_control(file, empty_model(config.model, file.path), config.model_dump(mode="json"))


def unpack_control(file: CheckpointFile, model: nn.Module, config: dict[str, Any]) -> Checkpoint:
    """Convert a published file to a checkpoint of ours of a `model` with that config, as
    `models.checkpoints.published.unpack` does."""
    path, envelope = file.path, envelope_of(file.path, file.content)
    state = file.weights("model")
    trained = {key: state[key] for key in state if not key.startswith(FROZEN)}
    tensors = our_tensors(path, trained, model, CONTROL_LAYERS)
    origin = {"entries": len(state), "epoch": envelope.get("epoch", 0), "param_groups": None}
    return Checkpoint(path, envelope.get("step", 0), config, separate(tensors), origin=origin)


def pack_control(checkpoint: Checkpoint, model: nn.Module, *, raw: bool = False) -> dict[str, Any]:
    """Convert a checkpoint to the published format, for torch.save, without optimiser and frozen weights.

    Weights are the averaged ones, if there are any, unless `raw`. Raises ValueError if the checkpoint is of
    another model or the format cannot represent it.
    """
    apart = weights_to_pack(checkpoint, model, raw=raw)
    constants = {key: torch.tensor(CUBE) for key in CONSTANTS}
    state = {key: apart[name] for key, name in published_names(model, CONTROL_LAYERS).items()}
    return {
        "optim": None,
        "model": constants | state,
        "step": checkpoint.step,
        "epoch": (checkpoint.origin or {}).get("epoch", 0),
    }
