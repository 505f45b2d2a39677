"""How long a run takes, on whatever device it works."""

import time
from collections.abc import Callable

import torch

Run = Callable[[], object]
Clock = Callable[[Run], float]  # runs it and says how many seconds that took


def wall_clock(run: Run) -> float:
    """Seconds by the clock on the wall."""
    begin = time.perf_counter()
    run()
    return time.perf_counter() - begin


def cuda_clock(run: Run) -> float:
    """Seconds between two marks in the GPU's own queue, which is emptied before and after."""
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    torch.cuda.synchronize()
    begin.record()
    run()
    end.record()
    torch.cuda.synchronize()
    return begin.elapsed_time(end) / 1000


def clock_of(device: torch.device) -> Clock:
    """The clock that is right for a device."""
    return cuda_clock if device.type == "cuda" else wall_clock


def finish(run: Run, device: torch.device) -> None:
    """Run, and wait until the device has done all of it."""
    run()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
