"""Sampling of novel views: independent, autoregressive or joint, for all families. Randomness follows seeds.

Views are independent (`sample_in_batches`), or each is conditioned on previous ones, which keeps a long
trajectory consistent (`sample_autoregressive`), or on its neighbours on both sides while it is denoised again
(`sample_jointly`). All yield views as they are sampled, and keep only a few encodings in memory: images may
be stored elsewhere. Generated views are conditioned on as 8-bit images, as in files, so that an interrupted
sampling resumes identically. The caller is responsible for `torch.no_grad()`. Axes: b scene, s source view, t
target view.
"""

from collections.abc import Callable, Container, Iterator, Sequence
from functools import lru_cache

import torch
from jaxtyping import Int, UInt8
from torch import Tensor

from data.cameras.pinhole import Cameras
from data.images.pixels import from_uint8, to_uint8
from data.scenes.batch import Applicable, Views, all_valid, concatenate
from data.seeds import derived_seed
from diffusion.samplers import SampleOptions, last_part
from models.base import NVSModel, Prediction, SampleCallback
from models.sampling.conditioning import ConditioningContext, ConditioningPolicy, make_policy, nearest

# View index -> its image [b h w 3], uint8 on any device.
Recall = Callable[[int], Tensor]
CACHED = 32  # cached encodings of generated views
JOINT_SIGMA = 1.0  # noise level from which views are denoised again; images span -1 to 1


def batches(num: int, size: int, done: Container[int] = (), *, group: int = 1) -> list[list[int]]:
    """Split view indices up to `num` into batches, skipping batches whose views are all `done`.

    Batches have whole groups of `group` consecutive views, as `NVSModel.max_joint_views` requires.
    """
    size = max(1, size // group) * group
    parts = [list(range(first, min(first + size, num))) for first in range(0, num, size)]
    return [part for part in parts if not all(view in done for view in part)]


def sample_in_batches(
    model: NVSModel,
    source: Views,
    cameras: Cameras,
    seeds: Int[Tensor, "b t"],
    options: SampleOptions,
    *,
    batch: int,
    done: Container[int] = (),
    callback: SampleCallback | None = None,
) -> Iterator[Prediction]:
    """Sample independent views from `cameras` [b, t], up to `batch` per scene at once, in `batches`.

    The source views are encoded once. The views do not depend on `batch`, up to rounding.
    """
    scene = model.encode(source)
    for part in batches(seeds.shape[1], batch, done, group=model.max_joint_views):
        yield model.draw(scene, cameras[:, part], seeds[:, part], options, callback=callback)


def sample_autoregressive(
    model: NVSModel,
    source: Views,
    cameras: Cameras,
    seeds: Int[Tensor, "b t"],
    options: SampleOptions,
    *,
    policy: ConditioningPolicy | None = None,
    order: Sequence[int] | None = None,
    done: Container[int] = (),
    recall: Recall | None = None,
    cached: int = CACHED,
    callback: SampleCallback | None = None,
) -> Iterator[Prediction]:
    """Sample views from `cameras` [b, t] sequentially, each conditioned on the source and generated views.

    `policy` chooses these (default: as published, Chan et al. 2023). Views are sampled in `order`, a list of
    indices (default: along the path), skipping those that are `done`. Images are read through `recall`, which
    must have a view before the next one is requested; without it they are kept in memory. `cached` encodings
    are kept; others are recomputed.
    """
    policy = policy or make_policy("published")
    kept: dict[int, UInt8[Tensor, "b h w 3"]] = {}
    known = model.encode(source)
    encoded = _encodings(model, cameras, recall or kept.__getitem__, cached)
    positions, drawn = cameras.positions.cpu(), []
    for view in range(seeds.shape[1]) if order is None else order:
        if view not in done:
            chosen = [
                policy(ConditioningContext(view, drawn, positions[b], source.valid.shape[1], seed))
                for b, seed in enumerate(seeds[:, view].tolist())
            ]
            scene, now = _joined(known, encoded, chosen), slice(view, view + 1)
            prediction = model.draw(scene, cameras[:, now], seeds[:, now], options, callback=callback)
            if recall is None:
                kept[view] = to_uint8(prediction.images[:, 0])
            yield prediction
        drawn.append(view)


def sample_jointly(
    model: NVSModel,
    source: Views,
    cameras: Cameras,
    seeds: Int[Tensor, "b t"],
    options: SampleOptions,
    *,
    drafts: Recall,
    finals: Recall,
    window: int,
    sigma: float = JOINT_SIGMA,
    done: Container[int] = (),
    cached: int = CACHED,
    callback: SampleCallback | None = None,
) -> Iterator[Prediction]:
    """Denoise existing views, `drafts`, again from noise level `sigma`, sequentially.

    Each is conditioned on the source and the `window` - 1 other views nearest in camera angle, so that the
    windows of neighbouring views overlap: on final views if already sampled, read through `finals` like
    `recall` in `sample_autoregressive`, else on drafts. Structure coarser than the noise is preserved.
    """
    options = last_part(options, sigma)
    known, positions = model.encode(source), cameras.positions.cpu()
    seeds = torch.tensor([[derived_seed(seed, "once more") for seed in row] for row in seeds.tolist()])
    draft = _encodings(model, cameras, drafts, cached)
    final = _encodings(model, cameras, finals, cached)
    views = range(seeds.shape[1])
    for view in views:
        if view in done:
            continue
        others = [other for other in views if other != view]
        chosen = [
            nearest(ConditioningContext(view, others, own, source.valid.shape[1], 0), window - 1)
            for own in positions
        ]
        scene = _joined(known, lambda i, now=view: final(i) if i < now else draft(i), chosen)
        now = slice(view, view + 1)
        init_images = from_uint8(drafts(view).to(source.images.device))[:, None]
        yield model.draw(
            scene, cameras[:, now], seeds[:, now], options, init_images=init_images, callback=callback
        )


def _encodings(model: NVSModel, cameras: Cameras, recall: Recall, cached: int) -> Callable[[int], Applicable]:
    """Return a function from view index to encoding, caching `cached` of them."""

    @lru_cache(maxsize=cached)
    def encoded(view: int) -> Applicable:
        now = cameras[:, view : view + 1]
        return model.encode(all_valid(from_uint8(recall(view).to(now.near.device))[:, None], now))

    return encoded


def _joined(
    known: Applicable, encoded: Callable[[int], Applicable], chosen: Sequence[Sequence[int]]
) -> Applicable:
    """Append the `chosen` views of each scene, equally many for all, to the `known` encoding."""
    generated = [
        concatenate([encoded(i).apply(lambda tensor, b=b: tensor[b : b + 1]) for i in views], axis=1)
        for b, views in enumerate(chosen)
        if views
    ]
    return concatenate([known, concatenate(generated, axis=0)], axis=1) if generated else known
