"""Silhouettes that fit each other: the shape that most views leave must fill every view's silhouette.

The shape is a visual hull (Laurentini 1994, "The visual hull concept for silhouette-based image
understanding"): the points that no silhouette excludes, here those that a few may exclude, so that a faulty
view harms nobody else.
"""

from functools import partial

import numpy as np
from jaxtyping import Bool, Float, Int
from numpy import ndarray

from data.checks.image_summaries import dilate
from data.checks.shape.view_consistency import TURNS, Agreement, Build, Turn, Verdict

COARSE, FINE = 20, 40  # cells along an edge of the cube; of a cube of as many cells as the box has
NUM_CARVING = 64  # views that carve the hull
STAGES = 5  # after each of which the points that are carved away are dropped
TOLERATED = 0.06  # share of the carving views that may exclude a point of the hull, and two of them at least
EDGE = 2  # pixels by which an honest silhouette may be smaller than the hull's
# Most that is seen of honest views, with room to spare: shares of the silhouette that the hull leaves bare
# (0.003 at most of 88 vehicles), and of the hull that the silhouette leaves bare (0.24: the hull is larger).
MOST_BARE, MOST_SURPLUS = 0.04, 0.32
# Least gains that are no accident, in parts of the hull's pixels: honest views gain 0.009 at most by a swap
# of the cameras of two, and nothing by a turn.
LEAST_SWAP, LEAST_TURN = 0.025, 0.02
FITTING, ROOM = (
    1.6,
    0.2,
)  # how far an honest view may be from the hull: times the median, and parts of the hull


class HullAgreement(Agreement):
    """Misfit: how much the hull leaves bare of the silhouette, or the silhouette of the hull."""

    def __init__(
        self,
        turn: Turn,
        trusted: Bool[ndarray, "v"],
        *,
        masks: Bool[ndarray, "v k l"],
        poses: Float[ndarray, "v 4 4"],
        intrinsics: Float[ndarray, "v 3 3"],
        extent: float,
    ):
        self._masks = turned(masks, turn)
        self._projections = _projections(poses, intrinsics, masks.shape[1:])
        numbers = np.flatnonzero(trusted)
        carving = numbers[np.linspace(0, len(numbers) - 1, min(NUM_CARVING, len(numbers))).astype(int)]
        self.points = self._carve(carving, extent)
        self._projected = np.stack([self._project(view) for view in range(len(masks))])
        self._grown = dilate(self._masks, EDGE)

    def misfits(self) -> Float[ndarray, "v"]:
        """Of every view with its own camera."""
        bare = (self._masks & ~self._projected).sum((1, 2)) / self._masks.sum((1, 2)).clip(1)
        surplus = (self._projected & ~self._grown).sum((1, 2)) / self._projected.sum((1, 2)).clip(1)
        # Where cameras are few or stand in a ring, all of the hull is too large.
        return np.maximum(bare / MOST_BARE, surplus / max(MOST_SURPLUS, 2.5 * float(np.median(surplus))))

    def faults(self) -> list[Verdict]:
        """The views that would fit better turned or with another's camera, and others that do not fit.

        What a remedy gains says more than a misfit: the hull is never the object, but equally so everywhere.
        """
        own = np.diag(self._apart(self._masks)).copy()
        fits = FITTING * np.median(own) + ROOM  # what an honest view may come to
        gains, remedies = self._turns(own, fits)
        swap_gains, partners = self._swaps(own, fits)
        misfits, verdicts = self.misfits(), list[Verdict]()
        settled: set[int] = set()
        for view in np.argsort(-np.maximum(gains, swap_gains)).tolist():
            if view in settled:
                continue
            # The better of two remedies for one view is the simpler one, unless the other gains much more.
            swapped = swap_gains[view] > max(LEAST_SWAP, 1.3 * gains[view])
            if swapped and partners[view] not in settled:
                verdicts.append(Verdict("swapped", (view, int(partners[view]))))
            elif gains[view] > LEAST_TURN:
                verdicts.append(Verdict(TURNS[remedies[view]], (view,)))
            elif misfits[view] > 1:
                verdicts.append(Verdict("inconsistent", (view,)))
            settled.update(verdicts[-1].views if verdicts else ())
        return verdicts

    def _turns(self, own: Float[ndarray, "v"], fits: float) -> tuple[Float[ndarray, "v"], Int[ndarray, "v"]]:
        """What the best turn of each silhouette gains, and which it is."""
        apart = np.stack([np.diag(self._apart(turned(self._masks, turn))) for turn in TURNS])
        gains = np.where(apart < fits, own - apart, 0.0)
        return gains.max(axis=0), gains.argmax(axis=0)

    def _swaps(self, own: Float[ndarray, "v"], fits: float) -> tuple[Float[ndarray, "v"], Int[ndarray, "v"]]:
        """What each view gains by exchanging cameras with another, and with which, where both then fit."""
        apart = self._apart(self._masks)
        gains = own + own[:, None] - apart - apart.T
        each = own - apart  # of a camera, by another view's silhouette
        honest = (np.minimum(each, each.T) > -0.25 * gains) & (np.maximum(apart, apart.T) < fits)
        gains = np.where(honest, gains, 0.0)
        return gains.max(axis=1), gains.argmax(axis=1)

    def _apart(self, masks: Bool[ndarray, "v k l"]) -> Float[ndarray, "v v"]:
        """Pixels that differ between each silhouette and the hull from each camera, in parts of the hull."""
        masks, hull = (maps.reshape(len(maps), -1).astype(np.float32) for maps in (masks, self._projected))
        sizes = hull.sum(axis=1)
        return (masks.sum(axis=1)[:, None] + sizes - 2 * masks @ hull.T) / sizes.clip(1)

    def radius(self) -> float:
        """How far the object reaches from the origin, in scene units; the hull is a little larger than it."""
        return float(np.quantile(np.linalg.norm(self.points, axis=0), 0.98)) if self.points.size else 0.0

    def _carve(self, carving: Int[ndarray, "c"], extent: float) -> Float[ndarray, "3 n"]:
        """Points of the hull: in a coarse grid over the cube, then in a fine one over what that left."""
        tolerated = max(2, round(TOLERATED * len(carving)))
        edge = 2 * extent / COARSE
        coarse = self._left(carving, _grid(np.full(3, -extent), np.full(3, extent), edge), edge, tolerated)
        if not coarse.size:
            return coarse
        low, high = coarse.min(axis=1) - edge, coarse.max(axis=1) + edge
        edge = float(np.prod(high - low) ** (1 / 3) / FINE)
        return self._left(carving, _grid(low, high, edge), edge, tolerated)

    def _left(
        self, carving: Int[ndarray, "c"], points: Float[ndarray, "3 n"], edge: float, tolerated: int
    ) -> Float[ndarray, "3 m"]:
        """The points that at most `tolerated` views exclude; half a cell beside a silhouette is within."""
        excluded = np.zeros(points.shape[1], np.int16)
        # Views that are far apart in their order exclude most of what can be excluded, so they come first.
        for stage in (carving[offset::STAGES] for offset in range(STAGES)):
            for view in stage.tolist():
                projection = self._projections[view]
                pixels_per_unit = abs(projection[:2, :3]).max() / max(1e-6, float(projection[2, 3]))
                mask = dilate(self._masks[view], int(np.ceil(0.87 * edge * pixels_per_unit)))
                pixels, ahead = self._pixels(points, view)
                excluded += ~mask.ravel()[pixels] & ahead
            left = excluded <= tolerated
            points, excluded = points[:, left], excluded[left]
        return points

    def _project(self, view: int) -> Bool[ndarray, "k l"]:
        """Where a view should show the hull."""
        drawn = np.zeros(self._masks.shape[1:], bool)
        pixels, ahead = self._pixels(self.points, view)
        drawn.ravel()[pixels[ahead]] = True
        return dilate(drawn)

    def _pixels(
        self, points: Float[ndarray, "3 n"], view: int
    ) -> tuple[Int[ndarray, "n"], Bool[ndarray, "n"]]:
        """The pixels of points, row by row, and whether they lie before the camera.

        Points beside the picture are moved to its edge: what is cut there may go on.
        """
        x, y, z = points
        # Not as a product of matrices: numpy would start threads, which the other workers' cores lack.
        column, row, depth = (a * x + b * y + c * z + d for a, b, c, d in self._projections[view])
        height, width = self._masks.shape[1:]
        inverse = 1 / np.maximum(depth, np.float32(1e-6))
        column = np.clip(column * inverse, 0, width - 1).astype(np.int32)
        row = np.clip(row * inverse, 0, height - 1).astype(np.int32)
        return row * width + column, depth > 0


def hull_builder(
    masks: Bool[ndarray, "v k l"],
    poses: Float[ndarray, "v 4 4"],
    intrinsics: Float[ndarray, "v 3 3"],
    extent: float,
) -> Build:
    """Agreement by silhouettes of an object within `extent` (scene units) of the origin."""
    return partial(HullAgreement, masks=masks, poses=poses, intrinsics=intrinsics, extent=extent)


def turned(maps: ndarray, turn: Turn) -> ndarray:
    """Maps [..., h, w], mirrored left to right, stood on their heads, or both."""
    if turn in ("mirrored", "turned round"):
        maps = maps[..., ::-1]
    return maps[..., ::-1, :] if turn in ("upside down", "turned round") else maps


def _projections(poses: ndarray, intrinsics: ndarray, size: tuple[int, int]) -> Float[ndarray, "v 3 4"]:
    """From the world to pixels of pictures of `size`."""
    to_camera = poses[:, :3, :3].transpose(0, 2, 1)
    shift = -np.einsum("vij,vj->vi", to_camera, poses[:, :3, 3])
    to_pixels = np.array([size[1], size[0], 1.0])[:, None] * intrinsics
    return (to_pixels @ np.concatenate([to_camera, shift[..., None]], axis=2)).astype(np.float32)


def _grid(low: Float[ndarray, "3"], high: Float[ndarray, "3"], edge: float) -> Float[ndarray, "3 n"]:
    """Centres of cells of this edge over a box."""
    axes = [np.arange(a + edge / 2, b, edge, dtype=np.float32) for a, b in zip(low, high, strict=True)]
    return np.stack(np.meshgrid(*axes, indexing="ij")).reshape(3, -1)
