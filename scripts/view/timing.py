"""Measure the speed of previews without a window."""

import math
import time
from statistics import median

import imageio.v3 as imageio
import numpy as np
import torch

from data.cameras.poses import orbit
from scripts.view import frames as pictures
from scripts.view.backend import Engine, Preview
from scripts.view.browser_camera import browser_camera_at

FRAMES = 30


def measure(engine: Engine, heights: tuple[int, int]) -> str:
    """Report the time of a square preview at each height, as text.

    The camera circles the first object at the distance of its first input view. A preview is rendered,
    coloured and encoded as two PNGs; transfer and display are excluded. The first one does not count.
    """
    name = engine.subjects.names[0]
    encoded = engine.encode(name, engine.subjects.first_views(name))
    first = encoded.source.cameras[0, 0]
    around = torch.linspace(0, 2 * math.pi, FRAMES + 1)
    poses = orbit(around, torch.full_like(around, 0.4), float(first.positions.norm()))
    lines = [
        f"{name}: {encoded.source.images.shape[1]} input views, {torch.get_num_threads()} threads of torch"
    ]
    for height in heights:
        seconds = []
        for pose in poses:
            began = time.perf_counter()
            cameras = browser_camera_at(pose, first.intrinsics).cameras(encoded.radius)
            preview = engine.preview(encoded, cameras, (height, height))
            _pack(preview)
            seconds.append(time.perf_counter() - began)
        typical = median(seconds[1:])
        lines.append(
            f"{height} x {height}: {1e3 * typical:.0f} ms, {1 / typical:.1f} frames/s (median of {FRAMES})"
        )
    return "\n".join(lines)


def _pack(preview: Preview) -> None:
    """Encode an image and its depth as viser does."""
    picture = pictures.backdrop(pictures.picture(preview, pictures.RGB))
    packed = np.zeros((*picture.shape[:2], 4), np.uint8)
    packed[..., :3] = pictures.surface(preview)[..., None]
    for pixels in (picture, packed):
        imageio.imwrite("<bytes>", pixels, extension=".png")
