"""Compact summaries of an image, its alpha and its depth: statistics, a small silhouette, some points."""

import hashlib
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, UInt8
from numpy import ndarray
from PIL import Image
from scipy import ndimage

MASK_SIDE = 64  # pixels, longer side of a silhouette
FRONT_SIDE = 128  # likewise of a depth map
NUM_POINTS = 256  # points kept of a surface
CONTRAST = 10  # levels of 255 by which the object differs from the background
PLAIN_SHARE = 0.5  # fraction of the border that must have the background's colour
SIGNATURE_SIDE = 8
CROSS = ndimage.generate_binary_structure(2, 1)[None]  # the four neighbours in the same mask


@dataclass(frozen=True)
class Picture:
    """Summary of an image."""

    size: tuple[int, int]  # height, width
    digest: int  # 64-bit hash of size and pixels
    background: tuple[int, int, int] | None  # colour; None if not plain
    mask: Bool[ndarray, "k l"]  # silhouette; partly covered pixels count
    covered: float  # fraction of foreground pixels
    touches_edge: bool


@dataclass(frozen=True)
class Surface:
    """Summary of a depth map: some surface points, and the free space along every ray."""

    image_points: Float[ndarray, "p 2"]  # (u, v), normalised by width and height
    depth: Float[ndarray, "p"]  # scene units
    front: Float[ndarray, "k l"]  # least depth of every block of pixels; inf if empty

    def scaled(self, factor: float) -> "Surface":
        """Return the surface with depth multiplied by `factor`."""
        return self if factor == 1 else Surface(self.image_points, self.depth * factor, self.front * factor)


@dataclass(frozen=True)
class Channels:
    """Agreement of alpha, depth and image of a view, as fractions of the object's pixels."""

    coloured_outside: float = 0.0  # foreground in the image where alpha is 0
    only_depth: float = 0.0  # depth where alpha is 0
    only_alpha: float = 0.0  # alpha 255 without depth
    better: str = ""  # how the image must be flipped to match alpha, if that helps


def summarise_picture(pixels: UInt8[ndarray, "h w 3"], mask_size: tuple[int, int]) -> Picture:
    """Summarise an image; `mask_size` is the height and width of its silhouette."""
    height, width = pixels.shape[:2]
    digest = hashlib.blake2b(f"{height}x{width}".encode(), digest_size=8)
    digest.update(np.ascontiguousarray(pixels))
    background = _background(pixels)
    objects = _differs(pixels, background, CONTRAST) if background else np.ones((height, width), bool)
    strong = _differs(_border(pixels)[None], background, 4 * CONTRAST) if background else np.zeros(1)
    return Picture(
        size=(height, width),
        digest=int.from_bytes(digest.digest(), "big"),
        background=background,
        mask=_reduce_blocks(np.logical_or, objects, mask_size),
        covered=float(objects.mean()),
        touches_edge=int(strong.sum()) > 1,
    )


def mask_size_of(height: int, width: int) -> tuple[int, int]:
    """Return the silhouette size for images of this size."""
    shrink = max(1.0, max(height, width) / MASK_SIDE)
    return max(1, round(height / shrink)), max(1, round(width / shrink))


def summarise_depth(depth: Float[ndarray, "h w"]) -> Surface | None:
    """Summarise a depth map; None if it is empty."""
    height, width = depth.shape
    rows, columns = np.nonzero(depth > 0)
    if not len(rows):
        return None
    chosen = np.linspace(0, len(rows) - 1, min(NUM_POINTS, len(rows))).astype(int)
    rows, columns = rows[chosen], columns[chosen]
    shrink = max(1.0, max(height, width) / FRONT_SIDE)
    size = max(1, round(height / shrink)), max(1, round(width / shrink))
    front = np.where(depth > 0, depth, np.inf).astype(np.float32)
    return Surface(
        np.stack([(columns + 0.5) / width, (rows + 0.5) / height], axis=1).astype(np.float32),
        depth[rows, columns].astype(np.float32),
        _reduce_blocks(np.minimum, front, size),
    )


def compare_channels(
    pixels: UInt8[ndarray, "h w 3"],
    alpha: UInt8[ndarray, "h w"] | None,
    depth: Float[ndarray, "h w"] | None,
) -> Channels:
    """Compare alpha, depth and image, which must have the same size."""
    background = _background(pixels)
    if alpha is None or background is None or alpha.shape != pixels.shape[:2]:
        return Channels()
    coloured, nothing = _differs(pixels, background, 3 * CONTRAST), alpha == 0
    outside = _share(coloured & nothing, coloured)
    turned = {"mirrored": nothing[:, ::-1], "upside down": nothing[::-1], "turned round": nothing[::-1, ::-1]}
    rest = {name: _share(coloured & other, coloured) for name, other in turned.items()}
    best = min(rest, key=lambda name: rest[name])
    better = best if rest[best] < min(0.2 * outside, 0.03) else ""
    if depth is None or depth.shape != alpha.shape:
        return Channels(outside, better=better)
    met = depth > 0
    return Channels(outside, _share(met & nothing, met), _share(~met & (alpha == 255), ~nothing), better)


def signature(pixels: UInt8[ndarray, "h w 3"]) -> UInt8[ndarray, "s s 3"]:
    """Return a tiny version of an image, to recognise the same object from the same pose."""
    return np.asarray(Image.fromarray(pixels).resize((SIGNATURE_SIDE,) * 2, Image.Resampling.BOX))


def fill_holes(masks: Bool[ndarray, "v k l"]) -> Bool[ndarray, "v k l"]:
    """Fill the parts of the background that are not connected to the image border.

    Object parts in the background's colour would otherwise appear as holes.
    """
    return ndimage.binary_fill_holes(masks, CROSS)


def dilate(masks: Bool[ndarray, "*v k l"], times: int = 1) -> Bool[ndarray, "*v k l"]:
    """Dilate masks by one pixel in all eight directions, `times` times."""
    for _ in range(times):
        grown = masks.copy()
        grown[..., 1:, :] |= masks[..., :-1, :]
        grown[..., :-1, :] |= masks[..., 1:, :]
        masks = grown.copy()
        masks[..., 1:] |= grown[..., :-1]
        masks[..., :-1] |= grown[..., 1:]
    return masks


def _background(pixels: UInt8[ndarray, "h w 3"]) -> tuple[int, int, int] | None:
    """Return the colour of the image border, preferring white or black to values in between."""
    border = _border(pixels)
    for colour in ((255, 255, 255), (0, 0, 0), tuple(int(x) for x in np.median(border, axis=0))):
        if 1 - _differs(border[None], colour, CONTRAST).mean() >= PLAIN_SHARE:
            return colour
    return None


def _border(pixels: UInt8[ndarray, "h w 3"]) -> UInt8[ndarray, "n 3"]:
    return np.concatenate([pixels[0], pixels[-1], pixels[1:-1, 0], pixels[1:-1, -1]])


def _differs(pixels: UInt8[ndarray, "h w 3"], colour: tuple[int, int, int], by: int) -> Bool[ndarray, "h w"]:
    differs = np.zeros(pixels.shape[:2], bool)
    for channel, value in enumerate(colour):  # numpy is slow along an axis of three
        values = pixels[..., channel]
        differs |= (values < max(0, value - by)) | (values > min(255, value + by))
    return differs


def _reduce_blocks(function: np.ufunc, values: ndarray, size: tuple[int, int]) -> ndarray:
    """Reduce the blocks of a grid of `size` over a map with `function`; small maps repeat pixels."""
    for axis, (old, new) in enumerate(zip(values.shape, size, strict=True)):
        if old != new:
            values = function.reduceat(values, np.arange(new) * old // new, axis=axis)
    return values


def _share(part: ndarray, whole: ndarray) -> float:
    return float(part.sum() / max(1, whole.sum()))
