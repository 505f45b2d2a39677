"""Pictures: files to tensors and back, sizes, sheets and films.

A picture is uint8, channels last, as files hold it; an image is a float in [-1, 1], channels first, as models
see it.
"""

import os
import uuid
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float, UInt8
from PIL import Image
from torch import Tensor

from data.picture_files import decoded, first_line, opened

# Dark blue to pale yellow: lightness rises all the way, so the order survives a grey print.
RAMP = ((8, 10, 40), (62, 24, 112), (136, 34, 116), (204, 66, 84), (242, 128, 50), (254, 250, 214))
ROWS = 256  # of a picture that are put on white at once, so that huge ones need little memory


def to_uint8(images: Float[Tensor, "*batch 3 h w"]) -> UInt8[Tensor, "*batch h w 3"]:
    """Images in [-1, 1] as pictures, rounded; values outside are clipped."""
    return ((images.detach().float().clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8).movedim(-3, -1)


def from_uint8(pictures: UInt8[Tensor, "*batch h w 3"]) -> Float[Tensor, "*batch 3 h w"]:
    """Pictures as images in [-1, 1]: the inverse of `to_uint8`."""
    return pictures.movedim(-1, -3).float() / 127.5 - 1


def read_picture(path: Path) -> UInt8[Tensor, "h w 3"]:
    """The picture in a file in sRGB, transparent parts composited on white.

    Grey, palette, CMYK and 16-bit files are converted, and colour profiles are applied; see
    `data.picture_files`. Raises ValueError where the file is no readable picture.
    """
    return on_white_ground(decoded(path))


def on_white_ground(image: Image.Image) -> UInt8[Tensor, "h w 3"]:
    """A decoded picture as RGB, transparent parts composited on white."""
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
    """The values of a grey picture of 8 or 16 bits. Raises ValueError where there is none in the file."""
    with opened(path) as file:
        mode, values = file.mode, np.asarray(file)
    if not mode.startswith({8: "L", 16: "I"}[bits]) or values.ndim != 2:
        raise ValueError(f"{path}: is a picture of mode {mode} instead of {bits}-bit grey; write it as such")
    return torch.from_numpy(values.astype(np.float32))


def picture_size(path: Path) -> tuple[int, int]:
    """(height, width) of a picture file, from its header. Raises ValueError where there is none."""
    with opened(path) as file:
        return file.height, file.width


def resize_area(picture: UInt8[Tensor, "h w 3"], height: int, width: int) -> UInt8[Tensor, "k l 3"]:
    """Every new pixel is the mean of the old picture over the rectangle it covers, exact but for rounding."""
    if picture.shape[:2] == (height, width):
        return picture
    # In numpy: thousands of small pictures lose more to torch's threads than they gain.
    pixels = area_means(picture.numpy(), height, width)
    return torch.from_numpy(np.ascontiguousarray(pixels.round().astype(np.uint8)))


def area_means(values: np.ndarray, height: int, width: int) -> Float[np.ndarray, "k l *channels"]:
    """Means of an array [h, w, ...] over the rectangles that a grid of height x width cuts it into."""
    rows = _stretch_means(values.astype(np.float64), height)
    return _stretch_means(rows.swapaxes(0, 1), width).swapaxes(0, 1)


def resize_bicubic(picture: UInt8[Tensor, "h w 3"], height: int, width: int) -> UInt8[Tensor, "k l 3"]:
    """Pillow's bicubic filter, widened where the picture shrinks: sharper than areas, with slight halos."""
    if picture.shape[:2] == (height, width):
        return picture
    resized = Image.fromarray(picture.numpy()).resize((width, height), Image.Resampling.BICUBIC)
    return torch.from_numpy(np.array(resized))


RESAMPLING = {"area": resize_area, "bicubic": resize_bicubic}


def enlarge(pictures: UInt8[Tensor, "*batch h w c"], factor: int) -> UInt8[Tensor, "*batch k l c"]:
    """Every pixel repeated `factor` times each way, so that tiny pictures can be looked at."""
    return pictures.repeat_interleave(factor, dim=-3).repeat_interleave(factor, dim=-2)


def grid(pictures: UInt8[Tensor, "n h w 3"], *, columns: int, gap: int = 2) -> UInt8[Tensor, "k l 3"]:
    """A contact sheet, row by row, with white gaps of `gap` pixels; places left over are white."""
    missing = -len(pictures) % columns
    padded = torch.cat([pictures, pictures.new_full((missing, *pictures.shape[1:]), 255)])
    tiles = torch.nn.functional.pad(padded, (0, 0, 0, gap, 0, gap), value=255)
    sheet = tiles.unflatten(0, (-1, columns)).transpose(1, 2).flatten(2, 3).flatten(0, 1)
    return sheet[: sheet.shape[0] - gap, : sheet.shape[1] - gap]


def colourise(
    values: Float[Tensor, "*batch h w"], low: float | int, high: float | int
) -> UInt8[Tensor, "*batch h w 3"]:
    """Numbers as colours, from dark at `low` to light at `high`; values outside are clipped."""
    ramp = torch.tensor(RAMP, dtype=torch.float32, device=values.device)
    place = ((values.detach().float() - low) / max(high - low, 1e-12)).clamp(0, 1) * (len(RAMP) - 1)
    below = place.long().clamp_max(len(RAMP) - 2)
    part = (place - below)[..., None]
    return (ramp[below] * (1 - part) + ramp[below + 1] * part).round().to(torch.uint8)


def write_png(path: Path | str, picture: UInt8[Tensor, "h w c"]) -> None:
    """One picture (c = 1, 3 or 4) as a PNG; the file appears whole or not at all.

    Raises ValueError where it cannot be written.
    """
    pixels = picture.cpu().contiguous().numpy()
    image = Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels)
    write_whole(Path(path), lambda partial: image.save(partial, format="PNG"))


def write_depth(path: Path, depth: Float[Tensor, "h w"], *, step: float) -> None:
    """Depth in scene units, 0 where there is none, as a 16-bit PNG of which a value is `step` units.

    What `read_channel` reads. The file appears whole or not at all. Raises ValueError where it cannot be
    written.
    """
    values = (depth.cpu().double() / step).round().clamp(0, 65535).numpy().astype(np.uint16)
    write_whole(path, lambda partial: Image.fromarray(values).save(partial, format="PNG"))


def write_mp4(
    path: Path | str, frames: Iterable[UInt8[Tensor, "h w 3"]], *, fps: float | int = 10, scale: int = 1
) -> None:
    """Frames as an H.264 film that browsers play; the file appears whole or not at all.

    They are taken as they come: no more than one is held. Each pixel becomes `scale` x `scale` pixels. The
    codec wants even sizes, so an odd height or width repeats its last row or column. Raises ValueError where
    the file cannot be written.
    """
    write_whole(
        Path(path), lambda partial: _encode_film(partial, (_film_frame(f, scale) for f in frames), fps)
    )


def write_whole(path: Path, write: Callable[[Path], object]) -> None:
    """Have `write` fill a file beside `path`, then give it that name: the file appears whole or not at all.

    Raises ValueError where it cannot be written.
    """
    with _unfinished(path) as partial:
        write(partial)
        os.replace(partial, path)


def require_writable(path: Path) -> None:
    """Raise ValueError where `write_whole` cannot write; whatever is at `path` stays as it is."""
    if path.is_dir():
        raise ValueError(f"{path}: is a folder; give the name of a file")
    with _unfinished(path) as partial:
        partial.touch()


@contextmanager
def _unfinished(path: Path) -> Iterator[Path]:
    """A name beside `path` for a file in the making, which is gone in the end.

    Raises ValueError where the disk refuses anything.
    """
    partial = path.with_name(f".{path.stem}.{uuid.uuid4().hex[:8]}{path.suffix}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield partial
    except OSError as error:
        raise ValueError(
            f"{path}: cannot be written ({first_line(error)}); choose another output folder"
        ) from error
    finally:
        # Where the folder is a file or the name too long, even asking for the leftover fails.
        with suppress(OSError):
            partial.unlink(missing_ok=True)


def write_text_whole(path: Path, text: str) -> None:
    """Write a text file, which appears whole or not at all. Raises ValueError where it cannot be written."""
    write_whole(path, lambda partial: partial.write_text(text, encoding="utf-8"))


def _film_frame(frame: UInt8[Tensor, "h w 3"], scale: int) -> np.ndarray:
    pixels = enlarge(frame.cpu(), scale).numpy()
    height, width = pixels.shape[:2]
    return np.pad(pixels, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")


def _encode_film(path: Path, frames: Iterable[np.ndarray], fps: float | int) -> None:
    import imageio.v2 as imageio

    # A macro block of 1: imageio would otherwise stretch the picture to a multiple of 16.
    options = {"codec": "libx264", "quality": 8, "macro_block_size": 1, "ffmpeg_log_level": "error"}
    with imageio.get_writer(path, format="FFMPEG", fps=fps, **options) as writer:
        for frame in frames:
            writer.append_data(frame)


def _stretch_means(values: np.ndarray, num_new: int) -> np.ndarray:
    """Cut the first axis into `num_new` equal stretches and take their means; a pixel may be cut, too."""
    num_old = len(values)
    edges = np.arange(num_new + 1) * num_old / num_new
    pixel = np.minimum(edges.astype(int), num_old - 1)
    # The integral from 0 to each edge: all the pixels before it and a part of the one that it cuts.
    before = np.concatenate([np.zeros_like(values[:1]), np.cumsum(values, axis=0)])
    into = (edges - pixel).reshape(-1, *[1] * (values.ndim - 1))
    integral = before[pixel] + into * values[pixel]
    return np.diff(integral, axis=0) * num_new / num_old
