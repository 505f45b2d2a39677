"""Choose objects of a data set, their input views, and the cameras to sample."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches

import torch
from jaxtyping import UInt8
from torch import Tensor

from data.cameras.pinhole import Cameras
from data.cameras.trajectories import trajectory
from data.images.pixels import to_uint8
from data.scenes.batch import Views
from data.scenes.objects import Objects

CUSTOMARY_VIEW = 64  # usual input view of the SRN test spiral in papers
SAME_CAMERA = 1e-3  # largest difference of poses (scene units) and intrinsics of one camera


@dataclass(frozen=True)
class Job:
    """One object: its source views, and the target cameras."""

    name: str
    source: Views  # a batch of one scene
    cameras: Cameras  # [1, t]
    # Number of a target -> its true image, None if the data have no view from that camera.
    truth: Callable[[int], UInt8[Tensor, "h w 3"] | None] | None = None


def data_job(
    objects: Objects,
    index: int,
    *,
    views: Sequence[int] | None,
    path: str,
    num: int | None,
    object_radius: float | None,
) -> Job:
    """Return an object's source `views` and target cameras: a named path or, for "data", its other views.

    `views` defaults to view 64 if it exists, else 0; `num` to the path's usual number. Raises ValueError if
    the object has fewer views, or a file cannot be used.
    """
    if views is None:
        views = [customary_view(objects, index)]
    source = objects.read_views(index, views)
    if path == "data":
        cameras = objects.read_views(index, other_views(objects, index, views, num=num)).cameras
    else:
        cameras = trajectory(path, source.cameras[0, 0], num, object_radius=object_radius)[None]
    return Job(
        objects.ids[index], source, cameras, lambda number: _true_image(objects, index, cameras[0, number])
    )


def _true_image(objects: Objects, index: int, camera: Cameras) -> UInt8[Tensor, "h w 3"] | None:
    """The image of an object from an unbatched `camera`, if it has a view from there."""
    known = objects.cameras(index)
    off = [
        (getattr(known, part) - getattr(camera, part)).abs().flatten(1).amax(dim=1)
        for part in ("cam_to_world", "intrinsics")
    ]
    views = (torch.stack(off).amax(dim=0) < SAME_CAMERA).nonzero()
    if not len(views):
        return None
    return to_uint8(objects.read(index, [int(views[0, 0])])[0][0])


def choose_objects(objects: Objects, *, num: int = 1, names: Sequence[str] | None = None) -> list[int]:
    """Return the indices of the first `num` objects, or of the objects called `names`.

    Raises ValueError if there are fewer, or if a name is unknown or repeated.
    """
    if names is None:
        if num > len(objects):
            raise ValueError(f"{num} objects requested, but the split has {len(objects)}; request fewer")
        return list(range(num))
    for place, name in enumerate(names):
        if name not in objects.ids:
            close = get_close_matches(name, objects.ids, n=3) or objects.ids[:3]
            raise ValueError(
                f"there is no object '{name}' among the {len(objects)} of the split; it has, for example, "
                f"{', '.join(close)}"
            )
        if name in names[:place]:
            raise ValueError(f"object {name} is given twice; name it once")
    return [objects.ids.index(name) for name in names]


def other_views(objects: Objects, index: int, views: Sequence[int], *, num: int | None = None) -> list[int]:
    """Return `num` evenly spaced views of an object (default: all) other than `views`.

    Raises ValueError if there are fewer.
    """
    others = [view for view in range(objects.num_views(index)) if view not in views]
    count = len(others) if num is None else num
    if not 1 <= count <= len(others):
        raise ValueError(
            f"{objects.ids[index]}: {max(count, 1)} target views requested, but it has {len(others)} "
            "besides the conditioning views; request fewer"
        )
    return evenly_spaced(others, count)


def customary_view(objects: Objects, index: int) -> int:
    """Return the usual input view in papers: 64 if it exists, otherwise 0."""
    return CUSTOMARY_VIEW if objects.num_views(index) > CUSTOMARY_VIEW else 0


def evenly_spaced(views: Sequence[int], num: int) -> list[int]:
    """Return `num` of the views: the middle of each of `num` equal parts."""
    return [views[int((part + 0.5) * len(views) / num)] for part in range(num)]
