"""A training loop whose state is saved at once: resumed, it equals an uninterrupted one."""

import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor, nn

from data.files import write_synced
from models.checkpoints.torch_file import read_torch_file
from models.device import autocast
from scripts.common.progress import progress_bar

SAVE_EVERY_S = 60.0
WARMUP = 50  # steps


class Stop(Protocol):
    """Says when to save and leave."""

    requested: bool


class StoppedError(Exception):
    """The training was asked to stop; its state is saved."""


def train(
    network: nn.Module,
    loss: Callable[[int, torch.Generator], Tensor],
    path: Path,
    *,
    steps: int,
    lr: float,
    seed: int,
    name: str,
    stop: Stop,
    ema: float | None = None,
) -> float:
    """Minimise `loss(step, generator)` over the parameters of `network`; returns the CPU seconds in all.

    The state is in the file `path`. With `ema`, the network ends as the moving average of its weights; the
    average's memory grows with the number of steps until it reaches `ema`.
    Raises StoppedError at a stop, and OSError if the state cannot be saved.
    """
    optimizer = torch.optim.Adam(network.parameters(), betas=(0.9, 0.99))
    average = {key: value.detach().clone() for key, value in network.named_parameters()}
    step, spent_s = _resume(path, network, optimizer, average)
    began_s, saved = time.process_time() - spent_s, time.monotonic()

    with progress_bar(total=steps, initial=step, desc=name, unit="step") as bar:
        while step < steps:
            # Forward and backward; random numbers depend on seed and step alone.
            generator = torch.Generator().manual_seed(seed * 1_000_003 + step)
            with autocast("auto", torch.device("cpu")):
                value = loss(step, generator)
            optimizer.zero_grad()
            value.backward()

            # Update of weights and average.
            nn.utils.clip_grad_norm_(network.parameters(), 1.0)
            for group in optimizer.param_groups:
                group["lr"] = lr * _rate(step, steps)
            optimizer.step()
            step += 1
            if ema is not None:
                decay = min(ema, (1 + step) / (10 + step))
                torch._foreach_lerp_(list(average.values()), _values(network), 1 - decay)

            # Report and save.
            bar.set_postfix(loss=f"{value.item():.4f}", refresh=False)
            bar.update()
            stopping = stop.requested  # asked once a step: a stop is never left without its state
            if stopping or step == steps or time.monotonic() - saved > SAVE_EVERY_S:
                state = {"network": network.state_dict(), "optimizer": optimizer.state_dict()}
                state |= {"average": average, "step": step, "cpu_s": time.process_time() - began_s}
                write_synced(path, lambda unfinished, state=state: torch.save(state, unfinished))
                saved = time.monotonic()
            if stopping and step < steps:
                raise StoppedError
    if ema is not None:
        network.load_state_dict(network.state_dict() | average)
    return time.process_time() - began_s


def _rate(step: int, steps: int) -> float:
    """Share of the learning rate: a linear rise, then half a cosine to zero."""
    return min(1.0, (step + 1) / WARMUP) * 0.5 * (1 + math.cos(math.pi * step / steps))


def _values(network: nn.Module) -> list[Tensor]:
    return [parameter.detach() for parameter in network.parameters()]


def _resume(
    path: Path, network: nn.Module, optimizer: torch.optim.Optimizer, average: dict[str, Tensor]
) -> tuple[int, float]:
    """The saved step and CPU seconds, with everything else restored in place."""
    if not path.exists():
        return 0, 0.0
    try:
        state = read_torch_file(path)
    except ValueError as error:
        raise ValueError(f"{path}: is damaged; delete it to train this part again") from error
    network.load_state_dict(state["network"])
    optimizer.load_state_dict(state["optimizer"])
    average.update({key: value.clone() for key, value in state["average"].items()})  # the file is mapped
    return state["step"], state["cpu_s"]
