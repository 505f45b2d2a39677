"""Check the consistency of silhouettes: the visual hull must fill every view's silhouette.

The visual hull (Laurentini 1994, "The visual hull concept for silhouette-based image understanding") is the
set of points that no silhouette excludes. Here a few views may exclude a point, for robustness to faulty
views.
"""

from functools import partial

import numpy as np
from jaxtyping import Bool, Float, Int
from numpy import ndarray

from data.checks.image_summaries import dilate
from data.checks.shape.view_consistency import TURNS, Agreement, Build, Turn, Verdict

COARSE, FINE = 20, 40  # cells along an edge of the cube, and of a cube with as many cells as the fine box
NUM_CARVING = 64  # views that carve the hull
STAGES = 5  # carved points are dropped after each
TOLERATED = 0.06  # fraction of the carving views (at least two) that may exclude a point of the hull
EDGE = 2  # pixels by which a correct silhouette may be smaller than the hull's
# Thresholds with margin over correct views: fraction of the silhouette not covered by the hull (at most 0.003
# for 88 vehicles), and fraction of the hull not covered by the silhouette (0.24: the hull is larger).
MOST_BARE, MOST_SURPLUS = 0.04, 0.32
# Least significant gains, as fractions of the hull's pixels: correct views gain at most 0.009 by swapping two
# cameras, and nothing by a flip.
LEAST_SWAP, LEAST_TURN = 0.025, 0.02
FITTING, ROOM = (
    1.6,
    0.2,
)  # tolerance of a correct view: times the median, plus a fraction of the hull


class HullAgreement(Agreement):
    """Misfit: how much of the silhouette the hull does not cover, or of the hull the silhouette does not."""

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
        """The misfit of every view with its own camera."""
        bare = (self._masks & ~self._projected).sum((1, 2)) / self._masks.sum((1, 2)).clip(1)
        surplus = (self._projected & ~self._grown).sum((1, 2)) / self._projected.sum((1, 2)).clip(1)
        # With few cameras or cameras in a ring, the hull is too large everywhere.
        return np.maximum(bare / MOST_BARE, surplus / max(MOST_SURPLUS, 2.5 * float(np.median(surplus))))

    def faults(self) -> list[Verdict]:
        """Return the views that fit better flipped or with another camera, and others that do not fit.

        The gain of a correction is more reliable than a misfit, since the hull always differs from the
        object.
        """
        own = np.diag(self._differing(self._masks)).copy()
        fits = FITTING * float(np.median(own)) + ROOM  # tolerance of a correct view
        gains, remedies = self._turns(own, fits)
        swap_gains, partners = self._swaps(own, fits)
        misfits, verdicts = self.misfits(), list[Verdict]()
        settled: set[int] = set()
        for view in np.argsort(-np.maximum(gains, swap_gains)).tolist():
            if view in settled:
                continue
            # Of two corrections for one view, prefer the simpler one unless the other gains much more.
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
        """Return the gain of the best flip of each silhouette, and which flip it is."""
        apart = np.stack([np.diag(self._differing(turned(self._masks, turn))) for turn in TURNS])
        gains = np.where(apart < fits, own - apart, 0.0)
        return gains.max(axis=0), gains.argmax(axis=0)

    def _swaps(self, own: Float[ndarray, "v"], fits: float) -> tuple[Float[ndarray, "v"], Int[ndarray, "v"]]:
        """Return what each view gains by swapping cameras with another so that both fit, and with which."""
        apart = self._differing(self._masks)
        gains = own + own[:, None] - apart - apart.T
        each = own - apart  # gain of a camera with another view's silhouette
        honest = (np.minimum(each, each.T) > -0.25 * gains) & (np.maximum(apart, apart.T) < fits)
        gains = np.where(honest, gains, 0.0)
        return gains.max(axis=1), gains.argmax(axis=1)

    def _differing(self, masks: Bool[ndarray, "v k l"]) -> Float[ndarray, "v v"]:
        """Return the differing pixels of silhouettes and hull, per pair of views, relative to the hull."""
        masks, hull = (maps.reshape(len(maps), -1).astype(np.float32) for maps in (masks, self._projected))
        sizes = hull.sum(axis=1)
        return (masks.sum(axis=1)[:, None] + sizes - 2 * masks @ hull.T) / sizes.clip(1)

    def radius(self) -> float:
        """The object's radius around the origin, in scene units; slightly overestimated by the hull."""
        return float(np.quantile(np.linalg.norm(self.points, axis=0), 0.98)) if self.points.size else 0.0

    def _carve(self, carving: Int[ndarray, "c"], extent: float) -> Float[ndarray, "3 n"]:
        """Carve the hull: in a coarse grid over the cube, then in a fine grid over the remainder."""
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
        """Keep the points that at most `tolerated` views exclude, with half a cell of margin."""
        excluded = np.zeros(points.shape[1], np.int16)
        # Views far apart in order exclude most points, so they come first.
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
        """Return the projection of the hull in a view."""
        drawn = np.zeros(self._masks.shape[1:], bool)
        pixels, ahead = self._pixels(self.points, view)
        drawn.ravel()[pixels[ahead]] = True
        return dilate(drawn)

    def _pixels(
        self, points: Float[ndarray, "3 n"], view: int
    ) -> tuple[Int[ndarray, "n"], Bool[ndarray, "n"]]:
        """Return the flat pixel indices of points, and whether they are in front of the camera.

        Points outside the image are clamped to its border, since the object may continue there.
        """
        x, y, z = points
        # No matrix product: numpy would start threads, but other workers use the cores.
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
    """Build the agreement by silhouettes of an object within `extent` (scene units) of the origin."""
    return partial(HullAgreement, masks=masks, poses=poses, intrinsics=intrinsics, extent=extent)


def turned(maps: ndarray, turn: Turn) -> ndarray:
    """Flip maps [..., h, w] horizontally, vertically, or both."""
    if turn in ("mirrored", "turned round"):
        maps = maps[..., ::-1]
    return maps[..., ::-1, :] if turn in ("upside down", "turned round") else maps


def _projections(poses: ndarray, intrinsics: ndarray, size: tuple[int, int]) -> Float[ndarray, "v 3 4"]:
    """Return the projections from the world to pixels of images of `size`."""
    to_camera = poses[:, :3, :3].transpose(0, 2, 1)
    shift = -np.einsum("vij,vj->vi", to_camera, poses[:, :3, 3])
    to_pixels = np.array([size[1], size[0], 1.0])[:, None] * intrinsics
    return (to_pixels @ np.concatenate([to_camera, shift[..., None]], axis=2)).astype(np.float32)


def _grid(low: Float[ndarray, "3"], high: Float[ndarray, "3"], edge: float) -> Float[ndarray, "3 n"]:
    """Return the centres of cells with this edge length over a box."""
    axes = [np.arange(a + edge / 2, b, edge, dtype=np.float32) for a, b in zip(low, high, strict=True)]
    return np.stack(np.meshgrid(*axes, indexing="ij")).reshape(3, -1)
