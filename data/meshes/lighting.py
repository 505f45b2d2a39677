"""How bright a matt surface looks: functions of its unit normal, nothing else.

Lights are fixed to the object, so that a place has one colour from wherever it is seen; nothing shines.
"""

import numpy as np
from jaxtyping import Float
from numpy import ndarray

# Directions towards lights, with their shares.
_SOFT_LIGHTS = ((np.array([-0.30, -0.45, 0.84]), 0.30), (np.array([0.75, 0.60, 0.28]), 0.16))
_SUNS = (
    (np.array([-0.70, -0.30, 0.65]), 0.29),
    (np.array([0.25, -0.80, 0.55]), 0.20),
    (np.array([0.50, 0.70, 0.50]), 0.12),
)
_AMBIENT = 0.58  # beside the suns


def soft_lights(normals: Float[ndarray, "f 3"]) -> Float[ndarray, "f"]:
    """Share of its colour that a surface shows, 0.54 to 1: ambient and two lights that reach round edges."""
    ambient = 1 - sum(share for _, share in _SOFT_LIGHTS)
    lights = ((light / np.linalg.norm(light), share) for light, share in _SOFT_LIGHTS)
    return ambient + sum((0.5 + 0.5 * normals @ light) * share for light, share in lights)


def three_suns(normals: Float[ndarray, "f 3"]) -> Float[ndarray, "f"]:
    """Share of its colour that a surface shows, 0.58 to 1: ambient and three suns (Lambert's cosine)."""
    suns = ((sun / np.linalg.norm(sun), share) for sun, share in _SUNS)
    return _AMBIENT + sum(np.maximum(normals @ sun, 0) * share for sun, share in suns)
