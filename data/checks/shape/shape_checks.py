"""Check that the views of an object agree on one shape: by depth if available, else by silhouettes."""

from collections.abc import Iterator

import numpy as np

from data.checks.camera_checks import check_volume, seen_radii
from data.checks.findings import Finding
from data.checks.image_summaries import fill_holes
from data.checks.object_record import Subject
from data.checks.shape.depth_maps import depth_builder
from data.checks.shape.view_consistency import Build, Verdict, judge
from data.checks.shape.visual_hull import hull_builder

FEWEST_DEPTHS, FEWEST_OUTLINES = 6, 20  # views; fewer do not constrain each other enough
ROOM = 1.15  # extent searched for the object, relative to the fully visible sphere


def check_shape(subject: Subject) -> Iterator[Finding]:
    """Find views that are swapped, mirrored, upside down or otherwise inconsistent, and cut objects."""
    usable = [i for i, _ in subject.seen() if subject.has_camera[i]]
    with_depth = [i for i in usable if subject.surfaces[i] is not None]
    outlined = [i for i in usable if _has_outline(subject, i)]
    if len(with_depth) >= FEWEST_DEPTHS:
        chosen, build, source = with_depth, _by_depth(subject, with_depth), "depth"
    elif len(outlined) >= FEWEST_OUTLINES:
        chosen, build, source = outlined, _by_outlines(subject, outlined), "silhouettes"
    else:
        return
    verdicts, agreement = judge(build, len(chosen))
    if verdicts:
        yield from _report(subject, chosen, verdicts, source)
    else:
        yield from check_volume(subject, agreement.radius(), source)


def _by_depth(subject: Subject, chosen: list[int]) -> Build:
    surfaces = [surface for i in chosen if (surface := subject.surfaces[i]) is not None]
    return depth_builder(surfaces, subject.poses[chosen], subject.intrinsics[chosen])


def _by_outlines(subject: Subject, chosen: list[int]) -> Build:
    masks = np.stack([picture.mask for i in chosen if (picture := subject.pictures[i]) is not None])
    extent = max(ROOM * float(np.median(seen_radii(subject))), subject.object_radius or 0.0)
    return hull_builder(fill_holes(masks), subject.poses[chosen], subject.intrinsics[chosen], extent)


def _has_outline(subject: Subject, index: int) -> bool:
    picture = subject.pictures[index]
    return picture is not None and picture.background is not None and 0 < picture.covered < 0.9


def _report(subject: Subject, chosen: list[int], verdicts: list[Verdict], source: str) -> Iterator[Finding]:
    for verdict in verdicts:
        views = [chosen[view] for view in verdict.views]
        check = {"turned round": "upside down"}.get(verdict.kind, verdict.kind)
        if len(views) > 2:
            remedy = {
                "mirrored": "its poses or all its images are mirrored",
                "inconsistent": "its poses belong to other images, or use other axes",
            }.get(verdict.kind, f"its images fit if they are {verdict.kind}")
            message = f"by {source}, its views show no single shape: {remedy}; restore images and poses"
            yield subject.about(check, "error", message)
            continue
        for index, other in zip(views, reversed(views), strict=True):
            yield subject.about_view(check, "error", index, _message(subject, verdict, other, source))


def _message(subject: Subject, verdict: Verdict, other: int, source: str) -> str:
    message = f"by its {source} it disagrees with the other views"
    if verdict.kind == "swapped":
        return f"{message}, but would agree with the camera of {subject.picture_files[other]}; swap the two"
    if verdict.kind == "inconsistent":
        return f"{message}; check its image and its pose"
    return f"{message}, but would agree if {verdict.kind}; flip it back"
