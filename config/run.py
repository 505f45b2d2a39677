"""What a run is: a JSON file, what it extends, and `key=value` changes, checked to the last key.

Order of precedence: defaults < the file's "extends" < the file < key=value.
"""

import re
from pathlib import Path
from typing import Any, Literal

from pydantic import (
    BaseModel,
    Field,
    NonNegativeFloat,
    SerializeAsAny,
    ValidationError,
    field_validator,
    model_validator,
)

from config.documents import _family_of, read_document
from config.errors import first_problem
from config.families import DEFAULT, family
from config.legacy import migrate_config
from data.config import DataConfig


class OptimConfig(BaseModel, frozen=True, extra="forbid", allow_inf_nan=False):
    """AdamW, its learning rate, gradient clipping and the average of the weights."""

    lr: float = Field(1e-4, gt=0, description="learning rate")
    lr_scale: dict[str, NonNegativeFloat] = Field(
        {}, description="factor per part of the model, such as {'encoder': 0.5}; 0 freezes"
    )
    betas: tuple[float, float] = Field((0.9, 0.99), description="memory of AdamW's two averages")
    weight_decay: float = Field(0.0, ge=0, description="AdamW's weight decay")
    decay: Literal["all", "matrices"] = Field(
        "all", description="what decays; matrices: weights of layers, but no biases, norms, gains and tokens"
    )
    warmup: int = Field(500, ge=0, description="steps of linear warm-up")
    schedule: Literal["constant", "cosine", "inverse_square_root"] = Field(
        "constant", description="how the learning rate goes on after the warm-up"
    )
    decay_from: float = Field(
        0.0, ge=0, le=1, description="cosine: progress at which the rate begins to fall, until the run's end"
    )
    final: float = Field(0.0, ge=0, le=1, description="cosine: share of the rate at the run's end")
    reference_steps: int | None = Field(
        None, ge=1, description="inverse_square_root: steps at the full rate; null = as many as warmup"
    )
    clip: float = Field(1.0, gt=0, description="largest gradient norm")
    ema: float = Field(0.9999, ge=0, lt=1, description="decay of the average of the weights")

    @model_validator(mode="after")
    def _keys_belong_to_the_schedule(self) -> "OptimConfig":
        if self.schedule != "cosine" and (self.decay_from or self.final):
            raise ValueError(
                f"decay_from and final need schedule=cosine, not {self.schedule}; set that, or both to 0"
            )
        if self.schedule != "inverse_square_root" and self.reference_steps is not None:
            raise ValueError(
                f"reference_steps needs schedule=inverse_square_root, not {self.schedule}; set that, or it "
                "to null"
            )
        return self


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
    sample: SerializeAsAny[BaseModel]

    @model_validator(mode="before")
    @classmethod
    def _in_todays_keys(cls, value: Any) -> Any:
        value = migrate_config(value)
        return {"sample": {}} | value if isinstance(value, dict) else value

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
            raise ValueError(f'must be a section such as {{"family": "{DEFAULT}"}}')
        return family(str(value.get("family", DEFAULT))).Config.model_validate(value)

    @field_validator("sample", mode="before")
    @classmethod
    def _sample_as_the_family_does(cls, value: Any, info: Any) -> Any:
        if isinstance(value, BaseModel) or "model" not in info.data:
            return value
        return family(info.data["model"].family).SampleConfig.model_validate(value)

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


def validate_config(document: dict[str, Any], where: str) -> RunConfig:
    """A checked config from plain JSON data. `where` names its origin in errors.

    Raises ValueError in one line naming the first wrong key, what is wrong and the nearest right one.
    """
    try:
        return RunConfig.model_validate(document)
    except ValidationError as error:
        raise ValueError(f"{where}: {first_problem(error, RunConfig, _family_of(document))}") from error
