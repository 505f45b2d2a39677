"""Cameras as the numbers that a view mapper sees, each scaled to [-1, 1] over the training data.

`matrix_12` is the world-to-image matrix K [R | t], row by row. `spherical` is the polar angle from the
vertical and the azimuth, in degrees; the distance is not seen, nor an angle that is the same everywhere.
Axes: n cameras, c numbers.
"""

import math
from typing import Literal

import torch
from jaxtyping import Float
from pydantic import BaseModel, Field, model_validator
from torch import Tensor

from data.cameras.pinhole import Cameras

Representation = Literal["matrix_12", "spherical"]
NAMES = {"matrix_12": tuple(f"m{row}{column}" for row in range(3) for column in range(4))}
NAMES["spherical"] = ("theta", "phi")


class CameraCode(BaseModel, frozen=True, extra="forbid", allow_inf_nan=False):
    """How cameras are turned into numbers."""

    representation: Representation = Field("matrix_12", description="K [R | t], or two angles")
    rounding: int | None = Field(
        None, ge=0, le=12, description="decimals that numbers are rounded to (published: 4); null: not"
    )
    pixels: tuple[float, float] = Field(
        (1.0, 1.0),
        description="width and height of the image that matrices are for, which matters to rounding "
        "(published: 1600, 1200, of DTU)",
    )
    smallest: tuple[float, ...] | None = Field(
        None, description="smallest value of each number; null: found in the training data"
    )
    largest: tuple[float, ...] | None = Field(None, description="largest value of each; null: the same")

    @model_validator(mode="after")
    def _ranges_fit(self) -> "CameraCode":
        for name in ("smallest", "largest"):
            values = getattr(self, name)
            size = len(NAMES[self.representation])
            if values is not None and len(values) != size:
                raise ValueError(f"{name} has {len(values)} numbers instead of {size}; give all or null")
        if (self.smallest is None) != (self.largest is None):
            raise ValueError("smallest and largest belong together; give both or null")
        return self

    @property
    def seen(self) -> list[int]:
        """Which numbers a mapper sees, once the ranges are known: no angle that never changes."""
        every = range(len(NAMES[self.representation]))
        if self.representation == "matrix_12" or not self.fitted:
            return list(every)
        return [place for place in every if self.largest[place] > self.smallest[place]]

    @property
    def size(self) -> int:
        """How many these are."""
        return len(self.seen)

    @property
    def fitted(self) -> bool:
        """Whether it has ranges."""
        return self.smallest is not None and self.largest is not None

    def fit(self, cameras: list[Cameras]) -> "CameraCode":
        """The same with the ranges over `cameras`."""
        numbers = torch.cat([self._numbers(each).flatten(0, -2) for each in cameras])
        ranges = {"smallest": numbers.min(dim=0).values, "largest": numbers.max(dim=0).values}
        return self.model_copy(update={key: tuple(value.tolist()) for key, value in ranges.items()})

    def __call__(self, cameras: Cameras) -> Float[Tensor, "*batch c"]:
        """The scaled numbers of cameras. The code must have been fitted."""
        numbers = self._numbers(cameras)
        return scale_numbers(rounded(numbers, self.rounding), *self._ranges(numbers))[..., self.seen]

    def _numbers(self, cameras: Cameras) -> Float[Tensor, "*batch c"]:
        """Not scaled yet."""
        numbers = camera_numbers(cameras, self.representation)
        if self.representation == "spherical":
            return numbers
        return (numbers.unflatten(-1, (3, 4)) * numbers.new_tensor([*self.pixels, 1.0])[:, None]).flatten(-2)

    def _ranges(self, like: Tensor) -> tuple[Tensor, Tensor]:
        assert self.fitted, "the code is not fitted"
        return like.new_tensor(self.smallest), like.new_tensor(self.largest)


def camera_numbers(cameras: Cameras, representation: Representation) -> Float[Tensor, "*batch c"]:
    """The numbers of cameras, not scaled."""
    if representation == "spherical":
        x, y, z = cameras.positions.unbind(-1)
        theta = torch.rad2deg(torch.atan2(torch.hypot(x, y), z))
        return torch.stack([theta, torch.rad2deg(torch.atan2(y, x))], dim=-1)
    rotation = cameras.cam_to_world[..., :3, :3].transpose(-1, -2)
    shift = -(rotation @ cameras.positions[..., None])
    return (cameras.intrinsics @ torch.cat([rotation, shift], dim=-1)).flatten(-2)


def rounded(numbers: Float[Tensor, "*batch c"], decimals: int | None) -> Float[Tensor, "*batch c"]:
    """Numbers to so many decimals, as published weights saw them; whole ones stay whole."""
    if decimals is None:
        return numbers
    texts = [f"{value:.{decimals}f}" for value in numbers.flatten().tolist()]
    return numbers.new_tensor([float(text) for text in texts]).reshape(numbers.shape)


def scale_numbers(
    numbers: Float[Tensor, "*batch c"], smallest: Float[Tensor, "c"], largest: Float[Tensor, "c"]
) -> Float[Tensor, "*batch c"]:
    """The range of each number becomes -1 to 1; a number that never changes becomes 0."""
    span = largest - smallest
    constant = span <= math.ulp(1.0) * largest.abs()
    scaled = (numbers - smallest) / torch.where(constant, torch.ones_like(span), span) * 2 - 1
    return torch.where(constant, torch.zeros_like(scaled), scaled)
