"""Small scenes as other programs write them: a red and a green ball before a blue wall or on white."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from data.cameras.pinhole import opencv_to_opengl
from data.cameras.poses import orbit
from data.formats.registry import open_raw

NUM = 11  # views
SIDE = 24
WALL = (40, 60, 160)


def refuses(message: str):
    """The error has one line."""
    return pytest.raises(ValueError, match=r"\A[^\n]*" + message + r"[^\n]*\Z")


def poses(num: int = NUM) -> torch.Tensor:
    """Level cameras all round the origin, in OpenCV axes, z up, at different elevations."""
    number = torch.arange(num)
    return orbit(0.3 + 2.4 * number, 0.1 + 0.11 * (number % 5), 1.3)


def ball(view: int, width: int = SIDE, height: int = SIDE) -> np.ndarray:
    """Where the ball of a view is, which is different for each."""
    rows, columns = np.mgrid[:height, :width]
    return (rows - height / 2 - view / 4) ** 2 + (columns - width / 2 + view / 3) ** 2 < (
        min(height, width) / 4
    ) ** 2


def draw(view: int, width: int = SIDE, height: int = SIDE, ground: tuple[int, int, int] = WALL) -> np.ndarray:
    """The picture of a view."""
    picture = np.full((height, width, 3), ground, np.uint8)
    picture[ball(view, width, height)] = (200, 20 + 3 * view, 30)
    return picture


def plant_scene(
    folder: Path,
    num: int = NUM,
    *,
    sizes: Sequence[tuple[int, int]] = ((SIDE, SIDE),),
    turn: torch.Tensor | None = None,
    keys_of_frames: Sequence[dict] = (),
    without: Sequence[str] = (),
    **keys,
) -> Path:
    """A scene of `num` views of `sizes` (width, height) in turn, in a world turned by a rotation."""
    (folder / "images").mkdir(parents=True)
    frames = []
    cameras = poses(num)
    if turn is not None:
        cameras[:, :3] = turn.to(cameras) @ cameras[:, :3]
    for view, pose in enumerate(opencv_to_opengl(cameras).tolist()):
        Image.fromarray(draw(view, *sizes[view % len(sizes)])).save(folder / f"images/{view:03d}.png")
        frame = {"file_path": f"images/{view:03d}.png", "transform_matrix": pose}
        frames.append(frame | (keys_of_frames[view] if keys_of_frames else {}))
    document = {"w": SIDE, "h": SIDE, "fl_x": 1.0254 * SIDE} | keys | {"frames": frames}
    document = {key: value for key, value in document.items() if key not in without or key in keys}
    (folder / "transforms.json").write_text(json.dumps(document))
    return folder


def change(folder: Path, **keys) -> None:
    """Set keys of a scene's document."""
    path = folder / "transforms.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | keys))


def train_cameras(folder: Path) -> tuple[torch.Tensor, torch.Tensor]:
    """Poses and intrinsics of the views for training."""
    return open_raw(folder, "train").cameras(0)
