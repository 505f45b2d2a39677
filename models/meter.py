"""Loss terms between two lines of the log, kept on the device so that no step waits for them."""

import time
from dataclasses import dataclass, field

import torch
from torch import Tensor


@dataclass
class Meter:
    """Means of scalar terms since the last report."""

    entries: list[tuple[int, str, Tensor]] = field(default_factory=list)
    since: float = field(default_factory=time.monotonic)

    def add(self, step: int, terms: dict[str, Tensor]) -> None:
        """Remember terms of an update, which may add several times (accumulation)."""
        self.entries += [(step, name, value.detach()) for name, value in terms.items()]

    def report(self) -> tuple[dict[str, float], float]:
        """Mean of every term and the seconds since the last report.

        Raises ValueError naming the first step and term that are not finite.
        """
        values = torch.stack([value.float() for _, _, value in self.entries]).tolist()
        collected: dict[str, list[float]] = {}
        for (step, name, _), value in zip(self.entries, values, strict=True):
            if not abs(value) < float("inf"):
                raise ValueError(f"step {step}: '{name}' is not finite")
            collected.setdefault(name, []).append(value)
        now = time.monotonic()
        seconds, self.since = now - self.since, now
        self.entries.clear()
        return {name: sum(found) / len(found) for name, found in collected.items()}, seconds
