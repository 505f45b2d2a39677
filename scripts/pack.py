"""Pack a data set of any layout into a few files that are mapped into memory, or check packed files."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from scripts.command_line import OneLineParser
from scripts.packing import add_pack_options, exit_code, options_of, pack_and_tell, without_stand_in
from scripts.packing_lock import sole_packer
from scripts.warn import tell

if TYPE_CHECKING:  # heavy imports happen where they are used, so that --help answers at once
    from data.objects import RawObjects
    from data.srn_layout import Split

HELP = """\
examples:
  python -m scripts.pack /data/srn_cars --output /data/cars_packed
  python -m scripts.pack /data/srn_cars --output /data/cars_64 --image-size 64
  python -m scripts.pack /data/shapenet --output /data/shapenet_packed --shards 8
  python -m scripts.pack --verify /data/cars_packed
  python train.py config/srn_cars_128.json data.root=/data/cars_packed

A packed set is read many times faster than a folder of PNG files and gives the same to the last bit:
pictures, depth and alpha as they are stored, cameras, ids, splits, and so the same scenes in training. It
needs more disk (49 kB for a picture of 128 x 128) and no memory of its own: the system keeps what is read,
once for all processes. ROOT may have any layout that data.root may have, packed ones included. Set
data.workers=0 for a start: to read takes less time than to hand batches from process to process.

--image-size makes squares by averaging areas, as data.image_size does when pictures are read; it is worth it
where training uses one size that is smaller than the pictures. Alpha is then rounded to 8 bits.

A split larger than --shard-mb becomes several files with about as many objects each; --shards says how many
for training. With data.shards=rank each of several ranks reads only those whose number modulo the ranks is
its own, so that no machine need hold them all; --shards must then be a multiple of the ranks. The other
splits must be whole on every machine that draws previews.

Files appear whole or not at all, after they were read back and compared. The same command goes on where an
earlier one ended, and keeps what is there if it is what ROOT holds: cameras, and the first and last view of
each object. An object that cannot be read ends the program; --skip-bad leaves it out and says so.

Exit codes: 0 done, 1 stopped, 2 bad input or a file that is not as it was written.
"""


def main(argv: list[str] | None = None) -> int:
    """Parse the command line and pack; user errors become one line and exit code 2."""
    arguments = _parser().parse_args(argv)
    return exit_code("pack", lambda: _run(arguments))


def _run(arguments: argparse.Namespace) -> int:
    from data.objects import notices_of

    if arguments.verify is not None:
        return verify(arguments.verify)
    if arguments.root is None or arguments.output is None:
        raise ValueError("give the folder of a data set and --output, or --verify PATH; see --help")
    options = options_of(arguments)
    if arguments.output.resolve() == arguments.root.resolve():
        raise ValueError(f"--output {arguments.output}: is the set itself; choose another folder")
    sources = open_sources(arguments.root, arguments.layout, arguments.splits)
    tell((notice for raw in sources.values() for notice in notices_of(raw)), "pack")
    with sole_packer(options.output):
        return pack_and_tell(sources, options)


def open_sources(root: Path, layout: str, splits: "Sequence[Split] | None") -> "dict[Split, RawObjects]":
    """The splits of a set that are wanted (None: all), each once.

    Raises ValueError where one of them cannot be opened.
    """
    from data.sets import LAYOUTS, open_raw
    from data.srn import SRNObjects
    from data.srn_layout import SPLITS

    if layout != "auto" and layout not in LAYOUTS:
        raise ValueError(f"--layout {layout}: there is none of that name; choose of {', '.join(LAYOUTS)}")
    found: dict[Split, RawObjects] = {}
    problems: list[ValueError] = []
    for split in splits or SPLITS:
        try:
            found[split] = open_raw(root, split, layout)
        except ValueError as error:
            problems.append(error)
    if problems:
        # Whether a split is missing or damaged cannot be told, so none is left out without being asked for.
        remedy = f"; or choose splits: --splits {' '.join(found)}" if found and not splits else ""
        raise ValueError(f"{problems[0]}{remedy}") from problems[0]
    # An object of the SRN layout is all of a folder; to read its cameras, a file for each view, takes long.
    return without_stand_in(found, whole=all(isinstance(raw, SRNObjects) for raw in found.values()))


def verify(path: Path) -> int:
    """Read all of a packed file, or of those in a folder, and compare checksums; returns the exit code.

    Raises ValueError where there is no packed file.
    """
    from data.packed import PATTERN, require_own_name
    from data.packed_format import PackedFile
    from scripts.progress import progress_bar

    paths = [path] if path.is_file() else [p for p in sorted(path.glob("*")) if PATTERN.fullmatch(p.name)]
    if not paths:
        raise ValueError(f"{path}: no packed files (train.safetensors, ...) in it; give a packed set")
    problems = missing_shards(path) if path.is_dir() else []
    for file_path in paths:
        try:
            file = PackedFile(file_path)
            require_own_name(file)
        except ValueError as error:
            problems.append(str(error))
            continue
        for number in progress_bar(range(len(file)), desc=file_path.name, unit="object"):
            try:
                file.verify(number)
            except ValueError as error:
                problems.append(str(error))
    print(*problems, sep="\n", end="\n" if problems else "", file=sys.stderr)
    if not problems:
        print(f"{path}: {len(paths)} files, every byte as it was written")
    return 2 if problems else 0


def missing_shards(folder: Path) -> list[str]:
    """What is wrong with the number of files of each split, which their names say."""
    from data.packed import PATTERN, packed_files
    from data.srn_layout import SPLITS

    problems: list[str] = []
    for split in SPLITS:
        try:
            matches = [PATTERN.fullmatch(path.name) for path in packed_files(folder, split)]
        except ValueError as error:
            problems.append(str(error))
            continue
        here = {int(match[2] or 0) for match in matches}
        of = int(matches[0][3] or 1) if matches else 0
        problems += [
            f"{folder}: shard {number} of {of} of {split} is missing; copy it here, or verify file by file"
            for number in sorted(set(range(of)) - here)
        ]
    return problems


def _parser() -> argparse.ArgumentParser:
    parser = OneLineParser(
        prog="python -m scripts.pack",
        description=__doc__,
        epilog=HELP,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("root", type=Path, nargs="?", metavar="ROOT", help="the data set, as for data.root")
    add("--output", type=Path, metavar="DIR", help="folder of the packed set")
    add("--layout", default="auto", help="how ROOT is arranged, as for data.layout (%(default)s)")
    add("--splits", nargs="+", choices=("train", "val", "test"), help="only these (default: all)")
    add_pack_options(parser)
    add("--verify", type=Path, metavar="PATH", help="check a packed set, or a file of one, instead")
    return parser


if __name__ == "__main__":
    sys.exit(main())
