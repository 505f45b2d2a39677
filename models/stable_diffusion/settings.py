"""What a ControlNet on rendered features is made of, how it learns, and how it samples."""

from typing import Literal, TypeVar

from pydantic import BaseModel, Field, model_validator

from data.schedule import NonNegative, Probability
from diffusion.samplers import SAMPLERS, SampleOptions
from models.stable_diffusion.denoiser import Guidance
from models.stable_diffusion.frozen_base import BaseConfig
from models.stable_diffusion.noise_table import Levels
from models.stable_diffusion.planner import Neighbours, Plan
from models.volumes.losses import VolumeLossConfig
from models.volumes.volume_model import VolumeConfig

OFFSET = 0.1  # standard deviation of the noise that moves a whole channel
SNR_GAMMA = 10.0
SMALLEST_SIGMA, LARGEST_SIGMA = 0.0291, 14.6147  # just outside Stable Diffusion's table


class LatentLossConfig(VolumeLossConfig, frozen=True):
    """Volume losses plus the denoising loss."""

    diffusion: NonNegative = Field(1.0, description="denoising of the views' latents")


class ControlConfig(BaseModel, frozen=True, extra="forbid"):
    """The ControlNet, or a smaller network in its place."""

    t2i_adapter: bool = Field(
        False,
        description="a T2I-Adapter, which sees the condition alone, in place of the ControlNet",
    )
    widths: tuple[int, ...] | None = Field(
        None,
        description="channels of the encoder of the condition, which halves the picture between any two; "
        "null: those of the U-Net's levels",
    )
    mid_residual: bool = Field(
        False, description="also add to the deepest features; the published networks do not"
    )
    photo: bool = Field(
        False,
        description="also show a ControlNet the latents of the first source photo beside the noisy ones, as "
        "Zero-1-to-3 (Liu et al. 2023, arXiv:2303.11328) does; they have no effect before training",
    )
    checkpointing: bool = Field(
        False, description="compute activations again in the backward pass: less memory, more time"
    )

    @model_validator(mode="after")
    def _settings_are_of_its_kind(self) -> "ControlConfig":
        if self.t2i_adapter and (self.widths is not None or self.mid_residual or self.photo):
            raise ValueError("a t2i_adapter has no widths, no mid_residual and no photo; leave them out")
        return self


class ControlledConfig(VolumeConfig, frozen=True):
    """The volumes, the frozen base, and the ControlNet between them."""

    base: BaseConfig = BaseConfig()
    control: ControlConfig = ControlConfig()
    loss: LatentLossConfig = LatentLossConfig()
    condition: Literal["rendering", "blurred_target"] = Field(
        "rendering",
        description="what the ControlNet is trained on: the rendered features, or a blurred copy of the "
        "target, without volumes (first stage of the published training); views are drawn by the former",
    )
    prompt: str = Field("a car", description="text for every view")
    drop_condition_prob: Probability = Field(
        0.1, description="probability of training a view on noise in place of its condition, as class 1"
    )
    noise_offset: float = Field(
        OFFSET, ge=0, description="standard deviation of the noise that moves a whole channel of latents"
    )
    snr_gamma: float | None = Field(
        SNR_GAMMA,
        gt=0,
        description="limit of the signal-to-noise ratio in the loss's weights; null: weight 1",
    )

    @model_validator(mode="after")
    def _condition_has_its_losses(self) -> "ControlledConfig":
        others = sorted(set(self.loss.terms) - {"diffusion"})
        if self.condition == "blurred_target" and others:
            raise ValueError(f"condition blurred_target trains without volumes; set loss.{others[0]} to 0")
        return self


class ControlledSampleOptions(SampleOptions, frozen=True):
    """How to sample. Noise levels outside the base's table are moved to its ends."""

    sampler: str = Field("euler", json_schema_extra={"flag": "--sampler"})
    steps: int = Field(50, ge=2, le=10_000, json_schema_extra={"flag": "--steps"})
    sigma_min: float = Field(SMALLEST_SIGMA, gt=0)
    sigma_max: float = Field(LARGEST_SIGMA, gt=0)
    levels: Levels = Field(
        "karras",
        description="noise levels of the steps: karras, or linear_t, evenly spaced in the base's time",
        json_schema_extra={"flag": "--levels"},
    )
    churn: float | None = Field(
        None,
        ge=0,
        description="strength of the noise added before each step, in the published unit of 40/256; "
        "null: 1 if stochastic, else 0",
        json_schema_extra={"flag": "--churn"},
    )
    guidance: float = Field(2.0, json_schema_extra={"flag": "--guidance"})
    guidance_mode: Guidance = Field(
        "drop_control",
        description="what guidance leads away from: no control and no text (drop_control), no text "
        "(text_only), the class without condition (class_null), or both (three_way); none: off",
        json_schema_extra={"flag": "--guidance-mode"},
    )
    second_guidance: float = Field(1.0, description="weight of the condition itself, in three_way")

    @model_validator(mode="after")
    def _options_agree(self) -> "ControlledSampleOptions":
        """In place of the base class's check: here unconditional samples may be guided, by class 1."""
        if self.sigma_min >= self.sigma_max:
            raise ValueError(f"sigma_min {self.sigma_min} must be below sigma_max {self.sigma_max}")
        source = SAMPLERS[self.sampler]
        if (self.churn and source != "churn") or (self.stochastic and source == "none"):
            able = ", ".join(name for name, kind in SAMPLERS.items() if kind == "churn")
            raise ValueError(
                f"sampler {self.sampler} cannot be churned or stochastic; switch that off or choose {able}"
            )
        return self

    @property
    def strength(self) -> float:
        """Of the churn, in the published unit."""
        return float(self.stochastic) if self.churn is None else self.churn


Options = TypeVar("Options", bound=ControlledSampleOptions)


class JointSampleOptions(ControlledSampleOptions, frozen=True):
    """How to sample views that look at each other, any number of them."""

    plan: Plan = Field(
        "chunked",
        description="which views are drawn together: all; chunks, each beside finished views (chunked); one "
        "by one beside finished views (autoregressive); or groups that ignore each other (groups)",
        json_schema_extra={"flag": "--plan"},
    )
    chunk: int | None = Field(
        None,
        ge=1,
        description="views of a chunk or group; null: 8, and 2 if unconditional",
        json_schema_extra={"flag": "--chunk"},
    )
    chunk_context: Neighbours = Field(
        "input+previous",
        description="finished views that a chunk looks at: the photos, the chunk before, or both",
        json_schema_extra={"flag": "--chunk-context"},
    )
    most_views: int = Field(
        32, ge=2, description="largest number of views, new and finished, that may be drawn together"
    )


def as_options(options: SampleOptions, kind: type[Options]) -> Options:
    """Options of this kind: what other ones set is kept, the rest has its defaults."""
    if isinstance(options, kind):
        return options
    known = options.model_fields_set & set(kind.model_fields)
    return kind(**{name: getattr(options, name) for name in known})
