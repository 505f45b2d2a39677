"""A published array beside what our modules make of the same inputs."""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Figure:
    """Two routes to one array, and how far apart they may end."""

    name: str
    ours: Tensor
    theirs: Tensor
    tolerance: float  # absolute

    @property
    def within(self) -> bool:
        """Whether the deviation is allowed; no number is not."""
        return self.deviation <= self.tolerance

    @property
    def deviation(self) -> float:
        """Largest absolute difference. Raises ValueError where the shapes differ."""
        if self.ours.shape != self.theirs.shape:
            raise ValueError(f"{self.name}: ours is {list(self.ours.shape)}, not {list(self.theirs.shape)}")
        assert self.ours.dtype == torch.float32, f"{self.name}: ours is {self.ours.dtype}"
        return float((self.ours.detach().double() - self.theirs.double()).abs().max())
