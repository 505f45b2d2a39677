"""Which of the views drawn so far condition the next one, and in which order views are drawn.

A policy is a function of a `ConditioningContext`; POLICIES has them by name. Source views always condition.
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


@dataclass(frozen=True)
class ConditioningContext:
    """What a policy knows when a view is about to be drawn. Views go by their numbers on the trajectory."""

    view: int  # the one to draw
    drawn: Sequence[int]  # those drawn so far, the latest last
    positions: Float[Tensor, "t 3"]  # of the cameras of all views, on the CPU; the object is at the origin
    num_source: int  # views that were given
    seed: int  # of the view to draw


ConditioningPolicy = Callable[[ConditioningContext], list[int]]  # numbers of different views out of `drawn`


def published(context: ConditioningContext, num: int) -> list[int]:
    """Up to `num` earlier views at random and the latest one (Chan et al. 2023)."""
    chosen = views_to_look_at(context.seed, len(context.drawn), earlier=num)
    return [context.drawn[index] for index in chosen]


def nearest(context: ConditioningContext, num: int) -> list[int]:
    """The `num` views whose cameras see the object from the directions most like that of the view to draw."""
    drawn = set(context.drawn)
    order = nearest_first(context.positions, context.view)
    return sorted([view for view in order if view in drawn][:num])


def everything(context: ConditioningContext, num: int) -> list[int]:
    """All views, however many: their volumes need memory in proportion."""
    return list(context.drawn)


def budget(context: ConditioningContext, num: int) -> list[int]:
    """As many views as `num` volumes hold beside those of the source views, and the latest one in any case.

    Where that is not all, they are evenly spaced among those drawn.
    """
    room = max(1, num - context.num_source)
    if len(context.drawn) <= room:
        return list(context.drawn)
    return [*evenly_spaced(context.drawn[:-1], room - 1), context.drawn[-1]]


# Name -> the policy, and how many views it looks at (`budget`: volumes) where no number is asked for.
POLICIES: dict[str, tuple[Callable[[ConditioningContext, int], list[int]], int]] = {
    "published": (published, 4),
    "nearest": (nearest, 4),
    "all": (everything, 0),
    "budget": (budget, 12),
}


def make_policy(name: str, num: int | None = None) -> ConditioningPolicy:
    """The policy of that name, looking at `num` views (None: as many as is customary).

    Raises ValueError if there is no such policy, or the number means nothing to it.
    """
    if name not in POLICIES:
        raise ValueError(f"there is no policy '{name}'; choose one of {', '.join(POLICIES)}")
    if name == "all" and num is not None:
        raise ValueError("policy all: looks at all views, not at a number of them; leave the number out")
    function, customary = POLICIES[name]
    return partial(function, num=customary if num is None else num)


def views_to_look_at(seed: int, num_generated: int, *, earlier: int) -> list[int]:
    """Which of the views generated so far the next one, of that seed, looks at: in order, the last one last.

    Up to `earlier` different ones are drawn from those before the last.
    """
    if num_generated == 0:
        return []
    last = num_generated - 1
    # Views may share their seed, and should not all look at the same ones.
    own = torch.tensor([derived_seed(seed, num_generated)])
    lots = uniform(own, (last,), stream="views to look at")[0]
    return [*sorted(lots.argsort()[:earlier].tolist()), last]


def along_path(source: Views, cameras: Cameras) -> list[int]:
    """The views of `cameras` [1, t] as they come."""
    return list(range(cameras.shape[1]))


def outward(source: Views, cameras: Cameras) -> list[int]:
    """The views of `cameras` [1, t] by the distance of their cameras from the nearest source camera."""
    known = source.cameras.positions[0][source.valid[0]]
    distance = torch.cdist(cameras.positions[0].double(), known.double()).amin(dim=1)
    return distance.argsort(stable=True).tolist()


# Name -> the numbers of the views of a lone scene, in the order of drawing.
ORDERS: dict[str, Callable[[Views, Cameras], list[int]]] = {"path": along_path, "outward": outward}
