"""How far apart two surfaces are: Chamfer distance and F-score of points spread over them.

Only what can be seen from outside counts: seats behind dark windows are in no picture. Lengths are scene
units. Axes: n, m point, f face.
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
NUM_DIRECTIONS = 64  # from which it is tried to see a point
LIFT = 1e-4  # of the mesh's diagonal: how far above its surface sight begins
MOST_TRIES = 8  # times as many points as are wanted


@dataclass(frozen=True)
class Distance:
    """How far apart two surfaces are."""

    chamfer: float  # mean of the mean distances to the nearest point of the other one, from both sides
    close: float  # F-score, 0 to 1, of points within `CLOSE` of the other one
    closer: float  # of points within `CLOSER`


def distance(ours: Float[ndarray, "n 3"], truth: Float[ndarray, "m 3"]) -> Distance:
    """Of points spread over both. The distances are plain, not squared (as Chamfer's often are)."""
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
    """`num` points, fewer where there is hardly any, spread by area over what is seen from far away."""
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
    """Which points nothing hides from at least one direction."""
    seen = np.zeros(len(points), bool)
    for direction in sphere_directions(NUM_DIRECTIONS).double().numpy():
        rest = np.flatnonzero(~seen)
        if len(rest) == 0:
            break
        start = points[rest] + lift * direction
        seen[rest] = ~seer.intersects_any(start, np.broadcast_to(direction, start.shape))
    return seen
