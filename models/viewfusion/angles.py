"""The pose of a target as the network's input: angles only, without the source cameras.

The published model uses the index of the view among the 24 of a turn, as an angle from 0 to 2 pi. It follows
from the camera position: azimuth = offset + direction * angle about the world's z axis.
"""

import math
from collections.abc import Sequence
from typing import Literal

import torch
from jaxtyping import Float
from pydantic import BaseModel, Field, model_validator
from torch import Tensor

from data.cameras.pinhole import Cameras
from models.viewfusion.network import sinusoids

HARMONICS = 4
SLACK = 1e-3  # radians below 0 that are not taken for almost 2 pi: rounding, where an angle is 0
TURN = 2 * math.pi
SAME_ANGLE = math.radians(0.5)  # tolerance for views that a data set's objects share
SAME_ELEVATION = math.radians(2.0)


class AngleConfig(BaseModel, frozen=True, extra="forbid", allow_inf_nan=False):
    """How the network is given the angle of a target."""

    encoding: Literal["radians", "harmonics"] = Field(
        "radians",
        description="radians: sinusoids of the angle from 0 to 2 pi, which differ at both ends (published); "
        "harmonics: sines and cosines of 1 to 4 times the azimuth, which do not",
    )
    elevation: bool = Field(False, description="harmonics: of the elevation, too")
    relative: bool = Field(
        False, description="azimuth from the first source view; every view is shown beside that one"
    )
    offset_rad: float | None = Field(
        None, description="azimuth of angle 0; null: found in the training data, as is direction"
    )
    direction: Literal[1, -1] | None = Field(
        None, description="1: angles rise from x towards y; -1: they fall"
    )

    @model_validator(mode="after")
    def _elevation_has_harmonics(self) -> "AngleConfig":
        if self.elevation and self.encoding != "harmonics":
            raise ValueError("elevation needs encoding=harmonics; set that, or elevation to false")
        return self

    def num_features(self, noise_features: int) -> int:
        """How many numbers describe an angle."""
        if self.encoding == "radians":
            return noise_features
        return 2 * HARMONICS * (2 if self.elevation else 1)


def azimuth(cameras: Cameras) -> Float[Tensor, "*batch"]:
    """Azimuth of cameras in radians about the world's z axis, from x towards y; -pi to pi."""
    x, y, _ = cameras.positions.float().unbind(-1)
    return torch.atan2(y, x)


def elevation(cameras: Cameras) -> Float[Tensor, "*batch"]:
    """Elevation of cameras in radians above the ground, as seen from the origin."""
    x, y, z = cameras.positions.float().unbind(-1)
    return torch.atan2(z, torch.hypot(x, y))


def view_angle(cameras: Cameras, config: AngleConfig) -> Float[Tensor, "*batch"]:
    """Radians from 0 to 2 pi: in NMR's sets 2 pi / 24 times the number of the view."""
    turned = (config.direction or 1) * (azimuth(cameras) - (config.offset_rad or 0.0))
    return (turned + SLACK) % TURN - SLACK


def angle_features(
    targets: Cameras, first: Cameras | None, config: AngleConfig, noise_features: int
) -> Float[Tensor, "*batch f"]:
    """Angle features of targets [b, t]; `first` [b] are the first source views if relative."""
    angle = view_angle(targets, config)
    if config.relative:
        angle = view_angle(first, config)[..., None] - angle
    if config.encoding == "radians":
        return sinusoids(angle.reshape(-1, 1), noise_features).unflatten(0, angle.shape)
    known = [angle, elevation(targets)] if config.elevation else [angle]
    multiples = torch.arange(1, HARMONICS + 1, device=angle.device)
    phases = torch.cat([value[..., None] * multiples for value in known], dim=-1)
    return torch.cat([phases.sin(), phases.cos()], dim=-1)


def fit_angles(config: AngleConfig, objects: Sequence[Cameras]) -> AngleConfig:
    """Offset and direction that suit all `objects` [v] of a training set.

    If all objects have the same turn, as in NMR, the first view's angle is 0 and the next ones rise;
    otherwise angles are azimuths. Raises ValueError if elevations differ and are not given to the network.
    """
    if not config.elevation:
        heights = torch.cat([elevation(cameras) for cameras in objects])
        if float(heights.max() - heights.min()) > SAME_ELEVATION:
            low, high = (math.degrees(float(end)) for end in (heights.min(), heights.max()))
            raise ValueError(
                f"model.angle.elevation: the data's cameras stand at elevations from {low:.0f} to {high:.0f} "
                "degrees, which the model would not know; set model.angle.encoding=harmonics and "
                "model.angle.elevation=true"
            )
    if config.offset_rad is not None and config.direction is not None:
        return config
    offset, direction = _common_turn([azimuth(cameras) for cameras in objects])
    found = {"offset_rad": offset, "direction": direction}
    given = {name: value for name in found if (value := getattr(config, name)) is not None}
    return config.model_copy(update=found | given)


def _common_turn(azimuths: list[Float[Tensor, "_"]]) -> tuple[float, Literal[1, -1]]:
    """Azimuth of view 0 and direction of the turn that all objects make; 0 and 1 where they make none."""
    first = azimuths[0]
    if len(first) < 2 or any(len(other) != len(first) for other in azimuths):
        return 0.0, 1
    step = math.remainder(float(first[1] - first[0]), TURN)
    direction = 1 if step > 0 else -1
    even = first[0] + direction * torch.arange(len(first)) * TURN / len(first)
    for other in azimuths:
        off = torch.remainder(other - even + math.pi, TURN) - math.pi
        if float(off.abs().max()) > SAME_ANGLE:
            return 0.0, 1
    return round(float(first[0]), 6), direction
