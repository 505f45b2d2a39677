"""The optimiser: AdamW with one learning rate per part of the model, and its schedule."""

import math

import torch
from jaxtyping import Float
from pydantic import BaseModel, Field, NonNegativeFloat, model_validator
from torch import Tensor, nn

from models.base import NVSModel


class OptimConfig(BaseModel, frozen=True, extra="forbid", allow_inf_nan=False):
    """AdamW, its learning rate, gradient clipping and the average of the weights."""

    lr: float = Field(1e-4, gt=0, description="learning rate")
    lr_scale: dict[str, NonNegativeFloat] = Field(
        {}, description="factor per part of the model, such as {'encoder': 0.5}; 0 freezes"
    )
    betas: tuple[float, float] = Field((0.9, 0.99), description="memory of AdamW's two averages")
    weight_decay: float = Field(0.0, ge=0, description="AdamW's weight decay")
    warmup: int = Field(500, ge=0, description="steps of linear warm-up")
    decay_from: int | None = Field(
        None, ge=0, description="step at which the cosine decay begins; null = never"
    )
    decay_steps: int = Field(0, ge=0, description="steps of the cosine decay to zero")
    clip: float = Field(1.0, gt=0, description="largest gradient norm")
    ema: float = Field(0.9999, ge=0, lt=1, description="decay of the average of the weights")

    @model_validator(mode="after")
    def _decay_is_whole(self) -> "OptimConfig":
        if self.decay_from is not None and self.decay_steps == 0:
            raise ValueError("decay_from needs decay_steps, the length of the decay; set both or neither")
        return self


def learning_rate_factor(config: OptimConfig, step: int) -> float:
    """Share of the full learning rate at a step (from 0): linear warm-up, constant, cosine decay to zero.

    A function of the step alone, not of the run's length, so that a run can be lengthened.
    """
    warm = min(1.0, (step + 1) / max(1, config.warmup))
    if config.decay_from is None or step < config.decay_from:
        return warm
    done = min(1.0, (step - config.decay_from) / max(1, config.decay_steps))
    return warm * (1 + math.cos(math.pi * done)) / 2


def make_optimizer(model: NVSModel, config: OptimConfig) -> torch.optim.AdamW:
    """AdamW with one parameter group per part; each group knows its own full rate as `full_lr`.

    A part whose factor is 0 is frozen: its parameters want no gradient. What the model has frozen itself
    stays so. Raises ValueError for a factor of a part that the model does not have, or where nothing is left
    to train.
    """
    parts = model.parts()
    unknown = set(config.lr_scale) - set(parts)
    if unknown:
        raise ValueError(
            f"optim.lr_scale: the model has no part '{min(unknown)}'; its parts are {', '.join(parts)}"
        )
    groups = []
    for name, part in parts.items():
        scale = config.lr_scale.get(name, 1.0)
        if scale == 0:
            part.requires_grad_(False)
        trained = [parameter for parameter in part.parameters() if parameter.requires_grad]
        if trained:
            groups.append({"params": trained, "full_lr": scale * config.lr})
    if not groups:
        raise ValueError("optim.lr_scale: every part is frozen; leave one of them above 0")
    options = {"lr": config.lr, "betas": config.betas, "weight_decay": config.weight_decay}
    return torch.optim.AdamW(groups, **options, fused=True)  # one pass over the weights instead of ten


def set_learning_rate(optimizer: torch.optim.Optimizer, config: OptimConfig, step: int) -> None:
    """Give every group its learning rate for a step."""
    for group in optimizer.param_groups:
        group["lr"] = group["full_lr"] * learning_rate_factor(config, step)


def clip_gradients(parameters: list[nn.Parameter], largest: float) -> Float[Tensor, ""]:
    """Scale gradients, in place, so that their common norm is at most `largest`; returns what it was.

    A norm that is not finite makes them all so: the host does not wait for a GPU to find out.
    """
    return nn.utils.clip_grad_norm_(parameters, largest, foreach=True)
