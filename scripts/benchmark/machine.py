"""The machine: its name, and the most that it was seen to do."""

import platform
import re
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch

from scripts.common.process_pool import available_cores

Run = Callable[[], object]

Clock = Callable[[Run], float]  # runs it and returns the seconds it took


ROOT = Path(__file__).resolve().parents[2]
ATTEMPTS = 5  # the best counts, since a ceiling is the limit and not the typical value
COPIED_BYTES = {"full": 2**30, "small": 2**22}  # far beyond the last cache
MATRIX_SIZE = {"full": {"cpu": 2048, "cuda": 8192}, "small": {"cpu": 128, "cuda": 512}}


@dataclass(frozen=True)
class Ceilings:
    """The most that a device did."""

    bandwidth: float  # bytes a second, read and written, of a large copy
    flops: dict[str, float]  # operations a second of a large matrix product, by precision


def measure_ceilings(device: torch.device, size: str) -> Ceilings:
    """Copy something large and multiply large matrices, in every precision that the device is used with."""
    side = MATRIX_SIZE[size][device.type]
    precisions = ("float32", "tf32", "bfloat16") if device.type == "cuda" else ("float32", "bfloat16")
    flops = {name: _product_flops(device, side, name) for name in precisions}
    return Ceilings(_copy_bandwidth(device, COPIED_BYTES[size]), flops)


def processor() -> str:
    """Model of the CPU and the number of cores that this process may use."""
    try:
        found = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    except OSError:
        found = None
    name = found[1] if found else platform.processor() or platform.machine()
    return f"{name}, {available_cores()} cores"


def device_name(device: torch.device) -> str:
    """The GPU's name, or the CPU's."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else processor()


def slug(name: str) -> str:
    """A name as part of a file's name: lower case, words joined by hyphens, without trade marks."""
    plain = re.sub(r"\((?:r|tm)\)", "", name.lower())
    return re.sub(r"[^a-z0-9]+", "-", plain).strip("-")


def commit() -> str:
    """The checked-out commit, with "-dirty" where files were changed since; "unknown" outside a checkout."""
    command = ["git", "describe", "--always", "--dirty", "--exclude=*"]
    try:
        finished = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return finished.stdout.strip()


def _best(run: Callable[[], object], device: torch.device) -> float:
    """Seconds of the fastest of a few runs after a warm-up."""
    run()
    clock = clock_of(device)
    return min(clock(run) for _ in range(ATTEMPTS))


def _copy_bandwidth(device: torch.device, num_bytes: int) -> float:
    source = torch.ones(num_bytes // 4, device=device)
    target = torch.empty_like(source)
    return 2 * num_bytes / _best(lambda: target.copy_(source), device)


def _product_flops(device: torch.device, side: int, precision: str) -> float:
    dtype = torch.bfloat16 if precision == "bfloat16" else torch.float32
    left, right = (torch.ones(side, side, device=device, dtype=dtype) for _ in range(2))
    with _rounding(precision):
        return 2 * side**3 / _best(lambda: left @ right, device)


@contextmanager
def _rounding(precision: str) -> Iterator[None]:
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high" if precision == "tf32" else "highest")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


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
    """Run, and wait until the device is done."""
    run()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
