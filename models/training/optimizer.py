"""The optimiser: AdamW with one learning rate per part of the model, and its schedule."""

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn

from config.run import OptimConfig
from data.schedule import Ramp, value_at
from models.base import NVSModel


def learning_rate_factor(config: OptimConfig, step: int, progress: float) -> float:
    """Fraction of the full learning rate at a step (from 0) and a progress (0 to 1).

    Warm-up and the inverse square root (Vaswani et al. 2017, eq. 3; with `reference_steps` for t_ref, Karras
    et al. 2024, arXiv:2312.02696) count steps, so they do not depend on the run's length. The cosine ends
    with the run.
    """
    warm = min(1.0, (step + 1) / max(1, config.warmup))
    if config.schedule == "cosine":
        fall = Ramp(start=1.0, end=config.final, begin=config.decay_from, shape="cosine")
        return warm * value_at(fall, progress)
    if config.schedule == "exponential":
        past = max(0, step + 1 - config.warmup)
        return warm * config.final ** (past / config.reference_steps)
    if config.schedule == "inverse_square_root":
        reference = config.reference_steps or max(1, config.warmup)
        return warm / math.sqrt(max(1.0, (step + 1) / reference))
    return warm


def make_optimizer(model: NVSModel, config: OptimConfig) -> torch.optim.AdamW:
    """Make an AdamW with one parameter group per part, or two if only matrices decay.

    Each group has its full rate as `full_lr`. Parts whose factor is 0 are frozen; parameters that the model
    has frozen stay frozen. Raises ValueError for a factor of an unknown part, or if nothing is left to train.
    """
    parts = scaled_parts(model, config.lr_scale)
    groups, matrices = [], matrices_of(model) if config.decay == "matrices" else None
    for scale, part in parts:
        if scale == 0:
            for parameter in part:
                parameter.requires_grad_(False)
        trained = [parameter for parameter in part if parameter.requires_grad]
        lasting = [] if matrices is None else [p for p in trained if p not in matrices]
        decaying = [p for p in trained if matrices is None or p in matrices]
        groups += [{"params": decaying, "full_lr": scale * config.lr}] if decaying else []
        rate = {"full_lr": scale * config.lr, "weight_decay": 0.0}
        groups += [{"params": lasting, **rate}] if lasting else []
    if not groups:
        raise ValueError("optim.lr_scale: every part is frozen; leave one of them above 0")
    options = {"lr": config.lr, "betas": config.betas, "weight_decay": config.weight_decay}
    return torch.optim.AdamW(groups, **options, fused=True)  # one pass over the weights instead of ten


def matrices_of(model: nn.Module) -> set[nn.Parameter]:
    """Weights of linear and convolutional layers: parameters called "weight" with two axes or more."""
    named = model.named_parameters()
    return {p for name, p in named if name.rpartition(".")[2] == "weight" and p.ndim > 1}


def scaled_parts(model: NVSModel, factors: dict[str, float]) -> list[tuple[float, list[nn.Parameter]]]:
    """The factor and the parameters of each part of the model, in order.

    A module within a part, such as "encoder.backbone", may have its own factor. Raises ValueError for a
    factor of an unknown part.
    """
    parts = dict(model.parts())
    for name in sorted(factors, key=len, reverse=True):  # the innermost first
        part, _, inner = name.partition(".")
        modules = dict(parts[part].named_modules()) if part in parts else {}
        if inner not in modules:
            children = parts[part].named_children() if part in parts else ()
            known = ", ".join([*parts, *(f"{part}.{child}" for child, _ in children)])
            raise ValueError(f"optim.lr_scale: the model has no part '{name}'; its parts are {known}")
        parts.setdefault(name, modules[inner])
    taken: set[nn.Parameter] = set()
    found = {}
    for name in sorted(parts, key=len, reverse=True):
        found[name] = [parameter for parameter in parts[name].parameters() if parameter not in taken]
        taken.update(found[name])
    return [(factors.get(name, 1.0), found[name]) for name in parts]


def set_learning_rate(
    optimizer: torch.optim.Optimizer, config: OptimConfig, step: int, progress: float
) -> None:
    """Set the learning rate of every group for a step (from 0) and a progress (0 to 1)."""
    factor = learning_rate_factor(config, step, progress)
    for group in optimizer.param_groups:
        group["lr"] = group["full_lr"] * factor


def trained_parameters(model: NVSModel) -> dict[str, list[nn.Parameter]]:
    """The trained parameters of each part of the model, without frozen parts."""
    trained = {
        name: [parameter for parameter in part.parameters() if parameter.requires_grad]
        for name, part in model.parts().items()
    }
    return {name: parameters for name, parameters in trained.items() if parameters}


def clip_gradients(trained: dict[str, list[nn.Parameter]], largest: float) -> dict[str, Float[Tensor, ""]]:
    """Scale gradients, in place, so that their common norm is at most `largest`.

    Returns the norm before, as "gradient_norm", and that of each part with gradients, as
    "gradient_norm/PART". A norm that is not finite makes all gradients so; checking it would wait for the
    GPU.
    """
    learning = {name: [p for p in parameters if p.grad is not None] for name, parameters in trained.items()}
    norms = {
        f"gradient_norm/{name}": common_norm([parameter.grad for parameter in parameters])
        for name, parameters in learning.items()
        if parameters
    }
    total = torch.stack(list(norms.values())).norm()
    every = [parameter for parameters in learning.values() for parameter in parameters]
    nn.utils.clip_grads_with_norm_(every, largest, total, foreach=True)
    return {"gradient_norm": total, **norms}


def common_norm(tensors: list[Tensor]) -> Float[Tensor, ""]:
    """Euclidean norm over all elements of some tensors on one device."""
    return torch.stack(torch._foreach_norm(tensors)).norm()
