"""PSNR and stLPIPS of views under transferred poses, against the views that a camera would see."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from data.formats.registry import at_root, open_split
from data.images.pixels import from_uint8
from data.images.quality import psnr
from data.scenes.batch import Views
from models.base import NVSModel
from models.checkpoints.loading import load_model
from models.perceptual import load_stlpips
from scripts.common.shapes_videos import TRUTH, render_car

ROWS = {
    "transfer": "the scene under the poses of another video",
    "random": "the scene under the poses of a third video",
    "constant": "the first frame of the scene, unmoved",
    "auto-encoding": "a video under its own poses (reads the views that it draws)",
}


def measure_transfer(
    run: str, *, root: str | None, split: str, pairs: int, frames: int
) -> dict[str, dict[str, float]]:
    """Means over pairs of videos and their frames after the first, for each of `ROWS`.

    Raises ValueError where the true views cannot be rendered: of videos that make_shapes did not write.
    """
    model, config, _ = load_model(run)
    objects = open_split(config.data if root is None else at_root(config.data, root), split, cameras=False)
    objects.require(model.requires)
    count = len(objects)
    if count < 3:
        raise ValueError(f"{objects.config.root}: has {count} videos of the split {split}; three are needed")
    distances = {"psnr": psnr, "stlpips": load_stlpips(torch.device("cpu"))}
    found: dict[str, list[dict[str, float]]] = {name: [] for name in ROWS}
    for index in range(min(pairs, count)):
        places = [index, (index + 1) % count, (index + 2) % count]  # scene, driving video, another video
        shown = min(frames, *(objects.num_views(place) for place in places))
        if shown < 2:
            raise ValueError(f"--frames {frames}: give 2 or more, of which the first is the reference")
        videos = [objects.read_views(place, range(shown)) for place in places]
        scene, driving = (read_truth(Path(objects.raw.place(place))) for place in places[:2])
        truth = transferred(scene, driving, shown, videos[0].images.shape[-1])
        own = videos[0].images[0, 1:]
        drawn = {
            "transfer": draw_under(model, videos[0], videos[1]),
            "random": draw_under(model, videos[0], videos[2]),
            "constant": videos[0].images[0, :1].expand_as(own),
            "auto-encoding": draw_under(model, videos[0], videos[0]),
        }
        for name, views in drawn.items():
            found[name].append(compare(views, own if name == "auto-encoding" else truth, distances))
    return {
        name: {key: float(np.mean([row[key] for row in rows])) for key in distances}
        for name, rows in found.items()
    }


@torch.no_grad()
def draw_under(model: NVSModel, scene: Views, driving: Views) -> Float[Tensor, "t 3 h w"]:
    """The scene, given by its first frame, under the poses of a video relative to its first frame."""
    targets = model.read_targets(driving).apply(lambda tensor: tensor[:, 1:])
    first = scene.apply(lambda tensor: tensor[:, :1])
    return model.sample(first, targets, torch.arange(targets.shape[1])[None], model.options).images[0]


def transferred(scene: dict, driving: dict, frames: int, size: int) -> Float[Tensor, "t 3 h w"]:
    """Render the scene from a camera that moves as in the driving video, without its first frame."""
    start, path = np.array(scene["cam_to_world"][0]), np.array(driving["cam_to_world"])
    poses = start @ np.linalg.inv(path[0]) @ path[1:frames]
    pictures = np.stack(render_car(scene["object"], poses, size))
    return from_uint8(torch.from_numpy(pictures))


def read_truth(folder: Path) -> dict:
    """The true cameras of a video written by make_shapes. Raises ValueError if there are none."""
    path = folder / TRUTH
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError) as error:
        advice = "make such videos with `python -m scripts.make_shapes --layout videos`"
        raise ValueError(f"{path}: cannot be read, so true views cannot be rendered; {advice}") from error


def compare(
    drawn: Float[Tensor, "t 3 h w"],
    truth: Float[Tensor, "t 3 h w"],
    distances: dict[str, Callable[[Tensor, Tensor], Tensor]],
) -> dict[str, float]:
    """Mean of every distance over the views."""
    return {name: distance(drawn, truth).mean().item() for name, distance in distances.items()}


def table(figures: dict[str, dict[str, float]]) -> str:
    """Lines for the user."""
    lines = [f"{'':14} {'PSNR':>7} {'stLPIPS':>8}"]
    for name, row in figures.items():
        lines.append(f"{name:14} {row['psnr']:7.2f} {row['stlpips']:8.3f}  {ROWS[name]}")
    return "\n".join(lines)
