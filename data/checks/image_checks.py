"""Check the images, alpha and depth of one object, separately and against each other."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from data.checks.findings import Finding
from data.checks.object_record import Subject
from data.images.masks import read_opacity
from data.images.picture_files import profile_notice

DISAGREE = 0.05  # fraction of the object's pixels; antialiased edges stay far below


def check_sizes(subject: Subject) -> Iterator[Finding]:
    """Find images that are not square or differ in size."""
    sizes = Counter(picture.size for _, picture in subject.seen())
    if not sizes:
        return
    (height, width), _ = sizes.most_common(1)[0]
    if height != width:
        message = f"images of {width} x {height} are squeezed into squares; crop them if that matters"
        yield subject.about("size", "note", message)
    for index, picture in subject.seen():
        if picture.size != (height, width):
            message = (
                f"is {picture.size[1]} x {picture.size[0]}, the others {width} x {height}; make it again"
            )
            yield subject.about_view("size", "warning", index, message)


def check_blank(subject: Subject) -> Iterator[Finding]:
    """Find blank images."""
    blank = [index for index, picture in subject.seen() if picture.covered == 0]
    if blank and len(blank) == len(list(subject.seen())):
        message = f"all its {len(blank)} images are blank; exclude it from training and evaluation"
        yield subject.about("blank", "error", message)
        return
    for index in blank:
        yield subject.about_view("blank", "error", index, "is blank; remove the view or render it again")


def check_background(subject: Subject) -> Iterator[Finding]:
    """Find backgrounds that are not plain white."""
    for index, picture in subject.seen():
        if picture.background is None:
            message = "has no plain background; composite the object on white"
        elif min(picture.background) < 255 - 10:
            name = "black" if max(picture.background) <= 10 else f"of colour {picture.background}"
            message = f"the background is {name}; models expect white"
        else:
            continue
        yield subject.about_view("background", "warning", index, message)


def check_transparency(subject: Subject) -> Iterator[Finding]:
    """Report transparency in the object's first file: other programs may read the hidden colours."""
    path = Path(subject.picture_files[0])
    if subject.pictures[0] is None or not path.is_file():
        return
    alpha = read_opacity(path)
    if alpha is not None and (share := float((alpha < 255).float().mean())) > 0:
        message = f"{share:.0%} of its first image is transparent; it is composited on white"
        yield subject.about("transparency", "note", message)


def check_profile(subject: Subject) -> Iterator[Finding]:
    """Report an unusable colour profile in the object's first file."""
    path = Path(subject.picture_files[0])
    if subject.pictures[0] is not None and path.is_file() and (notice := profile_notice(path)):
        yield subject.about_view("colour profile", "warning", 0, notice)


def check_edges(subject: Subject) -> Iterator[Finding]:
    """Find objects cut off by the image border."""
    for index, picture in subject.seen():
        if picture.touches_edge and picture.background is not None:
            message = "the image border cuts the object off; widen the view, or raise data.object_radius"
            yield subject.about_view("cut by edge", "warning", index, message)


def check_repeated_pictures(subject: Subject) -> Iterator[Finding]:
    """Find repeated images of the object."""
    first: dict[int, int] = {}
    for index, picture in subject.seen():
        earlier = first.setdefault(picture.digest, index)
        if earlier != index and picture.covered > 0:
            message = f"has the same image as view {subject.views[earlier]}; one of the two is wrong"
            yield subject.about_view("repeated picture", "warning", index, message)


def check_channels(subject: Subject) -> Iterator[Finding]:
    """Find alpha that misses parts of the image, and depth that disagrees with alpha."""
    for index, channels in enumerate(subject.channels):
        if channels.coloured_outside > DISAGREE:
            hint = f"; it fits if the image is {channels.better}" if channels.better else ""
            message = f"alpha is 0 on {channels.coloured_outside:.0%} of the object in the image{hint}"
            check = {"mirrored": "mirrored", "upside down": "upside down"}.get(channels.better, "alpha")
            yield subject.about_view(check, "error", index, f"{message}; render the view again")
        if channels.only_depth > DISAGREE or channels.only_alpha > DISAGREE:
            message = (
                f"{channels.only_depth:.0%} of its depth is where alpha is 0, and "
                f"{channels.only_alpha:.0%} of the object has no depth; render the view again"
            )
            yield subject.about_view("depth", "error", index, message)


def check_depth_range(subject: Subject) -> Iterator[Finding]:
    """Find depth that is not in scene units, and views whose depth is far from the object."""
    if subject.depth_factor != 1:
        message = (
            f"depth seems to be in units of {subject.depth_factor:g} scene units: the files have a different "
            f"step than the layout's; set data.depth_scale={subject.depth_factor:g} wherever depth is used"
        )
        # Without alpha, depth is used neither in training nor in evaluation.
        yield subject.about("depth", "error" if subject.has_alpha else "note", message)
    for index in np.flatnonzero(subject.has_camera).tolist():
        surface = subject.surfaces[index]
        if surface is None:
            continue
        distance = float(np.linalg.norm(subject.positions[index]))
        middle = float(np.median(surface.depth))
        if not 0.5 * distance < middle < 1.5 * distance:
            message = f"depth is {middle:.3g}, but the object is {distance:.3g} away; render the view again"
            yield subject.about_view("depth", "error", index, message)
