"""Loss terms and times between two lines of the log. Terms stay on the device: no step waits for them."""

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
    """The files that could not be used, as far as this process has met them; a resumed run counts anew."""

    def __init__(self, *, skip: bool, say: Callable[[str], object]):
        self.problems: set[str] = set()
        self._skip, self._say = skip, say

    def figures(self, count: Callable[[set[str]], int] = len) -> dict[str, int]:
        """For a line of the log, of a run that goes on without such files: how many different ones, by a
        function that counts those of all processes."""
        return {"damaged_files": count(self.problems)} if self._skip else {}

    def named(self, batches: Iterable[SceneBatch]) -> Iterator[SceneBatch]:
        """The same batches; each file that is met for the first time is said, in one line for the user."""
        for batch in batches:
            for problem in batch.damage:
                if problem not in self.problems:
                    self.problems.add(problem)
                    self._say(f"{problem}; scenes that need it are replaced")
            yield batch


class WeightStats:
    """Looks at a model and the average of its weights, when asked, without waiting for a GPU."""

    def __init__(self, model: NVSModel, ema: EMA, device: torch.device):
        """Begin; `device` is where the model is."""
        self._parts = {name: list(part.parameters()) for name, part in model.parts().items()}
        self._named, self._ema = own_parameters(model), ema
        self._gpu = device if device.type == "cuda" else None
        if self._gpu:
            torch.cuda.reset_peak_memory_stats(self._gpu)

    @torch.no_grad()
    def weights(self) -> dict[str, Float[Tensor, ""]]:
        """Norm of each part's weights, as "weight_norm/PART", and as "ema_drift" how far the averaged weights
        are from the current ones: the norm of the difference relative to that of the weights."""
        norms = {f"weight_norm/{name}": common_norm(weights) for name, weights in self._parts.items()}
        # One by one: a copy of all weights would cost as much memory as the weights.
        apart = [torch.dist(self._ema.shadow[name], weight) for name, weight in self._named.items()]
        drift = torch.stack(apart).norm() / torch.stack(list(norms.values())).norm()
        return norms | {"ema_drift": drift}

    def memory(self) -> dict[str, float]:
        """The most GPU memory that tensors took since the beginning, in MiB; nothing where there is no GPU.

        Since the beginning, not since the last time: it also says what the previews and checkpoints need, and
        leaves the count to other readers.
        """
        return {"gpu_memory_mib": torch.cuda.max_memory_allocated(self._gpu) / 2**20} if self._gpu else {}


Item = TypeVar("Item")


@dataclass
class Meter:
    """Means of scalar terms since the last report, and where the time went."""

    clock: Callable[[], float] = time.monotonic  # seconds
    entries: list[tuple[int, str, Tensor]] = field(default_factory=list)
    images: int = 1  # target views of an item of the data, those of all processes together
    since: float = field(init=False)
    waited: float = field(default=0.0, init=False)  # seconds for data, since the last report
    items: int = field(default=0, init=False)  # of the data, since the last report

    def __post_init__(self) -> None:
        """Begin to measure."""
        self.since = self.clock()

    def add(self, step: int, terms: dict[str, Tensor]) -> None:
        """Remember terms of an update, which may add several times (accumulation)."""
        self.entries += [(step, name, value.detach()) for name, value in terms.items()]

    def forget(self, step: int) -> None:
        """Drop the terms of an update that was abandoned."""
        self.entries = [entry for entry in self.entries if entry[0] != step]

    def timed(self, data: Iterable[Item]) -> Iterator[Item]:
        """The same data; the time until each item is there counts as waiting."""
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
        """Context of what is no training, such as previews and checkpoints: its time does not count."""
        begun = self.clock()
        try:
            yield
        finally:
            self.since += self.clock() - begun

    def report(self) -> tuple[dict[str, float], dict[str, float]]:
        """Mean of every term, and times: `seconds` of training since the last report, without pauses;
        `data_wait`, the share of them that this process waited for data (0 to 1; while a GPU is busy, it need
        not have waited); and `images_per_second`, target views in all processes.

        Raises ValueError naming the first step and term that are not finite.
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
