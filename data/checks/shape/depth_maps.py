"""Depth maps that fit each other: no camera looks through a surface that another one sees.

A point of a surface may be hidden from another camera, but it may not hang in front of what that camera sees.
"""

from functools import partial

import numpy as np
from jaxtyping import Bool, Float
from numpy import ndarray

from data.checks.image_summaries import Surface
from data.checks.shape.view_consistency import MANY, TURNS, Agreement, Build, Turn, Verdict
from data.checks.shape.visual_hull import turned

NUM_REFERENCES = 20  # views that every view is compared with
SLACK = 0.02  # of the depth, by which a point may hang in front; half steps of depth and edges need some
UNEASY = 0.3  # misfit of a view that may have been swapped with one that fits badly
MOST_HANGING = (
    0.08  # share of the points; honest views of embedded cars come to 0.06, swapped ones to 0.1 and more
)


class DepthAgreement(Agreement):
    """Misfit: share of the points that hang in front, of the view's in others' and of others' in the view's.

    The median over the other views counts, so that one of them at fault harms nobody else.
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
        """Of every view with its own camera."""
        return np.array([self.misfit(view, view) for view in range(len(self._surfaces))])

    def faults(self) -> list[Verdict]:
        """The views that do not fit, the worst first, with what would make them fit."""
        misfits = self.misfits()
        if (misfits > 1).mean() > MANY:  # no view can say what another one should show
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
            # Two that were swapped both fit better the other way round.
            if other != view and (back := self.misfit(other, view)) < 0.7 * misfits[other]:
                swapped[other] = max(back, self.misfit(view, other))
        other = min(swapped, key=lambda other: swapped[other], default=view)
        if remedies[turn] < min(good, swapped.get(other, np.inf)):
            return Verdict(turn, (view,))
        if swapped.get(other, np.inf) < good:
            return Verdict("swapped", (view, other))
        return Verdict("inconsistent", (view,))

    def misfit(self, contents: int, camera: int, turn: Turn = "as it is") -> float:
        """Of one view's depth map, turned, with the camera of another."""
        both = _after(self._turn, turn)
        points = self._to_world(contents, camera, both)
        front = _least_around(turned(self._surfaces[contents].front, both))
        hanging = []
        for other in self._points:
            if other not in (contents, camera):
                there = self._hanging(points, other, self._fronts[other])
                back = self._hanging(self._points[other], camera, front)
                hanging.append(there + back)
        return float(np.median(hanging)) / MOST_HANGING if hanging else 0.0

    def radius(self) -> float:
        """How far the object reaches from the origin, in scene units, by almost all of its points."""
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

    def _hanging(self, points: Float[ndarray, "p 3"], camera: int, front: Float[ndarray, "k l"]) -> float:
        """Share of the points that hang in front of what a camera sees, among those in its picture."""
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
    """Agreement by depth maps."""
    return partial(DepthAgreement, surfaces=surfaces, poses=poses, intrinsics=intrinsics)


def _least_around(front: Float[ndarray, "k l"]) -> Float[ndarray, "k l"]:
    """The least of every 3 x 3 neighbourhood."""
    padded = np.pad(front, 1, mode="edge")
    rows = np.minimum(np.minimum(padded[:-2], padded[1:-1]), padded[2:])
    return np.minimum(np.minimum(rows[:, :-2], rows[:, 1:-1]), rows[:, 2:])


def _after(first: Turn, second: Turn) -> Turn:
    """One turn after another: mirroring across and along commute and are their own inverses."""
    across = (first in ("mirrored", "turned round")) != (second in ("mirrored", "turned round"))
    along = (first in ("upside down", "turned round")) != (second in ("upside down", "turned round"))
    if across:
        return "turned round" if along else "mirrored"
    return "upside down" if along else "as it is"
