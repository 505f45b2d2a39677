"""Cameras and lamps like those of DTU's robot (Jensen et al. 2014), for rendered objects."""

import math
from collections.abc import Callable

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from data.meshes.ray_casting import look_at_origin

DISTANCE = 2.4  # scene units to the object's centre
ROWS = COLUMNS = 7
FARTHER, FARTHER_VIEWS = 1.2, 15  # the other cameras: their distance as a multiple, and number
AZIMUTH_DEG, ELEVATION_DEG = (-52.0, 58.0), (18.0, 56.0)


def dtu_poses() -> Float[ndarray, "n 4 4"]:
    """Camera-to-world matrices of 64 cameras around the origin (OpenCV axes, world z up, scene units).

    The first 49 go to and fro over a part of a sphere in rows, the others along an arc farther away.
    """
    azimuths = np.linspace(*AZIMUTH_DEG, COLUMNS)
    angles = []
    for row, elevation in enumerate(np.linspace(*ELEVATION_DEG, ROWS)):
        angles += [(azimuth, elevation, 1.0) for azimuth in azimuths[:: -1 if row % 2 else 1]]
    arc = np.linspace(*AZIMUTH_DEG, FARTHER_VIEWS)
    angles += [(azimuth, np.mean(ELEVATION_DEG), FARTHER) for azimuth in arc]
    return np.stack([_pose(*angle) for angle in angles])


def lamp(azimuth_deg: float) -> Callable[[Float[ndarray, "f 3"]], Float[ndarray, "f"]]:
    """The brightness of matte surfaces under one lamp at this azimuth, 0.35 to 1, by their unit normals."""
    azimuth = math.radians(azimuth_deg)
    towards = np.array([math.cos(azimuth), math.sin(azimuth), 1.0]) / math.sqrt(2)
    return lambda normals: 0.35 + 0.65 * (0.5 + 0.5 * normals @ towards)


def _pose(azimuth_deg: float, elevation_deg: float, distance: float) -> Float[ndarray, "4 4"]:
    azimuth, elevation = math.radians(azimuth_deg), math.radians(elevation_deg)
    across = math.cos(elevation)
    place = np.array([across * math.cos(azimuth), across * math.sin(azimuth), math.sin(elevation)])
    return look_at_origin(distance * DISTANCE * place)
