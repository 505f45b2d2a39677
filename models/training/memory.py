"""How much memory a call needs beyond what its inputs hold.

On the CPU the kernel's own count is read: the resident memory of this process at its highest since the mark
was reset (Linux: /proc/self/clear_refs, VmHWM). torch.profiler adds up the tensors instead; it misses what
other threads allocate and the scratch space of oneDNN and MKL, both of which belong to the price of a fast
implementation. The kernel misses nothing, at the granularity of pages.
"""

import ctypes
import re
from collections.abc import Callable
from pathlib import Path

import torch

STATUS, CLEAR_REFS = Path("/proc/self/status"), Path("/proc/self/clear_refs")
RESET_PEAK = "5"  # what to write into clear_refs, see proc_pid_clear_refs(5)


def peak_extra_bytes(run: Callable[[], object], device: torch.device) -> int | None:
    """Bytes that `run` needs at its worst moment beyond those in use before; its result counts too.

    None where the system does not tell.
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
    """malloc keeps what was freed; a call that takes it again would seem to need nothing."""
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
    """Bytes of an entry of /proc/self/status."""
    return 1024 * int(re.search(rf"^{name}:\s+(\d+) kB", STATUS.read_text(), re.MULTILINE)[1])
