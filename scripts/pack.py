"""Pack a data set of any layout into a few files that are mapped into memory, or check packed files."""

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from scripts.common.command_line import OneLineParser
from scripts.packing.lock import sole_packer
from scripts.packing.plan import add_pack_options, exit_code, options_of, pack_and_tell
from scripts.packing.selection import selected
from scripts.packing.sources import missing_shards, open_sources
from scripts.training.messages import tell

if TYPE_CHECKING:  # heavy imports happen where they are used, so that --help answers at once
    pass

HELP = """\
examples:
  python -m scripts.pack /data/srn_cars --output /data/cars_packed
  python -m scripts.pack /data/srn_cars --output /data/cars_64 --image-size 64
  python -m scripts.pack /data/shapenet --output /data/shapenet_packed --shards 8
  python -m scripts.pack data/NMR_Dataset --mix --shards 4 --without chair --output data/NMR_withheld
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
    from data.scenes.objects import notices_of

    if arguments.verify is not None:
        return verify(arguments.verify)
    if arguments.root is None or arguments.output is None:
        raise ValueError("give the folder of a data set and --output, or --verify PATH; see --help")
    options = options_of(arguments)
    if arguments.output.resolve() == arguments.root.resolve():
        raise ValueError(f"--output {arguments.output}: is the set itself; choose another folder")
    sources = open_sources(arguments.root, arguments.layout, arguments.splits)
    sources = selected(sources, arguments.root, without=arguments.without, mix=arguments.mix)
    tell((notice for raw in sources.values() for notice in notices_of(raw)), "pack")
    with sole_packer(options.output):
        return pack_and_tell(sources, options)


def verify(path: Path) -> int:
    """Read all of a packed file, or of those in a folder, and compare checksums; returns the exit code.

    Raises ValueError where there is no packed file.
    """
    from data.formats.packed.file import PackedFile
    from data.formats.packed.objects import PATTERN, require_own_name
    from scripts.common.progress import progress_bar

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
    help = "leave these categories out of training; a name or a number, as in metadata.yaml"
    add("--without", nargs="+", default=(), metavar="CATEGORY", help=help)
    add("--mix", action="store_true", help="shuffle training objects, so that shards hold all categories")
    add_pack_options(parser)
    add("--verify", type=Path, metavar="PATH", help="check a packed set, or a file of one, instead")
    return parser


if __name__ == "__main__":
    sys.exit(main())
