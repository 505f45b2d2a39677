"""Sprite sheets: images with all frames of an animation in a grid.

The page shows one frame of a sheet at a time. It can step in both directions with exact frames, and a sheet
is smaller than an H.264 video of the same resolution: 14 kB instead of 32 kB for 20 views of 64 x 64 pixels
at quality 92.
"""

import math
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import UInt8
from PIL import Image
from torch import Tensor

from data.cameras.pinhole import Cameras
from data.images.display import grid
from data.images.files import write_mp4
from data.images.pixels import RESAMPLING, to_uint8
from data.scenes.views import evenly_spaced
from scripts.common.html.pictures import KIND, encoded
from scripts.gallery.assets import Assets
from scripts.gallery.methods import Entry, Method, Truth, existing, read_alike
from scripts.sampling.reader import ViewSequence
from scripts.sampling.writer import VIDEO_SIDE

KINDS = {  # of sheets, with the file names of sample_views.py
    "sample": "view",
    "preview": "preview",
    "depth": "depth",
    "mean": "spread_mean",
    "spread": "spread_std",
}
LARGEST_SIDE = 256  # pixels of a frame; larger ones are reduced
TURN_RATE, SLOWEST, FASTEST = 120.0, 1.0, 12.0  # degrees per second around the object; frames per second


@dataclass(frozen=True)
class SpriteSheet:
    """Frames of equal size in a grid, row by row."""

    name: str  # of the file
    count: int
    columns: int
    rows: int
    height: int  # pixels of a frame
    width: int


@dataclass(frozen=True)
class SheetOptions:
    """Options of sprite sheets."""

    frames: int  # maximum per sheet, evenly spaced
    stills: int  # how many of them are also shown as stills
    quality: int  # 1 to 100
    mp4: bool  # whether to also write a video


@dataclass(frozen=True)
class Result:
    """The result of one method for one object."""

    entry: Entry
    total: int  # number of views
    views: tuple[int, ...]  # the numbers of the views that are shown
    stills: tuple[int, ...]  # indices into `views`
    fps: float
    sheets: dict[str, SpriteSheet]  # of KINDS, and "truth" and "input"
    mp4: str | None  # name of the file


@dataclass(frozen=True)
class GalleryItem:
    """One object with the result of each method, or None if the method lacks the object."""

    name: str
    results: tuple[Result | None, ...]


def gallery_items(
    methods: Sequence[Method], truth: Truth, options: SheetOptions, assets: Assets
) -> Iterator[GalleryItem]:
    """The objects of all methods, in order of appearance.

    Raises FullError if the size limit of `assets` is exceeded.
    """
    for name in dict.fromkeys(name for method in methods for name in method.entries):
        found = [method.entries.get(name) for method in methods]
        yield GalleryItem(name, tuple(entry and _result(entry, truth, options, assets) for entry in found))


def frame_rate(cameras: Cameras) -> float:
    """Frames per second at which the camera orbits the origin at `TURN_RATE`."""
    directions = torch.nn.functional.normalize(cameras.positions.double(), dim=-1)
    if len(directions) < 2:
        return SLOWEST
    angles = (directions[1:] * directions[:-1]).sum(dim=-1).clamp(-1, 1).arccos().rad2deg()
    return min(FASTEST, max(SLOWEST, TURN_RATE / max(angles.median().item(), 1e-3)))


def _result(entry: Entry, truth: Truth, options: SheetOptions, assets: Assets) -> Result:
    sequence, total = entry.sequence, len(entry.sequence.pictures)
    views = evenly_spaced(range(total), min(options.frames, total))
    stills = evenly_spaced(range(len(views)), min(options.stills, len(views)))
    groups = {kind: existing(sequence.beside(file)) for kind, file in KINDS.items()} | {
        "sample": sequence.pictures
    }
    pictures = {kind: read_alike([paths[view] for view in views]) for kind, paths in groups.items() if paths}
    if not entry.untrue:
        pictures["truth"] = to_uint8(truth.images(sequence)[views])
    fps = frame_rate(sequence.cameras[views])
    sheets = {
        kind: _sheet(frames, f"{sequence.name}-{kind}", options, assets) for kind, frames in pictures.items()
    } | _inputs(sequence, options, assets)
    mp4 = _mp4(sequence.name, pictures, fps, assets) if options.mp4 else None
    return Result(entry, total, tuple(views), tuple(stills), fps, sheets, mp4)


def _inputs(sequence: ViewSequence, options: SheetOptions, assets: Assets) -> dict[str, SpriteSheet]:
    if not sequence.inputs:
        return {}
    return {"input": _sheet(read_alike(sequence.inputs), f"{sequence.name}-input", options, assets)}


def _sheet(
    pictures: UInt8[Tensor, "n h w 3"], stem: str, options: SheetOptions, assets: Assets
) -> SpriteSheet:
    pictures = _reduced(pictures)
    count, height, width, _ = pictures.shape
    columns = math.ceil(math.sqrt(count))
    sheet = Image.fromarray(grid(pictures, columns=columns, gap=0).contiguous().numpy())
    name = assets.add(stem, KIND, encoded(sheet, options.quality))
    return SpriteSheet(name, count, columns, -(-count // columns), height, width)


def _reduced(pictures: UInt8[Tensor, "n h w 3"]) -> UInt8[Tensor, "n k l 3"]:
    height, width = pictures.shape[1:3]
    scale = LARGEST_SIDE / max(height, width)
    if scale >= 1:
        return pictures
    size = (max(1, round(height * scale)), max(1, round(width * scale)))
    return torch.stack([RESAMPLING["area"](picture, *size) for picture in pictures])


def _mp4(name: str, pictures: dict[str, Tensor], fps: float, assets: Assets) -> str:
    """A video with sample, preview, depth and truth side by side."""
    size = pictures["sample"].shape
    kinds = [kind for kind in ("sample", "preview", "depth", "truth") if kind in pictures]
    shown = [pictures[kind] for kind in kinds if pictures[kind].shape == size]
    frames = (grid(torch.stack(list(parts)), columns=len(shown)) for parts in zip(*shown, strict=True))
    scale = max(1, round(VIDEO_SIDE / size[1]))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "video.mp4"
        write_mp4(path, frames, fps=fps, scale=scale)
        return assets.add(name, "mp4", path.read_bytes())
