"""Shading of matte surfaces, as functions of the unit normal.

Lights are fixed to the object and there are no highlights, so that colours do not depend on the view.
"""

import numpy as np
from jaxtyping import Float
from numpy import ndarray

# Directions towards lights, with their weights.
_SOFT_LIGHTS = ((np.array([-0.30, -0.45, 0.84]), 0.30), (np.array([0.75, 0.60, 0.28]), 0.16))
_SUNS = (
    (np.array([-0.70, -0.30, 0.65]), 0.29),
    (np.array([0.25, -0.80, 0.55]), 0.20),
    (np.array([0.50, 0.70, 0.50]), 0.12),
)
_AMBIENT = 0.58  # weight of the ambient light


def soft_lights(normals: Float[ndarray, "f 3"]) -> Float[ndarray, "f"]:
    """Brightness of a surface, 0.54 to 1: ambient and two wrapped lights."""
    ambient = 1 - sum(share for _, share in _SOFT_LIGHTS)
    lights = ((light / np.linalg.norm(light), share) for light, share in _SOFT_LIGHTS)
    return ambient + sum((0.5 + 0.5 * normals @ light) * share for light, share in lights)


def three_suns(normals: Float[ndarray, "f 3"]) -> Float[ndarray, "f"]:
    """Brightness of a surface, 0.58 to 1: ambient and three directional lights (Lambert)."""
    suns = ((sun / np.linalg.norm(sun), share) for sun, share in _SUNS)
    return _AMBIENT + sum(np.maximum(normals @ sun, 0) * share for sun, share in suns)
