"""The config of a run: a JSON file, what it extends, and `key=value` overrides, strictly validated.

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
from data.scenes.facts import DataFacts


class OptimConfig(BaseModel, frozen=True, extra="forbid", allow_inf_nan=False):
    """AdamW, its learning rate, gradient clipping and EMA of the weights."""

    lr: float = Field(1e-4, gt=0, description="learning rate")
    lr_scale: dict[str, NonNegativeFloat] = Field(
        {}, description="learning rate factor per part of the model, such as {'encoder': 0.5}; 0 freezes it"
    )
    betas: tuple[float, float] = Field((0.9, 0.99), description="decay rates of AdamW's two averages")
    weight_decay: float = Field(0.0, ge=0, description="AdamW's weight decay")
    decay: Literal["all", "matrices"] = Field(
        "all", description="what decays; matrices: weights of layers, but no biases, norms, gains and tokens"
    )
    warmup: int = Field(500, ge=0, description="steps of linear warm-up")
    schedule: Literal["constant", "cosine", "exponential", "inverse_square_root"] = Field(
        "constant", description="how the learning rate goes on after the warm-up"
    )
    decay_from: float = Field(
        0.0, ge=0, le=1, description="cosine: progress at which the decay starts; it ends with the run"
    )
    final: float = Field(
        0.0,
        ge=0,
        le=1,
        description="cosine: share of the rate at the run's end; exponential: after reference_steps",
    )
    reference_steps: int | None = Field(
        None,
        ge=1,
        description="inverse_square_root: steps at the full rate; null = as many as warmup; exponential: "
        "steps after the warm-up in which the rate falls to final",
    )
    clip: float = Field(1.0, gt=0, description="maximum gradient norm")
    ema: float = Field(
        0.9999, ge=0, lt=1, description="decay of the exponential moving average of the weights"
    )

    @model_validator(mode="after")
    def _keys_belong_to_the_schedule(self) -> "OptimConfig":
        if self.schedule == "exponential":
            if self.decay_from or not (self.final and self.reference_steps):
                raise ValueError(
                    "schedule=exponential needs final above 0, reference_steps, and no decay_from; set them"
                )
            return self
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

    steps: int = Field(100_000, ge=0, description="total updates; a longer run continues a shorter one")
    batch: int = Field(4, ge=1, description="scenes per forward pass of one process")
    accumulate: int = Field(1, ge=1, description="forward passes per update")
    log_every: int = Field(10, ge=1, description="steps between lines of log.jsonl")
    save_every: int = Field(1000, ge=1, description="steps between checkpoints")
    keep: int = Field(3, ge=1, description="checkpoints kept; older ones are deleted")
    preview_every: int = Field(1000, ge=0, description="steps between previews of held-out views; 0 = never")
    previews: int = Field(4, ge=1, le=64, description="held-out objects per preview")
    precision: Literal["auto", "float32", "bfloat16"] = Field(
        "auto",
        description="precision of the networks; auto is bfloat16 if the GPU or CPU supports it, else float32",
    )
    compile: bool = Field(
        False, description="torch.compile the networks: the first steps take minutes, later ones are faster"
    )
    preflight: bool = Field(
        True,
        description="first try three steps, a preview and a checkpoint, and estimate the cost of the run",
    )
    device: str = Field("auto", description="cuda, cuda:N or cpu; auto uses a GPU if available")
    wandb: Literal["on", "offline", "off"] = Field("off", description="tracking by Weights & Biases")


class RunConfig(BaseModel, frozen=True, extra="forbid", coerce_numbers_to_str=True):
    """Everything that determines a run."""

    name: str = Field(description="the run directory is RUNS/NAME")
    runs: str = Field("runs", description="folder of all runs")
    seed: int = Field(0, ge=0, lt=2**63, description="seed of all randomness")
    transfer: str | None = Field(
        None, description="run, checkpoint or published genvs.pt with the initial weights"
    )
    recipe: str | None = Field(
        None, description="name of the recipe of which the run is a stage; set by the recipe"
    )
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
        for side in sorted({self.data.image_size, self.data.height}):
            family(self.model.family).check_image_size(self.model, side)
        return self

    @property
    def folder(self) -> Path:
        """The run directory."""
        return Path(self.runs) / self.name

    def fitted(self, facts: DataFacts) -> "RunConfig":
        """The run with what its family takes from the training data (`NVSModel.fit_to_data`)."""
        return self.model_copy(update={"model": family(self.model.family).fit_to_data(self.model, facts)})

    def key(self, key: str) -> str:
        """Return a key's name on the command line, with the stage's prefix for a stage of a recipe."""
        return f"stages.{self.name.partition('_')[2]}.{key}" if self.recipe else key


def load_config(path: str | Path, overrides: list[str] | None = None) -> RunConfig:
    """Load the config in a JSON file, with `key=value` overrides such as "train.steps=10".

    Values are parsed as JSON, else taken as plain text. Raises ValueError naming file, key and remedy.
    """
    document = read_document(path, overrides)
    if "stages" in document:
        raise ValueError(
            f"{path}: is a recipe with stages, which only train.py can run; give the config of a single run"
        )
    return validate_config(document, str(path))


def validate_config(document: dict[str, Any], where: str) -> RunConfig:
    """Validate a config given as plain JSON data. `where` names its origin in errors.

    Raises a one-line ValueError naming the first wrong key, the problem and the most similar key.
    """
    try:
        return RunConfig.model_validate(document)
    except ValidationError as error:
        raise ValueError(f"{where}: {first_problem(error, RunConfig, _family_of(document))}") from error
