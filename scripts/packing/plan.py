"""Packing as `scripts.pack` and `scripts.prepare_srn` do it: options, plan, progress, results."""

import argparse
import shutil
import sys
from collections.abc import Callable, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from scripts.common.process_pool import WorkerKilledError, available_cores
from scripts.packing.workers import Shard, write_parts

if TYPE_CHECKING:  # heavy imports happen where they are used, so that --help answers at once
    from data.scenes.objects import RawObjects
    from data.splits import Split

Kind = TypeVar("Kind", bound="RawObjects")
MEGABYTE = 2**20
OBJECTS_PER_WORKER = 32  # minimum; starting a process takes about as long as reading so many


@dataclass(frozen=True)
class PackOptions:
    """Options of packing. None: images at their own sizes, as many shards as needed, one process per core."""

    output: Path
    image_size: int | None = None  # pixels
    shard_mb: int = 4096
    shards: int | None = None  # of the training split
    workers: int | None = None
    skip_bad: bool = False
    verify: bool = True

    def __post_init__(self):
        for name in ("image_size", "shard_mb", "shards", "workers"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"--{name.replace('_', '-')} is {value}; give 1 or more")


@dataclass
class Packed:
    """The result for a split."""

    split: "Split"
    files: list[Path] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)  # objects, with reasons


def add_pack_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that `options_of` reads."""
    add = parser.add_argument
    add("--image-size", type=int, metavar="N", help="resize to squares of N pixels (default: as they are)")
    add("--shard-mb", type=int, default=4096, metavar="MB", help="largest file, about (%(default)s)")
    add("--shards", type=int, metavar="N", help="files for training (default: by --shard-mb)")
    add("--workers", type=int, metavar="N", help="reading processes (default: one for each core)")
    add("--skip-bad", action="store_true", help="leave out objects that cannot be read, and list them")
    add("--no-verify", action="store_true", help="do not read back what was written")


def options_of(given: argparse.Namespace) -> PackOptions:
    """Make the options of a command line. Raises ValueError for invalid numbers."""
    names = ("output", "image_size", "shard_mb", "shards", "workers", "skip_bad")
    return PackOptions(**{name: getattr(given, name) for name in names}, verify=not given.no_verify)


def exit_code(program: str, work: Callable[[], int]) -> int:
    """Run `work` and return its exit code; errors are printed in one line."""
    try:
        return work()
    except ValueError as error:
        message, code = str(error), 2
    except OSError as error:
        message, code = (
            f"cannot write {error.filename}: {error.strerror}" if error.filename else str(error),
            2,
        )
    except KeyboardInterrupt:
        message, code = "stopped; the same command goes on where this one ended", 1
    except WorkerKilledError:
        message, code = "a process was killed (out of memory?); the same command goes on, try --workers 1", 1
    print(f"{program}: {message}", file=sys.stderr)
    return code


def without_stand_in(sources: "dict[Split, Kind]", *, whole: bool = False) -> "dict[Split, Kind]":
    """Drop test if it is the same as val, that is, has the same views of the same objects.

    `whole`: each place has one object with all its views, so comparing places is enough.
    """
    if {"val", "test"} <= sources.keys() and _alike(sources["val"], sources["test"], whole=whole):
        return {split: raw for split, raw in sources.items() if split != "test"}
    return sources


def pack_and_tell(sources: "dict[Split, RawObjects]", options: PackOptions) -> int:
    """Pack some splits and print a summary. Raises ValueError or OSError like `pack_splits`."""
    found = pack_splits(sources, options)
    for packed in found:
        print(summary(packed))
    left_out = [reason for packed in found for reason in packed.left_out]
    if left_out:
        print(f"left out, {len(left_out)} in number:", *left_out, sep="\n  ", file=sys.stderr)
    size = f" data.image_size={options.image_size}" if options.image_size else ""
    if "train" in sources:
        print(f"to train: python train.py CONFIG.json data.root={options.output}{size}")
    return 0


def pack_splits(sources: "dict[Split, RawObjects]", options: PackOptions) -> list[Packed]:
    """Write the files of some splits; existing files with the same objects are kept.

    Raises ValueError if an object cannot be read (unless bad ones are skipped) or the output holds something
    else, and OSError if it cannot be written.
    """
    from scripts.common.progress import progress_bar

    plan = [shard for split, raw in sources.items() for shard in plan_shards(split, raw, options)]
    pending = [shard for shard in plan if not _is_done(shard, sources[shard.split], options)]
    _require_own_output(plan, options)
    found = {split: Packed(split) for split in sources}
    total = sum(len(shard.objects) for shard in pending)
    workers = min(options.workers or available_cores(), total // OBJECTS_PER_WORKER)
    problems: dict[Shard, dict[int, str | None]] = {shard: {} for shard in pending}
    with (
        closing(write_parts(sources, pending, image_size=options.image_size, workers=workers)) as parts,
        progress_bar(total=total, unit="object", disable=not pending) as bar,
    ):
        for shard, index, problem in parts:
            bar.update()
            if problem is not None and not options.skip_bad:
                raise ValueError(f"{problem}; --skip-bad leaves such objects out")
            problems[shard][index] = problem
            if len(problems[shard]) == len(shard.objects):
                _join_parts(shard, problems[shard], found[shard.split], sources[shard.split], options)
    for shard in plan:
        found[shard.split].files.append(shard.path)
    with suppress(OSError):
        (options.output / ".unfinished").rmdir()
    return list(found.values())


def plan_shards(split: "Split", raw: "RawObjects", options: PackOptions) -> list[Shard]:
    """Divide a split into shards with about equally many objects, by the size of the first readable view."""
    from data.formats.packed.objects import packed_path

    count = len(raw)
    num = min(count, -(-_estimated_bytes(raw, options) // (options.shard_mb * MEGABYTE)))
    if options.shards is not None and split == "train":
        num = options.shards
        if num > count:
            raise ValueError(f"--shards is {num}, but there are {count} training objects; give fewer")
    size = f"-{options.image_size}" if options.image_size else ""
    shards = []
    for number in range(num):
        path = packed_path(options.output, split, number, num)
        folder = options.output / ".unfinished" / f"{path.stem}{size}"
        objects = range(number * count // num, (number + 1) * count // num)
        shards.append(Shard(split, number, num, objects, path, folder))
    return shards


def summary(packed: Packed) -> str:
    """Describe a packed split."""
    from data.formats.packed.file import PackedFile

    files = [PackedFile(path) for path in packed.files]
    entries = [entry for file in files for entry in file.index.objects]
    kinds = sorted({name for file in files for name in file.tensors} - {"poses", "intrinsics"})
    size = sum(path.stat().st_size for path in packed.files) / MEGABYTE
    views, num = sum(entry.views for entry in entries), len(files)
    where = str(packed.files[0]) if num == 1 else f"{packed.files[0]} and {num - 1} more"
    return f"{where}: {len(entries)} objects, {views} views, {size:.1f} MB ({', '.join(kinds)})"


def _alike(one: "RawObjects", other: "RawObjects", *, whole: bool) -> bool:
    if [one.place(index) for index in range(len(one))] != [other.place(index) for index in range(len(other))]:
        return False
    # Views may be divided, too: a lone scene has one place in all splits. Numbers are compared first, since
    # cameras take longer to read.
    return whole or all(
        look(one, index) == look(other, index)
        for look in (_num_views, _camera_numbers)
        for index in range(len(one))
    )


def _num_views(raw: "RawObjects", index: int) -> int | str:
    try:
        return raw.num_views(index)
    except ValueError as error:  # a bad object is reported when it is its turn
        return str(error)


def _camera_numbers(raw: "RawObjects", index: int) -> list | str:
    try:
        return [values.tolist() for values in raw.cameras(index)]
    except ValueError as error:
        return str(error)


def _estimated_bytes(raw: "RawObjects", options: PackOptions) -> int:
    per_view = 0
    for index in range(len(raw)):
        with suppress(ValueError):  # a bad object is reported when it is its turn
            picture, depth, alpha = raw.picture(index, 0), raw.depth(index, 0), raw.alpha(index, 0)
            pixels = options.image_size**2 if options.image_size else picture[..., 0].numel()
            per_view = pixels * (3 + 2 * (depth is not None) + (alpha is not None))
            break
    total = 0
    for index in range(len(raw)):
        with suppress(ValueError):
            total += raw.num_views(index) * per_view
    return max(1, total)


def _is_done(shard: Shard, raw: "RawObjects", options: PackOptions) -> bool:
    """Whether the file exists with this content. Raises ValueError if it has another."""
    from data.formats.packed.file import PackedFile
    from data.formats.packed.writer import holds
    from scripts.common.progress import progress_bar

    if not shard.path.exists():
        return False
    file = PackedFile(shard.path)
    ids, left_out = (
        [entry.id for entry in file.index.objects],
        file.index.left_out if options.skip_bad else (),
    )
    wanted = [i for i in shard.objects if raw.ids[i] not in left_out]
    same = ids == [raw.ids[i] for i in wanted] and file.index.image_size == options.image_size
    # Another set, or another state of this one, may have the same names.
    progress = progress_bar(
        wanted if same else (), desc=f"compare {shard.path.name}", unit="object", leave=False
    )
    if not same or not all(holds(file, number, raw, i) for number, i in enumerate(progress)):
        raise ValueError(
            f"{shard.path}: is there already with other contents; delete it or choose another --output"
        )
    return True


def _require_own_output(plan: Sequence[Shard], options: PackOptions) -> None:
    from data.formats.packed.objects import PATTERN

    planned = {shard.path.name for shard in plan}
    splits = {shard.split for shard in plan}
    for path in sorted(options.output.glob("*.safetensors")):
        match = PATTERN.fullmatch(path.name)
        if match and match[1] in splits and path.name not in planned:
            raise ValueError(f"{path}: is of another packing; delete it or choose another --output")


def _join_parts(
    shard: Shard, problems: dict[int, str | None], packed: Packed, raw: "RawObjects", options: PackOptions
) -> None:
    """Make the file of a shard from those of its objects, without those that have a problem."""
    from data.formats.packed.file import Index
    from data.formats.packed.writer import join

    good = [index for index in shard.objects if problems[index] is None]
    bad = [index for index in shard.objects if problems[index] is not None]
    packed.left_out += [f"{raw.ids[index]}: {problems[index]}" for index in bad]
    index = Index(
        split=shard.split,
        shard=shard.number,
        shards=shard.of,
        image_size=options.image_size,
        objects=(),
        left_out=tuple(raw.ids[index] for index in bad),
    )
    join(shard.path, [shard.part(index) for index in good], index, verify=options.verify)
    shutil.rmtree(shard.folder, ignore_errors=True)
