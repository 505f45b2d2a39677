"""Packed data sets: the uncompressed images of a split in one or a few memory-mapped files.

    ROOT/train.safetensors, val.safetensors, test.safetensors     one file per split, or shards of it:
    ROOT/train-00000-of-00004.safetensors, ...                    with the objects in order

`python -m scripts.pack` writes them; `data.formats.packed.file` describes the format.

Why safetensors: to read a 128 x 128 image of the real cars (summing all bytes), one core of a Xeon took 340
microseconds from a PNG file, 42 by safetensors' own `get_slice`, which copies, 25 from a row of a mapped .npy
file, and 23 from a row mapped at the offset in a safetensors header. So it is as fast as the simplest format,
and adds several tensors, an index, and a header that the library validates. `python -m scripts.benchmark
loader` measures the current loaders.
"""

import re
from collections.abc import Sequence
from contextlib import suppress
from itertools import chain
from pathlib import Path

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from data.formats.packed.file import PackedFile
from data.formats.srn.layout import DEPTH_STEPS
from data.scenes.objects import RawObjects
from data.splits import SPLITS, STAND_IN, Split

PATTERN = re.compile(rf"({'|'.join(SPLITS)})(?:-(\d{{5}})-of-(\d{{5}}))?\.safetensors")


class PackedObjects(RawObjects):
    """The objects of some shards of a split. Images are views of mapped memory; do not write to them.

    Copies in other processes reopen the files, or inherit the mappings, and share the memory.
    """

    mapped = True

    def __init__(self, paths: Sequence[Path]):
        self._paths = tuple(paths)
        self._files = tuple(PackedFile(path) for path in paths)
        for file in self._files:
            require_own_name(file)
        self._places = tuple((file, number) for file in self._files for number in range(len(file)))
        self._entries = tuple(chain.from_iterable(file.index.objects for file in self._files))
        self.ids = tuple(entry.id for entry in self._entries)
        if len(set(self.ids)) < len(self.ids):
            double = next(name for name in self.ids if self.ids.count(name) > 1)
            raise ValueError(f"{paths[0]}: object {double} is in two shards of the split; pack them again")
        self.num_shards = self._files[0].index.shards
        self.shards = tuple(file.index.shard for file in self._files)

    def __reduce__(self) -> tuple[type["PackedObjects"], tuple[tuple[Path, ...]]]:
        """Pickle only the files' names, for other processes."""
        return PackedObjects, (self._paths,)

    def names(self, index: int) -> tuple[str, ...]:
        """Its names in the original data set."""
        return self._entries[index].names

    def place(self, index: int) -> str:
        """Its file and its id."""
        return f"{self._places[index][0].path}: object {self.ids[index]}"

    def shard_of(self, index: int) -> int:
        """The index of the shard that contains an object."""
        return self._places[index][0].index.shard

    def num_views(self, index: int) -> int:
        """Number of views."""
        return self._entries[index].views

    def cameras(self, index: int) -> tuple[Float[Tensor, "v 4 4"], Float[Tensor, "v 3 3"]]:
        """Poses and intrinsics."""
        file, number = self._places[index]
        return file.cameras(number)

    def picture(self, index: int, view: int) -> UInt8[Tensor, "h w 3"]:
        """RGB on white."""
        return self._pixels("picture", index, view)

    def depth(self, index: int, view: int) -> Float[Tensor, "h w"] | None:
        """In scene units."""
        values = self._pixels("depth", index, view)
        return values.float() / DEPTH_STEPS if values is not None and values.dtype == torch.uint16 else values

    def alpha(self, index: int, view: int) -> UInt8[Tensor, "h w"] | None:
        """0 to 255."""
        return self._pixels("alpha", index, view)

    def verify(self, index: int) -> None:
        """Read all of an object; raise ValueError if its checksum is wrong."""
        file, number = self._places[index]
        file.verify(number)

    def _pixels(self, kind: str, index: int, view: int) -> Tensor | None:
        file, number = self._places[index]
        return file.pixels(kind, number, view)


def require_own_name(file: PackedFile) -> None:
    """Raise ValueError if a file has been renamed."""
    index = file.index
    name = packed_path(file.path.parent, index.split, index.shard, index.shards).name
    if file.path.name != name:
        raise ValueError(f"{file.path}: was written as {name}; rename it back")


def is_packed(root: Path) -> bool:
    """Whether a path is a packed data set."""
    with suppress(OSError):
        return any(PATTERN.fullmatch(child.name) for child in root.iterdir())
    return False


def open_packed(root: Path, split: Split, *, partial: bool = False) -> PackedObjects:
    """Open the objects of a split; val and test substitute for one another.

    Raises ValueError if the split is missing, or a shard is missing and `partial` is not set.
    """
    paths = packed_files(root, split) or packed_files(root, STAND_IN.get(split, split))
    if not paths:
        raise ValueError(f"{root}: there is no {split}.safetensors and no shards of it; pack this split, too")
    objects = PackedObjects(paths)
    missing = sorted(set(range(objects.num_shards)) - set(objects.shards))
    if missing and not partial:
        raise ValueError(
            f"{root}: shard {missing[0]} of {objects.num_shards} of {split} is missing; copy it here, or set "
            "data.shards=rank if ranks read their own"
        )
    if not objects.ids:
        raise ValueError(f"{root}: the {split} split has no objects; pack it again")
    return objects


def packed_files(root: Path, split: Split) -> list[Path]:
    """List the files of a split in a folder, in order. Raises ValueError if they do not belong together."""
    try:
        names = sorted(child.name for child in root.iterdir())
    except OSError as error:
        raise ValueError(f"{root}: cannot be listed ({error.strerror}); check its permissions") from error
    matches = [match for match in map(PATTERN.fullmatch, names) if match and match[1] == split]
    if len({match[3] for match in matches}) > 1:
        raise ValueError(
            f"{root}: {matches[0][0]} and {matches[-1][0]} are from different packings; delete one of them"
        )
    return [root / match[0] for match in matches]


def packed_path(root: Path, split: Split, shard: int = 0, shards: int = 1) -> Path:
    """Return the path of a file of a split."""
    part = "" if shards == 1 else f"-{shard:05d}-of-{shards:05d}"
    return root / f"{split}{part}.safetensors"
