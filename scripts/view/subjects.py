"""The subjects of the viewer: objects of a data set, or photos of one object."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch

from config.run import RunConfig
from data.cameras.neighbours import cosines
from data.cameras.pinhole import Cameras
from data.formats.registry import open_split
from data.scenes.batch import Views
from data.scenes.objects import Objects
from data.scenes.views import choose_objects, customary_view
from scripts.sampling.jobs import at_data_of, read_subject_photos
from scripts.sampling.request import PhotoRequest, SubjectRequest, parse_views
from scripts.training.messages import tell


class Subjects(Protocol):
    """Objects by name, each with views counted from 0. All methods raise ValueError for a bad file."""

    names: tuple[str, ...]

    def first_views(self, name: str) -> list[int]:
        """The initial input views."""

    def cameras(self, name: str) -> Cameras:
        """The cameras [n] of all views."""

    def view(self, name: str, number: int) -> Views:
        """One view, as a batch of one scene."""

    def flags(self, name: str, views: Sequence[int]) -> list[str]:
        """Flags of sample_views.py for the object and its input views, in addition to `data_flags`."""


@dataclass(frozen=True)
class DataSubjects:
    """Objects of a data set, by their indices; `chosen` are the initial input views, if given."""

    objects: Objects
    indices: list[int]
    chosen: list[int] | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the objects."""
        return tuple(self.objects.ids[index] for index in self.indices)

    def first_views(self, name: str) -> list[int]:
        """The chosen ones, or else view 64 if it exists, or view 0."""
        return self.chosen or [customary_view(self.objects, self._index(name))]

    def cameras(self, name: str) -> Cameras:
        """The cameras [n] of all views."""
        return self.objects.cameras(self._index(name))

    def view(self, name: str, number: int) -> Views:
        """One view, as a batch of one scene."""
        return self.objects.read_views(self._index(name), [number])

    def flags(self, name: str, views: Sequence[int]) -> list[str]:
        """The object by name, the views by number."""
        return ["--object", name, "--cond-views", *map(str, views)]

    def _index(self, name: str) -> int:
        return self.objects.ids.index(name)


@dataclass(frozen=True)
class PhotoSubject:
    """Photos of one object, all of which are its initial input views."""

    name: str
    photos: Views  # a batch of one scene

    @property
    def names(self) -> tuple[str, ...]:
        """The name of the first photo."""
        return (self.name,)

    def first_views(self, name: str) -> list[int]:
        """All photos."""
        return list(range(self.photos.valid.shape[1]))

    def cameras(self, name: str) -> Cameras:
        """The cameras [n] of the photos."""
        return self.photos.cameras[0]

    def view(self, name: str, number: int) -> Views:
        """One photo, as a batch of one scene."""
        return self.photos.apply(lambda tensor: tensor[:, number : number + 1])

    def flags(self, name: str, views: Sequence[int]) -> list[str]:
        """No flags: `data_flags` has all photos."""
        return []


def data_flags(request: SubjectRequest) -> list[str]:
    """Flags of sample_views.py for the data set, or for the photos and their cameras."""
    data, photos = {"data": request.data}, request.photos
    given = data | {"split": request.split} if photos is None else _of(photos) | data
    return [
        word
        for name, value in given.items()
        if value not in (None, (), False)
        for word in (f"--{name}", *_words(value))
    ]


def _words(value: object) -> list[str]:
    """The value of a flag on the command line; a switch has none."""
    return [] if value is True else list(map(str, value if isinstance(value, tuple) else [value]))


def _of(photos: PhotoRequest) -> dict[str, object]:
    return {
        "image": photos.images,
        "camera": photos.cameras,
        "intrinsics": photos.intrinsics,
        "elevation": photos.elevations_deg,
        "azimuth": photos.azimuths_deg,
        "distance": photos.distance,
        "focal": photos.focal,
        "mask": photos.masks,
        "cut-out": photos.cut_out,
        "box": tuple(number for box in photos.boxes for number in box),
        "fill": photos.fill,
    }


def open_subjects(config: RunConfig, request: SubjectRequest) -> Subjects:
    """Open the subjects of a request."""
    if request.photos is not None:
        _, photos, notices = read_subject_photos(at_data_of(config, request), request.photos)
        tell(notices, "view")
        return PhotoSubject(request.photos.images[0].stem, photos)
    objects = open_split(at_data_of(config, request).data, request.split)
    tell(objects.notices, "view")
    count = len(objects) if request.num is None else request.num
    indices = choose_objects(objects, num=count, names=request.names)
    chosen = None if request.source_views is None else list(request.source_views)
    subjects = DataSubjects(objects, indices, chosen)
    for view in subjects.first_views(subjects.names[0]):
        subjects.view(subjects.names[0], view)  # raises if it does not exist
    return subjects


def check_views(subjects: Subjects, name: str, text: str) -> list[int]:
    """Parse the numbers of input views from a text such as "0, 12". Raises ValueError if one is missing."""
    views, count = parse_views(text.split()), len(subjects.cameras(name).near)
    beyond = [view for view in views if view >= count]
    if beyond:
        raise ValueError(f"there is no view {beyond[0]}: {name} has views 0 to {count - 1}")
    return views


def nearest_view(cameras: Cameras, position: Sequence[float], known: Sequence[int]) -> int | None:
    """The view whose direction from the origin is nearest to that of `position`, other than those `known`;
    None if there is no other."""
    similarity = cosines(cameras.positions, torch.tensor([*position], dtype=cameras.positions.dtype))
    similarity[list(known)] = -torch.inf
    return None if bool((similarity == -torch.inf).all()) else int(similarity.argmax())
