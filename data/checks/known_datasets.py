"""Which of the known multi-view sets a set looks like, by its cameras.

Two sets called "ShapeNet cars" circulate. That of scene representation networks (Sitzmann et al. 2019) has
pictures of 128 x 128, a focal length of 131.25 pixels, cameras 1.3 scene units from the origin, 50 views on
the sphere for each training object and 251 views on a spiral for each object of the other splits. It comes
with intrinsics as `f cx cy 0.` and a size, or as matrices in pixels of 512 (525, 256), which are the same
cameras. The other one is no single set: re-renders of the same meshes, with other distances, focal lengths
and numbers of views. Figures on the one say nothing about the other, and weights carry over badly: the object
is larger or smaller in the picture. The same goes for chairs; the first set's stand 2 scene units away.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from data.cameras.poses import srn_test_path
from data.checks.check_object import Summary
from data.checks.cross_object import by_split
from data.checks.findings import Finding

SRN_FOCAL, SRN_CARS, SRN_CHAIRS = 131.25 / 128, 1.3, 2.0  # picture widths; scene units
TRAIN_VIEWS, TEST_VIEWS = 50, 251
CLOSE = 0.01  # share by which figures of one set may differ


@dataclass(frozen=True)
class Traits:
    """What tells data sets apart: medians over the objects of a split."""

    focal: float  # picture widths
    distance: float  # scene units
    num_views: int
    on_spiral: bool  # whether the cameras are those of the SRN test spiral


def check_origin(summaries: Sequence[Summary]) -> list[Finding]:
    """A note on each split: the set that its cameras are those of, or what differs."""
    findings = []
    for split, group in by_split(summaries).items():
        traits = traits_of(group)
        if traits is not None:
            findings.append(Finding("origin", "note", split, "", split, describe(traits)))
    return findings


def traits_of(group: Sequence[Summary]) -> Traits | None:
    """Traits of the objects of a split; None if no camera could be read."""
    known = [summary for summary in group if np.isfinite(summary.distance)]
    if not known:
        return None
    focal, distance, views = (
        float(np.median([getattr(summary, name) for summary in known]))
        for name in ("focal", "distance", "stored")
    )
    spirals = [_is_spiral(summary, distance) for summary in known]
    return Traits(focal, distance, int(views), bool(np.mean(spirals) > 0.5))


def describe(traits: Traits) -> str:
    """What a split looks like, in a sentence."""
    cameras = (
        f"{traits.num_views} views, distance {traits.distance:.3f}, focal length {traits.focal:.4f} widths"
    )
    expected = TEST_VIEWS if traits.on_spiral else TRAIN_VIEWS
    differs = []
    if abs(traits.focal / SRN_FOCAL - 1) > CLOSE:
        differs.append(f"focal length {SRN_FOCAL:.4f}")
    if all(abs(traits.distance / usual - 1) > CLOSE for usual in (SRN_CARS, SRN_CHAIRS)):
        differs.append(f"distance {SRN_CARS} (cars) or {SRN_CHAIRS:.1f} (chairs)")
    if traits.num_views != expected:
        differs.append(f"{TRAIN_VIEWS} views, or {TEST_VIEWS} on a spiral")
    if not differs:
        name = "cars" if abs(traits.distance / SRN_CARS - 1) <= CLOSE else "chairs"
        path = "the test spiral" if traits.on_spiral else "training views"
        return f"{cameras}: the cameras of the original SRN {name} ({path})"
    return f"{cameras}: a re-render or another set; the original SRN cameras have {', '.join(differs)}"


def _is_spiral(summary: Summary, distance: float) -> bool:
    """Whether cameras stand on the SRN test spiral, as far as they were read."""
    if summary.positions is None or summary.stored != TEST_VIEWS or not len(summary.positions):
        return False
    path = srn_test_path(TEST_VIEWS, distance)[:, :3, 3].numpy()
    nearest = np.linalg.norm(summary.positions[:, None] - path, axis=2).min(axis=1)
    return bool(nearest.max() < 0.02 * distance)
