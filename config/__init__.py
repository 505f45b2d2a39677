"""What a run is: a JSON file, what it extends, and `key=value` changes, checked to the last key.

Order of precedence: defaults < the file's "extends" < the file < key=value.
"""

import json
import re
from copy import deepcopy
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, Field, SerializeAsAny, ValidationError, field_validator, model_validator

from config.problems import first_problem
from data.config import DataConfig
from diffusion.samplers import SampleOptions
from models import family
from models.older import renewed
from models.optim import OptimConfig


class TrainConfig(BaseModel, frozen=True, extra="forbid"):
    """The training loop. Steps are updates of the weights."""

    steps: int = Field(100_000, ge=0, description="updates in all; a longer run continues a shorter one")
    batch: int = Field(4, ge=1, description="scenes in one forward pass of one process")
    accumulate: int = Field(1, ge=1, description="forward passes of an update")
    log_every: int = Field(10, ge=1, description="steps between lines of log.jsonl")
    save_every: int = Field(1000, ge=1, description="steps between checkpoints")
    keep: int = Field(3, ge=1, description="checkpoints kept; older ones are deleted")
    preview_every: int = Field(1000, ge=0, description="steps between pictures of held-out views; 0 = never")
    previews: int = Field(4, ge=1, le=64, description="held-out objects in a picture")
    precision: Literal["auto", "float32", "bfloat16"] = Field(
        "auto",
        description="of the networks; auto is bfloat16 on GPUs and CPUs that multiply in it, else float32",
    )
    compile: bool = Field(
        False, description="compile the networks: the first steps take minutes, the others less than without"
    )
    preflight: bool = Field(
        True,
        description="first try three steps, a preview and a checkpoint, and say what the run costs",
    )
    device: str = Field("auto", description="cuda, cuda:N or cpu; auto takes a GPU where there is one")
    wandb: Literal["on", "offline", "off"] = Field("off", description="tracking by Weights & Biases")


class RunConfig(BaseModel, frozen=True, extra="forbid", coerce_numbers_to_str=True):
    """Everything that determines a run."""

    name: str = Field(description="the run lives in RUNS/NAME")
    runs: str = Field("runs", description="folder of all runs")
    seed: int = Field(0, ge=0, lt=2**63, description="all randomness follows from it")
    transfer: str | None = Field(
        None, description="run, checkpoint or published genvs.pt with the first weights"
    )
    recipe: str | None = Field(None, description="name of the recipe of which the run is a stage; it sets it")
    model: SerializeAsAny[BaseModel]
    data: DataConfig
    optim: OptimConfig = OptimConfig()
    train: TrainConfig = TrainConfig()
    sample: SampleOptions = SampleOptions()

    @model_validator(mode="before")
    @classmethod
    def _in_todays_keys(cls, value: Any) -> Any:
        return renewed(value)

    @field_validator("name", "recipe")
    @classmethod
    def _is_one_folder(cls, name: str | None) -> str | None:
        if name is not None and not re.fullmatch(r"\w[\w.-]*", name):
            raise ValueError("use letters, digits, '_', '-' and '.', beginning with a letter or digit")
        return name

    @field_validator("model", mode="before")
    @classmethod
    def _choose_family(cls, value: Any) -> BaseModel:
        if isinstance(value, BaseModel):
            return value
        if not isinstance(value, dict):
            raise ValueError('must be a section such as {"family": "genvs"}')
        return family(str(value.get("family", "genvs"))).Config.model_validate(value)

    @model_validator(mode="after")
    def _image_size_suits(self) -> "RunConfig":
        family(self.model.family).check_image_size(self.model, self.data.image_size)
        return self

    @property
    def folder(self) -> Path:
        """The run directory."""
        return Path(self.runs) / self.name

    def key(self, key: str) -> str:
        """How the command line names a key of this run alone: of a stage, with the stage."""
        return f"stages.{self.name.partition('_')[2]}.{key}" if self.recipe else key


def load_config(path: str | Path, overrides: list[str] | None = None) -> RunConfig:
    """The config in a JSON file, with `key=value` changes such as "train.steps=10".

    Values are read as JSON, or as plain text where they are none. Raises ValueError naming file, key and
    remedy.
    """
    document = read_document(path, overrides)
    if "stages" in document:
        raise ValueError(
            f"{path}: is a recipe of stages, which train.py alone can run; give the config of one"
        )
    return validate_config(document, str(path))


def read_document(path: str | Path, overrides: list[str] | None = None) -> dict[str, Any]:
    """What a JSON file, those it extends, and `key=value` changes say, before it is checked.

    Raises ValueError where they cannot be read or are not of that form.
    """
    document = _read_with_parents(Path(path), ())
    document.setdefault("name", Path(path).stem)
    for override in overrides or []:
        set_key(document, *split_override(override))
    return document


def split_override(override: str) -> tuple[str, Any]:
    """Key and value of a change "key=value". Raises ValueError where it is none."""
    key, separator, text = override.partition("=")
    if not separator or not key:
        raise ValueError(f"'{override}' is not key=value, such as train.steps=1000")
    return key, _parse(text)


def set_key(document: dict[str, Any], key: str, value: Any) -> None:
    """Change a key, such as "train.steps". Raises ValueError where it leads through something else."""
    *sections, last = key.split(".")
    for section in sections:
        document = document.setdefault(section, {})
        if not isinstance(document, dict):
            raise ValueError(f"{key}: '{section}' is a value, not a section; drop what follows it")
    document[last] = value


def merge(base: dict[str, Any], change: dict[str, Any]) -> dict[str, Any]:
    """A document with the changes of another, section by section; nothing is shared with either."""
    merged = deepcopy(base)
    for key, value in change.items():
        both = isinstance(value, dict) and isinstance(merged.get(key), dict)
        merged[key] = merge(merged[key], value) if both else deepcopy(value)
    return merged


def validate_config(document: dict[str, Any], where: str) -> RunConfig:
    """A checked config from plain JSON data. `where` names its origin in errors.

    Raises ValueError in one line naming the first wrong key, what is wrong and the nearest right one.
    """
    try:
        return RunConfig.model_validate(document)
    except ValidationError as error:
        raise ValueError(f"{where}: {first_problem(error, RunConfig, _family_of(document))}") from error


def _read_with_parents(path: Path, children: tuple[Path, ...]) -> dict[str, Any]:
    if path.resolve() in children:
        raise ValueError(f'{path}: the file extends itself; break the circle of "extends"')
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ValueError(
            f"{path}: cannot be read ({error.strerror}); give the path of a config file"
        ) from error
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path}: is not JSON ({error}); correct the file") from error
    if not isinstance(document, dict):
        raise ValueError(f"{path}: must hold a JSON object of keys and values")
    parent = document.pop("extends", None)
    if parent is None:
        return document
    if not isinstance(parent, str):
        raise ValueError(f'{path}: "extends" must be the name of a file beside this one')
    inherited = _read_with_parents(path.parent / parent, (*children, path.resolve()))
    return merge(_without_other_family(inherited, document), document)


def _without_other_family(inherited: dict[str, Any], document: dict[str, Any]) -> dict[str, Any]:
    """What a document inherits: where its model is of another family, all but the model and its parts' rates,
    which mean nothing to that family."""
    named, other = _family_of(document), _family_of(inherited)
    if named is None or named == other or "model" not in inherited:
        return inherited
    kept = {key: value for key, value in inherited.items() if key != "model"}
    if isinstance(kept.get("optim"), dict):
        kept["optim"] = {key: value for key, value in kept["optim"].items() if key != "lr_scale"}
    return kept


def _family_of(document: dict[str, Any]) -> Any:
    """The family that a document names; None where it leaves that to what it extends."""
    model = document.get("model")
    return model.get("family") if isinstance(model, dict) else None


def _parse(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text
