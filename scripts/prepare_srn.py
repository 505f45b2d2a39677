"""Pack the archives in which SRN data sets are published, without extracting them."""

import argparse
import shutil
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from scripts.common.command_line import OneLineParser
from scripts.packing.lock import sole_packer
from scripts.packing.plan import (
    PackOptions,
    add_pack_options,
    exit_code,
    options_of,
    pack_and_tell,
    without_stand_in,
)

if TYPE_CHECKING:  # heavy modules are imported where they are used, so that --help is fast
    from data.formats.srn.archived import ArchivedObjects
    from data.formats.srn.archives import Member
    from data.splits import Split

SCRATCH = ".unpacked-"  # prefix of a temporary folder
HELP = """\
examples:
  python -m scripts.prepare_srn cars_train.zip cars_val.zip cars_test.zip --output /data/srn_cars
  python -m scripts.prepare_srn chairs_train.zip --output /data/chairs_64 --image-size 64
  python -m scripts.prepare_srn cars_train.zip --output /data/cars_folder --unpack
  python train.py config/srn_cars_128.json data.root=/data/srn_cars

The archives are zip or tar files (compressed tar files are decompressed temporarily in DIR), or folders.
Their objects are in folders called *_train, *_val or *_test, or the archive itself is called so. Without
these names, or with only training objects, a tenth of the objects is held out.

Every image is decoded and every camera checked (a rigid pose for each image; matching intrinsics), then the
set is packed as by `python -m scripts.pack` (see its --help). --unpack writes folders in the SRN layout
instead, checks cameras and image sizes, and completes an earlier run.

Exit codes: 0 done, 1 stopped, 2 bad input.
"""


def main(argv: list[str] | None = None) -> int:
    """Parse the command line and prepare; user errors become one line and exit code 2."""
    arguments = _parser().parse_args(argv)
    return exit_code("prepare_srn", lambda: _run(arguments))


def _run(arguments: argparse.Namespace) -> int:
    from data.formats.srn.archives import list_members

    options, output = options_of(arguments), arguments.output
    if arguments.unpack and options != PackOptions(output):
        raise ValueError("--unpack: does not pack; leave out the options of packing")
    with sole_packer(output):
        for left in output.glob(f"{SCRATCH}*"):  # leftovers of a killed run
            shutil.rmtree(left, ignore_errors=True)
        scratch = Path(tempfile.mkdtemp(prefix=SCRATCH, dir=output))
        try:
            members = list_members(arguments.archives, scratch)
            sources = open_splits(members, scratch)
            if arguments.unpack:
                return unpack(sources, output)
            return pack_and_tell(dict(sources), options)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)


def open_splits(members: "Sequence[Member]", scratch: Path) -> "dict[Split, ArchivedObjects]":
    """The splits in the archives, or those into which their objects are divided.

    Raises ValueError if a split has no objects, or objects have no images or poses.
    """
    from data.formats.srn.archived import open_archived
    from data.splits import SPLITS, split_named

    named = {split_named(member.place.split("/")[0]) for member in members} - {None}
    # Only training objects can be divided into splits.
    wanted = [split for split in SPLITS if split in named or not named or "train" in named]
    sources = {split: open_archived(members, split, scratch) for split in wanted}
    return without_stand_in(sources, whole=True)


def unpack(sources: "dict[Split, ArchivedObjects]", output: Path) -> int:
    """Write every object that does not exist yet as a folder, atomically.

    Raises ValueError if the cameras of an object are unusable, or a folder has other contents.
    """
    from scripts.common.progress import progress_bar

    with progress_bar(total=sum(len(raw) for raw in sources.values()), unit="object") as bar:
        for raw in sources.values():
            for index in range(len(raw)):
                folder = output / raw.names(index)[0]
                if folder.is_dir():
                    if not raw.lies_in(index, output):
                        raise ValueError(
                            f"{folder}: exists already with other contents; delete it or choose another "
                            "--output"
                        )
                else:
                    raw.cameras(index)
                    unfinished = output / ".unfinished"
                    shutil.rmtree(unfinished, ignore_errors=True)
                    raw.unpack(index, unfinished)
                    folder.parent.mkdir(parents=True, exist_ok=True)
                    (unfinished / raw.names(index)[0]).replace(folder)
                bar.update()
    shutil.rmtree(output / ".unfinished", ignore_errors=True)
    counts = ", ".join(f"{len(raw)} {split}" for split, raw in sources.items())
    print(f"{output}: {counts} objects")
    if "train" in sources:
        print(f"to train: python train.py CONFIG.json data.root={output}")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = OneLineParser(
        prog="python -m scripts.prepare_srn",
        description=__doc__,
        epilog=HELP,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("archives", type=Path, nargs="+", metavar="ARCHIVE", help="zip or tar files, or folders")
    add("--output", type=Path, required=True, metavar="DIR", help="folder of the new set")
    add("--unpack", action="store_true", help="extract to folders instead of packing")
    add_pack_options(parser)
    return parser


if __name__ == "__main__":
    sys.exit(main())
