"""Novel views of one scene after another, for every family of models. Nothing here is random but by seed.

Views are independent of each other (`sample_in_batches`), or each looks at those before it
(`sample_autoregressive`), which keeps a long trajectory consistent. Both hand over their views as they are
made, and hold no more in memory than the pictures and a few encodings; `torch.no_grad()` is the caller's.
Axes: b scene, s source view, t target view.
"""

from collections.abc import Iterator
from functools import lru_cache

import torch
from jaxtyping import Int
from torch import Tensor

from data.batch import Applicable, Views, all_valid, concatenate
from data.cameras import Cameras
from diffusion.noise import uniform
from diffusion.samplers import SampleOptions
from models.base import NVSModel, Prediction, SampleCallback

EARLIER_VIEWS = 4  # generated views to look at beside the last one (Chan et al. 2023)


def sample_in_batches(
    model: NVSModel,
    source: Views,
    cameras: Cameras,
    seeds: Int[Tensor, "b t"],
    options: SampleOptions,
    *,
    batch: int,
    callback: SampleCallback | None = None,
) -> Iterator[Prediction]:
    """Independent views from `cameras` [b, t], up to `batch` of every scene at once.

    The source views are encoded once. Whatever `batch` is, the views are the same but for rounding.
    """
    scene = model.encode(source)
    for first in range(0, seeds.shape[1], batch):
        part = slice(first, first + batch)
        yield model.draw(scene, cameras[:, part], seeds[:, part], options, callback=callback)


def sample_autoregressive(
    model: NVSModel,
    source: Views,
    cameras: Cameras,
    seeds: Int[Tensor, "b t"],
    options: SampleOptions,
    *,
    earlier: int = EARLIER_VIEWS,
    cached: int = 32,
    callback: SampleCallback | None = None,
) -> Iterator[Prediction]:
    """Views from `cameras` [b, t], one after another, each looking at the source and at generated views.

    The generated ones are those of `views_to_look_at` (Chan et al. 2023). `cached` encodings are
    kept; others are worked out again when they are needed.
    """
    known, drawn = model.encode(source), []

    @lru_cache(maxsize=cached)
    def encoded(view: int) -> Applicable:
        return model.encode(drawn[view])

    for view in range(seeds.shape[1]):
        chosen = [views_to_look_at(seed, view, earlier=earlier) for seed in seeds[:, view].tolist()]
        generated = [
            concatenate([encoded(i).apply(lambda tensor, b=b: tensor[b : b + 1]) for i in views], axis=1)
            for b, views in enumerate(chosen)
            if views
        ]
        scene = concatenate([known, concatenate(generated, axis=0)], axis=1) if generated else known
        now = slice(view, view + 1)
        prediction = model.draw(scene, cameras[:, now], seeds[:, now], options, callback=callback)
        drawn.append(all_valid(prediction.images, cameras[:, now]))
        yield prediction


def views_to_look_at(seed: int, num_generated: int, *, earlier: int = EARLIER_VIEWS) -> list[int]:
    """Which of the views generated so far the next one, of that seed, looks at: in order, the last one last.

    Up to `earlier` different ones are drawn from those before the last.
    """
    if num_generated == 0:
        return []
    last = num_generated - 1
    lots = uniform(torch.tensor([seed]), (last,), stream="views to look at")[0]
    return [*sorted(lots.argsort()[:earlier].tolist()), last]
