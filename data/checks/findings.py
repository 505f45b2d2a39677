"""What the checks of a data set say, and the names under which they say it."""

from dataclasses import dataclass
from typing import Literal

Severity = Literal["error", "warning", "note"]
SEVERITIES: tuple[Severity, ...] = ("error", "warning", "note")

# In the order of the report.
CHECKS = {
    "layout": "files are where and what the layout says",
    "notices": "nothing in the files was read otherwise than it is written, or not at all",
    "unreadable": "every picture can be decoded",
    "pose": "poses are a rotation and a position",
    "same poses": "the cameras of an object stand in different places",
    "repeated pose": "no two views of an object have one pose",
    "aim": "cameras look at the world's origin",
    "upright": "the world's z axis is up in the pictures",
    "distance": "cameras stand about as far from the object as the other objects' do",
    "placement": "views of NMR's ShapeNet go once round at even steps",
    "principal point": "the optical axis meets the middle of the picture",
    "focal length": "the focal length is that of the other views and objects",
    "pixel shape": "pixels are square under the focal lengths of both axes",
    "view count": "an object has as many views as the others",
    "size": "pictures are of one size",
    "blank": "there is something in every picture",
    "background": "the background is plain white",
    "colour profile": "colour profiles can be used",
    "transparency": "what transparent pixels hide",
    "cut by edge": "the object lies within the picture",
    "cut by near or far": "the object lies within the working volume",
    "swapped": "no two views of an object have each other's cameras",
    "mirrored": "no picture, and no object's poses, are mirrored",
    "upside down": "no picture stands on its head",
    "inconsistent": "the views of an object show one shape",
    "alpha": "alpha covers what the picture shows, and no less",
    "depth": "depth is where alpha is",
    "repeated picture": "no picture occurs twice in an object",
    "same picture": "no picture occurs in two objects",
    "same id": "no object id occurs in two splits",
    "look-alike": "no object looks from the same poses like one of another split",
    "splits differ": "all splits were made with the same cameras",
    "origin": "which known data set this looks like",
}


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong, or worth knowing.

    Errors spoil training or figures, warnings may, notes do not.
    """

    check: str  # one of CHECKS
    severity: Severity
    split: str  # empty where it is about the whole set
    object_id: str  # empty where it is about a split or the whole set
    place: str  # a file; or a folder, or a view of a file
    message: str
    view: int | None = None  # counted from 0; None: the object

    def __post_init__(self):
        assert self.check in CHECKS, self.check
