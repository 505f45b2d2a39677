"""Chamfer distance and F-score of two surfaces, from points distributed over them.

Only parts that are visible from outside count: seats behind dark windows are in no image. Lengths are in
scene units. Axes: n, m point, f face.
"""

from dataclasses import dataclass

import numpy as np
import trimesh
from jaxtyping import Bool, Float, Int
from numpy import ndarray
from trimesh.ray.ray_pyembree import RayMeshIntersector

from data.cameras.poses import sphere_directions
from scripts.export_geometry.surfaces import nearest, places_on

CLOSE, CLOSER = 0.02, 0.01  # scene units
NUM_DIRECTIONS = 64  # from which a point may be visible
LIFT = 1e-4  # offset of visibility rays from the surface, relative to the mesh's diagonal
MOST_TRIES = 8  # rounds of sampling points


@dataclass(frozen=True)
class Distance:
    """The distance of two surfaces."""

    chamfer: float  # mean over both directions of the mean distance to the nearest point
    close: float  # F-score, 0 to 1, at the threshold `CLOSE`
    closer: float  # at the threshold `CLOSER`


def distance(ours: Float[ndarray, "n 3"], truth: Float[ndarray, "m 3"]) -> Distance:
    """Distance of two surfaces given by points. Distances are not squared (as is also common for Chamfer)."""
    there, back = (nearest(*pair, 1)[0][:, 0] for pair in ((ours, truth), (truth, ours)))
    scores = (_f_score(there, back, limit) for limit in (CLOSE, CLOSER))
    return Distance(float(there.mean() + back.mean()) / 2, *scores)


def _f_score(there: Float[ndarray, "n"], back: Float[ndarray, "m"], limit: float) -> float:
    """Harmonic mean of precision and recall (Knapitsch et al. 2017)."""
    precision, recall = float((there <= limit).mean()), float((back <= limit).mean())
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def outer_points(
    vertices: Float[ndarray, "n 3"], faces: Int[ndarray, "f 3"], num: int, *, seed: int
) -> Float[ndarray, "m 3"]:
    """`num` points (fewer if hardly any are visible), distributed by area over the visible parts."""
    random = np.random.default_rng(seed)
    seer = RayMeshIntersector(trimesh.Trimesh(vertices, faces, process=False))
    lift = LIFT * float(np.linalg.norm(np.ptp(vertices, axis=0)))
    found: list[ndarray] = []
    for _ in range(MOST_TRIES):
        face, share = places_on(vertices, faces, num, random)
        points = (vertices[faces[face]] * share[..., None]).sum(1)
        found.append(points[_seen(seer, points, lift)])
        if sum(map(len, found)) >= num:
            break
    return np.concatenate(found)[:num]


def _seen(seer: RayMeshIntersector, points: Float[ndarray, "n 3"], lift: float) -> Bool[ndarray, "n"]:
    """Which points are visible from at least one direction."""
    seen = np.zeros(len(points), bool)
    for direction in sphere_directions(NUM_DIRECTIONS).double().numpy():
        rest = np.flatnonzero(~seen)
        if len(rest) == 0:
            break
        start = points[rest] + lift * direction
        seen[rest] = ~seer.intersects_any(start, np.broadcast_to(direction, start.shape))
    return seen
