"""Files of torch.save: read without executing anything, and checks of the entries found in them."""

import errno
import re
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

ZIP = b"PK"
PICKLES = tuple(bytes([0x80, protocol]) for protocol in range(2, 6))
WRAPPERS = ("module.", "_orig_mod.")  # of data-parallel and of compiled models


def begins_as_torch_file(path: Path) -> bool:
    """Whether a file begins like a pickle or a zip archive of torch.save.

    So may a safetensors file, which begins with the length of its header.
    """
    try:
        with path.open("rb") as file:
            return file.read(2) in (ZIP, *PICKLES)
    except OSError as error:
        raise unreadable(path, error) from error


def read_torch_file(path: Path, stubs: Sequence[tuple[type, str]] = ()) -> Any:
    """Read a file of torch.save: tensors on the CPU (memory-mapped if possible), plain values, containers.

    Objects of the classes named in `stubs`, of which none is imported, become objects of the stubs. Raises
    ValueError if it has anything else, which opening might execute, or is damaged.
    """
    try:
        with path.open("rb") as file:
            mapped = file.read(2) == ZIP
        # The warnings are about unusual pickles, which either load or do not.
        quiet, known = warnings.catch_warnings(action="ignore"), torch.serialization.safe_globals([*stubs])
        with quiet, known:
            return torch.load(path, map_location="cpu", weights_only=True, mmap=mapped)
    except Exception as error:  # a made-up pickle can fail in any way
        # torch seeks to before the beginning of some archives that are cut short, an invalid argument.
        if isinstance(error, OSError) and error.errno != errno.EINVAL:
            raise unreadable(path, error) from error
        wanted = re.search(r"GLOBAL (\S{1,60})", str(error))
        if wanted and wanted[1].startswith("numpy."):
            raise ValueError(
                f"{path}: holds a NumPy value ('{wanted[1]}'), which is not read; have the sender make it a "
                "plain number (.item()) or a tensor (torch.from_numpy) and save it again"
            ) from error
        if wanted:
            raise ValueError(
                f"{path}: is a pickle that would run code ('{wanted[1]}'); only tensors and plain values are "
                "read, so have the sender save it with those alone"
            ) from error
        raise ValueError(
            f"{path}: is cut short, or a pickle of something else than tensors; copy it again"
        ) from error


def unreadable(path: Path, error: OSError) -> ValueError:
    """The error for a file that the operating system cannot read."""
    return ValueError(f"{path}: cannot be read ({error.strerror or error}); give the path of a checkpoint")


def check_tensor(path: Path, key: object, value: Any) -> None:
    """Raise ValueError unless `value` is a plain float32 tensor whose data are all in the file."""
    remedy = "save plain float32 tensors"
    if type(value) not in (Tensor, nn.Parameter):
        raise refusal(path, key, f"is of type {type(value).__name__}", remedy)
    if value.is_nested or value.layout is not torch.strided or value.device.type != "cpu":
        raise refusal(path, key, f"is no dense tensor in memory ({value.layout}, {value.device})", remedy)
    if value.dtype is not torch.float32:
        raise refusal(path, key, f"is {value.dtype}", remedy)
    if value.nbytes > value.untyped_storage().nbytes():
        raise refusal(path, key, f"has shape {list(value.shape)}, but fewer numbers are stored", remedy)


def refusal(path: Path, key: object, problem: str, remedy: str) -> ValueError:
    """The error for one entry of a file."""
    shown = str(key)[:100].encode("unicode_escape").decode()
    return ValueError(f"{path}: '{shown}' {problem}; {remedy}")


def separate(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Give each tensor contiguous memory of its own, copying those that are parts of a larger one."""
    seen, apart = set(), {}
    for name, value in tensors.items():
        storage = value.untyped_storage()
        own = storage.nbytes() == value.nbytes and value.is_contiguous() and storage.data_ptr() not in seen
        seen.add(storage.data_ptr())
        apart[name] = value.detach() if own else value.detach().clone(memory_format=torch.contiguous_format)
    return apart
