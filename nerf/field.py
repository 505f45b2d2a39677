"""The radiance field: features of the source views at a point to density and latent colour.

Axes: b scene, s source view, n point, c feature, f latent channel.
"""

import math
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from pydantic import BaseModel, Field
from torch import Tensor, nn

HAZE = math.log(2)  # density per scene unit before training: softplus(0)


class FieldConfig(BaseModel, frozen=True, extra="forbid", allow_inf_nan=False):
    """The field's network and how it pools source views."""

    hidden: int = Field(64, ge=1, le=4096, description="width of the MLP's hidden layer")
    pool: Literal["before", "after"] = Field(
        "before",
        description="average the sources' features before the MLP (the paper), or its outputs after it",
    )
    outside: Literal["clamp", "mask"] = Field(
        "mask",
        description="points outside a source's frustum: clamp to its border, or exclude from the average",
    )
    density_scale: float = Field(
        1.0,
        ge=0.01,
        le=1e6,
        description="density per scene unit if the softplus is 1; larger values learn surfaces faster",
    )


class RadianceField(nn.Module):
    """A small MLP shared by all points (Chan et al. 2023): two layers with a softplus."""

    def __init__(self, config: FieldConfig, *, channels: int, latent_channels: int):
        super().__init__()
        self.config = config
        self.hidden = nn.Linear(channels, config.hidden)
        self.output = nn.Linear(config.hidden, 1 + latent_channels)
        with torch.no_grad():  # start as a haze that lets the whole ray contribute, at any scale
            self.output.bias[0] = math.log(math.expm1(HAZE / config.density_scale))

    def forward(
        self, features: Float[Tensor, "b s n c"], weight: Float[Tensor, "b s n"]
    ) -> tuple[Float[Tensor, "b n"], Float[Tensor, "b n f"]]:
        """Compute density (per scene unit, >= 0) and latent colour (0 to 1) from features of the sources.

        `weight` is the visibility of the point in each source view; if all are zero, so is the density.
        """
        share = weight / weight.sum(dim=1, keepdim=True).clamp_min(1e-12)
        if self.config.pool == "before":
            logits = self._mlp(torch.einsum("bsnc,bsn->bnc", features, share))
        else:
            logits = torch.einsum("bsnf,bsn->bnf", self._mlp(features), share)
        density = self.config.density_scale * F.softplus(logits[..., 0]) * (weight.amax(dim=1) > 0)
        return density, torch.sigmoid(logits[..., 1:])

    def _mlp(self, features: Tensor) -> Tensor:
        return self.output(F.softplus(self.hidden(features)))
