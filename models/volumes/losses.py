"""Losses on the colour and shape of the volumes, in addition to the denoising loss.

Axes: b scene, s source view, t target view, f latent channel, h, w.
"""

from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from pydantic import BaseModel, Field, model_validator
from torch import Tensor

from data.cameras.pinhole import Cameras
from data.scenes.batch import Geometry
from data.schedule import NonNegative, largest, value_at
from nerf.renderer import LatentImages

EPSILON = 1e-6  # opacity below which a ray has no surface


class VolumeLossConfig(BaseModel, frozen=True, extra="forbid", allow_inf_nan=False):
    """Weight of each term, a number or a ramp; 0 omits it.

    A term whose ramp reaches 0 is still computed there, so that its parameters have (zero) gradients, as
    data-parallel training needs.
    """

    rgb: NonNegative = Field(1.0, description="latent channels 0-2 against the target views")
    rgb_source: NonNegative = Field(0.0, description="likewise against the first source view")
    opacity: NonNegative = Field(0.001, description="mean opacity: favours empty space")
    depth: NonNegative = Field(0.0, description="surfaces towards the middle of the working volume")
    depth_along: Literal["axis", "ray"] = Field(
        "axis", description="depth measure of `depth`: along the optical axis, or along the ray (published)"
    )
    depth_supervised: NonNegative = Field(
        0.0, description="surface depth against the data set's depth; needs depth"
    )
    opacity_supervised: NonNegative = Field(
        0.0, description="opacity against the data set's alpha, or its depth mask"
    )
    depth_consistency: NonNegative = Field(
        0.0, description="depth consistency between volumes of different sources"
    )
    opacity_consistency: NonNegative = Field(
        0.0, description="opacity consistency between volumes of different sources"
    )

    @model_validator(mode="after")
    def _something_is_learnt(self) -> "VolumeLossConfig":
        if not self.terms:
            raise ValueError("every weight is 0, so nothing would be learned; raise one of them")
        return self

    @property
    def terms(self) -> tuple[str, ...]:
        """Return the terms with nonzero weight at any time of the run."""
        weights = [(name, weight) for name, weight in self if name != "depth_along"]
        return tuple(name for name, weight in weights if largest(weight) > 0)

    def weights_at(self, progress: float) -> dict[str, float]:
        """Return the current weight of each of the `terms`, at a progress from 0 to 1."""
        return {name: value_at(getattr(self, name), progress) for name in self.terms}


def rgb(latent: Float[Tensor, "b t f h w"], images: Float[Tensor, "b t 3 h w"]) -> Float[Tensor, ""]:
    """Mean squared error of the latent's first three channels against images mapped to [0, 1]."""
    return F.mse_loss(latent[:, :, :3], (images + 1) / 2)


def opacity(rendering: LatentImages) -> Float[Tensor, ""]:
    """Mean opacity."""
    return rendering.opacity.mean()


def depth_prior(
    rendering: LatentImages, cameras: Cameras, *, along: Literal["axis", "ray"] = "axis"
) -> Float[Tensor, ""]:
    """Squared distance (scene units) of surfaces from the middle of the target camera's working volume.

    Measured along the optical axis, or along the ray (published: a sphere around the camera instead of a
    plane).
    """
    middle = (cameras.near + cameras.far)[:, :, None, None, None] / 2
    depth = rendering.depth
    if along == "ray":
        size = depth.shape[-2:]
        depth = depth / cameras.rays(*size).cosine.unflatten(-1, size)[:, :, None]
    surface = depth / (rendering.opacity + EPSILON)
    return (rendering.opacity * (surface - middle).square()).mean()


def depth_supervised(rendering: LatentImages, truth: Geometry) -> Float[Tensor, ""]:
    """Squared error of surface depth (scene units), on pixels fully covered by the object.

    Weighted by opacity, as in `depth_prior`; only pixels with full coverage and valid depth everywhere count.
    The opacity is detached, so that the loss cannot be reduced by lowering it.
    """
    size = rendering.depth.shape[-2:]
    alpha = _shrink(truth.alpha, size)
    known = _shrink((truth.depth > 0).to(alpha), size)
    whole = ((alpha > 1 - EPSILON) & (known > 1 - EPSILON)).to(alpha)
    surface = rendering.depth[:, :, 0] / (rendering.opacity[:, :, 0] + EPSILON)
    true = _shrink(truth.depth * truth.alpha, size) / alpha.clamp_min(EPSILON)
    return (whole * rendering.opacity[:, :, 0].detach() * (surface - true).square()).mean()


def opacity_supervised(rendering: LatentImages, truth: Geometry) -> Float[Tensor, ""]:
    """Mean squared error of the opacity against the pixel coverage."""
    return F.mse_loss(rendering.opacity[:, :, 0], _shrink(truth.alpha, rendering.opacity.shape[-2:]))


def _shrink(values: Float[Tensor, "b t h w"], size: tuple[int, int]) -> Float[Tensor, "b t k l"]:
    """Average over the cells of a coarser grid."""
    return F.interpolate(values, size, mode="area")


def consistency(
    depth: Float[Tensor, "b s t 1 h w"], opacity: Float[Tensor, "b s t 1 h w"], valid: Bool[Tensor, "b s"]
) -> dict[str, Float[Tensor, ""]]:
    """Variance over the sources of opacity, and of the depth of surfaces that all of them see.

    `depth` is weighted by opacity. Scenes with one source count as zero.
    """
    surface = depth / (opacity + EPSILON)
    everywhere = torch.where(valid[:, :, None, None, None, None], opacity, 1.0).amin(dim=1)
    return {
        "depth_consistency": (everywhere * _variance(surface, valid)).mean(),
        "opacity_consistency": _variance(opacity, valid).mean(),
    }


def _variance(values: Tensor, valid: Tensor) -> Tensor:
    """Variance over the valid sources."""
    share = (valid / valid.sum(dim=1, keepdim=True).clamp_min(1))[:, :, None, None, None, None].to(values)
    mean = (share * values).sum(dim=1, keepdim=True)
    return (share * (values - mean).square()).sum(dim=1)
