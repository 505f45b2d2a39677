"""Videos as objects without cameras: folders of frames, and video files.

Videos are at most four folders below ROOT. A folder of frames has images, or a folder `images` of them; its
id is its path without the folder of its split, with "/" as "_". `data.formats.videos.splits` decides which
split a video is in. Frames are in natural order of their names, and cropped to their central square.
"""

import os
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from data.files import first_line
from data.formats.videos.splits import SPLIT_FILE, chosen_videos, image_folders, video_parts
from data.images.files import read_picture
from data.scenes.objects import RawObjects
from data.splits import Split, natural_key, subfolders

PICTURES = (".png", ".jpg", ".jpeg", ".webp")
VIDEO_SUFFIXES = (".mp4", ".mov", ".mkv", ".avi", ".webm", ".gif")
DEPTH = 4  # folders below the root in which videos may be
FEWEST = 2  # frames of a video
MARK = "videos.json"  # what scripts write beside videos that they made


class Videos(RawObjects):
    """Videos of one split. Files are decoded on access, and the frames of one are cached."""

    has_cameras = False

    def __init__(self, root: Path, paths: list[Path]):
        self.ids = tuple(_id(root, path) for path in paths)
        self._paths = paths

    def place(self, index: int) -> str:
        """Its folder or file."""
        return str(self._paths[index])

    def num_views(self, index: int) -> int:
        """Number of frames."""
        path = self._paths[index]
        count = len(frame_files(path)) if path.is_dir() else len(read_video(path))
        if count < FEWEST:
            raise ValueError(f"{path}: is a video of {count} frames; use videos of {FEWEST} or more")
        return count

    def cameras(self, index: int) -> tuple[Float[Tensor, "v 4 4"], Float[Tensor, "v 3 3"]]:
        """Raise ValueError, as videos have no cameras."""
        raise ValueError(f"{self._paths[index]}: is video without cameras; give data with cameras")

    def picture(self, index: int, view: int) -> UInt8[Tensor, "h w 3"]:
        """The middle square of a frame."""
        path = self._paths[index]
        frame = read_picture(frame_files(path)[view]) if path.is_dir() else read_video(path)[view]
        return middle_square(frame)


def middle_square(picture: UInt8[Tensor, "h w 3"]) -> UInt8[Tensor, "k k 3"]:
    """The largest square in the middle of a picture."""
    height, width = picture.shape[:2]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    return picture[top : top + side, left : left + side]


@lru_cache(maxsize=4096)
def frame_files(folder: Path) -> tuple[Path, ...]:
    """The frames in a folder, or in its folder `images` (or `images_8`, reduced), in natural order."""
    place = next((folder / name for name in image_folders(folder)), folder)
    found = [place / name for name in os.listdir(place) if name.lower().endswith(PICTURES)]
    return tuple(sorted(found, key=lambda path: natural_key(path.name)))


@lru_cache(maxsize=2)
def read_video(path: Path) -> UInt8[Tensor, "t h w 3"]:
    """Read all frames of a video file. Raises ValueError if it cannot be read."""
    import imageio.v3 as iio

    try:
        frames = iio.imread(path, index=None) if path.suffix == ".gif" else iio.imread(path, plugin="FFMPEG")
    except Exception as error:  # every decoder has exceptions of its own
        raise ValueError(
            f"{path}: cannot be read as video ({first_line(error)}); replace the file"
        ) from error
    return torch.from_numpy(np.array(frames[..., :3]))


def is_videos(root: Path) -> bool:
    """Whether a folder holds videos: video files, or folders of frames with `MARK`."""
    return (root / MARK).is_file() or any(path.is_file() for path in _videos(root, depth=2))


def open_videos(root: Path, split: Split) -> Videos:
    """Open the videos of a split. Raises ValueError if there are none, or a list of a split is wrong."""
    paths = _videos(root)
    if not paths:
        raise ValueError(f"{root}: holds no video; give folders of frames or video files")
    chosen: dict[str, Path] = {}
    for path in chosen_videos(root, paths, split):
        if other := chosen.get(_id(root, path)):
            raise ValueError(f"{path}: has the same id as {other}, {_id(root, path)}; rename one")
        chosen[_id(root, path)] = path
    if not chosen:
        raise ValueError(f"{root}: has no video of the split {split}; add some, or a {SPLIT_FILE}")
    return Videos(root, [chosen[name] for name in sorted(chosen, key=natural_key)])


def open_video(path: Path) -> Videos:
    """Open one video, a file or a folder of frames. Raises ValueError if it is neither."""
    path = path.resolve() if path.exists() else path
    if not (path.is_file() or (path.is_dir() and frame_files(path))):
        raise ValueError(f"{path}: is no video; give a video file or a folder of frames")
    return Videos(path.parent, [path])


def _id(root: Path, path: Path) -> str:
    return "_".join(video_parts(root, path))


def _videos(folder: Path, depth: int = DEPTH) -> list[Path]:
    found = [
        path for path in sorted(folder.iterdir()) if path.suffix.lower() in VIDEO_SUFFIXES and path.is_file()
    ]
    for inner in subfolders(folder):
        if frame_files(inner):
            found.append(inner)
        elif depth > 1:
            found += _videos(inner, depth - 1)
    return found
