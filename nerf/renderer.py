"""The volume renderer: from cameras to latent images.

Axes: b scene, t target view, f latent channel, h, w.
"""

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from pydantic import BaseModel, Field, model_validator
from torch import Tensor, nn

from data.cameras.pinhole import Cameras, Rays
from nerf import published, sampling
from nerf.backends import BACKENDS, BackendName, choose_backend, prepared
from nerf.field import FieldConfig, RadianceField
from nerf.published import within_cube
from nerf.sampling import RaySamples, Refinement
from nerf.volume import FrustumVolume

QUADRATURES = {"cells": sampling, "left_edge": published}


class RendererConfig(BaseModel, frozen=True, extra="forbid", allow_inf_nan=False):
    """Resolution and sampling of the volume renderer."""

    size: int = Field(64, ge=1, le=2048, description="height and width of the latent image in rays")
    latent_channels: int = Field(
        16, ge=3, description="channels of the latent image; the first three are RGB"
    )
    coarse: int = Field(64, ge=1, le=4096, description="evenly spaced samples per ray")
    fine: int = Field(64, ge=0, le=4096, description="additional importance samples per ray; 0 = none")
    quadrature: Literal["cells", "left_edge"] = Field(
        "cells",
        description="a sample is the midpoint of its interval, or its left edge (published)",
    )
    bounds: Literal["camera", "cube"] = Field(
        "camera",
        description="rays span near to far of their camera, or the cube from -1 to 1 (published)",
    )
    nearest: float = Field(
        0.5, ge=0, description="smallest distance at which rays start, in scene units; with bounds = cube"
    )
    field: FieldConfig = FieldConfig()
    backend: BackendName = Field(
        "auto",
        description="implementation: fused for GPUs with Triton, blocked for CPUs, reference for any device, "
        "the only one with camera gradients; auto is the fastest available",
    )

    @model_validator(mode="after")
    def _importance_has_cells(self) -> "RendererConfig":
        fewest = published.FEWEST_FOR_IMPORTANCE
        if self.quadrature == "left_edge" and self.fine and self.coarse < fewest:
            raise ValueError(
                f"coarse: {self.coarse} samples leave no cells for the fine ones of quadrature left_edge; "
                f"use at least {fewest}, or fine=0"
            )
        return self


@dataclass(frozen=True)
class LatentImages:
    """A rendering arranged as images."""

    latent: Float[Tensor, "b t f h w"]  # 0 to 1, on a white background
    depth: Float[Tensor, "b t 1 h w"]  # weighted by opacity
    opacity: Float[Tensor, "b t 1 h w"]  # 0 to 1


def surfaces(
    rendering: LatentImages, cameras: Cameras, size: tuple[int, int]
) -> tuple[Float[Tensor, "b t 1 k l"], Float[Tensor, "b t 1 k l"]]:
    """Return depth, composited over the far plane of `cameras` [b, t], and opacity, resized to `size`."""
    far = cameras.far[:, :, None, None, None]
    maps = torch.cat([rendering.depth + (1 - rendering.opacity) * far, rendering.opacity], dim=2)
    grown = F.interpolate(maps.flatten(0, 1), size=size, mode="bilinear").unflatten(0, maps.shape[:2])
    return grown[:, :, :1], grown[:, :, 1:]


@dataclass(frozen=True)
class Jitter:
    """Random positions (0 to 1) of the samples within their cells, for training."""

    coarse: Float[Tensor, "b r n"]
    fine: Float[Tensor, "b r m"]


class VolumeRenderer(nn.Module):
    """Render feature volumes of any number of source views. Computes in float32, also under autocast; on
    GPUs, volumes are read in their own precision.
    """

    def __init__(self, config: RendererConfig, *, channels: int):
        super().__init__()
        self.config = config
        self.field = RadianceField(config.field, channels=channels, latent_channels=config.latent_channels)

    def forward(
        self,
        volume: FrustumVolume,
        cameras: Cameras,
        jitter: Jitter | None = None,
        *,
        size: tuple[int, int] | None = None,
    ) -> LatentImages:
        """Render latent images from `cameras` [b, t], at the config's size or another (height, width).

        Deterministic without `jitter`.
        """
        size = size or (self.config.size, self.config.size)
        with torch.autocast(volume.features.device.type, enabled=False):
            backend = self.backend
            volume = prepared(backend, volume)
            rays = self.rays(cameras, size).apply(lambda tensor: tensor.flatten(1, 2))
            samples, refinement = self._place(rays, jitter)
            rendering = BACKENDS[backend](volume, self.field, rays, samples, refinement)
        shape = (cameras.shape[1], *size)
        return LatentImages(
            rendering.latent.unflatten(1, shape).movedim(-1, 2),
            rendering.depth.unflatten(1, shape)[:, :, None],
            rendering.opacity.unflatten(1, shape)[:, :, None],
        )

    @property
    def backend(self) -> BackendName:
        """The backend for the device of the weights. Raises ValueError if the requested one cannot run."""
        hidden = self.field.hidden
        widest = max(hidden.in_features, self.config.latent_channels)
        return choose_backend(self.config.backend, hidden.weight.device, widest=widest)

    @property
    def notice(self) -> str | None:
        """Message about the backend chosen by "auto". Raises ValueError as `backend` does."""
        chosen = self.backend
        if self.config.backend != "auto":
            return None
        return f"model.renderer.backend auto: {chosen} on {self.field.hidden.weight.device.type}"

    def rays(self, cameras: Cameras, size: tuple[int, int] | None = None) -> Rays:
        """Return the rays of `cameras` [b, t], in row-major order, clipped to the rendered bounds, at the
        config's size or another (height, width).
        """
        rays = cameras.rays(*(size or (self.config.size, self.config.size)))
        return within_cube(rays, self.config.nearest) if self.config.bounds == "cube" else rays

    def _place(self, rays: Rays, jitter: Jitter | None) -> tuple[RaySamples, Refinement | None]:
        """Return the evenly spaced samples, and the importance sampling of more."""
        quadrature = QUADRATURES[self.config.quadrature]
        samples = quadrature.uniform(rays, self.config.coarse, jitter.coarse if jitter else None)
        if self.config.fine == 0:
            return samples, None
        return samples, Refinement(quadrature, self.config.fine, jitter.fine if jitter else None)
