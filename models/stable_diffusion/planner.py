"""Which views of a film are drawn together, and which finished ones they look at meanwhile."""

from collections.abc import Iterator
from dataclasses import dataclass
from random import Random
from typing import Literal

Plan = Literal["all", "chunked", "autoregressive", "groups"]
Neighbours = Literal["input+previous", "previous", "input"]
CHUNK, UNCONDITIONAL_CHUNK = 8, 2  # views, as published
EARLIER = 4  # random earlier views that one drawn alone looks at, beside the last one


@dataclass(frozen=True)
class Step:
    """Views drawn by one run of the sampler."""

    new: tuple[int, ...]
    finished: tuple[int, ...]  # views of the same film
    photos: bool  # whether they look at the source photos, too


def steps_of(
    plan: Plan, num: int, *, chunk: int | None, neighbours: Neighbours, unconditional: bool
) -> Iterator[Step]:
    """The steps that draw `num` views, each of them once.

    Unconditional views look at no photo, and are drawn in groups unless all are drawn at once.
    """
    if unconditional and plan != "all":
        plan = "groups"
    photos = "input" in neighbours and not unconditional
    if plan == "all":
        yield Step(tuple(range(num)), (), photos)
    elif plan == "autoregressive":
        yield from (_alone(view, photos) for view in range(num))
    else:
        size = chunk or (UNCONDITIONAL_CHUNK if unconditional else CHUNK)
        chunks = [tuple(range(first, min(first + size, num))) for first in range(0, num, size)]
        for number, new in enumerate(chunks):
            look_back = plan == "chunked" and number > 0 and "previous" in neighbours
            yield Step(new, chunks[number - 1] if look_back else (), photos and plan == "chunked")


def _alone(view: int, photos: bool) -> Step:
    """A view beside the last one and up to EARLIER others before it, which differ from view to view."""
    others = list(range(max(0, view - 1)))
    chosen = Random(view).sample(others, min(EARLIER, len(others)))
    return Step((view,), (*sorted(chosen), *([view - 1] if view else [])), photos)
