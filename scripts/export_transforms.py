"""Write a data set as folders with transforms.json, for nerfstudio, instant-ngp and Blender-style readers."""

import argparse
import json
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from scripts.command_line import OneLineParser

if TYPE_CHECKING:  # heavy imports happen where they are used, so that --help answers at once
    from data.objects import RawObjects

HELP = """\
examples:
  python -m scripts.export_transforms data/embedded --output exported
  python -m scripts.export_transforms srn_cars --split test --object 1a2b3c --output exported

Reads every layout that training reads. Each object becomes OUTPUT/OBJECT with images/000000.png ... (as they
are stored, on white) and transforms.json: camera-to-world poses in OpenGL axes and the data set's own units,
world z up, intrinsics in pixels. nerfstudio opens it with `--data OUTPUT/OBJECT`, our own programs with
data.root=OUTPUT. An object appears whole or not at all; a second run completes what is missing and leaves the
rest alone.

Exit codes: 0 done, 2 bad input, 130 interrupted.
"""


def main(argv: list[str] | None = None) -> int:
    """Parse the command line and export; user errors become one line and exit code 2."""
    arguments = make_parser().parse_args(argv)
    try:
        count = export_transforms(arguments)
    except (ValueError, OSError) as error:
        print(f"export_transforms: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("export_transforms: interrupted; the same command goes on from here", file=sys.stderr)
        return 130
    print(f"{arguments.output}: {count} objects")
    return 0


def make_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = OneLineParser(
        prog="python -m scripts.export_transforms",
        description=__doc__,
        epilog=HELP,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("root", type=Path, metavar="ROOT", help="data set")
    add("--output", type=Path, required=True, metavar="FOLDER", help="folder to write to")
    add("--layout", default="auto", metavar="NAME", help="of the data set, as data.layout (default: auto)")
    add("--split", default="test", choices=("train", "val", "test"), help="of the data set (default: test)")
    add("--object", nargs="+", metavar="ID", help="these objects alone (default: all of the split)")
    return parser


def export_transforms(arguments: argparse.Namespace) -> int:
    """Write the objects that the command line names, and return how many they are.

    Raises ValueError or OSError, in one line for the user.
    """
    from tqdm import tqdm

    from data.objects import DataConfig, Objects
    from data.selection import choose_objects
    from data.sets import LAYOUTS, open_raw

    if arguments.layout not in ("auto", *LAYOUTS):
        raise ValueError(f"--layout {arguments.layout}: is unknown; give auto or {', '.join(LAYOUTS)}")
    raw = open_raw(arguments.root, arguments.split, arguments.layout)
    objects = Objects(DataConfig(root=str(arguments.root)), raw)
    chosen = choose_objects(objects, num=len(objects), names=arguments.object)
    for index in tqdm(chosen, unit="object"):
        folder = arguments.output / raw.ids[index]
        if not (folder / "transforms.json").is_file():
            _write_object(raw, index, folder)
    return len(chosen)


def _write_object(objects: "RawObjects", index: int, folder: Path) -> None:
    """Write an object into a hidden folder beside `folder`, then give that its name."""
    from data.cameras import cameras_from_poses
    from data.images import write_png
    from data.transforms import to_transforms

    if folder.exists():
        raise ValueError(f"{folder}: exists, but was not made by this program; choose another --output")
    unfinished = folder.with_name(f".{folder.name}")
    shutil.rmtree(unfinished, ignore_errors=True)
    names = [f"images/{view:06d}.png" for view in range(objects.num_views(index))]
    height, width = 0, 0
    for view, name in enumerate(names):
        picture = objects.picture(index, view)
        if view and picture.shape[:2] != (height, width):
            raise ValueError(f"{objects.place(index)}: its pictures differ in size; make them alike")
        height, width = picture.shape[:2]
        write_png(unfinished / name, picture)
    document = to_transforms(cameras_from_poses(*objects.cameras(index)), names, height=height, width=width)
    (unfinished / "transforms.json").write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    unfinished.replace(folder)


if __name__ == "__main__":
    sys.exit(main())
