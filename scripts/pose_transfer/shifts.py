"""Transfer errors in the world of moving textures, whose poses phase correlation reads exactly."""

from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor

from data.formats.registry import at_root, open_split
from data.shapes.shifting_textures import read_shift
from models.checkpoints.loading import load_model
from scripts.pose_transfer.measure import draw_under


def measure_shifts(run: str, *, root: str | None, split: str, pairs: int, frames: int) -> dict[str, float]:
    """Mean error of the shifts in pixels, of the model and of a static scene.

    Each texture is drawn along the video of the next one, over the frames that the longest window of the
    training holds: further movements were never shown. Raises ValueError if the split is too small.
    """
    model, config, _ = load_model(run)
    objects = open_split(config.data if root is None else at_root(config.data, root), split, cameras=False)
    objects.require(model.requires)
    if len(objects) < 2:
        raise ValueError(f"{objects.config.root}: has {len(objects)} videos of {split}; two are needed")
    frames = min(frames, config.data.window_at(1.0) or frames)
    errors: dict[str, list[float]] = {"transfer": [], "constant": []}
    for scene, driving in pairwise(range(min(pairs + 1, len(objects)))):
        shown = min(frames, objects.num_views(scene), objects.num_views(driving))
        videos = [objects.read_views(index, range(shown)) for index in (scene, driving)]
        wanted = shifts(videos[1].images[0, 0], videos[1].images[0, 1:])
        found = shifts(videos[0].images[0, 0], draw_under(model, *videos))
        errors["transfer"] += (found - wanted).norm(dim=1).tolist()
        errors["constant"] += wanted.norm(dim=1).tolist()
    return {name: sum(values) / len(values) for name, values in errors.items()}


def shifts(first: Float[Tensor, "3 h w"], views: Float[Tensor, "t 3 h w"]) -> Float[Tensor, "t 2"]:
    """The shift of each view against the first."""
    return torch.tensor([read_shift(first, view) for view in views]).double()
