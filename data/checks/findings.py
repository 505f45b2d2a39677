"""Findings of the data set checks, and the names of the checks."""

from dataclasses import dataclass
from typing import Literal

Severity = Literal["error", "warning", "note"]
SEVERITIES: tuple[Severity, ...] = ("error", "warning", "note")

# Name of each check -> what is expected, in the order of the report.
CHECKS = {
    "layout": "files are as the layout requires",
    "notices": "everything in the files is supported and read as written",
    "unreadable": "every image can be decoded",
    "pose": "poses are rigid",
    "same poses": "the cameras of an object are in different places",
    "repeated pose": "no two views of an object have the same pose",
    "aim": "cameras look at the world origin",
    "upright": "the world's z axis is up in the images",
    "distance": "cameras are about as far away as those of other objects",
    "placement": "views of NMR's ShapeNet are evenly spaced on a circle",
    "principal point": "the principal point is at the image centre",
    "focal length": "the focal length agrees with other views and objects",
    "pixel shape": "pixels are square under the focal lengths of both axes",
    "view count": "an object has as many views as the others",
    "size": "images have one size",
    "blank": "no image is blank",
    "background": "the background is plain white",
    "colour profile": "colour profiles can be used",
    "transparency": "images have no transparent pixels",
    "cut by edge": "the object is within the image",
    "cut by near or far": "the object is within the working volume",
    "swapped": "no two views of an object have swapped cameras",
    "mirrored": "no image is mirrored, nor the poses of an object",
    "upside down": "no image is upside down",
    "inconsistent": "the views of an object agree on its shape",
    "alpha": "alpha covers all that the image shows",
    "depth": "depth is defined where alpha is",
    "repeated picture": "no image occurs twice in an object",
    "same picture": "no image occurs in two objects",
    "same id": "no object id occurs in two splits",
    "look-alike": "no object looks like one of another split",
    "splits differ": "all splits have the same kind of cameras",
    "origin": "which known data set this resembles",
}


@dataclass(frozen=True)
class Finding:
    """A problem, or something worth knowing.

    Errors invalidate training or results, warnings may, notes do not.
    """

    check: str  # one of CHECKS
    severity: Severity
    split: str  # empty if it concerns the whole set
    object_id: str  # empty if it concerns a split or the whole set
    place: str  # a file, a folder, or a view in a file
    message: str
    view: int | None = None  # index; None for the whole object

    def __post_init__(self):
        assert self.check in CHECKS, self.check
