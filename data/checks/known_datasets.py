"""Identify known multi-view data sets by their cameras.

Several sets called "ShapeNet cars" are in use. The one of Scene Representation Networks (Sitzmann et al.
2019) has 128 x 128 images, a focal length of 131.25 pixels, cameras 1.3 scene units from the origin, 50 views
on the sphere for each training object and 251 views on a spiral for each object of the other splits. Its
intrinsics are stored as `f cx cy 0.` with a size, or as matrices for 512 pixels (525, 256), which are the
same cameras. Others are re-renders of the same meshes with different distances, focal lengths and numbers of
views. Results are not comparable between them, and weights transfer poorly, since the object appears larger
or smaller. The same holds for chairs, where the original cameras are 2 scene units away.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from data.cameras.poses import srn_test_path
from data.checks.check_object import Summary
from data.checks.cross_object import by_split
from data.checks.findings import Finding

SRN_FOCAL, SRN_CARS, SRN_CHAIRS = 131.25 / 128, 1.3, 2.0  # image widths; scene units
TRAIN_VIEWS, TEST_VIEWS = 50, 251
CLOSE = 0.01  # relative tolerance of these values


@dataclass(frozen=True)
class Traits:
    """What identifies a data set: medians over the objects of a split."""

    focal: float  # image widths
    distance: float  # scene units
    num_views: int
    on_spiral: bool  # whether the cameras follow the SRN test spiral


def check_origin(summaries: Sequence[Summary]) -> list[Finding]:
    """Return a note on each split: the set its cameras belong to, or how they differ."""
    findings = []
    for split, group in by_split(summaries).items():
        traits = traits_of(group)
        if traits is not None:
            findings.append(Finding("origin", "note", split, "", split, describe(traits)))
    return findings


def traits_of(group: Sequence[Summary]) -> Traits | None:
    """Return the traits of a split; None if no camera could be read."""
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
    """Describe a split in a sentence."""
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
    """Whether the cameras that could be read are on the SRN test spiral."""
    if summary.positions is None or summary.stored != TEST_VIEWS or not len(summary.positions):
        return False
    path = srn_test_path(TEST_VIEWS, distance)[:, :3, 3].numpy()
    nearest = np.linalg.norm(summary.positions[:, None] - path, axis=2).min(axis=1)
    return bool(nearest.max() < 0.02 * distance)
