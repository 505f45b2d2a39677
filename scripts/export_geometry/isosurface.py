"""Isosurfaces by marching cubes (Lewiner et al. 2003), using scikit-image."""

import numpy as np
from jaxtyping import Float, Int
from numpy import ndarray


def isosurface(
    values: Float[ndarray, "nx ny nz"], level: float, *, low: float, spacing: float
) -> tuple[Float[ndarray, "n 3"], Int[ndarray, "f 3"]]:
    """Vertices and faces of the surface on which the nonnegative `values` equal the positive `level`.

    The first value is at (low, low, low), with a grid step of `spacing`. The surface is closed: values
    outside the grid are 0. Faces are counter-clockwise seen from lower values. Raises ValueError if there is
    no surface, or scikit-image is missing.
    """
    try:
        from skimage.measure import marching_cubes
    except ImportError as error:
        raise ValueError("meshes need scikit-image; pip install -r requirements-geometry.txt") from error
    if not np.isfinite(values).all():
        raise ValueError("the volume holds nan or inf; use an earlier checkpoint")
    if values.max() <= level:
        raise ValueError(
            f"there is no surface at level {level:.4g}: the largest value is {values.max():.4g}; lower "
            "--level below that, or train for longer"
        )
    closed = np.pad(values, 1)
    vertices, faces, _, _ = marching_cubes(closed, level, gradient_direction="ascent")
    return (vertices.astype(np.float64) - 1) * spacing + low, faces.astype(np.int64)
