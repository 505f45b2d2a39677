"""Exponential moving average of weights, which samples better than the weights themselves."""

import torch
from torch import Tensor, nn

from models.base import own_parameters


class EMA:
    """A slow copy of a model's parameters, kept in float32.

    The average's memory grows with the number of updates until it reaches `decay` (Karras et al. 2022 and
    k-diffusion warm up likewise), so that early weights are soon forgotten.
    """

    def __init__(self, model: nn.Module, decay: float):
        self.decay = decay
        self.shadow = {
            name: parameter.detach().clone().float() for name, parameter in own_parameters(model).items()
        }

    @torch.no_grad()
    def update(self, model: nn.Module, num_updates: int) -> None:
        """Move towards the model's parameters; `num_updates` counts from 1."""
        decay = min(self.decay, (1 + num_updates) / (10 + num_updates))
        current = [parameter.detach().float() for parameter in own_parameters(model).values()]
        torch._foreach_lerp_(list(self.shadow.values()), current, 1 - decay)

    @torch.no_grad()
    def reset(self, model: nn.Module) -> None:
        """Begin again at the model's parameters."""
        for name, parameter in own_parameters(model).items():
            self.shadow[name].copy_(parameter)

    @torch.no_grad()
    def swap(self, model: nn.Module) -> None:
        """Exchange the model's parameters and their averages; twice restores both."""
        for name, parameter in own_parameters(model).items():
            held: Tensor = parameter.detach().clone()
            parameter.copy_(self.shadow[name])
            self.shadow[name] = held.float()
