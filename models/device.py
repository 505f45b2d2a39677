"""Where to compute, and how precisely."""

import torch
from torch import Tensor, nn

from diffusion.denoiser import EDMDenoiser
from models.base import NVSModel


def choose_device(name: str, local_rank: int = 0) -> torch.device:
    """The device of a name: "auto" is the GPU of the local rank where there is one, else the CPU.

    Raises ValueError where there is no such device.
    """
    if name == "auto":
        name = f"cuda:{local_rank}" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ValueError(f"device: '{name}' is no device; use auto, cpu, cuda or cuda:N") from error
    if device.type not in ("cpu", "cuda"):
        raise ValueError(f"device: '{name}' is of a kind that was never tried; use auto, cpu, cuda or cuda:N")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise ValueError(
            f"device: {name} asked for, but {torch.cuda.device_count()} GPUs are usable; use auto or cpu"
        )
    return device


def autocast(precision: str, device: torch.device) -> torch.autocast:
    """Context that computes in bfloat16 if `precision` is "bfloat16", or "auto" and the GPU has it."""
    native = device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
    enabled = precision == "bfloat16" or (precision == "auto" and native)
    return torch.autocast(device.type, torch.bfloat16, enabled=enabled)


def to_device_of(like: Tensor, tensor: Tensor) -> Tensor:
    """A CPU tensor on the device of `like`, and in its precision where both are numbers with a fraction.

    The host does not wait for the copy: it goes on while the device still works on what came before.
    """
    pinned = tensor.pin_memory() if like.is_cuda and not tensor.is_cuda else tensor
    dtype = like.dtype if tensor.is_floating_point() else tensor.dtype
    return pinned.to(like.device, dtype, non_blocking=True)


def place(model: nn.Module, device: torch.device) -> nn.Module:
    """Move a model to a device, in place; convolutions' weights then lie in the order that is fastest there.

    With the channels last, as tensor cores want them, and activations follow. On a CPU that suits denoisers
    (the full-size U-Net takes 0.9 to 0.95 of the time), but not encoders (1.3 times). Names, shapes and
    values stay.
    """
    model.to(device)
    denoisers = [part for part in model.modules() if isinstance(part, EDMDenoiser)]
    for part in denoisers if device.type == "cpu" else [model]:
        part.to(memory_format=torch.channels_last)
    return model


def out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory did not suffice: torch's, on either device, or Python's own."""
    return "memory" in f"{type(error).__name__} {error}".lower()


def compile_networks(model: NVSModel, device: torch.device) -> None:
    """Have `torch.compile` make faster programs of the model's networks, in place, when they are first used.

    Raises ValueError in one line where this machine cannot: a C++ compiler may be missing.
    """
    try:
        torch.compile(_attempt)(torch.zeros(3, device=device))
    except RuntimeError as error:  # torch's exceptions of compilation are such
        reason = f"{error}".strip().partition("\n")[0]
        raise ValueError(
            f"train.compile: this machine cannot compile ({reason}); install a C++ compiler such as g++, or "
            "set train.compile=false"
        ) from error
    for network in model.networks():
        network.compile()


def _attempt(x: Tensor) -> Tensor:
    return x.sin() + 1
