"""Crop a photo of any size and shape to look like the training images.

The object is cut out by its mask, composited on white, and centred in a square of which the longer side of
its bounding box fills `FILL`: the mean over the silhouettes of the embedded cars (0.63, with a standard
deviation of 0.10; 0.64 in the views of real cars rendered in the same way).

The mask is a separate file, the photo's transparency, the result of `data.photos.cut_out`, or, on a white
background, everything that is not white. Without any of these the whole photo, or the whole box, is used. An
alpha channel that is opaque except for a few pixels does not count as a mask. Visible half-transparent pixels
belong to the object. EXIF orientation is applied.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Bool, UInt8
from torch import Tensor

from data.images.files import on_white_ground
from data.images.masks import on_white, opacity_of, read_mask
from data.images.picture_files import decoded, profile_notice
from data.photos.squares import Box, cut_square, frame_round, pixel_box, shrunk_square, whole_square

FILL = 0.63  # longer side of the object's bounding box, relative to the image
WHITE = 240  # darkest level, in all channels, that counts as white
GROUND_SHARE = 0.8  # fraction of border pixels that must be white for a white background
EDGE = 0.01  # width of the border, relative to the shorter side
SPECK = 0.005  # relative to the photo's width or height; rows and columns with less of the object are noise
CUT_OUT = 0.03  # least fraction of transparent pixels, without the border, for alpha to be a mask
SOLID = 230  # opacity from which a pixel counts as opaque
HALF_SHARE = 0.02  # fraction of visible pixels, without soft outlines, that may be half transparent
OUTLINE = 0.02  # width of soft outlines, relative to the shorter side


@dataclass(frozen=True)
class FramedPhoto:
    """A photo cropped to a square; `notice` is a one-line message for the user.

    For a photo that was cut out or has a box, `original` is the whole photo, upright, and `box` that box.
    """

    picture: UInt8[Tensor, "k k 3"]
    notice: str | None = None
    original: UInt8[Tensor, "h w 3"] | None = None
    box: Box | None = None
    whole: bool = False  # the object's location is unknown, so the whole photo is shown


@dataclass(frozen=True)
class CutOut:
    """The object's mask in an image; `doubts` are reasons why it may be wrong, without the path."""

    opacity: UInt8[Tensor, "h w"]
    doubts: tuple[str, ...] = ()


BackgroundRemover = Callable[[Tensor, Box | None], CutOut]  # of an image, and a box around the object


def frame_photo(
    photo: Path,
    mask: Path | None = None,
    *,
    fill: float = FILL,
    box: Sequence[int] | None = None,
    remover: BackgroundRemover | None = None,
) -> FramedPhoto:
    """Centre the object of a photo in a white square, filling `fill` of it.

    `box` is (x0, y0, x1, y1) in pixels of the upright photo; outside it everything is background. `remover`
    finds the object of a photo without mask or transparency. Raises ValueError if a file cannot be used or
    shows no object.
    """
    # The photo, and the mask if there is one.
    picture, opacity = read_upright(photo)
    original, notices = picture, [profile_notice(photo)]
    area = None if box is None else pixel_box(box, photo, picture)
    if mask is not None:
        opacity = _mask_of(photo, mask, picture)
        picture = on_white(picture, opacity)
    elif opacity is not None and not is_cut_out(opacity):
        opacity = None
    if mask is None and remover is not None and opacity is not None:
        notices.append("already has a transparent background; --cut-out leaves it unchanged")
    elif mask is None and remover is not None:
        opacity, doubts = _remove_background(picture, remover, area, photo)
        picture = on_white(picture, opacity)
        notices += doubts
    seen = object_mask(picture, opacity)

    # The part that is used, and the square around it.
    whole = seen is None
    if whole:
        notices.append(_without_mask("picture" if area is None else "box"))
    elif opacity is not None and remover is None:
        notices.append(_half_notice(seen, opacity))
    if area is not None:
        picture, seen = _within(area, picture, seen)
    frame = whole_square(picture) if seen is None else _frame_of(seen, fill, mask or photo)
    messages = [notice for notice in notices if notice is not None]
    notice = f"{photo}: {'; also, '.join(messages)}" if messages else None
    kept = None if area is None and remover is None else original
    return FramedPhoto(shrunk_square(cut_square(picture, frame)), notice, kept, area, whole=whole)


def profile_notices(photos: Sequence[Path]) -> list[str]:
    """Return a line for each photo whose colour profile is ignored."""
    notices = ((photo, profile_notice(photo)) for photo in photos)
    return [f"{photo}: {notice}" for photo, notice in notices if notice is not None]


def frame_picture(picture: UInt8[Tensor, "h w 3"], *, fill: float = FILL) -> UInt8[Tensor, "k k 3"] | None:
    """Frame the object of an image in memory; without a white background the whole image is used.

    None for all of it is white.
    """
    seen = object_mask(picture, None)
    box = whole_square(picture) if seen is None else bounding_box(seen)
    if box is None:
        return None
    return shrunk_square(cut_square(picture, box if seen is None else frame_round(box, fill)))


def read_upright(photo: Path) -> tuple[UInt8[Tensor, "h w 3"], UInt8[Tensor, "h w"] | None]:
    """Read a photo upright and on white, with its opacity if it has transparency.

    Raises ValueError if it is not a readable image.
    """
    try:
        image = decoded(photo, upright=True)
    except ValueError as error:
        if photo.suffix.lower() in (".heic", ".heif", ".dng", ".raw") and photo.is_file():
            raise ValueError(
                f"{photo}: this kind of photo cannot be read; convert it to JPEG or PNG"
            ) from error
        raise
    return on_white_ground(image), opacity_of(image)


def is_cut_out(opacity: UInt8[Tensor, "h w"]) -> bool:
    """Whether an alpha channel removes a background: a substantial fraction of the pixels is transparent.

    A few transparent pixels, small rounded corners, a thin rim or nearly opaque pixels do not count.
    """
    transparent = opacity < 128
    margin = math.ceil(EDGE * min(transparent.shape))
    inner = transparent[margin:-margin, margin:-margin]
    return bool(inner.numel() and inner.sum() >= CUT_OUT * inner.numel())


def object_mask(
    picture: UInt8[Tensor, "h w 3"], opacity: UInt8[Tensor, "h w"] | None
) -> Bool[Tensor, "h w"] | None:
    """Locate the object: by opacity if any pixel is transparent, else by a white background.

    Visible half-transparent pixels belong to it: `picture` is on white. Returns None without either.
    """
    if opacity is not None and opacity.min() < 255:
        return (opacity > 127) | (picture < WHITE).any(dim=-1)
    dark = (picture < WHITE).any(dim=-1)
    width = max(1, math.ceil(EDGE * min(dark.shape)))
    inside = torch.zeros_like(dark)
    inside[width:-width, width:-width] = True
    return dark if (~dark[~inside]).float().mean() >= GROUND_SHARE else None


def bounding_box(seen: Bool[Tensor, "h w"]) -> Box | None:
    """Return the bounding box of the object without specks; None if it is empty."""
    height, width = seen.shape
    rows = (seen.sum(dim=1) >= max(1, SPECK * width)).nonzero()
    columns = (seen.sum(dim=0) >= max(1, SPECK * height)).nonzero()
    if not len(rows) or not len(columns):
        return None
    return Box(int(rows[0]), int(columns[0]), int(rows[-1]) + 1, int(columns[-1]) + 1)


def _mask_of(photo: Path, mask: Path, picture: UInt8[Tensor, "h w 3"]) -> UInt8[Tensor, "h w"]:
    """Read the mask of an upright photo. Raises ValueError if its size differs."""
    opacity = read_mask(mask, upright=True)
    if opacity.shape != picture.shape[:2]:
        raise ValueError(
            f"{mask}: is {opacity.shape[1]} x {opacity.shape[0]}, but {photo} is {picture.shape[1]} x "
            f"{picture.shape[0]} when upright; give a mask of the same size"
        )
    return opacity


def _without_mask(part: str) -> str:
    return (
        f"its background is neither white nor transparent, so the whole {part} is used; give --cut-out "
        "or --mask to isolate the object"
    )


def _remove_background(
    picture: UInt8[Tensor, "h w 3"], remover: BackgroundRemover, area: Box | None, photo: Path
) -> tuple[UInt8[Tensor, "h w"], list[str]]:
    """Return the object's opacity, and a notice if it may be wrong. Raises ValueError if there is none."""
    try:
        found = remover(picture, area)
    except ValueError as error:
        raise ValueError(f"{photo}: {error}") from error
    if not found.doubts:
        return found.opacity, []
    advice = "--mask" if area is not None else "--box, or --mask,"
    return found.opacity, [
        f"--cut-out may be wrong ({'; '.join(found.doubts)}); check it, and give {advice} if so"
    ]


def _half_notice(seen: Bool[Tensor, "h w"], opacity: UInt8[Tensor, "h w"]) -> str | None:
    """Return a notice if much of the object is half transparent, apart from soft outlines."""
    height, width = seen.shape
    side = max(3, math.ceil(OUTLINE * min(height, width)))
    half = seen & (opacity < SOLID)
    # Erosion: thin outlines contain no square of half-transparent pixels.
    half = half[: height // side * side, : width // side * side]
    squares = half.unflatten(0, (-1, side)).unflatten(2, (-1, side)).all(dim=3).all(dim=1)
    if squares.sum() * side**2 <= HALF_SHARE * seen.sum():
        return None
    share = float((seen & (opacity < SOLID)).sum() / seen.sum())
    return (
        f"{share:.0%} of the object is half transparent, like a shadow or a part of the object that was "
        "removed with the background; all of it is kept; give --mask to isolate the object"
    )


def _within(
    box: Box, picture: UInt8[Tensor, "h w 3"], seen: Bool[Tensor, "h w"] | None
) -> tuple[UInt8[Tensor, "k l 3"], Bool[Tensor, "k l"]]:
    """Crop to a box; without a mask, all of it is the object."""
    rows, columns = slice(box.top, box.bottom), slice(box.left, box.right)
    part = picture[rows, columns]
    return part, torch.ones(part.shape[:2], dtype=torch.bool) if seen is None else seen[rows, columns]


def _frame_of(seen: Bool[Tensor, "h w"], fill: float, path: Path) -> Box:
    """Return the square around an object. Raises ValueError if there is none."""
    box = bounding_box(seen)
    if box is None:
        raise ValueError(f"{path}: shows no object, only background; give another file")
    return frame_round(box, fill)
