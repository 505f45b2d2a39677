"""Files of named NumPy arrays (.npz), read without executing anything."""

import zipfile
import zlib
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

SUFFIX = ".npy"  # of every member of such an archive, and of none in a file of torch.save


def is_archive(path: Path) -> bool:
    """Whether a file is an archive of arrays alone, by the names in it."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (OSError, zipfile.BadZipFile):
        return False
    return bool(names) and all(name.endswith(SUFFIX) for name in names)


def read_archive(path: Path) -> dict[str, Tensor]:
    """All arrays by name. Raises ValueError if one is damaged, or holds other than numbers."""
    found = {}
    with np.load(path, allow_pickle=False) as archive:
        for name in archive.files:
            try:
                found[name] = torch.from_numpy(archive[name])
            except (ValueError, TypeError, OSError, EOFError, zipfile.BadZipFile, zlib.error) as error:
                shown = name[:100].encode("unicode_escape").decode()
                raise ValueError(
                    f"{path}: '{shown}' is damaged or no array of numbers that PyTorch has; save plain "
                    "float32 arrays"
                ) from error
    return found
