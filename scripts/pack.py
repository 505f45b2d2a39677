"""Pack a data set of any layout into a few memory-mapped files, or verify packed files."""

import argparse
import sys
from pathlib import Path

from scripts.common.command_line import OneLineParser
from scripts.packing.lock import sole_packer
from scripts.packing.plan import add_pack_options, exit_code, options_of, pack_and_tell
from scripts.packing.selection import selected
from scripts.packing.sources import missing_shards, open_sources
from scripts.training.messages import tell

HELP = """\
examples:
  python -m scripts.pack /data/srn_cars --output /data/cars_packed
  python -m scripts.pack /data/srn_cars --output /data/cars_64 --image-size 64
  python -m scripts.pack /data/shapenet --output /data/shapenet_packed --shards 8
  python -m scripts.pack data/NMR_Dataset --mix --shards 4 --without chair --output data/NMR_withheld
  python -m scripts.pack --verify /data/cars_packed
  python train.py config/srn_cars_128.json data.root=/data/cars_packed

A packed set is many times faster to read than a folder of PNG files and bit-identical: images, depth and
alpha, cameras, ids, splits, and therefore also the scenes in training. It needs more disk space (49 kB for an
image of 128 x 128) and hardly any memory: processes share the page cache. ROOT may have any layout of
data.root, including packed ones. Try data.workers=0 first: reading takes less time than passing batches
between processes.

--image-size resizes to squares by area averaging, like data.image_size at reading; use it if training only
needs one size that is smaller than the images. Alpha is then rounded to 8 bits.

A split larger than --shard-mb is split into several files with about the same number of objects; --shards
sets their number for training. With data.shards=rank each rank only reads the shards whose number modulo the
number of ranks is its own, so that no machine needs all of them; --shards must then be a multiple of the
number of ranks. The other splits must be complete on every machine that samples previews.

Files are written atomically, after they were read back and compared. The same command resumes an interrupted
one, and keeps existing files if they match ROOT: cameras, and the first and last view of each object. An
object that cannot be read is an error; --skip-bad skips and reports it.

Exit codes: 0 done, 1 stopped, 2 bad input or a damaged file.
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
    """Verify the checksums of a packed file, or of those in a folder; returns the exit code.

    Raises ValueError if there is no packed file.
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
        print(f"{path}: {len(paths)} files, all checksums match")
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
    add("root", type=Path, nargs="?", metavar="ROOT", help="the data set, like data.root")
    add("--output", type=Path, metavar="DIR", help="folder of the packed set")
    add("--layout", default="auto", help="layout of ROOT, like data.layout (%(default)s)")
    add("--splits", nargs="+", choices=("train", "val", "test"), help="only these (default: all)")
    help = "leave these categories out of training; a name or a number, as in metadata.yaml"
    add("--without", nargs="+", default=(), metavar="CATEGORY", help=help)
    add("--mix", action="store_true", help="shuffle training objects, so that shards hold all categories")
    add_pack_options(parser)
    add("--verify", type=Path, metavar="PATH", help="verify a packed set, or a file of one, instead")
    return parser


if __name__ == "__main__":
    sys.exit(main())
