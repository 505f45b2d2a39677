"""Exponential moving average (EMA) of weights, with which samples are better."""

import torch
from torch import Tensor, nn

from models.base import own_parameters


class EMA:
    """Moving average of a model's parameters, in float32.

    The decay rises with the number of updates to `decay`, so that early weights are soon forgotten (as in
    Karras et al. 2022 and k-diffusion).
    """

    def __init__(self, model: nn.Module, decay: float):
        self.decay = decay
        self.shadow = {
            name: parameter.detach().clone().float() for name, parameter in own_parameters(model).items()
        }

    @torch.no_grad()
    def update(self, model: nn.Module, num_updates: int) -> None:
        """Update the average with the model's parameters; `num_updates` counts from 1."""
        decay = min(self.decay, (1 + num_updates) / (10 + num_updates))
        current = [parameter.detach().float() for parameter in own_parameters(model).values()]
        torch._foreach_lerp_(list(self.shadow.values()), current, 1 - decay)

    @torch.no_grad()
    def reset(self, model: nn.Module) -> None:
        """Restart the average at the model's parameters."""
        for name, parameter in own_parameters(model).items():
            self.shadow[name].copy_(parameter)

    @torch.no_grad()
    def swap(self, model: nn.Module) -> None:
        """Exchange the model's parameters with their averages; a second call restores both."""
        for name, parameter in own_parameters(model).items():
            held: Tensor = parameter.detach().clone()
            parameter.copy_(self.shadow[name])
            self.shadow[name] = held.float()
