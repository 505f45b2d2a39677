"""Novel views of one scene after another, for every family of models. Nothing here is random but by seed.

Views are independent of each other (`sample_in_batches`), or each looks at those before it, which keeps a
long trajectory consistent (`sample_autoregressive`), or at its neighbours on both sides while it is denoised
once more (`sample_jointly`). All hand over their views as they are made, and hold no more in memory than a
few encodings: pictures may lie elsewhere. What is looked at is always the picture in 8 bits, as files have
it, so that drawing can be interrupted and go on without a difference. `torch.no_grad()` is the caller's.
Axes: b scene, s source view, t target view.
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

# The picture [b h w 3] of the view of that number, uint8 on any device.
Recall = Callable[[int], Tensor]
CACHED = 32  # encodings of generated views that are kept
JOINT_SIGMA = 1.0  # noise level from which views are denoised once more; images span -1 to 1


def batches(num: int, size: int, done: Container[int] = (), *, group: int = 1) -> list[list[int]]:
    """Numbers of views up to `num`, in batches; those of which all views are `done` are left out.

    Batches hold whole groups of `group` consecutive views, at least one, as `NVSModel.max_joint_views` asks.
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
    """Independent views from `cameras` [b, t], up to `batch` of every scene at once: those of `batches`.

    The source views are encoded once. Whatever `batch` is, the views are the same but for rounding.
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
    """Views from `cameras` [b, t], one after another, each looking at the source and at generated views.

    Which ones, `policy` says (None: as published, Chan et al. 2023). They are drawn in `order`, a list of
    their numbers (None: as they come), without those that are `done`. Pictures are asked of `recall`, which
    must know a view when the next one is asked for; without it they are kept here. `cached` encodings are
    kept; others are computed again when they are needed.
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
    """Views that are there as `drafts`, denoised once more from noise level `sigma`, one after another.

    Each looks at the source and at the `window` - 1 others nearest to it in camera angle, so that the windows
    of neighbouring views overlap: at those drawn before it, asked of `finals` as `sample_autoregressive` asks
    `recall`, and else at drafts. What is coarser than the noise stays as it was drafted.
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
    """The encodings of views that were drawn, by number; `cached` of them are kept."""

    @lru_cache(maxsize=cached)
    def encoded(view: int) -> Applicable:
        now = cameras[:, view : view + 1]
        return model.encode(all_valid(from_uint8(recall(view).to(now.near.device))[:, None], now))

    return encoded


def _joined(
    known: Applicable, encoded: Callable[[int], Applicable], chosen: Sequence[Sequence[int]]
) -> Applicable:
    """What is `known`, and the views that each scene has `chosen`, of all scenes as many."""
    generated = [
        concatenate([encoded(i).apply(lambda tensor, b=b: tensor[b : b + 1]) for i in views], axis=1)
        for b, views in enumerate(chosen)
        if views
    ]
    return concatenate([known, concatenate(generated, axis=0)], axis=1) if generated else known
