"""Where to compute, and how precisely."""

import torch


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
