"""Read and write images and videos.

A "picture" is uint8, channels last, as in files; an "image" is float in [-1, 1], channels first, as in
models.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float, UInt8
from PIL import Image
from torch import Tensor

from data.files import write_whole
from data.images.display import enlarge
from data.images.picture_files import decoded, opened

ASPECT_TOLERANCE = 0.02  # relative difference of width / height between images and their cameras' file


ROWS = 256  # rows composited on white at once, to save memory for huge images


def read_picture(path: Path, content: bytes | None = None) -> UInt8[Tensor, "h w 3"]:
    """Read an image in sRGB, with transparent parts composited on white.

    Grey, palette, CMYK and 16-bit files are converted, and colour profiles are applied; see
    `data.images.picture_files`. `content` is the file's content if it is not on disk. Raises ValueError if it
    is not a readable image.
    """
    return on_white_ground(decoded(path, content=content))


def on_white_ground(image: Image.Image) -> UInt8[Tensor, "h w 3"]:
    """Return a decoded image as RGB, composited on white."""
    if not image.has_transparency_data:
        return torch.from_numpy(np.array(image.convert("RGB")))
    pixels = np.asarray(image.convert("RGBA"))
    picture = np.empty((*pixels.shape[:2], 3), np.uint8)
    for start in range(0, len(pixels), ROWS):
        part = pixels[start : start + ROWS].astype(np.float32)
        alpha = part[..., 3:] / 255
        picture[start : start + ROWS] = (part[..., :3] * alpha + 255 * (1 - alpha)).round()
    return torch.from_numpy(picture)


def read_channel(path: Path, *, bits: Literal[8, 16]) -> Float[Tensor, "h w"]:
    """Read the values of a grey image of 8 or 16 bits. Raises ValueError for any other file."""
    with opened(path) as file:
        mode, values = file.mode, np.asarray(file)
    if not mode.startswith({8: "L", 16: "I"}[bits]) or values.ndim != 2:
        raise ValueError(f"{path}: is an image of mode {mode} instead of {bits}-bit grey; convert it")
    return torch.from_numpy(values.astype(np.float32))


def picture_size(path: Path) -> tuple[int, int]:
    """Return (height, width) of an image file, from its header. Raises ValueError if it is unreadable."""
    with opened(path) as file:
        return file.height, file.width


def write_png(path: Path | str, picture: UInt8[Tensor, "h w c"]) -> None:
    """Write an image (c = 1, 3 or 4) as a PNG, atomically.

    Raises ValueError if it cannot be written.
    """
    pixels = picture.cpu().contiguous().numpy()
    image = Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels)
    write_whole(Path(path), lambda partial: image.save(partial, format="PNG"))


def write_depth(path: Path, depth: Float[Tensor, "h w"], *, step: float) -> None:
    """Write depth in scene units (0 for none) as a 16-bit PNG with a resolution of `step` units, atomically.

    The counterpart of `read_channel`. Raises ValueError if it cannot be written.
    """
    values = (depth.cpu().double() / step).round().clamp(0, 65535).numpy().astype(np.uint16)
    write_whole(path, lambda partial: Image.fromarray(values).save(partial, format="PNG"))


def write_mp4(
    path: Path | str, frames: Iterable[UInt8[Tensor, "h w 3"]], *, fps: float | int = 10, scale: int = 1
) -> None:
    """Write frames as an H.264 video that browsers can play, atomically.

    Frames are streamed: at most one is held in memory. Each pixel becomes `scale` x `scale` pixels. The codec
    needs even sizes, so an odd height or width repeats the last row or column. Raises ValueError if the file
    cannot be written.
    """
    write_whole(
        Path(path), lambda partial: _encode_video(partial, (_video_frame(f, scale) for f in frames), fps)
    )


def _video_frame(frame: UInt8[Tensor, "h w 3"], scale: int) -> np.ndarray:
    pixels = enlarge(frame.cpu(), scale).numpy()
    height, width = pixels.shape[:2]
    return np.pad(pixels, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")


def _encode_video(path: Path, frames: Iterable[np.ndarray], fps: float | int) -> None:
    import imageio.v2 as imageio

    # Otherwise imageio would resize the frames to a multiple of 16.
    options = {"codec": "libx264", "quality": 8, "macro_block_size": 1, "ffmpeg_log_level": "error"}
    with imageio.get_writer(path, format="FFMPEG", fps=fps, **options) as writer:
        for frame in frames:
            writer.append_data(frame)


def require_aspect(picture: Path, width: float | int, height: float | int, described: str) -> None:
    """Raise ValueError if an image's aspect ratio differs from that in `described`, the file of its camera.

    Read from the image's header, before EXIF rotation.
    """
    found_height, found_width = picture_size(picture)
    if abs(width / height * found_height / found_width - 1) > ASPECT_TOLERANCE:
        raise ValueError(
            f"{picture}: is {found_width} x {found_height}, but {described} describes images of "
            f"{width:g} x {height:g}; give the uncropped image of this camera"
        )
