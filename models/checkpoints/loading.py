"""Load a trained model from a run or a checkpoint file of any known format."""

from dataclasses import replace
from pathlib import Path

from config.run import RunConfig, validate_config
from models.base import NVSModel
from models.checkpoints import formats
from models.checkpoints.building import prepare_for_inference, strip_resource_settings
from models.checkpoints.format import FORMAT, Checkpoint, find_checkpoint
from models.checkpoints.opened_file import CheckpointFile, opened
from models.device import choose_device, place


def load_from_disk(run_or_checkpoint: str | Path, device: str) -> NVSModel:
    """Load a model to a device; see `models.load`."""
    there = choose_device(device)
    return place(load_model(run_or_checkpoint)[0], there)


def load_model(run_or_checkpoint: str | Path) -> tuple[NVSModel, RunConfig, int]:
    """Load a trained model with averaged weights on the CPU; also returns its config and number of updates.

    Raises ValueError if the checkpoint cannot be read or does not match its config.
    """
    checkpoint = require_whole(open_checkpoint(find_checkpoint(run_or_checkpoint)))
    config = config_of(checkpoint)
    config = config.model_copy(update={"model": strip_resource_settings(config.model)})
    model = prepare_for_inference(checkpoint, config.model, options=config.sample, data=config.data)
    return model, config, checkpoint.step


def open_checkpoint(
    path: Path, *, sections: tuple[str, ...] = ("model", "ema"), config: RunConfig | None = None
) -> Checkpoint:
    """Open a checkpoint of any known format on the CPU, with these `sections` if it is one of ours.

    `config` is for weights without one (default: that of their format). Raises ValueError if the file is of
    no known format, is damaged, could run code, or has unexpected contents.
    """
    with opened(path) as file:
        kind = next((kind for kind in formats.FORMATS if kind.recognises(file)), None)
        if kind is None:
            raise _unknown(file)
        return replace(kind.load(file, formats.Wanted(sections, config)), format=kind.name)


def require_whole(checkpoint: Checkpoint) -> Checkpoint:
    """Return the checkpoint. Raises ValueError if it has only a part of a model."""
    if checkpoint.partial:
        raise ValueError(
            f"{checkpoint.path}: holds a denoiser alone, which draws no views; train a model that "
            f"begins with it: train.py CONFIG transfer={checkpoint.path}"
        )
    return checkpoint


def config_of(checkpoint: Checkpoint) -> RunConfig:
    """The config of a checkpoint's run. Raises ValueError if this version does not support it."""
    where = f"{checkpoint.path}: its config does not suit this version (use the one that wrote it)"
    return validate_config(checkpoint.config, where)


def _unknown(file: CheckpointFile) -> ValueError:
    """The error for a file that no format recognises."""
    others = ", nor ".join(kind.description for kind in formats.FORMATS[1:])
    names = sorted(file.names("model"))
    held = f" (it holds {names[0][:60]!a}, ...)" if names else ""
    return ValueError(
        f"{file.path}: is a {file.kind}, but no checkpoint of this project ('{FORMAT}'), nor {others}{held}; "
        "give a file of one of these"
    )
