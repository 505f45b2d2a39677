"""Check the consistency of depth maps: no camera sees through a surface that another one sees.

A surface point may be occluded in another view, but it must not lie in front of what that view sees.
"""

from functools import partial

import numpy as np
from jaxtyping import Bool, Float
from numpy import ndarray

from data.checks.image_summaries import Surface
from data.checks.shape.view_consistency import MANY, TURNS, Agreement, Build, Turn, Verdict
from data.checks.shape.visual_hull import turned

NUM_REFERENCES = 20  # views that each view is compared with
SLACK = 0.02  # relative depth by which a point may lie in front, for quantisation and edges
UNEASY = 0.3  # misfit of a view that may have been swapped with a badly fitting one
MOST_HANGING = (
    0.08  # fraction of points; correct views of the embedded cars reach 0.06, swapped ones 0.1 and more
)


class DepthAgreement(Agreement):
    """Misfit: fraction of points that lie in front, of this view's points in other views and vice versa.

    The median over the other views makes it robust to a faulty one.
    """

    def __init__(
        self,
        turn: Turn,
        trusted: Bool[ndarray, "v"],
        *,
        surfaces: list[Surface],
        poses: Float[ndarray, "v 4 4"],
        intrinsics: Float[ndarray, "v 3 3"],
    ):
        self._turn, self._surfaces = turn, surfaces
        self._poses, self._intrinsics = poses, intrinsics
        numbers = np.flatnonzero(trusted)
        self._references = numbers[
            np.linspace(0, len(numbers) - 1, min(NUM_REFERENCES, len(numbers))).astype(int)
        ]
        self._points = {r: self._to_world(r, r, turn) for r in self._references.tolist()}
        self._fronts = {r: _least_around(turned(surfaces[r].front, turn)) for r in self._references.tolist()}

    def misfits(self) -> Float[ndarray, "v"]:
        """The misfit of every view with its own camera."""
        return np.array([self.misfit(view, view) for view in range(len(self._surfaces))])

    def faults(self) -> list[Verdict]:
        """Return the views that do not fit, worst first, with the correction that would make them fit."""
        misfits = self.misfits()
        if (misfits > 1).mean() > MANY:  # no view can serve as a reference
            return [Verdict("inconsistent", (view,)) for view in np.flatnonzero(misfits > 1).tolist()]
        verdicts: list[Verdict] = []
        for view in np.argsort(-misfits)[: int((misfits > 1).sum())].tolist():
            if not any(view in verdict.views for verdict in verdicts):
                verdicts.append(self._verdict(view, misfits))
        return verdicts

    def _verdict(self, view: int, misfits: Float[ndarray, "v"]) -> Verdict:
        good = min(1.0, 0.5 * float(misfits[view]))
        remedies = {turn: self.misfit(view, view, turn) for turn in TURNS}
        turn = min(TURNS, key=lambda turn: remedies[turn])
        swapped = {}
        for other in np.flatnonzero(misfits > UNEASY).tolist():
            # Swapped views both fit better when exchanged.
            if other != view and (back := self.misfit(other, view)) < 0.7 * misfits[other]:
                swapped[other] = max(back, self.misfit(view, other))
        other = min(swapped, key=lambda other: swapped[other], default=view)
        if remedies[turn] < min(good, swapped.get(other, np.inf)):
            return Verdict(turn, (view,))
        if swapped.get(other, np.inf) < good:
            return Verdict("swapped", (view, other))
        return Verdict("inconsistent", (view,))

    def misfit(self, contents: int, camera: int, turn: Turn = "as it is") -> float:
        """Return the misfit of one view's depth map, flipped by `turn`, with the camera of another."""
        both = _after(self._turn, turn)
        points = self._to_world(contents, camera, both)
        front = _least_around(turned(self._surfaces[contents].front, both))
        hanging = []
        for other in self._points:
            if other not in (contents, camera):
                there = self._fraction_in_front(points, other, self._fronts[other])
                back = self._fraction_in_front(self._points[other], camera, front)
                hanging.append(there + back)
        return float(np.median(hanging)) / MOST_HANGING if hanging else 0.0

    def radius(self) -> float:
        """The object's radius around the origin in scene units: a high quantile over its points."""
        return float(np.quantile(np.linalg.norm(np.concatenate(list(self._points.values())), axis=1), 0.995))

    def _to_world(self, contents: int, camera: int, turn: Turn) -> Float[ndarray, "p 3"]:
        surface, pose = self._surfaces[contents], self._poses[camera]
        uv = surface.image_points.copy()
        for axis, turns in enumerate((("mirrored", "turned round"), ("upside down", "turned round"))):
            if turn in turns:
                uv[:, axis] = 1 - uv[:, axis]
        homogeneous = np.concatenate([uv, np.ones_like(uv[:, :1])], axis=1)
        in_camera = homogeneous @ np.linalg.inv(self._intrinsics[camera]).T * surface.depth[:, None]
        return in_camera @ pose[:3, :3].T + pose[:3, 3]

    def _fraction_in_front(
        self, points: Float[ndarray, "p 3"], camera: int, front: Float[ndarray, "k l"]
    ) -> float:
        """Return the fraction of points in a camera's view that lie in front of what it sees."""
        pose, (height, width) = self._poses[camera], front.shape
        in_camera = (points - pose[:3, 3]) @ pose[:3, :3]
        depth = in_camera[:, 2]
        image = in_camera @ self._intrinsics[camera].T / np.maximum(depth, 1e-6)[:, None]
        inside = (depth > 0) & (image[:, :2] >= 0).all(axis=1) & (image[:, :2] < 1).all(axis=1)
        rows, columns = ((image[inside, axis] * size).astype(int) for axis, size in ((1, height), (0, width)))
        return float((depth[inside] * (1 + SLACK) < front[rows, columns]).sum() / max(1, inside.sum()))


def depth_builder(
    surfaces: list[Surface], poses: Float[ndarray, "v 4 4"], intrinsics: Float[ndarray, "v 3 3"]
) -> Build:
    """Build the agreement by depth maps."""
    return partial(DepthAgreement, surfaces=surfaces, poses=poses, intrinsics=intrinsics)


def _least_around(front: Float[ndarray, "k l"]) -> Float[ndarray, "k l"]:
    """Return the minimum of every 3 x 3 neighbourhood."""
    padded = np.pad(front, 1, mode="edge")
    rows = np.minimum(np.minimum(padded[:-2], padded[1:-1]), padded[2:])
    return np.minimum(np.minimum(rows[:, :-2], rows[:, 1:-1]), rows[:, 2:])


def _after(first: Turn, second: Turn) -> Turn:
    """Compose two flips; horizontal and vertical flips commute and are their own inverses."""
    across = (first in ("mirrored", "turned round")) != (second in ("mirrored", "turned round"))
    along = (first in ("upside down", "turned round")) != (second in ("upside down", "turned round"))
    if across:
        return "turned round" if along else "mirrored"
    return "upside down" if along else "as it is"
