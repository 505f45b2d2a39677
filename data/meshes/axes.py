"""Convert the up and front axes of mesh files to our world axes.

Our worlds are z-up, with the object's front towards -x, like the cars in `data.shapes.cars`.
"""

from dataclasses import replace

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from data.mesh_options import Axis
from data.meshes.mesh import Mesh


def customary_front(up: Axis) -> Axis:
    """Return the usual front axis: z if y is up (glTF), -y if z is up (Blender, CAD)."""
    return "-y" if up in ("z", "-z") else "z"


def file_to_world(up: Axis, front: Axis) -> Float[ndarray, "3 3"]:
    """Return the rotation from a file's axes to ours.

    Raises ValueError if up and front are parallel.
    """
    if up[-1] == front[-1]:
        raise ValueError(f"front is {front} and up is {up}; give two perpendicular axes")
    upward, forward = _unit(up), _unit(front)
    return np.stack([-forward, np.cross(forward, upward), upward])


def upright(mesh: Mesh, up: Axis, front: Axis) -> Mesh:
    """Rotate a mesh from its file's axes to ours. Raises ValueError as `file_to_world` does."""
    return replace(mesh, vertices=mesh.vertices @ file_to_world(up, front).T)


def _unit(axis: Axis) -> Float[ndarray, "3"]:
    return np.eye(3)["xyz".index(axis[-1])] * (-1.0 if axis.startswith("-") else 1.0)
