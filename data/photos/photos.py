"""Read photos with their cameras.

A camera file is a text file of 16 numbers (a camera-to-world matrix in OpenCV axes, as in the SRN layout) or
a `transforms.json` whose frames name the photos, and may name masks of them. Photos that are not square are
padded with white. EXIF orientation is applied, except with a `transforms.json`, since the programs that write
these ignore it.

Photos without camera files are framed first (`data.photos.framing`) and then get cameras that look at the
origin.
"""

import math
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from data.cameras.pinhole import Cameras, cameras_from_poses, pinhole
from data.cameras.poses import SRN_RADIUS, orbit
from data.cameras.scene_keys import key_notices, merge_keys
from data.cameras.text_files import read_intrinsics_file, read_pose
from data.cameras.transforms_json import from_transforms, read_document, with_size
from data.cameras.world_up import is_z_up
from data.images.files import read_picture, require_aspect
from data.images.pixels import RESAMPLING, from_uint8, to_uint8
from data.images.scene_masks import Masks, apply_masks, find_masks
from data.photos.framing import FramedPhoto, bounding_box, object_mask, read_upright
from data.scenes.batch import Views, all_valid

FAR = 0.2  # relative to the image width; at most 0.14 in 280 views of real cars, rendered as in training


def read_photos(
    photos: Sequence[Path],
    camera_files: Sequence[Path],
    intrinsics_file: Path | None = None,
    *,
    image_size: int,
    object_radius: float | None = None,
    resampling: str = "area",
) -> Views:
    """Read photos of one object as a batch of one scene, as squares of `image_size`.

    `camera_files` has one file per photo, or one `transforms.json` for all. Intrinsics come from
    `intrinsics_file`, the `transforms.json`, or `pinhole()`. Raises ValueError if a file cannot be used.
    """
    if len(camera_files) == 1 and _is_json(camera_files[0]):
        camera_files = list(camera_files) * len(photos)
    if len(camera_files) != len(photos):
        raise ValueError(
            f"{len(photos)} photos, but {len(camera_files)} camera files; give one for each photo, in the "
            "same order, or one transforms.json for all"
        )
    images, poses, intrinsics = [], [], []
    for photo, camera_file in zip(photos, camera_files, strict=True):
        picture = read_picture(photo) if _is_json(camera_file) else read_upright(photo)[0]
        pose, matrix, masks = _read_camera(camera_file, photo, picture, alone=len(photos) == 1)
        picture = apply_masks(picture, masks)
        if intrinsics_file is not None:
            matrix = read_intrinsics_file(intrinsics_file, photo)
        picture, matrix = square_on_white(picture, matrix)
        images.append(from_uint8(RESAMPLING[resampling](picture, image_size, image_size)))
        poses.append(pose)
        intrinsics.append(matrix)
    cameras = cameras_from_poses(torch.stack(poses), torch.stack(intrinsics), object_radius=object_radius)
    return all_valid(torch.stack(images)[None], cameras.apply(lambda tensor: tensor[None]))


def placement_notices(photos: Sequence[Path], views: Views) -> list[str]:
    """Return a line for each photo whose object is at the image border or far from the projected origin.

    `views` are those of `read_photos`. Photos without a white background are skipped.
    """
    notices = []
    origins = views.cameras.project(views.images.new_zeros(*views.images.shape[:2], 1, 3))[0, :, 0, :2]
    for photo, image, origin in zip(photos, to_uint8(views.images[0]), origins.tolist(), strict=True):
        seen = object_mask(image, None)
        box = None if seen is None else bounding_box(seen)
        if box is None:
            continue
        side = len(image)
        middle = (box.left + box.right) / 2 / side, (box.top + box.bottom) / 2 / side
        distance = math.dist(middle, origin)
        if distance > FAR:
            notices.append(
                f"{photo}: the object's centre is {distance:.2f} of the image width from where "
                "its camera sees the origin, where objects are in training; check --camera and --intrinsics"
            )
        elif min(box.top, box.left) == 0 or max(box.bottom, box.right) == side:
            notices.append(
                f"{photo}: the object touches the image border, so part of it may be missing; "
                "give a photo that shows all of it"
            )
    return notices


def camera_notices(camera_files: Sequence[Path]) -> list[str]:
    """Return notices about camera files: unsupported keys of a `transforms.json`, and worlds that are not
    z-up, since novel views rotate around z.

    Errors are left to `read_photos`.
    """
    notices = []
    for path in filter(_is_json, dict.fromkeys(camera_files)):
        with suppress(ValueError):
            document = read_document(path)
            notices += [f"{path}: {line}" for line in key_notices(document)]
            size = {"w": 1, "h": 1} | document  # irrelevant for poses
            if not is_z_up(from_transforms(size)[0].cam_to_world):
                notices.append(
                    f"{path}: its cameras are not upright along z; rotate the world so that z is up"
                )
    return notices


def framed_views(
    photos: Sequence[FramedPhoto], cameras: Cameras, *, image_size: int, resampling: str = "area"
) -> Views:
    """Batch framed photos of one object and their cameras [n] as one scene, of `image_size`."""
    resize = RESAMPLING[resampling]
    images = [from_uint8(resize(photo.picture, image_size, image_size)) for photo in photos]
    return all_valid(torch.stack(images)[None], cameras.apply(lambda tensor: tensor[None]))


def orbit_cameras(
    azimuth_deg: Sequence[float],
    elevation_deg: Sequence[float],
    *,
    distance: float = SRN_RADIUS,
    focal: float | None = None,
    object_radius: float | None = None,
) -> Cameras:
    """Return upright cameras [n] at a distance from the origin that look at it; `focal` in image widths.

    Azimuths are from x towards y, elevations from the ground. `focal` defaults to that of the SRN cars. Near
    and far are as in `cameras_from_poses`.
    """
    angles = (
        torch.deg2rad(torch.tensor(values, dtype=torch.float64)) for values in (azimuth_deg, elevation_deg)
    )
    intrinsics = pinhole() if focal is None else pinhole(focal)
    return cameras_from_poses(orbit(*angles, distance).float(), intrinsics, object_radius=object_radius)


def square_on_white(
    picture: UInt8[Tensor, "h w 3"], intrinsics: Float[Tensor, "3 3"]
) -> tuple[UInt8[Tensor, "k k 3"], Float[Tensor, "3 3"]]:
    """Centre an image in a white square and adapt its intrinsics."""
    height, width = picture.shape[:2]
    side = max(height, width)
    top, left = (side - height) // 2, (side - width) // 2
    square = picture.new_full((side, side, 3), 255)
    square[top : top + height, left : left + width] = picture
    # Image coordinates to those of the square: both run from 0 to 1.
    grow = intrinsics.new_tensor(
        [[width / side, 0.0, left / side], [0.0, height / side, top / side], [0.0, 0.0, 1.0]]
    )
    return square, grow @ intrinsics


def _read_camera(path: Path, photo: Path, picture: Tensor, *, alone: bool) -> tuple[Tensor, Tensor, Masks]:
    """Read the pose, intrinsics and masks of a photo; `alone` if it is the only one."""
    height, width = picture.shape[:2]
    if not _is_json(path):
        side = max(height, width)
        focal = pinhole()[0, 0].item() * side / width
        return read_pose(path), pinhole(focal, aspect=width / height), Masks()
    document = read_document(path)
    frame = _frame_of(document, photo, path, alone=alone)
    try:
        frame = with_size(document, frame, height, width)
        cameras, _ = from_transforms(document | {"frames": [frame]})
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    require_aspect(photo, frame["w"], frame["h"], str(path))
    masks = Masks()
    if (name := merge_keys(document, frame).get("mask_path")) is not None:
        ((masks,), _) = find_masks(path.parent, [photo], [name], str(path))
    return cameras.cam_to_world[0], cameras.intrinsics[0], masks


def _frame_of(document: dict[str, Any], photo: Path, path: Path, *, alone: bool) -> dict[str, Any]:
    """Find the frame that names the photo, with or without suffix; a single frame matches a single photo."""
    frames = document.get("frames")
    if not isinstance(frames, list) or not all(isinstance(frame, dict) for frame in frames):
        raise ValueError(f"{path}: `frames` must be a list of frames; correct the file")
    names = [str(frame.get("file_path", "")).replace("\\", "/").rsplit("/", 1)[-1] for frame in frames]
    found = [frame for frame, name in zip(frames, names, strict=True) if name in (photo.name, photo.stem)]
    if alone and len(frames) == 1:
        return frames[0]
    if len(found) != 1:
        raise ValueError(
            f"{path}: {len(found)} of its {len(frames)} frames are called {photo.name}; correct `file_path`"
        )
    return found[0]


def _is_json(path: Path) -> bool:
    return path.suffix.lower() == ".json"
