"""Processes that write the files of single objects while a set is packed."""

import signal
from collections.abc import Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # heavy imports happen where they are used, so that --help answers at once
    from data.scenes.objects import RawObjects
    from data.splits import Split


@dataclass(frozen=True)
class Shard:
    """A file to write: which objects of a split belong into it, and where they wait until all are there."""

    split: "Split"
    number: int
    of: int
    objects: range
    path: Path
    folder: Path

    def part(self, index: int) -> Path:
        """The file of one object."""
        return self.folder / f"{index:06d}.safetensors"


class Writers:
    """`workers` processes that write the files of single objects; below two, this process."""

    def __init__(self, sources: "dict[Split, RawObjects]", image_size: int | None, *, workers: int):
        self._sources, self._image_size = sources, image_size
        self._pool: ProcessPoolExecutor | None = None
        if workers > 1:
            # Fresh interpreters: the caller may hold threads, which a fork would break.
            self._pool = ProcessPoolExecutor(
                workers, mp_context=get_context("spawn"), initializer=_start, initargs=(sources,)
            )

    def __enter__(self) -> "Writers":
        return self

    def __exit__(self, *error: object) -> None:
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)

    def write(self, shard: Shard) -> Iterator[tuple[int, str | None]]:
        """Every object of a shard in order, and what is wrong with it."""
        tasks = [(shard.split, index, shard.part(index), self._image_size) for index in shard.objects]
        if self._pool is None:
            for task in tasks:
                yield task[1], _write_part(self._sources, *task)
            return
        jobs: list[Future] = [self._pool.submit(_write_here, *task) for task in tasks]
        try:
            for task, job in zip(tasks, jobs, strict=True):
                yield task[1], job.result()
        finally:
            for job in jobs:
                job.cancel()


_sources: "dict[Split, RawObjects]" = {}  # of a writing process


def _start(sources: "dict[Split, RawObjects]") -> None:
    import torch

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent alone, which stops the others
    torch.set_num_threads(1)
    _sources.update(sources)


def _write_here(split: "Split", index: int, path: Path, image_size: int | None) -> str | None:
    return _write_part(_sources, split, index, path, image_size)


def _write_part(
    sources: "dict[Split, RawObjects]", split: "Split", index: int, path: Path, image_size: int | None
) -> str | None:
    """Write the file of an object unless an earlier run did from the same; returns what is wrong with it."""
    from data.formats.packed.file import PackedFile
    from data.formats.packed.writer import holds, write_object

    raw = sources[split]
    with suppress(ValueError):
        if path.exists() and holds(PackedFile(path), 0, raw, index):
            return None
    try:
        write_object(path, raw, index, split=split, image_size=image_size)
    except ValueError as error:
        return str(error)
    return None
