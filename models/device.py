"""Where to compute, and how precisely."""

from typing import Literal

import torch
from torch import Tensor, nn

from diffusion.denoiser import EDMDenoiser
from models.base import NVSModel

BFLOAT16_CHECKS = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")  # of torch.cpu


def choose_device(name: str, local_rank: int = 0) -> torch.device:
    """The device of a name: "auto" is the GPU of the local rank if there is one, else the CPU.

    Raises ValueError if there is no such device.
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
    """Context in which networks compute in what `choose_precision` says."""
    enabled = choose_precision(precision, device) == "bfloat16"
    return torch.autocast(device.type, torch.bfloat16, enabled=enabled)


def choose_precision(precision: str, device: torch.device) -> Literal["float32", "bfloat16"]:
    """The precision of networks on `device`: "auto" is bfloat16 where the hardware multiplies in it.

    Depends on the hardware alone, never on a measurement, so that a run resumes in the same precision.
    """
    if precision != "auto":
        return precision
    return "bfloat16" if multiplies_bfloat16(device) else "float32"


def multiplies_bfloat16(device: torch.device) -> bool:
    """Whether a device has instructions that multiply in bfloat16.

    Of CPUs these are AVX512-BF16 and AMX, if oneDNN may use them. AVX512 alone has none: oneDNN would
    emulate them, slower than float32. CPUs that are not x86 count as without: none was measured.
    """
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if device.type != "cpu" or not (torch.backends.mkldnn.is_available() and torch.backends.mkldnn.enabled):
        return False
    # Private in torch 2.11 to 2.15; a version without them counts as a CPU without the instructions.
    checks = (getattr(torch.cpu, name, None) for name in BFLOAT16_CHECKS)
    return any(bool(check()) for check in checks if check is not None)


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
