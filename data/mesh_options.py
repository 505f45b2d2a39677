"""Choices of options for meshes, for command lines that must start quickly."""

from typing import Literal, get_args

Axis = Literal["x", "y", "z", "-x", "-y", "-z"]
AXES: tuple[Axis, ...] = get_args(Axis)
Region = Literal["sphere", "upper", "band"]
REGIONS: tuple[Region, ...] = get_args(Region)
