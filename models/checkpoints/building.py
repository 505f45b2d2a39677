"""A model from its config: without weights, or with those of a checkpoint and ready for inference."""

from pathlib import Path
from typing import Any, TypeVar

import torch
from pydantic import BaseModel

from config.families import family
from data.config import DataConfig
from data.files import first_line
from models.base import NVSModel
from models.checkpoints.format import Checkpoint, load_weights

Config = TypeVar("Config", bound=BaseModel)


def prepare_for_inference(
    checkpoint: Checkpoint, config: BaseModel, *, options: BaseModel, data: DataConfig
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
    """Build the model of a config, from the file `path`, on the meta device, without using memory.

    Raises ValueError if the config describes no model.
    """
    try:
        with torch.device("meta"):
            return family(config.family)(config, init_weights=False)
    except (ValueError, RuntimeError, TypeError, ArithmeticError) as error:
        raise ValueError(f"{path}: no model can be built from its config ({first_line(error)})") from error


def strip_resource_settings(config: Config) -> Config:
    """Reset keys of a model's config that were chosen for the training machine to their defaults."""
    for setting in family(config.family).resource_settings:
        config = _with_default(config, setting.split(".")[1:])
    return config


def _with_default(section: Any, keys: list[str]) -> Any:
    """Reset one key of a section, which may be in a subsection, to its default."""
    key, *within = keys
    field = type(section).model_fields[key]
    default = field.get_default(call_default_factory=True)
    return section.model_copy(
        update={key: _with_default(getattr(section, key), within) if within else default}
    )
