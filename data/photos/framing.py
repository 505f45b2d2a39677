"""A photo of any size and shape made to look like a picture of the training data.

The object is cut out by its mask, put on white, and placed in the middle of a square of which the larger side
of its bounding box fills `FILL`: the mean over the silhouettes of the embedded cars (0.63, with a standard
deviation of 0.10; 0.64 in the views of real cars rendered in the same way).

The mask is a file of its own, or the photo's transparency, or what `data.photos.cut_out` finds, or, on white
ground, whatever is not white. A photo with none of these is taken whole, or as much of it as lies in a box.
An alpha channel that leaves all but a few pixels opaque is no mask. What is half transparent belongs to the
object where it can be seen. Photos are turned upright as their EXIF entry says.
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

FILL = 0.63  # of the picture's side, by the larger side of the object's bounding box
WHITE = 240  # darkest level of white ground in all colours
GROUND_SHARE = 0.8  # of the pixels along the edges that must be white where the ground is
EDGE = 0.01  # width of these edges as a share of the shorter side
SPECK = 0.005  # of the photo's width or height; rows and columns with less of the object are dirt
CUT_OUT = 0.03  # least share of transparent pixels, the edges aside, of a photo that is cut out by its alpha
SOLID = 230  # opacity from which a pixel is no longer half transparent
HALF_SHARE = 0.02  # of the visible pixels, soft outlines aside, that may be half transparent without notice
OUTLINE = 0.02  # width of soft outlines as a share of the shorter side


@dataclass(frozen=True)
class FramedPhoto:
    """A photo as a square; `notice` is what its owner should know, in one line.

    Of a photo that was cut out or has a box, `original` is all of it, upright, and `box` that box.
    """

    picture: UInt8[Tensor, "k k 3"]
    notice: str | None = None
    original: UInt8[Tensor, "h w 3"] | None = None
    box: Box | None = None
    whole: bool = False  # nothing is known of where the object is, so that all of it is shown


@dataclass(frozen=True)
class CutOut:
    """Where the object of a picture is; `doubts` are reasons why that may be wrong, without the path."""

    opacity: UInt8[Tensor, "h w"]
    doubts: tuple[str, ...] = ()


BackgroundRemover = Callable[[Tensor, Box | None], CutOut]  # of a picture, and a box that holds the object


def frame_photo(
    photo: Path,
    mask: Path | None = None,
    *,
    fill: float = FILL,
    box: Sequence[int] | None = None,
    remover: BackgroundRemover | None = None,
) -> FramedPhoto:
    """The object of a photo in the middle of a white square, filling `fill` of it.

    `box` is (x0, y0, x1, y1) in pixels of the upright photo; outside it everything is background. `remover`
    finds the object of a photo without mask or transparency. Raises ValueError if a file cannot be used or
    there is no object in it.
    """
    # The photo, and what is known of where the object is.
    picture, opacity = read_upright(photo)
    original, notices = picture, [profile_notice(photo)]
    area = None if box is None else pixel_box(box, photo, picture)
    if mask is not None:
        opacity = _mask_of(photo, mask, picture)
        picture = on_white(picture, opacity)
    elif opacity is not None and not is_cut_out(opacity):
        opacity = None
    if mask is None and remover is not None and opacity is not None:
        notices.append("is cut out already, as it has transparent pixels; --cut-out leaves it as it is")
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
    said = [notice for notice in notices if notice is not None]
    notice = f"{photo}: {'; also, '.join(said)}" if said else None
    kept = None if area is None and remover is None else original
    return FramedPhoto(shrunk_square(cut_square(picture, frame)), notice, kept, area, whole=whole)


def profile_notices(photos: Sequence[Path]) -> list[str]:
    """A line for each photo whose colour profile is ignored."""
    notices = ((photo, profile_notice(photo)) for photo in photos)
    return [f"{photo}: {notice}" for photo, notice in notices if notice is not None]


def frame_picture(picture: UInt8[Tensor, "h w 3"], *, fill: float = FILL) -> UInt8[Tensor, "k k 3"] | None:
    """The same of a picture that is read already; one that is not on white ground is taken whole.

    None for all of it is white.
    """
    seen = object_mask(picture, None)
    box = whole_square(picture) if seen is None else bounding_box(seen)
    if box is None:
        return None
    return shrunk_square(cut_square(picture, box if seen is None else frame_round(box, fill)))


def read_upright(photo: Path) -> tuple[UInt8[Tensor, "h w 3"], UInt8[Tensor, "h w"] | None]:
    """A photo on white, upright, and its opacity, where it knows transparency.

    Raises ValueError if it is no readable picture.
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
    """Whether an alpha channel removes a background: a real share of the pixels is transparent.

    A few transparent pixels, small rounded corners, a thin rim or pixels that are nearly opaque are none.
    """
    transparent = opacity < 128
    margin = math.ceil(EDGE * min(transparent.shape))
    inner = transparent[margin:-margin, margin:-margin]
    return bool(inner.numel() and inner.sum() >= CUT_OUT * inner.numel())


def object_mask(
    picture: UInt8[Tensor, "h w 3"], opacity: UInt8[Tensor, "h w"] | None
) -> Bool[Tensor, "h w"] | None:
    """Where the object is: by opacity if any pixel is transparent, else by the ground if that is white.

    Half transparent pixels belong to it where they can be seen: `picture` is on white. None: it is neither.
    """
    if opacity is not None and opacity.min() < 255:
        return (opacity > 127) | (picture < WHITE).any(dim=-1)
    dark = (picture < WHITE).any(dim=-1)
    width = max(1, math.ceil(EDGE * min(dark.shape)))
    inside = torch.zeros_like(dark)
    inside[width:-width, width:-width] = True
    return dark if (~dark[~inside]).float().mean() >= GROUND_SHARE else None


def bounding_box(seen: Bool[Tensor, "h w"]) -> Box | None:
    """The rows and columns that show the object, specks left out; None: there are none."""
    height, width = seen.shape
    rows = (seen.sum(dim=1) >= max(1, SPECK * width)).nonzero()
    columns = (seen.sum(dim=0) >= max(1, SPECK * height)).nonzero()
    if not len(rows) or not len(columns):
        return None
    return Box(int(rows[0]), int(columns[0]), int(rows[-1]) + 1, int(columns[-1]) + 1)


def _mask_of(photo: Path, mask: Path, picture: UInt8[Tensor, "h w 3"]) -> UInt8[Tensor, "h w"]:
    """The mask of an upright photo. Raises ValueError if it is of another size."""
    opacity = read_mask(mask, upright=True)
    if opacity.shape != picture.shape[:2]:
        raise ValueError(
            f"{mask}: is {opacity.shape[1]} x {opacity.shape[0]}, but {photo} is {picture.shape[1]} x "
            f"{picture.shape[0]} when upright; give a mask of the same size"
        )
    return opacity


def _without_mask(part: str) -> str:
    return (
        f"its background is neither white nor transparent, so the whole {part} is used; give --cut-out, "
        "or --mask, for a likeness of the object alone"
    )


def _remove_background(
    picture: UInt8[Tensor, "h w 3"], remover: BackgroundRemover, area: Box | None, photo: Path
) -> tuple[UInt8[Tensor, "h w"], list[str]]:
    """Opacity of the object, and a notice if it may be wrong. Raises ValueError if there is no object."""
    try:
        found = remover(picture, area)
    except ValueError as error:
        raise ValueError(f"{photo}: {error}") from error
    if not found.doubts:
        return found.opacity, []
    advice = "--mask" if area is not None else "--box, or --mask,"
    return found.opacity, [
        f"--cut-out may be wrong ({'; '.join(found.doubts)}); look at it, and give {advice} if so"
    ]


def _half_notice(seen: Bool[Tensor, "h w"], opacity: UInt8[Tensor, "h w"]) -> str | None:
    """What to say if much of what can be seen is half transparent, soft outlines aside."""
    height, width = seen.shape
    side = max(3, math.ceil(OUTLINE * min(height, width)))
    half = seen & (opacity < SOLID)
    # Squares of which all pixels are half transparent; what is thinner than a square fills none.
    half = half[: height // side * side, : width // side * side]
    squares = half.unflatten(0, (-1, side)).unflatten(2, (-1, side)).all(dim=3).all(dim=1)
    if squares.sum() * side**2 <= HALF_SHARE * seen.sum():
        return None
    share = float((seen & (opacity < SOLID)).sum() / seen.sum())
    return (
        f"{share:.0%} of what it shows is half transparent, like a shadow or a part of the object that was "
        "removed with the background; all of it is kept; give --mask for the object alone"
    )


def _within(
    box: Box, picture: UInt8[Tensor, "h w 3"], seen: Bool[Tensor, "h w"] | None
) -> tuple[UInt8[Tensor, "k l 3"], Bool[Tensor, "k l"]]:
    """What a box holds; all of it is the object if nothing else is known."""
    rows, columns = slice(box.top, box.bottom), slice(box.left, box.right)
    part = picture[rows, columns]
    return part, torch.ones(part.shape[:2], dtype=torch.bool) if seen is None else seen[rows, columns]


def _frame_of(seen: Bool[Tensor, "h w"], fill: float, path: Path) -> Box:
    """The square round an object. Raises ValueError if there is none."""
    box = bounding_box(seen)
    if box is None:
        raise ValueError(f"{path}: shows no object, as everything is background; give another file")
    return frame_round(box, fill)
