"""What an XFactor is made of and how it learns."""

from typing import Literal

from pydantic import BaseModel, Field, model_validator


class NetworkConfig(BaseModel, frozen=True, extra="forbid"):
    """The sizes of both networks; the defaults are the published ones, 305,178,624 parameters."""

    width: int = Field(1024, ge=4, description="features of a token")
    heads: int = Field(16, ge=1, description="attention heads")
    layers: int = Field(8, ge=1, description="layers of each network")
    patch: int = Field(16, ge=1, description="pixels, side of a patch")
    pose_size: int = Field(256, ge=1, description="numbers of a latent pose")
    pose_tokens: int = Field(
        32, ge=1, description="learned tokens of a view that gather its pose, for each half of the patches"
    )
    layer_scale: float = Field(
        0.01, gt=0, description="gain of what a layer adds, at the beginning; few layers learn faster at 1"
    )
    bf16_attention: bool = Field(
        False,
        description="whether attention runs in bfloat16, as published",
    )
    checkpoint: bool = Field(
        False,
        description="compute activations again in the backward pass: less memory, more time",
    )

    @model_validator(mode="after")
    def _heads_fit(self) -> "NetworkConfig":
        if self.width % (4 * self.heads):
            raise ValueError(
                f"width {self.width} is not divisible by 4 * heads ({4 * self.heads}), as rotary positions "
                "in two directions need; change one of them"
            )
        return self


class AugmentationConfig(BaseModel, frozen=True, extra="forbid"):
    """How the frames change that poses are read off; both frames of a pair in the same way."""

    jitter_prob: float = Field(0.9, ge=0, le=1, description="share of pairs whose colours change")
    brightness: float = Field(0.2, ge=0, description="most that is added to colours of 0 to 1")
    contrast: float = Field(0.2, ge=0, lt=1, description="largest change of contrast, as a share")
    saturation: float = Field(0.2, ge=0, lt=1, description="largest change of saturation, as a share")
    hue: float = Field(0.05, ge=0, le=0.5, description="largest turn of the hue, in turns")
    blur_prob: float = Field(0.3, ge=0, le=1, description="share of pairs that are blurred")
    blur_sigma: tuple[float, float] = Field((0.1, 2.0), description="least and most blur, in pixels")


class LossConfig(BaseModel, frozen=True, extra="forbid"):
    """The objective of transferable poses and its weights."""

    l1: float = Field(1.0, ge=0, description="weight of the mean absolute error")
    perceptual: float = Field(0.5, ge=0, description="weight of stLPIPS; 0: not computed")
    swap: bool = Field(True, description="render each half under the pose of the other; false: an ablation")
    unmasked_prob: float = Field(0.05, ge=0, le=1, description="share of scenes whose patches are not halved")
    reference_target_prob: float = Field(
        0.05, ge=0, le=1, description="share of scenes whose target is one of the given frames"
    )


class XFactorConfig(BaseModel, frozen=True, extra="forbid"):
    """Both networks and the objective."""

    family: Literal["xfactor"] = "xfactor"
    network: NetworkConfig = NetworkConfig()
    augmentation: AugmentationConfig = AugmentationConfig()
    loss: LossConfig = LossConfig()
