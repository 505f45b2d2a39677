"""Read an object of any layout into a `Subject`, tolerating unreadable parts."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from numpy import ndarray

from data.cameras.text_files import read_intrinsics, read_pose
from data.checks.findings import Finding
from data.checks.image_summaries import (
    Channels,
    Picture,
    Surface,
    compare_channels,
    mask_size_of,
    signature,
    summarise_depth,
    summarise_picture,
)
from data.checks.object_record import Subject
from data.checks.open_splits import OpenSplit, view_files
from data.scenes.objects import RawObjects

THUMBNAIL_SIDE = 96
NUM_SIGNATURES = 4
NO_CAMERA = np.full((4, 4), np.nan, np.float32), np.full((3, 3), np.nan, np.float32)
Signatures = tuple[tuple[int, UInt8[ndarray, "s s 3"]], ...]


@dataclass(frozen=True)
class Reading:
    """Result of reading an object."""

    subject: Subject
    findings: tuple[Finding, ...]  # about what cannot be read
    thumbnail: UInt8[ndarray, "h w 3"] | None
    signatures: Signatures  # hash of a pose, and the object's appearance from there


@dataclass
class _Views:
    """The views of an object, collected while reading."""

    pictures: list[Picture | None]
    channels: list[Channels]
    surfaces: list[Surface | None]
    signatures: list[tuple[int, ndarray]]
    thumbnail: ndarray | None = None
    has_alpha: bool = False


def read_subject(
    split: OpenSplit, index: int, *, max_views: int | None = None, object_radius: float | None = None
) -> Reading:
    """Read an object's cameras and images, `max_views` of them evenly spaced.

    Raises ValueError if not even the views can be listed.
    """
    # Cameras.
    raw, object_id, place = split.raw, split.raw.ids[index], split.raw.place(index)
    stored = raw.num_views(index)
    views = sample(stored, max_views)
    files = view_files(raw, index) or [(f"{place}, view {view}",) * 2 for view in range(stored)]
    pictures, poses = zip(*(files[view] for view in views), strict=True)
    cameras, broken = _read_cameras(raw, index, views)
    keys = _pose_keys(cameras[0])
    found: list[Finding] = [
        Finding("layout", "error", split.split, object_id, message.split(": ")[0], message, view)
        for view, message in broken
    ]
    found += [Finding("notices", "note", split.split, object_id, place, line) for line in raw.notices(index)]

    # Images, depth and alpha; damaged views are left empty and reported.
    kept = _Views([], [], [], [])
    for i, view in enumerate(views):
        try:
            _read_view(raw, index, view, key=keys.get(i), into=kept)
        except ValueError as error:
            for entries, nothing in (
                (kept.pictures, None),
                (kept.channels, Channels()),
                (kept.surfaces, None),
            ):
                del entries[i:]
                entries.append(nothing)
            message = str(error)
            found.append(
                Finding("unreadable", "error", split.split, object_id, message.split(": ")[0], message, view)
            )

    # Depth in scene units.
    factor = _depth_factor(kept.surfaces, cameras[0])
    surfaces = tuple(surface and surface.scaled(factor) for surface in kept.surfaces)
    subject = Subject(
        split.split, object_id, place, stored, views, pictures, poses, *cameras, tuple(kept.pictures),
        tuple(kept.channels), surfaces, kept.has_alpha, factor, object_radius,
    )  # fmt: skip
    return Reading(subject, tuple(found), kept.thumbnail, tuple(kept.signatures))


def sample(num: int, most: int | None) -> tuple[int, ...]:
    """Return at most `most` evenly spaced indices below `num`."""
    if most is None or num <= most:
        return tuple(range(num))
    return tuple(np.linspace(0, num - 1, most).round().astype(int).tolist())


def _read_cameras(
    raw: RawObjects, index: int, views: tuple[int, ...]
) -> tuple[tuple[ndarray, ndarray], list[tuple[int | None, str]]]:
    """Return poses and intrinsics, nan if missing, and a (view, message) for each missing one."""
    try:
        poses, intrinsics = raw.cameras(index)
        chosen = list(views)
        return (poses.float().numpy()[chosen], intrinsics.float().numpy()[chosen]), []
    except ValueError as error:
        broken: list[tuple[int | None, str]] = [(None, str(error))]
    cameras = [NO_CAMERA] * len(views)
    files = view_files(raw, index)
    if files is not None:  # one by one, to find all that are broken and keep the others
        broken = []
        for i, view in enumerate(views):
            picture, pose = map(Path, files[view])
            try:
                cameras[i] = read_pose(pose).numpy(), read_intrinsics(Path(raw.place(index)), picture).numpy()
            except ValueError as error:
                broken.append((view, str(error)))
    poses, intrinsics = zip(*cameras, strict=True)
    return (np.stack(poses), np.stack(intrinsics)), broken


def _read_view(raw: RawObjects, index: int, view: int, *, key: int | None, into: _Views) -> None:
    pixels = raw.picture(index, view).numpy()
    first = next((picture for picture in into.pictures if picture is not None), None)
    mask_size = first.mask.shape if first else mask_size_of(*pixels.shape[:2])
    into.pictures.append(summarise_picture(pixels, mask_size))
    if into.thumbnail is None:
        into.thumbnail = _thumbnail(pixels)
    if key is not None:
        into.signatures.append((key, signature(pixels)))
    depth, alpha = raw.depth(index, view), raw.alpha(index, view)
    depth, alpha = (None if channel is None else channel.numpy() for channel in (depth, alpha))
    into.channels.append(compare_channels(pixels, alpha, depth))
    into.surfaces.append(None if depth is None else summarise_depth(depth))
    into.has_alpha |= alpha is not None


def _depth_factor(surfaces: list[Surface | None], poses: ndarray) -> float:
    """Return the factor (1, 2 or 5 times a power of ten) that brings depth to the object, 1 if it is there.

    The files do not state the unit of their depth, but the object must be near the origin.
    """
    distances = np.linalg.norm(poses[:, :3, 3], axis=1)
    pairs = zip(distances, surfaces, strict=True)
    ratios = [
        distance / np.median(s.depth) for distance, s in pairs if s is not None and np.isfinite(distance)
    ]
    if not ratios or 2 / 3 < (ratio := float(np.median(ratios))) < 1.5:
        return 1.0
    power = 10.0 ** np.floor(np.log10(ratio))
    return float(power * min((1, 2, 5, 10), key=lambda digit: abs(np.log(digit * power / ratio))))


def _pose_keys(poses: ndarray) -> dict[int, int]:
    """Return hashes of the poses of a few views, chosen by the poses so that objects can be compared."""
    rounded = np.where(np.isfinite(poses), np.round(poses * 1000), 0).astype(np.int64)
    keys = {
        i: int.from_bytes(hashlib.blake2b(rounded[i].tobytes(), digest_size=8).digest(), "big")
        for i in range(len(poses))
        if np.isfinite(poses[i]).all()
    }
    return dict(sorted(keys.items(), key=lambda item: item[1])[:NUM_SIGNATURES])


def _thumbnail(pixels: ndarray) -> ndarray:
    from PIL import Image

    image = Image.fromarray(pixels)
    image.thumbnail((THUMBNAIL_SIDE, THUMBNAIL_SIDE), Image.Resampling.BOX)
    return np.array(image)
