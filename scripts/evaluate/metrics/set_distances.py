"""Distances of all pictures of a method from all true ones, and what to say about them."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from scripts.common.progress import progress_bar
from scripts.evaluate.metrics.fid import RELIABLE, Features, FrechetDistance
from scripts.evaluate.metrics.kid import KernelDistance, Lite0Features

Distance = Callable[[Iterable[Tensor]], float]  # of a set, in parts [n, h, w, 3] of 8 bits
Pictures = Callable[
    [str | None], Iterator[Tensor]
]  # of a method, in such parts, object by object; None: true


@dataclass(frozen=True)
class SetMetric:
    """A figure of a set of pictures beside the set of the true ones."""

    title: str
    digits: int  # after the point, in tables
    load: Callable[
        [torch.device], Callable[[Iterable[Tensor]], Distance]
    ]  # raises ValueError if not to be had
    about: str


def _load_fid(device: torch.device) -> Callable[[Iterable[Tensor]], Distance]:
    features = Features(device)
    return lambda truth: FrechetDistance(features, truth, device)


def _load_kid(device: torch.device) -> Callable[[Iterable[Tensor]], Distance]:
    features = Lite0Features(device)
    return lambda truth: KernelDistance(features, truth)


SET_METRICS = {
    "fid": SetMetric("FID", 2, _load_fid, "clean-fid's features"),
    "kid_lite0": SetMetric(
        "KID-lite0 (x 1000)",
        2,
        _load_kid,
        "kernel distance of EfficientNet-lite0's features, unbiased; not the KID that papers quote",
    ),
}


def set_distances(
    pictures: Pictures,
    sets: dict[str, list[str]],
    *,
    num_objects: int,
    num_pictures: int,
    device: torch.device,
) -> tuple[dict[str, dict[str, list[float]]], list[str]]:
    """For each metric, the distances of each of the `sets` of methods; and a line for the reader on each.

    A metric whose network is not available is left out, and its line says why.
    """
    if num_pictures < 2:
        titles = ", ".join(metric.title for metric in SET_METRICS.values())
        return {}, [f"{titles} are left out: one picture is no distribution."]
    found: dict[str, dict[str, list[float]]] = {}
    lines = []
    total = (1 + sum(map(len, sets.values()))) * num_objects
    for name, metric in SET_METRICS.items():
        try:
            make = metric.load(device)
        except ValueError as error:
            lines.append(f"{metric.title} is left out: {error}")
            continue
        with progress_bar(total=total, desc=metric.title, unit="object") as bar:

            def counted(method: str | None, bar=bar) -> Iterator[Tensor]:
                for part in pictures(method):
                    yield part
                    bar.update()

            distance = make(counted(None))
            found[name] = {row: [distance(counted(method)) for method in each] for row, each in sets.items()}
        lines.append(f"{metric.title}: {metric.about}, {num_pictures} pictures against as many of the truth.")
    if "fid" in found and num_pictures < RELIABLE:
        lines.append(
            f"FID of {num_pictures} pictures is unreliable: below about {RELIABLE} it depends on their "
            "number."
        )
    return found, lines
