"""One file of a packed data set: its format, and memory-mapped access.

It is a safetensors file, readable by any program with that library:

    poses float32 [n, 4, 4] camera-to-world of all views, ordered by object
    intrinsics float32 [n, 3, 3] normalised by the image size
    picture_HxW  uint8   [m, H, W, 3]  RGB on white; one tensor per image size
    depth_HxW_* uint16 [m, H, W] 1/10000 scene unit, 0 for background; float32 scene units if the set needs a
    finer step or larger range alpha_HxW uint8 [m, H, W]

The header's metadata contain an `Index` as JSON, with its own checksum: the rows of each object, and a
checksum of all its bytes. Opening a file checks its size, its header and that the rows of the objects cover
the tensors in order; pixels are read on access. Every problem is a one-line ValueError that starts with the
file's path.
"""

import json
import mmap
import sys
import zlib
from itertools import accumulate
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from pydantic import BaseModel, Field, ValidationError
from safetensors import SafetensorError, safe_open
from torch import Tensor

from data.files import first_line
from data.splits import Split

FORMAT = "genvs-packed-1"
DTYPES = {"F32": torch.float32, "U16": torch.uint16, "U8": torch.uint8}
# Named in Python 3.13; before, the value on Linux.
NORESERVE = getattr(mmap, "MAP_NORESERVE", 0x4000 if sys.platform == "linux" else 0)
# Kind of pixels -> allowed types, and number of axes.
KINDS = {"picture": ({"U8"}, 4), "depth": ({"U16", "F32"}, 3), "alpha": ({"U8"}, 3)}


class Rows(BaseModel, frozen=True, extra="forbid", strict=True):
    """Consecutive views of an object, stored as consecutive rows of a tensor."""

    tensor: str
    first: int = Field(ge=0)
    count: int = Field(ge=1)


class Entry(BaseModel, frozen=True, extra="forbid", strict=True):
    """One object. Its views are its `Rows` in order; a kind without rows is not stored."""

    id: str = Field(min_length=1)
    names: tuple[str, ...]  # accepted names in a list of views
    views: int = Field(ge=1)
    crc32: int  # of its cameras, then of its pixels in the order of `KINDS`
    picture: tuple[Rows, ...]
    depth: tuple[Rows, ...] = ()
    alpha: tuple[Rows, ...] = ()

    def rows(self, kind: str) -> tuple[Rows, ...]:
        """Return the rows of a kind of pixels."""
        return getattr(self, kind)


class Index(BaseModel, frozen=True, extra="forbid", strict=True):
    """The objects of a file, which is one of the `shards` of a split."""

    split: Split
    shard: int = Field(0, ge=0)  # from 0
    shards: int = Field(1, ge=1)
    image_size: int | None = None  # size that images were resized to; None if not resized
    objects: tuple[Entry, ...]
    left_out: tuple[str, ...] = ()  # objects of the set that could not be read


class PackedFile:
    """A memory-mapped file: returned tensors are views of the shared page cache.

    Writing to a tensor copies its pages; the file never changes.
    """

    def __init__(self, path: Path):
        self.path = path
        table, metadata, begin = _read_header(path)
        self.index = _read_index(path, metadata)
        self._tensors = _map(path, table, begin)
        self._check_rows()
        self._first_camera = [0, *accumulate(entry.views for entry in self.index.objects)]
        self._check_cameras()

    def __len__(self) -> int:
        """Number of objects."""
        return len(self.index.objects)

    @property
    def tensors(self) -> dict[str, Tensor]:
        """All tensors by name."""
        return self._tensors

    def cameras(self, number: int) -> tuple[Float[Tensor, "v 4 4"], Float[Tensor, "v 3 3"]]:
        """Return the poses and intrinsics of an object."""
        chosen = slice(self._first_camera[number], self._first_camera[number + 1])
        return self._tensors["poses"][chosen], self._tensors["intrinsics"][chosen]

    def pixels(self, kind: str, number: int, view: int) -> Tensor | None:
        """Return the pixels of a view as stored; None if it has none of this kind."""
        for rows in self.index.objects[number].rows(kind):
            if view < rows.count:
                return self._tensors[rows.tensor][rows.first + view]
            view -= rows.count
        return None

    def verify(self, number: int) -> None:
        """Raise ValueError unless the checksum of an object is correct."""
        entry = self.index.objects[number]
        blocks = [self._tensors[r.tensor][r.first : r.first + r.count] for k in KINDS for r in entry.rows(k)]
        if checksum([*self.cameras(number), *blocks]) != entry.crc32:
            raise ValueError(
                f"{self.path}: object {entry.id} is not as it was written (its checksum differs); copy "
                "the file again, or delete it and pack again"
            )

    def _check_rows(self) -> None:
        """Check that every row belongs to one view of one object, in order."""
        used = dict.fromkeys(self._tensors, 0)
        for entry in self.index.objects:
            for kind, (types, num_axes) in KINDS.items():
                for rows in entry.rows(kind):
                    tensor = self._tensors.get(rows.tensor)
                    fits = tensor is not None and tensor.dim() == num_axes and tensor.shape[3:] in ((), (3,))
                    if not fits or tensor.dtype not in {DTYPES[name] for name in types}:
                        raise _damaged(self.path, f"object {entry.id} has no {kind} in '{rows.tensor}'")
                    if rows.first != used[rows.tensor]:
                        raise _damaged(self.path, f"rows of '{rows.tensor}' overlap or are unused")
                    used[rows.tensor] += rows.count
                counts = sum(rows.count for rows in entry.rows(kind))
                if counts != entry.views and (counts or kind == "picture"):
                    raise _damaged(self.path, f"object {entry.id}: {counts} of {entry.views} views, {kind}")
        for name, tensor in self._tensors.items():
            if name not in ("poses", "intrinsics") and used[name] != len(tensor):
                raise _damaged(self.path, f"its objects have {used[name]} of {len(tensor)} rows of '{name}'")

    def _check_cameras(self) -> None:
        for name, side in (("poses", 4), ("intrinsics", 3)):
            tensor, wanted = self._tensors.get(name), (self._first_camera[-1], side, side)
            if tensor is None or tensor.shape != wanted or tensor.dtype != torch.float32:
                raise _damaged(self.path, f"'{name}' is not a float32 tensor of shape {list(wanted)}")


def checksum(tensors: list[Tensor]) -> int:
    """Return the CRC-32 of the tensors' concatenated bytes."""
    value = 0
    for tensor in tensors:
        value = zlib.crc32(tensor.contiguous().flatten().view(torch.uint8).numpy(), value)
    return value


def _read_header(path: Path) -> tuple[dict[str, Any], dict[str, str], int]:
    """Return the tensors' entries, the metadata, and the offset of the tensors."""
    try:
        # The library rejects sizes, offsets and lengths that are inconsistent with each other or the file.
        with safe_open(path, framework="numpy"):
            pass
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            table = json.loads(file.read(length))
    except OSError as error:
        raise ValueError(f"{path}: cannot be read ({error.strerror or error}); check the file") from error
    except (SafetensorError, ValueError, RecursionError) as error:
        raise ValueError(
            f"{path}: is truncated or not a safetensors file ({first_line(error)}); copy it again, or "
            "delete it and pack again"
        ) from error
    metadata = table.pop("__metadata__", None) or {}
    if metadata.get("format") != FORMAT:
        raise ValueError(
            f"{path}: is a safetensors file, but not a packed data set ('{FORMAT}'); pack it again"
        )
    return table, metadata, 8 + length


def _read_index(path: Path, metadata: dict[str, str]) -> Index:
    text = metadata.get("index", "")
    if metadata.get("index_crc32") != str(zlib.crc32(text.encode())):
        raise _damaged(path, "the checksum of its index differs")
    try:
        index = Index.model_validate_json(text)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"])) or "index"
        raise _damaged(path, f"{place}: {first['msg']}") from error
    ids = [entry.id for entry in index.objects]
    if len(set(ids)) < len(ids):
        raise _damaged(path, "two objects have the same id")
    if unsafe := next((name for name in ids if not _is_safe(name)), None):
        raise _damaged(path, f"{unsafe!r} is not a valid name for an object")
    return index


def _is_safe(name: str) -> bool:
    """Whether an id is safe as part of a file name."""
    return name.isprintable() and "\\" not in name and not {"", ".", ".."} & set(name.split("/"))


def _map(path: Path, table: dict[str, Any], begin: int) -> dict[str, Tensor]:
    """Map the tensors without reading them."""
    try:
        with path.open("rb") as file:
            everything = torch.frombuffer(_memory(file.fileno()), dtype=torch.uint8)
    except OSError as error:
        raise ValueError(
            f"{path}: cannot be mapped into memory ({error.strerror or error}); pack it into smaller files "
            "(--shard-mb)"
        ) from error
    tensors = {}
    for name, found in table.items():
        dtype, (first, last) = DTYPES.get(found["dtype"]), found["data_offsets"]
        if dtype is None or (begin + first) % dtype.itemsize:
            raise _damaged(path, f"'{name}' is of type {found['dtype']}, or is misaligned")
        tensors[name] = everything[begin + first : begin + last].view(dtype).view(found["shape"])
    return tensors


def _memory(handle: int) -> mmap.mmap:
    """Map a whole file copy-on-write: a stray write can neither change the file nor crash the process."""
    if not hasattr(mmap, "MAP_PRIVATE"):
        return mmap.mmap(handle, 0, access=mmap.ACCESS_COPY)
    # Without NORESERVE, Linux reserves memory for a full copy, so files could not exceed memory.
    return mmap.mmap(handle, 0, flags=mmap.MAP_PRIVATE | NORESERVE, prot=mmap.PROT_READ | mmap.PROT_WRITE)


def _damaged(path: Path, problem: str) -> ValueError:
    return ValueError(
        f"{path}: its header is damaged ({problem}); copy it again, or delete it and pack again"
    )
