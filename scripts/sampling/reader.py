"""Read the output of sample_views.py for evaluation: images, depth and cameras."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from data.cameras.pinhole import Cameras
from data.cameras.transforms_json import from_transforms, read_document
from data.images.files import picture_size, read_channel, read_picture
from data.images.pixels import from_uint8
from data.scenes.batch import Views
from data.scenes.objects import Objects
from models.base import OPAQUE
from scripts.sampling.reprojection import SeenView

RECORD = "sampling.json"  # the settings of a view sequence
SAME_POSE = 1e-3  # largest absolute difference of the entries of two equal poses


@dataclass(frozen=True)
class ViewSequence:
    """The files of the sampled views of an object, in order."""

    folder: Path
    name: str  # of the object
    pictures: tuple[Path, ...]
    depths: tuple[Path, ...]  # as many, or none
    depth_step: float  # scene units per level of a depth image
    cameras: Cameras  # [t]

    @property
    def previews(self) -> tuple[Path, ...]:
        """The previews of the same views, without diffusion."""
        return self.beside("preview")

    @property
    def inputs(self) -> tuple[Path, ...]:
        """The images of the input views that exist."""
        prefix = self.pictures[0].name.rpartition("view_")[0]
        names = (path for path in self.folder.iterdir() if path.name.startswith(f"{prefix}cond_"))
        return tuple(sorted(path for path in names if path.suffix == ".png"))

    def beside(self, kind: str) -> tuple[Path, ...]:
        """The paths of images of another `kind`, such as depth, of the same views."""
        parts = (path.name.rpartition("view_") for path in self.pictures)  # the prefix may contain it, too
        return tuple(self.folder / f"{prefix}{kind}_{number}" for prefix, _, number in parts)


def sequences_in(folder: Path) -> list[ViewSequence]:
    """The view sequences in a folder and its subfolders, sorted. Raises ValueError if there are none."""
    inside = sorted(child for child in folder.iterdir() if child.is_dir()) if folder.is_dir() else []
    found = [place for place in (folder, *inside) if any(place.glob("*transforms.json"))]
    if not found:
        raise ValueError(
            f"{folder}: has no views with transforms.json; give a folder that sample_views.py has written"
        )
    return [_read_sequence(place) for place in found]


def depths_of(sequence: ViewSequence) -> Iterator[Float[Tensor, "h w"]]:
    """Depth of every view, 0 where there is no surface. Raises ValueError if there are no depth images."""
    if not sequence.depths:
        raise ValueError(
            f"{sequence.folder}: has no depth images (depth16_0000.png); sample it again, or use other depth"
        )
    return (sequence.depth_step * read_channel(path, bits=16) for path in sequence.depths)


def seen_views(
    sequence: ViewSequence, depths: Iterable[Float[Tensor, "h w"]], *, pictures: Sequence[Path] | None = None
) -> Iterator[SeenView]:
    """Read the views of a sequence (or other `pictures` of them) one by one."""
    for number, (path, depth) in enumerate(zip(pictures or sequence.pictures, depths, strict=True)):
        image = from_uint8(read_picture(path))
        if depth.shape != image.shape[1:]:
            raise ValueError(f"{path}: has another size than its depth; use images of the same size")
        yield SeenView(image, depth, sequence.cameras[number])


def true_views(sequence: ViewSequence, objects: Objects) -> list[SeenView]:
    """The views of a data set with depth that match a sequence's object name and cameras.

    Raises ValueError if the set lacks the object, one of the cameras, or depth.
    """
    known = set_views(sequence, objects, geometry=True)
    depth = torch.where(known.geometry.alpha >= OPAQUE, known.geometry.depth, 0.0)[0]
    return [SeenView(known.images[0, n], depth[n], known.cameras[0, n]) for n in range(len(depth))]


def set_views(sequence: ViewSequence, objects: Objects, *, geometry: bool = False) -> Views:
    """The views of a data set that match a sequence's object name and cameras, as a batch of one scene,
    optionally with `geometry`.

    Raises ValueError if the set lacks the object, one of the cameras, or the requested geometry.
    """
    if sequence.name not in objects.ids:
        raise ValueError(
            f"{sequence.folder}: the data set has no object called {sequence.name}; give another set"
        )
    index = objects.ids.index(sequence.name)
    difference = sequence.cameras.cam_to_world[:, None] - objects.cameras(index).cam_to_world
    difference = difference.abs().amax(dim=(-2, -1))
    if bool((difference.amin(dim=1) > SAME_POSE).any()):
        raise ValueError(
            f"{sequence.folder}: its views are not the data set's; sample with --trajectory data"
        )
    return objects.read_views(index, difference.argmin(dim=1).tolist(), geometry=geometry)


def record_of(folder: Path) -> dict[str, Any]:
    """The settings of the view sequence in a folder, from `RECORD`; empty if there is no record."""
    records = sorted(folder.glob(f"*{RECORD}"))
    return read_document(records[0]) if records else {}


def same_cameras(sequence: ViewSequence, other: ViewSequence) -> bool:
    """Whether two view sequences have the same cameras."""
    ours, theirs = sequence.cameras.cam_to_world, other.cameras.cam_to_world
    return ours.shape == theirs.shape and torch.allclose(ours, theirs, rtol=0, atol=SAME_POSE)


def require_same_cameras(sequence: ViewSequence, other: ViewSequence) -> None:
    """Raise ValueError if two view sequences have different cameras."""
    if not same_cameras(sequence, other):
        raise ValueError(
            f"{other.folder}: has other cameras than {sequence.folder}; sample both on one trajectory"
        )


def _read_sequence(folder: Path) -> ViewSequence:
    files = sorted(folder.glob("*transforms.json"))
    if len(files) > 1:
        raise ValueError(f"{folder}: has {len(files)} view sequences; sample each into its own folder")
    document = read_document(files[0])
    try:
        cameras, names = from_transforms(document)
    except ValueError as error:
        raise ValueError(f"{files[0]}: {error}") from error
    pictures = tuple(folder / name for name in names)
    picture_size(pictures[0])  # raises if it does not exist
    depths = [frame.get("depth_file_path") for frame in document["frames"]]
    known = all(isinstance(name, str) for name in depths)
    step = document.get("depth_unit_scale_factor", 1e-3)  # nerfstudio's default: millimetres
    if not isinstance(step, float | int) or not 0 < step < 1e3:
        raise ValueError(f"{files[0]}: `depth_unit_scale_factor` must be a positive number; correct the file")
    depth_files = tuple(folder / name for name in depths) if known else ()
    return ViewSequence(folder, _object_of(folder), pictures, depth_files, float(step), cameras)


def _object_of(folder: Path) -> str:
    """The recorded name of the object, or else that of the folder."""
    name = record_of(folder).get("object")
    return name if isinstance(name, str) else folder.name
