"""Export a data set as folders with transforms.json, for nerfstudio, instant-ngp and similar programs."""

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from scripts.common.command_line import OneLineParser

if TYPE_CHECKING:  # heavy modules are imported where they are used, so that --help is fast
    from data.scenes.objects import RawObjects
    from data.splits import Split

HELP = """\
examples:
  python -m scripts.export_transforms data/embedded --output exported
  python -m scripts.export_transforms srn_cars --split test --object 1a2b3c --output exported

Reads every layout that training supports. Each object becomes OUTPUT/SPLIT/OBJECT with images/000000.png ...
(in the original size, on white) and transforms.json: camera-to-world poses in OpenGL axes and the data set's
units, world z up, intrinsics in pixels. The splits of a single scene have different views. nerfstudio opens
an object with `--data OUTPUT/SPLIT/OBJECT`; the programs of this project open the whole set, in the same
splits, with data.root=OUTPUT (if only training objects were exported, some of these are held out). If val and
test are the same, they are written once. Objects are written atomically; the same command completes an
earlier export, and refuses to mix in another data set.

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
        print("export_transforms: interrupted; run the same command to resume", file=sys.stderr)
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
    add("--layout", default="auto", metavar="NAME", help="of the data set, like data.layout (default: auto)")
    add("--split", choices=("train", "val", "test"), help="only this one (default: all)")
    add("--object", nargs="+", metavar="ID", help="only these objects (default: all)")
    return parser


def export_transforms(arguments: argparse.Namespace) -> int:
    """Export the objects of the command line, and return their number."""
    from data.formats.registry import LAYOUTS
    from data.scenes.objects import notices_of
    from scripts.common.progress import progress_bar
    from scripts.training.messages import tell

    if arguments.layout not in ("auto", *LAYOUTS):
        raise ValueError(f"--layout {arguments.layout}: is unknown; give auto or {', '.join(LAYOUTS)}")
    splits = _open(arguments.root, arguments.layout, arguments.split)
    tell((notice for raw in splits.values() for notice in notices_of(raw)), "export_transforms")
    if arguments.object:
        _require_known(arguments.object, splits)
    chosen = [
        (split, raw, index)
        for split, raw in splits.items()
        for index, name in enumerate(raw.ids)
        if not arguments.object or name in arguments.object
    ]
    for split, raw, index in progress_bar(chosen, unit="object"):
        _export_object(raw, index, arguments.output / split / raw.ids[index])
    return len(chosen)


def _open(root: Path, layout: str, split: "Split | None") -> dict[str, "RawObjects"]:
    """Open one split or all; a split that stands in for a missing one is left out."""
    from data.checks.open_splits import contents_of
    from data.formats.registry import open_raw
    from data.splits import SPLITS

    if split is not None:
        return {split: open_raw(root, split, layout)}
    found: dict[str, RawObjects] = {}
    known, missing = set(), []
    for part in SPLITS:
        try:
            raw = open_raw(root, part, layout)
        except ValueError as error:
            if not str(error).startswith((f"{root}: ", f"data.root={root}: ")):
                raise  # the split is not missing, but has an error
            missing.append(error)
            continue
        if (contents := contents_of(raw)) not in known:
            known.add(contents)
            found[part] = raw
    if not found:
        raise missing[0]
    for error in missing:
        print(f"export_transforms: left out: {error}", file=sys.stderr)
    return found


def _require_known(names: list[str], splits: dict[str, "RawObjects"]) -> None:
    from difflib import get_close_matches

    ids = [name for raw in splits.values() for name in raw.ids]
    if unknown := sorted(set(names) - set(ids)):
        close = get_close_matches(unknown[0], ids, n=3) or ids[:3]
        raise ValueError(
            f"there is no object '{unknown[0]}' among the {len(ids)} of {', '.join(splits)}; there are, for "
            f"example, {', '.join(close)}"
        )


def _export_object(objects: "RawObjects", index: int, folder: Path) -> None:
    """Write an object to a hidden folder next to `folder`, then rename it, unless `folder` already has it."""
    from data.cameras.pinhole import cameras_from_poses
    from data.cameras.transforms_json import to_transforms
    from data.files import whole_folder

    height, width = objects.picture(index, 0).shape[:2]
    names = [f"images/{view:06d}.png" for view in range(objects.num_views(index))]
    document = to_transforms(cameras_from_poses(*objects.cameras(index)), names, height=height, width=width)
    text = json.dumps(document, indent=1) + "\n"
    if folder.exists():
        written = folder / "transforms.json"
        if written.is_file() and written.read_text(encoding="utf-8") == text:
            return
        raise ValueError(
            f"{folder}: exists, but is not an export of {objects.place(index)}; remove it or choose "
            "another --output"
        )
    with whole_folder(folder) as unfinished:
        _write_pictures(objects, index, [unfinished / name for name in names])
        (unfinished / "transforms.json").write_text(text, encoding="utf-8")


def _write_pictures(objects: "RawObjects", index: int, paths: list[Path]) -> None:
    from data.images.files import write_png

    size = None
    for view, path in enumerate(paths):
        picture = objects.picture(index, view)
        size = size or picture.shape
        if picture.shape != size:
            raise ValueError(f"{objects.place(index)}: its images differ in size; resize them to one size")
        write_png(path, picture)


if __name__ == "__main__":
    sys.exit(main())
