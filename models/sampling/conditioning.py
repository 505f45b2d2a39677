"""Policies for conditioning on generated views, and orders of sampling.

A policy is a function of a `ConditioningContext`; POLICIES has them by name. Source views are always used.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor

from data.cameras.neighbours import nearest_first
from data.cameras.pinhole import Cameras
from data.scenes.batch import Views
from data.scenes.views import evenly_spaced
from data.seeds import derived_seed, uniform
from models.sampling import names


@dataclass(frozen=True)
class ConditioningContext:
    """The input of a policy for the view to sample. Views are indices on the trajectory."""

    view: int  # to sample
    drawn: Sequence[int]  # sampled so far, the latest last
    positions: Float[Tensor, "t 3"]  # camera positions of all views, on the CPU; the object is at the origin
    num_source: int  # number of source views
    seed: int  # of the view to sample


ConditioningPolicy = Callable[[ConditioningContext], list[int]]  # distinct views out of `drawn`


def published(context: ConditioningContext, num: int) -> list[int]:
    """Choose up to `num` earlier views at random and the latest one (Chan et al. 2023)."""
    chosen = views_to_look_at(context.seed, len(context.drawn), earlier=num)
    return [context.drawn[index] for index in chosen]


def nearest(context: ConditioningContext, num: int) -> list[int]:
    """Choose the `num` views whose viewing directions are closest to that of the view to sample."""
    drawn = set(context.drawn)
    order = nearest_first(context.positions, context.view)
    return sorted([view for view in order if view in drawn][:num])


def everything(context: ConditioningContext, num: int) -> list[int]:
    """Choose all views; memory for their volumes grows linearly."""
    return list(context.drawn)


def budget(context: ConditioningContext, num: int) -> list[int]:
    """Choose as many views as fit in `num` volumes besides the sources, but always the latest one.

    If that is not all, they are evenly spaced among the sampled ones.
    """
    room = max(1, num - context.num_source)
    if len(context.drawn) <= room:
        return list(context.drawn)
    return [*evenly_spaced(context.drawn[:-1], room - 1), context.drawn[-1]]


# Name -> the policy, and its default number of views (`budget`: volumes).
POLICIES: dict[str, tuple[Callable[[ConditioningContext, int], list[int]], int]] = {
    names.PUBLISHED: (published, 4),
    names.NEAREST: (nearest, 4),
    names.ALL: (everything, 0),
    names.BUDGET: (budget, 12),
}


def make_policy(name: str, num: int | None = None) -> ConditioningPolicy:
    """Return the policy of that name with `num` views (default: its usual number).

    Raises ValueError if there is no such policy, or it takes no number.
    """
    if name not in POLICIES:
        raise ValueError(f"there is no policy '{name}'; choose one of {', '.join(POLICIES)}")
    if name == names.ALL and num is not None:
        raise ValueError("policy all: uses all views, so it takes no number; omit it")
    function, customary = POLICIES[name]
    return partial(function, num=customary if num is None else num)


def views_to_look_at(seed: int, num_generated: int, *, earlier: int) -> list[int]:
    """Choose which generated views condition the next one, of that seed: in order, the latest last.

    Up to `earlier` distinct ones are drawn at random from those before the latest.
    """
    if num_generated == 0:
        return []
    last = num_generated - 1
    # Views may share their seed, but should not all choose the same ones.
    own = torch.tensor([derived_seed(seed, num_generated)])
    lots = uniform(own, (last,), stream="views to look at")[0]
    return [*sorted(lots.argsort()[:earlier].tolist()), last]


def along_path(source: Views, cameras: Cameras) -> list[int]:
    """Order the views of `cameras` [1, t] along the path."""
    return list(range(cameras.shape[1]))


def outward(source: Views, cameras: Cameras) -> list[int]:
    """Order the views of `cameras` [1, t] by distance to the nearest source camera."""
    known = source.cameras.positions[0][source.valid[0]]
    distance = torch.cdist(cameras.positions[0].double(), known.double()).amin(dim=1)
    return distance.argsort(stable=True).tolist()


# Name -> view indices of a single scene, in the order of sampling.
ORDERS: dict[str, Callable[[Views, Cameras], list[int]]] = {names.PATH: along_path, names.OUTWARD: outward}
