"""Distances of the set of a method's images from the set of true ones, with notes."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from scripts.common.progress import progress_bar
from scripts.evaluate.metrics.fid import RELIABLE, Features, FrechetDistance
from scripts.evaluate.metrics.kid import KernelDistance, Lite0Features

Distance = Callable[[Iterable[Tensor]], float]  # of a set, in 8-bit batches [n, h, w, 3]
# The images of a method, or the true ones for None, in such batches, object by object.
Pictures = Callable[[str | None], Iterator[Tensor]]


@dataclass(frozen=True)
class SetMetric:
    """A metric of a set of images and the set of true ones."""

    title: str
    digits: int  # after the decimal point, in tables
    # Raises ValueError if the metric is not available.
    load: Callable[[torch.device], Callable[[Iterable[Tensor]], Distance]]
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
        "kernel distance of EfficientNet-lite0's features, unbiased; not the KID of papers",
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
    """For each metric, the distances of each of the `sets` of methods; also returns a note on each metric.

    A metric whose network is not available is left out, and its note says why.
    """
    if num_pictures < 2:
        titles = ", ".join(metric.title for metric in SET_METRICS.values())
        return {}, [f"{titles} are left out: one image is no distribution."]
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
        lines.append(f"{metric.title}: {metric.about}, {num_pictures} images against as many of the truth.")
    if "fid" in found and num_pictures < RELIABLE:
        lines.append(
            f"FID of {num_pictures} images is unreliable: below about {RELIABLE} it depends on their number."
        )
    return found, lines
