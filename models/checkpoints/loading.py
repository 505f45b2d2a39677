"""A trained model ready for use, from what a run left on disk."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import torch
from pydantic import BaseModel, ValidationError
from safetensors import SafetensorError, safe_open

from config.families import DEFAULT, family
from config.legacy import migrate_config
from config.run import RunConfig, load_config, validate_config
from data.config import DataConfig
from models.base import NVSModel
from models.checkpoints.format import FORMAT, Checkpoint, find_checkpoint, load_checkpoint, load_weights
from models.checkpoints.k_diffusion import plain_denoiser
from models.checkpoints.published import has_published_names, unpack
from models.checkpoints.torch_file import is_torch_file, read_torch_file, without_prefixes
from models.device import choose_device, place

# How a model must be set to compute what the published code computes from the same weights.
PUBLISHED_CONFIG = Path(__file__).parents[2] / "config" / "srn_cars_128_published.json"


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
    checkpoint = replace(checkpoint, config=migrate_config(checkpoint.config))
    config = on_any_machine(_model_config(checkpoint))
    model = ready_model(
        checkpoint,
        config,
        options=_checked(family(config.family).SampleConfig, checkpoint, "sample"),
        data=_checked(DataConfig, checkpoint, "data"),
    )
    return place(model, there)


def ready_model(
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
    """The model of a config on no device: a config, from the file `path`, that asks for more than the file
    holds is found out before memory is spent on it.

    Raises ValueError where there is no such model.
    """
    try:
        with torch.device("meta"):
            return family(config.family)(config, init_weights=False)
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
    name = document.get("family", DEFAULT) if isinstance(document, dict) else "genvs"
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


def load_model(run_or_checkpoint: str | Path) -> tuple[NVSModel, RunConfig, int]:
    """A trained model, ready to sample on the CPU, with its run's config and the number of updates it has
    seen.

    Weights are the averaged ones. Raises ValueError where the checkpoint cannot be read or does not hold what
    its config describes.
    """
    path = find_checkpoint(run_or_checkpoint)
    checkpoint = open_checkpoint(path)
    if checkpoint.partial:
        raise ValueError(
            f"{path}: holds a denoiser alone, without volumes; train a model that begins with it: "
            f"train.py CONFIG transfer={path}"
        )
    config = validate_config(checkpoint.config, str(path))
    config = config.model_copy(update={"model": on_any_machine(config.model)})
    model = ready_model(checkpoint, config.model, options=config.sample, data=config.data)
    return model, config, checkpoint.step


def open_checkpoint(
    path: Path, *, sections: tuple[str, ...] = ("model", "ema"), config: RunConfig | None = None
) -> Checkpoint:
    """The checkpoint in a file of any kind, on the CPU.

    `config` is that of published weights, which come without one: config/srn_cars_128_published.json where it
    is None. Raises ValueError where it is no checkpoint, is damaged, could run code, or holds published
    weights of another model than that.
    """
    is_torch = is_torch_file(path)
    content = read_torch_file(path) if is_torch else _foreign_safetensors(path)
    plain = plain_denoiser(path, content)
    if plain is not None:
        return plain
    if not is_torch:
        if content is None or not has_published_names(without_prefixes(path, content["model"])):
            return load_checkpoint(path, sections=sections)
        content = content["model"]
    config = load_config(PUBLISHED_CONFIG) if config is None else config
    return unpack(path, content, empty_model(config.model, path), config.model_dump(mode="json"))


def _foreign_safetensors(path: Path) -> dict[str, Any] | None:
    """Tensors and config of a safetensors file that is not ours, as k-diffusion lays out its checkpoints."""
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            if metadata.get("format") == FORMAT:
                return None
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no dict)
            return {"model": tensors, "config": json.loads(metadata.get("config", "null"))}
    except (OSError, SafetensorError, ValueError, RecursionError):
        return None  # reading it as one of ours names what is wrong
