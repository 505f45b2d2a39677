"""Peak memory of a call beyond its inputs.

On the CPU this is the kernel's peak resident size of the process since a reset (Linux: VmHWM, reset by
/proc/self/clear_refs), in pages. torch.profiler would only add up tensors, without the memory of other
threads and the scratch space of oneDNN and MKL.
"""

import ctypes
import re
from collections.abc import Callable
from pathlib import Path

import torch

STATUS, CLEAR_REFS = Path("/proc/self/status"), Path("/proc/self/clear_refs")
RESET_PEAK = "5"  # the value to write to clear_refs; see proc_pid_clear_refs(5)


def peak_extra_bytes(run: Callable[[], object], device: torch.device) -> int | None:
    """Peak bytes that `run` needs beyond those in use before, including its result.

    None if the system does not report them.
    """
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        run()
        torch.cuda.synchronize(device)
        return torch.cuda.max_memory_allocated(device) - before
    _give_back_freed_memory()
    if not _reset_peak():
        run()
        return None
    before = _kernel_count("VmRSS")
    run()
    return max(0, _kernel_count("VmHWM") - before)


def _give_back_freed_memory() -> None:
    """Return freed memory to the system; otherwise a call that reuses it would seem to need none."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


def _reset_peak() -> bool:
    try:
        CLEAR_REFS.write_text(RESET_PEAK)
    except OSError:
        return False
    return True


def _kernel_count(name: str) -> int:
    """An entry of /proc/self/status, in bytes."""
    return 1024 * int(re.search(rf"^{name}:\s+(\d+) kB", STATUS.read_text(), re.MULTILINE)[1])
