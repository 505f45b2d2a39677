"""One's own photos with the cameras that took them.

A camera file is a text file of 16 numbers (a camera-to-world matrix in OpenCV axes, as in the SRN layout) or
a `transforms.json` whose frames name the photos, and may name masks of them. A photo that is not square is
given white borders rather than squeezed. Photos are turned upright as their EXIF entry says, except with a
`transforms.json`, since the programs that write these take photos as they are stored.

Photos without camera files are framed first (`data.photos.framing`) and then given cameras that look at the
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

FAR = 0.2  # of a picture's width; in 280 views of real cars, rendered as in training, it is 0.14 at most


def read_photos(
    photos: Sequence[Path],
    camera_files: Sequence[Path],
    intrinsics_file: Path | None = None,
    *,
    image_size: int,
    object_radius: float | None = None,
    resampling: str = "area",
) -> Views:
    """Photos of one object as a batch of one scene, as squares of `image_size`.

    `camera_files` are one for each photo, or one `transforms.json` for all. Intrinsics are those of
    `intrinsics_file`, or of the `transforms.json`, or `pinhole()`. Raises ValueError if a file cannot be
    used.
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
    """What the owner of photos with cameras should know, one line for each that shows its object at the edge
    or far from where its camera sees the origin, round which the object should stand.

    `views` are those of `read_photos`. Nothing is said of a photo whose ground is not white.
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
                f"{photo}: the middle of the object lies {distance:.2f} of the picture's width from where "
                "its camera sees the origin, where objects stand in training; check --camera and --intrinsics"
            )
        elif min(box.top, box.left) == 0 or max(box.bottom, box.right) == side:
            notices.append(
                f"{photo}: the object touches the edge of the picture, so that part of it may be missing; "
                "take a photo that shows all of it"
            )
    return notices


def camera_notices(camera_files: Sequence[Path]) -> list[str]:
    """What the owner of camera files should know: keys of a `transforms.json` that are not honoured, and that
    its cameras stand in a world whose z axis is not up, round which novel views go.

    Nothing is said of what `read_photos` refuses.
    """
    notices = []
    for path in filter(_is_json, dict.fromkeys(camera_files)):
        with suppress(ValueError):
            document = read_document(path)
            notices += [f"{path}: {line}" for line in key_notices(document)]
            size = {"w": 1, "h": 1} | document  # of which the poses do not depend
            if not is_z_up(from_transforms(size)[0].cam_to_world):
                notices.append(f"{path}: its cameras are not upright along z; turn the world so that z is up")
    return notices


def framed_views(
    photos: Sequence[FramedPhoto], cameras: Cameras, *, image_size: int, resampling: str = "area"
) -> Views:
    """Framed photos of one object and their cameras [n] as a batch of one scene, of `image_size`."""
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
    """Cameras [n] at a distance from the origin that look at it, upright; `focal` in picture widths.

    Azimuths go from x towards y, elevations from the ground. None is the focal length of the SRN cars. Near
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
    """The picture in the middle of a white square, with the intrinsics of that square."""
    height, width = picture.shape[:2]
    side = max(height, width)
    top, left = (side - height) // 2, (side - width) // 2
    square = picture.new_full((side, side, 3), 255)
    square[top : top + height, left : left + width] = picture
    # Picture coordinates to those of the square: both run from 0 to 1.
    grow = intrinsics.new_tensor(
        [[width / side, 0.0, left / side], [0.0, height / side, top / side], [0.0, 0.0, 1.0]]
    )
    return square, grow @ intrinsics


def _read_camera(path: Path, photo: Path, picture: Tensor, *, alone: bool) -> tuple[Tensor, Tensor, Masks]:
    """Pose, intrinsics and masks of a photo, which is `alone` if there are no others."""
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
    """The frame that names the photo, with or without suffix; for a lone photo, a lone frame is it anyway."""
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
