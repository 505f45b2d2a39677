"""Run all checks on one object, and summarise it for comparison with others."""

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float, UInt8, UInt64
from numpy import ndarray

from data.checks import camera_checks as cameras
from data.checks import image_checks as contents
from data.checks.findings import Finding
from data.checks.object_record import Subject
from data.checks.open_splits import OpenSplit
from data.checks.read_object import Signatures, read_subject
from data.checks.shape.shape_checks import check_shape

CHECKS_OF_OBJECT: tuple[Callable[[Subject], Iterator[Finding]], ...] = (
    cameras.check_rigid,
    cameras.check_places,
    cameras.check_aim,
    cameras.check_upright,
    cameras.check_intrinsics,
    contents.check_sizes,
    contents.check_blank,
    contents.check_background,
    contents.check_transparency,
    contents.check_profile,
    contents.check_edges,
    contents.check_repeated_pictures,
    contents.check_channels,
    contents.check_depth_range,
    check_shape,
)
# Findings that make the shape checks meaningless.
SPOILS_SHAPE = {"pose", "same poses", "aim", "principal point"}


@dataclass(frozen=True)
class Summary:
    """A checked object, in a few kilobytes."""

    split: str
    object_id: str
    place: str
    findings: tuple[Finding, ...]
    stored: int = 0  # number of views
    num_read: int = 0
    size: tuple[int, int] | None = None  # height, width of its first readable image
    focal: float = np.nan  # median, in image widths
    distance: float = np.nan  # median, scene units
    positions: Float[ndarray, "n 3"] | None = None  # of the usable cameras
    digests: UInt64[ndarray, "m"] | None = None  # hashes of the non-blank images
    files: str = ""  # their files, one per line, relative to `place`
    signatures: Signatures = ()
    thumbnail: UInt8[ndarray, "h w 3"] | None = None

    def file(self, number: int) -> str:
        """Return the file of an image, by its index in `digests`."""
        return self.place + self.files.split("\n")[number]


def check_object(
    split: OpenSplit, index: int, *, max_views: int | None = None, object_radius: float | None = None
) -> Summary:
    """Read and check one object; `max_views` of its views, evenly spread (None for all)."""
    # Read.
    object_id, place = split.raw.ids[index], split.raw.place(index)
    try:
        reading = read_subject(split, index, max_views=max_views, object_radius=object_radius)
    except ValueError as error:
        message = str(error)
        found = Finding("layout", "error", split.split, object_id, message.split(": ")[0], message)
        return Summary(split.split, object_id, place, (found,))

    # Check.
    subject, findings = reading.subject, list(reading.findings)
    for check in CHECKS_OF_OBJECT:
        if check is check_shape and any(f.check in SPOILS_SHAPE and f.severity == "error" for f in findings):
            continue
        findings += check(subject)
    if split.raw.even_turns:
        findings += cameras.check_placement(subject)

    # Summarise for comparison across objects.
    seen = list(subject.seen())
    showing = [(i, picture) for i, picture in seen if picture.covered > 0]
    known = subject.has_camera
    distances = np.linalg.norm(subject.positions[known], axis=1)
    return Summary(
        split.split,
        object_id,
        place,
        tuple(_collapse(findings, subject)),
        stored=subject.stored,
        num_read=len(seen),
        size=seen[0][1].size if seen else None,
        focal=float(np.median(subject.intrinsics[known, 0, 0])) if known.any() else np.nan,
        distance=float(np.median(distances)) if known.any() else np.nan,
        positions=subject.positions[known],
        digests=np.array([picture.digest for _, picture in showing], np.uint64),
        files="\n".join(subject.picture_files[i].removeprefix(place) for i, _ in showing),
        signatures=reading.signatures,
        thumbnail=reading.thumbnail,
    )


def _collapse(findings: list[Finding], subject: Subject) -> list[Finding]:
    """Merge findings of one kind that affect every view into one per object."""
    kinds = Counter((f.check, f.severity) for f in findings if f.view is not None)
    everywhere = {kind for kind, number in kinds.items() if number == len(subject.views) > 1}
    kept, done = [], set()
    for finding in findings:
        kind = finding.check, finding.severity
        if finding.view is None or kind not in everywhere:
            kept.append(finding)
        elif kind not in done:
            done.add(kind)
            message = f"in all its views: {finding.message}"
            kept.append(replace(finding, view=None, place=subject.place, message=message))
    return kept
