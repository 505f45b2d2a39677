"""Which way is up, which way is front: from the axes of mesh files to those of our worlds.

Here z is up and an object's front looks towards -x, as that of the cars in `data.shapes.cars` does.
"""

from dataclasses import replace
from typing import Literal, get_args

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from data.meshes.mesh import Mesh

Axis = Literal["x", "y", "z", "-x", "-y", "-z"]
AXES: tuple[Axis, ...] = get_args(Axis)


def customary_front(up: Axis) -> Axis:
    """Where the front is by custom: z where y is up (glTF), -y where z is up (Blender, CAD)."""
    return "-y" if up in ("z", "-z") else "z"


def file_to_world(up: Axis, front: Axis) -> Float[ndarray, "3 3"]:
    """The rotation that brings the axes of a file to ours.

    Raises ValueError if up and front lie along one line.
    """
    if up[-1] == front[-1]:
        raise ValueError(f"front is {front} where up is {up}; give two axes at right angles")
    upward, forward = _unit(up), _unit(front)
    return np.stack([-forward, np.cross(forward, upward), upward])


def upright(mesh: Mesh, up: Axis, front: Axis) -> Mesh:
    """The mesh turned from the axes of its file to ours. Raises ValueError as `file_to_world` does."""
    return replace(mesh, vertices=mesh.vertices @ file_to_world(up, front).T)


def _unit(axis: Axis) -> Float[ndarray, "3"]:
    return np.eye(3)["xyz".index(axis[-1])] * (-1.0 if axis.startswith("-") else 1.0)
