"""A trained model ready for use, from what a run left on disk."""

from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import torch
from pydantic import BaseModel, ValidationError

from data.config import DataConfig
from diffusion.samplers import SampleOptions
from models import family
from models.base import NVSModel
from models.checkpoint import Checkpoint, find_checkpoint, load_checkpoint, load_weights
from models.device import choose_device, place
from models.older import renewed
from models.torch_file import is_torch_file

Config = TypeVar("Config", bound=BaseModel)


def load_from_disk(run_or_checkpoint: str | Path, device: str) -> NVSModel:
    """What `models.load` does."""
    there, path = choose_device(device), find_checkpoint(run_or_checkpoint)
    if is_torch_file(path):
        raise ValueError(
            f"{path}: is a file of torch.save, such as the published genvs.pt, which has no config; convert "
            f"it: python -m scripts.convert_checkpoint {path} {path.stem}.safetensors"
        )
    checkpoint = load_checkpoint(path, sections=("model", "ema"))
    checkpoint = replace(checkpoint, config=renewed(checkpoint.config))
    model = ready_model(
        checkpoint,
        on_any_machine(_model_config(checkpoint)),
        options=_checked(SampleOptions, checkpoint, "sample"),
        data=_checked(DataConfig, checkpoint, "data"),
    )
    return place(model, there)


def ready_model(
    checkpoint: Checkpoint, config: BaseModel, *, options: SampleOptions, data: DataConfig
) -> NVSModel:
    """The model in a checkpoint, on the CPU, in evaluation mode and without gradients.

    Weights are the averaged ones. `options` and `data` are those of its run. Raises ValueError where the
    checkpoint does not hold what its config describes.
    """
    model = empty_model(config, checkpoint.path)
    load_weights(model, checkpoint.best_weights(), checkpoint.path, assign=True)
    model.options, model.trained_on = options, data
    return model.eval().requires_grad_(False)


def empty_model(config: BaseModel, path: Path) -> NVSModel:
    """The model of a config on no device: a config, from the file `path`, that asks for more than the file
    holds is found out before memory is spent on it.

    Raises ValueError where there is no such model.
    """
    try:
        with torch.device("meta"):
            return family(config.family)(config, fresh=False)
    except (ValueError, RuntimeError, TypeError, ArithmeticError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(f"{path}: no model can be built from its config ({reason})") from error


def on_any_machine(config: Config) -> Config:
    """A model's config without choices that the machine it was trained on suggested."""
    document = config.model_dump(mode="json")
    for setting in family(config.family).resource_settings:
        _, *sections, key = setting.split(".")
        section = document
        for name in sections:
            section = section[name]
        del section[key]
    return type(config).model_validate(document)


def _model_config(checkpoint: Checkpoint) -> BaseModel:
    document = checkpoint.config.get("model", {})
    name = document.get("family", "genvs") if isinstance(document, dict) else "genvs"
    try:
        kind = family(str(name))
    except ValueError as error:
        raise ValueError(f"{checkpoint.path}: {error}") from error
    return _checked(kind.Config, checkpoint, "model")


def _checked(kind: type[Config], checkpoint: Checkpoint, key: str) -> Config:
    """A section of a checkpoint's config. Raises ValueError where it is not as this version has it."""
    try:
        return kind.model_validate(checkpoint.config.get(key, {}))
    except ValidationError as error:
        problem = error.errors(include_url=False)[0]
        where, what = ".".join([key, *map(str, problem["loc"])]), problem["msg"].replace("\n", " ")
        raise ValueError(
            f"{checkpoint.path}: its config does not suit this version ({where}: {what}); use the version "
            "that wrote it"
        ) from error
