"""Mask files of a scene: object masks (white is the object) and ignore masks (white is ignored).

The object mask of SCENE/images/NAME.png is the first of these that exists:

    the file that `mask_path` of its frame names
    SCENE/images/NAME.alpha.png                 instant-ngp
    SCENE/masks/NAME.png or NAME.png.png        nerfstudio, COLMAP; also `mask`, also below `images`

The ignore mask is SCENE/images/dynamic_mask_NAME.png, as in instant-ngp. Background and ignored pixels become
white. Suffixes may differ. Every problem is a one-line ValueError.
"""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import UInt8
from torch import Tensor

from data.images.files import picture_size, read_picture
from data.images.masks import on_white, read_mask, read_opacity

SUFFIXES = (".png", ".jpg", ".jpeg", ".PNG", ".JPG", ".JPEG", ".webp")
FOLDERS = ("masks", "mask")


@dataclass(frozen=True)
class Masks:
    """The masks of one image."""

    shown: Path | None = None  # white is the object
    ignored: Path | None = None  # white, or in a dark mask anything but black, is ignored


class _Files:
    """Folder listings, each read once, since there are many images and slow disks."""

    def __init__(self):
        self._names: dict[Path, set[str]] = {}

    def find(self, path: Path) -> Path | None:
        """Find an image with this name and any suffix."""
        folder = path.parent
        if folder not in self._names:
            self._names[folder] = set(os.listdir(folder)) if folder.is_dir() else set()
        found = (f"{path.name}{suffix}" for suffix in SUFFIXES)
        return next((folder / name for name in found if name in self._names[folder]), None)


def find_masks(
    folder: Path, pictures: Sequence[Path], named: Sequence[str | None], described: str
) -> tuple[tuple[Masks, ...], list[str]]:
    """Find the masks of the images of the scene in `folder`, and notices about them.

    `named` are the mask files that the frames name in the file `described`. Raises ValueError if a file is
    missing or differs in size from its image.
    """
    files = _Files()
    if any(named):
        shown = [_named(folder, name, i, described) for i, name in enumerate(named)]
        notices = []
    else:
        shown, notices = _beside(folder, pictures, files)
    ignored = [files.find(picture.with_name(f"dynamic_mask_{picture.stem}")) for picture in pictures]
    if (number := sum(path is not None for path in ignored)) > 0:
        notices.append(f"{number} dynamic masks are applied: what they mark becomes white")
    found = tuple(map(Masks, shown, ignored))
    for picture, masks in zip(pictures, found, strict=True):
        for mask in filter(None, (masks.shown, masks.ignored)):
            _require_size(mask, picture)
    return found, notices


def find_file(folder: Path, name: str) -> Path | None:
    """Resolve a file name from a scene file, with or without suffix, also with Windows separators."""
    for path in dict.fromkeys((folder / name, folder / name.replace("\\", "/"))):
        suffixed = (path.with_name(f"{path.name}{suffix}") for suffix in SUFFIXES) if path.name else ()
        if (found := next((p for p in (path, *suffixed) if p.is_file()), None)) is not None:
            return found
    return None


def read_masked_picture(picture: Path, masks: Masks) -> UInt8[Tensor, "h w 3"]:
    """Read an image as RGB on white; transparent, background and ignored pixels become white."""
    return apply_masks(read_picture(picture), masks)


def apply_masks(pixels: UInt8[Tensor, "h w 3"], masks: Masks) -> UInt8[Tensor, "h w 3"]:
    """Make the background and ignored pixels of an image white."""
    if masks.shown is not None:
        pixels = on_white(pixels, read_mask(masks.shown))
    if masks.ignored is not None:
        mask = read_mask(masks.ignored)
        pixels = on_white(pixels, 255 - (mask if mask.max() >= 128 else 255 * (mask > 0)))
    return pixels


def read_masked_opacity(picture: Path, masks: Masks) -> UInt8[Tensor, "h w"] | None:
    """Read the opacity from the image's transparency and the object mask; None if there is neither."""
    opacity = read_opacity(picture)
    if masks.shown is None:
        return opacity
    mask = read_mask(masks.shown)
    return mask if opacity is None else torch.minimum(opacity, mask)


def _named(folder: Path, name: str | None, index: int, described: str) -> Path:
    if not isinstance(name, str) or not name:
        raise ValueError(
            f"{described}: frame {index} has no `mask_path` (a file name), but other frames have one; add it"
        )
    found = find_file(folder, name)
    if found is None:
        raise ValueError(
            f"{folder / name}: does not exist, but frame {index} of {described} refers to it; restore it, "
            "or remove `mask_path` from all frames"
        )
    return found


def _beside(folder: Path, pictures: Sequence[Path], files: _Files) -> tuple[list[Path | None], list[str]]:
    """Find masks by naming convention. Raises ValueError if some images have one and others do not."""
    places = [folder / name for name in FOLDERS if (folder / name).is_dir()]
    shown = [_mask_of(picture, folder, places, files) for picture in pictures]
    found = [path for path in shown if path is not None]
    if not found:
        return shown, [
            f"{place.name}: no file in it belongs to an image, so it is not used" for place in places
        ]
    if len(found) < len(shown):
        bare = pictures[shown.index(None)]
        raise ValueError(
            f"{bare}: has no mask, but other images have (such as {found[0]}); add it, or remove all masks"
        )
    kind = f"{found[0].parent.name}/{found[0].name}"
    return shown, [f"masks (such as {kind}) are applied: what is black in them becomes white"]


def _mask_of(picture: Path, folder: Path, places: Sequence[Path], files: _Files) -> Path | None:
    if (alpha := files.find(picture.with_name(f"{picture.stem}.alpha"))) is not None:
        return alpha
    names = [place / relative for place in places for relative in _below(picture, folder)]
    either = (files.find(name) or files.find(name.with_suffix("")) for name in names)
    return next(filter(None, either), None)


def _below(picture: Path, folder: Path) -> Iterator[Path]:
    """Yield the possible names of an image's mask in a folder of masks."""
    if picture.is_relative_to(folder):
        relative = picture.relative_to(folder)
        yield relative
        if len(relative.parts) > 1:
            yield Path(*relative.parts[1:])
    yield Path(picture.name)


def _require_size(mask: Path, picture: Path) -> None:
    (height, width), (found_height, found_width) = picture_size(picture), picture_size(mask)
    if (height, width) != (found_height, found_width):
        raise ValueError(
            f"{mask}: is {found_width} x {found_height}, but its image {picture} is {width} x {height}; "
            "give a mask of that size"
        )
