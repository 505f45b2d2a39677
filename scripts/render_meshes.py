"""Render mesh files to a data set in the SRN layout: images on white with cameras, depth and alpha."""

import argparse
import re
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from data.mesh_options import AXES, REGIONS
from scripts.common.command_line import OneLineParser

if TYPE_CHECKING:
    from data.meshes.datasets.dataset import Drawing, Finding
    from data.meshes.sources import MeshSource
    from data.splits import Split

HELP = """\
examples:
  python -m scripts.render_meshes models/ --output data/models
  python -m scripts.render_meshes furniture.sh3f --only vehicles --output data/vehicles --size 256 --views 100
  python -m scripts.render_meshes cars/ --output data/cars --group '^(.*)_v[0-9]+$' --up z --front=-y

INPUT is searched for glb gltf obj ply stl off dae zae 3mf 3dxml xaml, and for zip and sh3f archives of them
(the catalogue of a Sweet Home 3D library is used). dae and zae need the package pycollada, 3mf needs lxml.

Every object is oriented with z up and its front towards -x, centred at the origin, scaled to a bounding box
with a diagonal of 1, and rendered from a distance of 1.3 with the focal length of the SRN cars to
OUTPUT/objects_train/NAME/ with rgb/, pose/, intrinsics.txt, depth/ (16 bits, z-depth in 1/10000 unit, 0:
background) and alpha/ (8 bits). Held-out objects, in objects_val/ and objects_test/, have the 251 views of
SRN's test spiral.

Surfaces are matt and two-sided, with lights fixed to the object. Transparent materials are opaque, except
for holes in textures. A texture multiplies the colour of its material in glTF and DAE files, and replaces it
in MTL files. Objects of the same shape are never in two splits, whatever their colours.

OUTPUT/attribution.tsv lists authors and licences as far as the files have them; notes.txt, missing or
doubtful parts of objects; problems.txt, files that could not be read and why (including crashes and timeouts
after half an hour); contact_sheet.png shows the training objects. The same command resumes an interrupted
one, and retries the files in problems.txt; splits.json keeps every object in its split.

Exit codes: 0 done, 1 done except for the files in problems.txt (or stopped), 2 bad input.
"""
RECIPE = 2  # version of the renderings, so that different ones never mix
SHEET = (10, 20)  # columns, rows
SHOWN = 10  # notes and problems in the terminal; their files have all
TIME_LIMIT_S = 1800.0  # for one object, since a loader may hang on a damaged file


@dataclass(frozen=True)
class RenderOptions:
    """The options that determine the set: counts, `size` in pixels, `val` and `test` as shares of 1."""

    views: int = 50
    test_views: int = 251
    size: int = 128
    views_on: str = "sphere"
    up: str | None = None
    front: str | None = None
    val: float = 0.1
    test: float = 0.1
    seed: int = 0
    group: str | None = None
    only: str | None = None
    recipe: int = RECIPE

    def __post_init__(self):
        least = {"views": 1, "test_views": 1, "size": 8, "seed": 0}
        for name, minimum in least.items():
            if getattr(self, name) < minimum:
                raise ValueError(f"{name} is {getattr(self, name)}; give {minimum} or more")
        if not (self.val >= 0 and self.test >= 0 and self.val + self.test < 1):
            raise ValueError(
                f"val {self.val} and test {self.test}: give nonnegative shares with a sum below 1"
            )
        for name in ("group", "only"):
            try:
                re.compile(getattr(self, name) or "")
            except re.error as error:
                raise ValueError(
                    f"{name} '{getattr(self, name)}' is not a regular expression ({error})"
                ) from None
        if self.up and self.front and self.up[-1] == self.front[-1]:
            raise ValueError(f"front is {self.front} and up is {self.up}; give two perpendicular axes")


@dataclass
class Report:
    """The result: splits by name, problems as (file, reason), and notes on incomplete objects."""

    splits: "dict[str, Split]" = field(default_factory=dict)
    problems: list[tuple[str, str]] = field(default_factory=list)
    notes: list[tuple[str, str]] = field(default_factory=list)


def main(argv: list[str] | None = None) -> int:
    """Parse the command line and render; returns the exit code."""
    given = vars(make_parser().parse_args(argv))
    place, root, workers = given.pop("input"), given.pop("output"), given.pop("workers")
    try:
        report = render_set(place, root, RenderOptions(**given), workers=workers)
    except ValueError as error:
        print(f"render_meshes: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        reason = error.strerror or error
        print(f"render_meshes: cannot use {error.filename or root}: {reason}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("render_meshes: stopped; the same command continues where this one ended", file=sys.stderr)
        return 1
    kinds = list(report.splits.values())
    counts = ", ".join(f"{kinds.count(split)} {split}" for split in ("train", "val", "test"))
    made = [name for name in ("contact_sheet.png", "attribution.tsv") if (root / name).exists()]
    print(f"{root}: {len(kinds)} objects ({counts})" + (f", see {' and '.join(made)}" if made else ""))
    if report.notes:
        lacking = {name for name, _ in report.notes}
        print(
            f"{len(lacking)} objects are incomplete, for example without a texture: see {root / 'notes.txt'}"
        )
        print(*[f"  {name}: {note}" for name, note in report.notes[:SHOWN]], sep="\n")
    if report.problems:
        shown = [f"  {file}: {reason}" for file, reason in report.problems[:SHOWN]]
        print(
            f"files that could not be used: {len(report.problems)}, see {root / 'problems.txt'}:",
            *shown,
            sep="\n",
        )
    return 1 if report.problems else 0


def make_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = OneLineParser(
        prog="python -m scripts.render_meshes",
        description=__doc__,
        epilog=HELP,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = parser.add_argument
    default = RenderOptions()
    add("input", type=Path, metavar="INPUT", help="folder, mesh file or archive")
    add("--output", type=Path, required=True, metavar="ROOT", help="folder to write")
    add("--views", type=int, default=default.views, help="random views of a training object (%(default)s)")
    add("--test-views", type=int, default=default.test_views, help="views on the spiral (%(default)s)")
    add("--views-on", choices=REGIONS, default=default.views_on,
        help="region of random views: band is from -5 to 70 degrees of elevation (%(default)s)")  # fmt: skip
    add("--size", type=int, default=default.size, help="width and height in pixels (%(default)s)")
    add("--up", choices=AXES, help="up axis of the files (default: as stated in DAE files; z for stl and "
        "3mf, otherwise y)")  # fmt: skip
    add("--front", choices=AXES, help="front axis of the files (default: z if y is up, otherwise -y); write "
        "--front=-y")  # fmt: skip
    add("--val", type=float, default=default.val, help="share of objects for validation (%(default)s)")
    add("--test", type=float, default=default.test, help="share of objects for tests (%(default)s)")
    add("--seed", type=int, default=default.seed, help="of the splits and the random views (%(default)s)")
    add("--group", metavar="REGEX", help="objects whose names have the same first group are kept in one "
        "split")  # fmt: skip
    add("--only", metavar="REGEX", help="only meshes with a match in name, title, category or path")
    add("--workers", type=int, help="processes (default: one per core; 0: run in this process, which is "
        "faster for a few meshes, but not protected from crashes)")  # fmt: skip
    return parser


def render_set(
    place: Path, root: Path, options: RenderOptions, *, workers: int | None = None, progress: bool = True
) -> Report:
    """Render the meshes at `place` to `root`, or complete an earlier call.

    Unusable meshes are reported and skipped. Raises ValueError if there are no meshes, or the root has
    another set.
    """
    from data.files import write_text_whole
    from data.formats.srn.writer import claim_root
    from data.meshes.datasets.dataset import Drawing, attribution, fingerprint, settle_splits
    from data.meshes.datasets.splits import group_variants
    from data.meshes.sources import find_meshes
    from scripts.common.process_pool import available_cores

    # Find the meshes, examine each and assign them to splits.
    if workers is not None and workers < 0:
        raise ValueError(f"workers is {workers}; give 0 or more")
    workers = available_cores() if workers is None else workers
    drawing = Drawing(options.views, options.size, options.views_on, options.up, options.front, options.seed)
    sources = find_meshes(place, only=options.only, without=root)
    claim_root(root, asdict(options) | {"input_files": fingerprint(sources, root)}, option="--output")
    findings = _examine(sources, drawing, root / "objects.jsonl", workers, progress)
    shapes = {name: found.shape for name, found in findings.items() if not found.problem}
    groups = group_variants(shapes, options.group)
    splits = settle_splits(root, groups, val=options.val, test=options.test, seed=options.seed)

    # Render the usable ones.
    folders = {name: root / f"objects_{split}" / name for name, split in splits.items()}
    failed = _draw(sources, folders, drawing, options.test_views, workers, progress)
    reasons = {name: found.problem for name, found in findings.items() if found.problem} | failed
    report = Report(
        splits={name: split for name, split in splits.items() if name not in failed},
        problems=[(source.file, reasons[source.name]) for source in sources if source.name in reasons],
        notes=[(source.name, note) for source in sources for note in findings[source.name].notes],
    )

    # Attribution, problems and notes.
    write_text_whole(root / "attribution.tsv", attribution(sources, findings, report.splits))
    for name, lines in (("problems.txt", report.problems), ("notes.txt", report.notes)):
        (root / name).unlink(missing_ok=True)
        if lines:
            write_text_whole(root / name, "".join(f"{subject}: {what}\n" for subject, what in lines))
    return report


def _examine(
    sources: "list[MeshSource]", drawing: "Drawing", record: Path, workers: int, progress: bool
) -> "dict[str, Finding]":
    """Examine each mesh, except those in the record of an earlier run; returns the findings by name.

    Meshes that had a problem are tried again, since a package or memory may now be available.
    """
    from data.meshes.datasets.dataset import Finding, examine, finding_line, read_findings

    findings = read_findings(record)
    pending = [s for s in sources if s.name not in findings or findings[s.name].problem]
    with record.open("a", encoding="utf-8") as lines:
        for source, result in _each(examine, pending, [(s, drawing) for s in pending], workers, progress):
            if not isinstance(result, Finding):
                result = Finding(source.name, problem=_reason(source, result))
            findings[source.name] = result
            lines.write(finding_line(result))
            lines.flush()
    return findings


def _draw(
    sources: "list[MeshSource]",
    folders: dict[str, Path],
    drawing: "Drawing",
    num_held_out: int,
    workers: int,
    progress: bool,
) -> dict[str, str]:
    """Render missing objects and the contact sheet; returns the reasons of failures by name."""
    from data.formats.srn.writer import write_contact_sheet
    from data.meshes.datasets.camera_poses import spiral_poses
    from data.meshes.datasets.dataset import draw

    pending = [s for s in sources if s.name in folders and not folders[s.name].is_dir()]
    held_out = {s.name for s in pending if folders[s.name].parent.name != "objects_train"}
    spiral = spiral_poses(num_held_out) if held_out else None
    tasks = [(s, folders[s.name], drawing, spiral if s.name in held_out else None) for s in pending]
    failed = {}
    for source, result in _each(draw, pending, tasks, workers, progress):
        if isinstance(result, OSError):  # reading raises other errors, so writing failed
            raise result
        if isinstance(result, Exception):
            failed[source.name] = _reason(source, result)
    training = next(
        (folder.parent for folder in folders.values() if folder.parent.name == "objects_train"), None
    )
    sheet = training.parent / "contact_sheet.png" if training else None
    if sheet and training.is_dir() and (pending or not sheet.exists()):
        write_contact_sheet(sheet, training, columns=SHEET[0], rows=SHEET[1])
    return failed


def _each(
    task: Callable, sources: "list[MeshSource]", tasks: list[tuple], workers: int, progress: bool
) -> "Iterator[tuple[MeshSource, Any]]":
    """Yield (mesh, result or exception) as tasks finish, with a progress bar."""
    from scripts.common.process_pool import run_each
    from scripts.common.progress import progress_bar

    doing = {"examine": "reading", "draw": "rendering"}[task.__name__]
    with progress_bar(total=len(tasks), unit="object", desc=doing, disable=not progress or not tasks) as bar:
        for number, result in run_each(task, tasks, workers=workers, time_limit_s=TIME_LIMIT_S):
            bar.update()
            yield sources[number], result


def _reason(source: "MeshSource", error: Exception) -> str:
    """The reason in one line, without the file name."""
    expected = isinstance(error, ValueError) or type(error).__name__ == "WorkerKilledError"
    text = str(error) if expected else f"{type(error).__name__}: {error}".rstrip(": ")
    return (text.splitlines() or [type(error).__name__])[0].removeprefix(f"{source.file}: ")


if __name__ == "__main__":
    sys.exit(main())
