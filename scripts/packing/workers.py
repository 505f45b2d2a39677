"""Writing the files of single objects while a set is packed, in one or several processes."""

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from scripts.common.process_pool import run_each

if TYPE_CHECKING:  # heavy imports happen where they are used, so that --help answers at once
    from data.scenes.objects import RawObjects
    from data.splits import Split


@dataclass(frozen=True)
class Shard:
    """A file to write: which objects of a split it gets, and the folder of their own files until then."""

    split: "Split"
    number: int
    of: int
    objects: range
    path: Path
    folder: Path

    def part(self, index: int) -> Path:
        """The file of one object."""
        return self.folder / f"{index:06d}.safetensors"


def write_parts(
    sources: "dict[Split, RawObjects]", shards: Sequence[Shard], *, image_size: int | None, workers: int
) -> Iterator[tuple[Shard, int, str | None]]:
    """Write the file of every object; yields shard, index and what is wrong with the object as they finish.

    With fewer than two `workers`, this process writes. Raises WorkerKilledError if a process was killed, and
    OSError if a file cannot be written.
    """
    tasks = [(shard.split, index, shard.part(index)) for shard in shards for index in shard.objects]
    places = [(shard, index) for shard in shards for index in shard.objects]
    several = workers > 1
    write = partial(_write_part, sources, image_size, single_thread=several)
    for number, problem in run_each(write, tasks, workers=workers if several else 0):
        if isinstance(problem, Exception):
            raise problem
        yield *places[number], problem


def _write_part(
    sources: "dict[Split, RawObjects]",
    image_size: int | None,
    split: "Split",
    index: int,
    path: Path,
    *,
    single_thread: bool,
) -> str | None:
    """Write the file of an object unless it exists and matches; returns what is wrong with the object."""
    import torch

    from data.formats.packed.file import PackedFile
    from data.formats.packed.writer import holds, write_object

    if single_thread:
        torch.set_num_threads(1)
    raw = sources[split]
    with suppress(ValueError):
        if path.exists() and holds(PackedFile(path), 0, raw, index):
            return None
    try:
        write_object(path, raw, index, split=split, image_size=image_size)
    except ValueError as error:
        return str(error)
    return None
