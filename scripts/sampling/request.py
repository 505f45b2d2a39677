"""Requests for sampling: made by the parsers, taken by the library code. Imports nothing slow.

Every request validates itself; errors name the flags of sample_views.py, which users know.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

AZIMUTH_DEG, ELEVATION_DEG = 0.0, 20.0
AUTO = "auto"  # in place of an angle: estimate it from training views
OWN_VIEWS = "data"  # the trajectory through an object's own views


@dataclass(frozen=True)
class PhotoRequest:
    """Photos of one object: with known cameras, or to be framed."""

    images: tuple[Path, ...]
    cameras: tuple[Path, ...] = ()  # a pose file for each photo, or one transforms.json; empty to frame them
    intrinsics: Path | None = None
    elevations_deg: tuple[float | str, ...] | None = None  # one for all, or one for each; numbers or `AUTO`
    azimuths_deg: tuple[float | str, ...] | None = None
    distance: float | None = None  # scene units from the origin
    focal: float | None = None  # of the square, in its widths
    masks: tuple[Path, ...] = ()  # one for each photo, white for the object
    cut_out: bool = False  # remove the background by a network
    boxes: tuple[tuple[int, int, int, int], ...] = ()  # x0 y0 x1 y1 in each upright photo, or empty
    fill: float | None = None  # share of the square that the object fills

    def __post_init__(self):
        if self.intrinsics and not self.cameras:
            raise ValueError("--intrinsics needs --camera; for a photo without a camera, give --focal")
        framing = {
            "elevation": self.elevations_deg,
            "azimuth": self.azimuths_deg,
            "distance": self.distance,
            "focal": self.focal,
            "mask": self.masks or None,
            "cut-out": self.cut_out or None,
            "box": self.boxes or None,
            "fill": self.fill,
        }
        given = [f"--{name}" for name, value in framing.items() if value is not None]
        if given and self.cameras:
            raise ValueError(f"{given[0]} is for photos without --camera; leave one of them out")
        if not self.cameras:
            self.orbit_angles()
            if self.masks and len(self.masks) != len(self.images):
                raise ValueError(
                    f"{len(self.images)} photos, but {len(self.masks)} masks; give one for each photo"
                )
            if self.masks and self.cut_out:
                raise ValueError("--mask says where the object is, and --cut-out finds it; give only one")
            self._check_boxes()

    def _check_boxes(self) -> None:
        if self.boxes and len(self.boxes) != len(self.images):
            raise ValueError(
                f"--box has {4 * len(self.boxes)} numbers, not 4 for each --image; give X0 Y0 X1 Y1 of each"
            )
        for x0, y0, x1, y1 in self.boxes:
            if x0 >= x1 or y0 >= y1:
                raise ValueError(
                    f"--box {x0} {y0} {x1} {y1} is empty; give X0 Y0 X1 Y1 with X0 < X1 and Y0 < Y1"
                )

    @property
    def wants_estimates(self) -> bool:
        """Whether any angles must be estimated."""
        return AUTO in (*(self.elevations_deg or ()), *(self.azimuths_deg or ()))

    def orbit_angles(self) -> tuple[list[float | str], list[float | str]]:
        """Azimuth and elevation of each photo in degrees, or `AUTO`.

        Raises ValueError if counts do not match, or two photos have the same angles.
        """
        num = len(self.images)
        angles = {
            "azimuth": list(self.azimuths_deg or [AZIMUTH_DEG]),
            "elevation": list(self.elevations_deg or [ELEVATION_DEG]),
        }
        for name, values in angles.items():
            if len(values) not in (1, num):
                raise ValueError(
                    f"{num} photos, but {len(values)} values of --{name}; give one for each photo"
                )
        each = (values * num if len(values) == 1 else values for values in angles.values())
        pairs = list(zip(*each, strict=True))
        given = [pair for pair in pairs if AUTO not in pair]
        if len(set(given)) < len(given):
            raise ValueError(
                f"{num} photos, but some from the same angles; give --azimuth with one value for each photo, "
                "or --camera"
            )
        return [azimuth for azimuth, _ in pairs], [elevation for _, elevation in pairs]


@dataclass(frozen=True)
class SubjectRequest:
    """The input: objects of a data set, or photos of one object."""

    data: str | None = None  # root of the data set; default: the training data
    split: str = "test"
    num: int | None = None  # the first objects of the split
    names: tuple[str, ...] | None = None  # these objects instead
    source_views: tuple[int, ...] | None = None  # conditioning views, from 0; default: the customary one
    photos: PhotoRequest | None = None

    def __post_init__(self):
        of_data = {"data": self.data, "n": self.num, "object": self.names, "cond-views": self.source_views}
        if self.photos is not None and self.photos.wants_estimates:
            del of_data["data"]  # it is the training data
        given = [name for name, value in of_data.items() if value is not None]
        if self.photos is not None and given:
            raise ValueError(f"--{given[0]} is for data sets and --image for photos; give only one")
        if self.num is not None and self.names:
            raise ValueError("--n counts objects and --object names them; give only one")


@dataclass(frozen=True)
class SampleRequest:
    """A request of sample_views.py: what to sample, how, and where to write."""

    checkpoint: str  # run such as runs/NAME, a checkpoint, or published weights
    subject: SubjectRequest = SubjectRequest()
    trajectory: str = "spiral"  # a name, or a path file (.json)
    drive: Path | None = None  # a driving video, whose frames' poses are used for the views
    num_views: int | None = None  # default: that of the trajectory
    num_samples: int = 1  # of each view
    policy: str | None = None  # which earlier views condition the next one; default: independent views
    num_context: int | None = None  # how many of them
    order: str | None = None  # in which views are sampled with a policy
    same_noise: bool = False  # use the same noise for all views of an object
    refine_window: int | None = None  # views that a second pass denoises jointly; default: no second pass
    refine_sigma: float | None = None  # initial noise level of that pass
    options: dict[str, Any] = field(default_factory=dict)  # overrides of the run's sampling options
    stochastic: bool = False
    seed: int = 0
    device: str = "auto"
    batch: int = 4  # views per batch
    output: Path | None = None  # default: samples/RUN/OBJECT
    prefix: str = ""
    progress: bool = False  # also write a video of the denoising steps
    fps: float = 10.0

    def __post_init__(self):
        if self.drive is not None and (self.policy or self.refine_window or self.subject.photos):
            raise ValueError(
                "--drive draws a scene of a data set along a video; leave out --image, --policy, "
                "--autoregressive and --refine-jointly"
            )
        if self.subject.photos is not None and self.trajectory == OWN_VIEWS:
            raise ValueError("--trajectory data needs a data set; choose another trajectory for photos")
        for flag, value in (("--context-views", self.num_context), ("--order", self.order)):
            if value is not None and self.policy is None:
                raise ValueError(f"{flag} is for autoregressive views; give it with --policy")
        if self.policy == "all" and self.num_context is not None:
            raise ValueError(
                "--context-views limits the number of views, and --policy all uses all; leave one of them out"
            )
        if self.refine_sigma is not None and self.refine_window is None:
            raise ValueError("--refine-sigma needs --refine-jointly; give both")
        if self.refine_window is not None and self.progress:
            raise ValueError(
                "--progress shows one pass of denoising, and --refine-jointly makes two; give only one"
            )
        if "/" in self.prefix or "\\" in self.prefix:
            raise ValueError(f"--prefix {self.prefix}: is a prefix of file names; set the folder by --output")


def parse_views(words: Sequence[str]) -> list[int]:
    """Parse view numbers from words such as "64", "104" or "64,104".

    Raises ValueError if they are not distinct whole numbers from 0.
    """
    numbers = [number.strip() for word in words for number in word.split(",") if number.strip()]
    if not numbers or not all(number.isascii() and number.isdecimal() for number in numbers):
        raise ValueError(
            f"'{' '.join(words)}' are not view numbers; give whole numbers from 0, such as 64 104"
        )
    views = [int(number) for number in numbers]
    if len(set(views)) < len(views):
        raise ValueError(f"'{' '.join(words)}' has a view twice; give it once")
    return views
