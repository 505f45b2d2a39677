"""Device and precision of computation."""

from typing import Literal

import torch
from torch import Tensor, nn

from data.files import first_line
from models.base import NVSModel

BFLOAT16_CHECKS = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")  # of torch.cpu


def choose_device(name: str, local_rank: int = 0) -> torch.device:
    """Return the device of a name: "auto" is the GPU of the local rank if available, else the CPU.

    Raises ValueError if there is no such device.
    """
    if name == "auto":
        name = f"cuda:{local_rank}" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ValueError(f"device: '{name}' is not a device; use auto, cpu, cuda or cuda:N") from error
    if device.type not in ("cpu", "cuda"):
        raise ValueError(f"device: '{name}' is of an unsupported type; use auto, cpu, cuda or cuda:N")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise ValueError(
            f"device: {name} requested, but {torch.cuda.device_count()} GPUs are usable; use auto or cpu"
        )
    return device


def autocast(precision: str, device: torch.device) -> torch.autocast:
    """Return the autocast context for the precision of `choose_precision`."""
    enabled = choose_precision(precision, device) == "bfloat16"
    return torch.autocast(device.type, torch.bfloat16, enabled=enabled)


def choose_precision(precision: str, device: torch.device) -> Literal["float32", "bfloat16"]:
    """Return the precision of networks on `device`: "auto" is bfloat16 if supported by the hardware.

    Depends only on the hardware, not on a measurement, so that a run resumes in the same precision.
    """
    if precision != "auto":
        return precision
    return "bfloat16" if multiplies_bfloat16(device) else "float32"


def multiplies_bfloat16(device: torch.device) -> bool:
    """Whether a device has bfloat16 multiply instructions.

    For CPUs these are AVX512-BF16 and AMX, if enabled in oneDNN. With plain AVX512, oneDNN would emulate
    them, slower than float32. CPUs other than x86 count as unsupported: none was measured.
    """
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if device.type != "cpu" or not (torch.backends.mkldnn.is_available() and torch.backends.mkldnn.enabled):
        return False
    # Private in torch 2.11 to 2.15; without these functions the CPU counts as unsupported.
    checks = (getattr(torch.cpu, name, None) for name in BFLOAT16_CHECKS)
    return any(bool(check()) for check in checks if check is not None)


def to_device_of(like: Tensor, tensor: Tensor) -> Tensor:
    """Copy a CPU tensor to the device of `like`, and to its dtype if both are floating point.

    The copy is asynchronous.
    """
    pinned = tensor.pin_memory() if like.is_cuda and not tensor.is_cuda else tensor
    dtype = like.dtype if tensor.is_floating_point() else tensor.dtype
    return pinned.to(like.device, dtype, non_blocking=True)


def place(model: nn.Module, device: torch.device) -> nn.Module:
    """Move a model to a device, in place, with convolution weights in the fastest memory format.

    On GPUs that is channels last, as tensor cores need; activations follow. On a CPU it helps denoisers (0.9
    to 0.95 of the time for the full-size U-Net), but not encoders (1.3 times). Names, shapes and values do
    not change.
    """
    model.to(device)
    faster = [part for part in model.modules() if getattr(part, "channels_last_on_cpu", False)]
    for part in faster if device.type == "cpu" else [model]:
        part.to(memory_format=torch.channels_last)
    return model


def out_of_memory(error: BaseException) -> str | None:
    """Return the first line of an out-of-memory error (torch's on any device, or Python's own), else None."""
    if "memory" not in f"{type(error).__name__} {error}".lower():
        return None
    return first_line(error) if str(error) else "out of memory"


def compile_networks(model: NVSModel, device: torch.device) -> None:
    """Apply `torch.compile` to the model's networks, in place; compilation happens on first use.

    Raises a one-line ValueError if that fails: a C++ compiler may be missing.
    """
    try:
        torch.compile(_attempt)(torch.zeros(3, device=device))
    except RuntimeError as error:  # base of torch's compilation errors
        raise ValueError(
            f"train.compile: this machine cannot compile ({first_line(error)}); "
            "install a C++ compiler such as g++, or set train.compile=false"
        ) from error
    for network in model.networks():
        network.compile()


def _attempt(x: Tensor) -> Tensor:
    return x.sin() + 1
