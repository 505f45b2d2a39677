"""Loss terms and times between two lines of the log. Terms stay on the device, so no step waits for them."""

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TypeVar

import torch
from jaxtyping import Float
from torch import Tensor

from data.scenes.batch import SceneBatch
from models.base import NVSModel, own_parameters
from models.training.ema import EMA
from models.training.optimizer import common_norm


class DamageCount:
    """Counts the damaged files that this process has met; a resumed run starts again at 0."""

    def __init__(self, *, skip: bool, say: Callable[[str], object]):
        self.problems: set[str] = set()
        self._skip, self._say = skip, say

    def figures(self, count: Callable[[set[str]], int] = len) -> dict[str, int]:
        """The number of distinct damaged files for the log, if they are skipped; `count` counts those of all
        processes."""
        return {"damaged_files": count(self.problems)} if self._skip else {}

    def named(self, batches: Iterable[SceneBatch]) -> Iterator[SceneBatch]:
        """Pass the batches through, and report each damaged file once, in one line for the user."""
        for batch in batches:
            for problem in batch.damage:
                if problem not in self.problems:
                    self.problems.add(problem)
                    self._say(f"{problem}; scenes that need it are replaced")
            yield batch


class WeightStats:
    """Statistics of a model's weights and their average, computed on request without waiting for a GPU."""

    def __init__(self, model: NVSModel, ema: EMA, device: torch.device):
        """Reset the peak memory of `device`, which has the model."""
        self._parts = {name: list(part.parameters()) for name, part in model.parts().items()}
        self._named, self._ema = own_parameters(model), ema
        self._gpu = device if device.type == "cuda" else None
        if self._gpu:
            torch.cuda.reset_peak_memory_stats(self._gpu)

    @torch.no_grad()
    def weights(self) -> dict[str, Float[Tensor, ""]]:
        """The norm of each part's weights ("weight_norm/PART"), and of the difference between averaged and
        current weights relative to the weights ("ema_drift")."""
        norms = {f"weight_norm/{name}": common_norm(weights) for name, weights in self._parts.items()}
        # One by one: a copy of all weights would cost as much memory as the weights.
        apart = [torch.dist(self._ema.shadow[name], weight) for name, weight in self._named.items()]
        drift = torch.stack(apart).norm() / torch.stack(list(norms.values())).norm()
        return norms | {"ema_drift": drift}

    def memory(self) -> dict[str, float]:
        """Peak GPU memory of tensors since the start, in MiB; nothing without a GPU.

        It is not reset between reports, so it includes previews and checkpoints.
        """
        return {"gpu_memory_mib": torch.cuda.max_memory_allocated(self._gpu) / 2**20} if self._gpu else {}


Item = TypeVar("Item")


@dataclass
class Meter:
    """Means of scalar terms and times since the last report."""

    clock: Callable[[], float] = time.monotonic  # seconds
    entries: list[tuple[int, str, Tensor]] = field(default_factory=list)
    images: int = 1  # target views per item of the data, over all processes
    since: float = field(init=False)
    waited: float = field(default=0.0, init=False)  # seconds for data, since the last report
    items: int = field(default=0, init=False)  # of the data, since the last report

    def __post_init__(self) -> None:
        """Start the clock."""
        self.since = self.clock()

    def add(self, step: int, terms: dict[str, Tensor]) -> None:
        """Store terms of an update, which may add several times (accumulation)."""
        self.entries += [(step, name, value.detach()) for name, value in terms.items()]

    def forget(self, step: int) -> None:
        """Drop the terms of an abandoned update."""
        self.entries = [entry for entry in self.entries if entry[0] != step]

    def timed(self, data: Iterable[Item]) -> Iterator[Item]:
        """Pass the data through; the time until each item arrives counts as waiting."""
        source = iter(data)
        while True:
            begun = self.clock()
            try:
                item = next(source)
            except StopIteration:
                return
            self.waited += self.clock() - begun
            self.items += 1
            yield item

    @contextmanager
    def pausing(self) -> Iterator[None]:
        """Context of work other than training, such as previews and checkpoints; its time does not count."""
        begun = self.clock()
        try:
            yield
        finally:
            self.since += self.clock() - begun

    def report(self) -> tuple[dict[str, float], dict[str, float]]:
        """The mean of every term, and times since the last report.

        `seconds` is the training time without pauses, `data_wait` (0 to 1) the share of it that this process
        waited for data, `images_per_second` counts target views in all processes. Raises ValueError naming
        the first step and term that are not finite.
        """
        values = torch.stack([value.float() for _, _, value in self.entries]).tolist()
        collected: dict[str, list[float]] = {}
        for (step, name, _), value in zip(self.entries, values, strict=True):
            if not abs(value) < float("inf"):
                raise ValueError(f"step {step}: '{name}' is not finite")
            collected.setdefault(name, []).append(value)
        self.entries.clear()
        return {name: sum(found) / len(found) for name, found in collected.items()}, self._times()

    def _times(self) -> dict[str, float]:
        now = self.clock()
        seconds, waited, images = now - self.since, self.waited, self.items * self.images
        self.since, self.waited, self.items = now, 0.0, 0
        per_second = 1 / seconds if seconds > 0 else 0.0
        times = {"data_wait": waited * per_second, "images_per_second": images * per_second}
        return {"seconds": seconds, **times}
