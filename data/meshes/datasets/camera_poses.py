"""Camera poses for rendered objects: random on a region of the sphere, and the SRN test spiral."""

import math

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from data.formats.srn.writer import DISTANCE
from data.mesh_options import Region
from data.meshes.ray_casting import look_at_origin

ELEVATIONS_DEG: dict[Region, tuple[float, float]] = {
    "sphere": (-90.0, 90.0),
    "upper": (0.0, 90.0),
    "band": (-5.0, 70.0),
}


def random_poses(num: int, region: Region, random: np.random.Generator) -> Float[ndarray, "v 4 4"]:
    """Sample camera-to-world matrices uniformly by area on a region of the sphere of radius `DISTANCE`."""
    low, high = (math.sin(math.radians(elevation)) for elevation in ELEVATIONS_DEG[region])
    height = random.uniform(low, high, num)
    azimuth_rad = random.uniform(0, 2 * math.pi, num)
    radius = np.sqrt(1 - height**2)
    directions = np.stack([radius * np.cos(azimuth_rad), radius * np.sin(azimuth_rad), height], axis=1)
    return np.stack([look_at_origin(DISTANCE * direction) for direction in directions])


def even_turn(num: int, elevation_rad: float) -> Float[ndarray, "v 4 4"]:
    """Camera-to-world matrices of one turn at even steps, at one elevation and the distance `DISTANCE`."""
    azimuth_rad = 2 * math.pi * np.arange(num) / num
    across = math.cos(elevation_rad)
    height = np.full(num, math.sin(elevation_rad))
    directions = np.stack([across * np.cos(azimuth_rad), across * np.sin(azimuth_rad), height], axis=1)
    return np.stack([look_at_origin(DISTANCE * direction) for direction in directions])


def spiral_poses(num: int) -> Float[ndarray, "v 4 4"]:
    """Return camera-to-world matrices of the SRN test spiral (published: 251 views), see `srn_test_path`."""
    from data.cameras.poses import srn_test_path

    return srn_test_path(num, DISTANCE).numpy().astype(np.float64)
