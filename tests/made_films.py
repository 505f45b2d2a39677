"""Films made up for tests of what reads them: tiny pictures of noise, as sample_views.py leaves them."""

import json
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from data.cameras.pinhole import Cameras
from data.cameras.transforms_json import to_transforms
from data.config import DataConfig
from data.formats.registry import open_split
from data.images.files import write_depth, write_png
from data.scenes.objects import Objects

SIDE = 6  # pixels of plant_object's pictures


def objects_of(root: Path) -> Objects:
    """The test split of a set that plant_object made."""
    return open_split(DataConfig(root=str(root), image_size=SIDE), "test")


def plant_film(
    folder: Path, cameras: Cameras, *, name: str = "", seed: int = 0, samples: int = 1, inputs: int = 1
) -> Path:
    """A film from `cameras` [t] of an object that is called `name` (default: as the folder)."""
    draw, count = np.random.RandomState(seed), len(cameras.near)

    def noise(file: str, width: int = SIDE) -> None:
        write_png(folder / file, torch.from_numpy(draw.randint(0, 256, (SIDE, width, 3), dtype=np.uint8)))

    for view in range(count):
        for kind in ("view", "preview", "depth"):
            noise(f"{kind}_{view:04d}.png")
        for kind, width in (("spread_mean", SIDE), ("spread_std", SIDE + 3)) if samples > 1 else ():
            noise(f"{kind}_{view:04d}.png", width)
        surface = torch.linspace(1.2, 1.26, SIDE * SIDE).reshape(SIDE, SIDE)
        write_depth(folder / f"depth16_{view:04d}.png", surface, step=1e-4)
    for number in range(inputs):
        noise(f"cond_{number:02d}.png")
    names = [f"view_{view:04d}.png" for view in range(count)]
    document = to_transforms(cameras, names, height=SIDE, width=SIDE)
    for view, frame in enumerate(document["frames"]):
        frame["depth_file_path"] = f"depth16_{view:04d}.png"
    (folder / "transforms.json").write_text(json.dumps({"depth_unit_scale_factor": 1e-4} | document))
    record = {"run": "made", "object": name or folder.name, "policy": None, "seed": seed}
    record["sample"] = {"sampler": "euler", "steps": 3, "guidance": 2.0}
    (folder / "sampling.json").write_text(json.dumps(record))
    return folder


def truncate(path: Path) -> None:
    """Leave the first half of a picture, as a full disk does."""
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    with Image.open(path) as file:
        assert file.size  # the header is there
