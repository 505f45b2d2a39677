"""Check a data set for errors before training."""

import argparse
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from scripts.common.command_line import OneLineParser

if TYPE_CHECKING:  # heavy modules are imported where they are used, so that --help is fast
    from data.checks.check_object import Summary
    from data.checks.findings import Finding
    from data.checks.open_splits import OpenSplit

HELP = """\
examples:
  python -m scripts.check_data /data/srn_cars --output check
  python -m scripts.check_data /data/srn_cars --quick
  python -m scripts.check_data data/embedded --object-radius 0.5

ROOT is a data set of any layout that training supports (data.root). Every object is read once, to find
missing or broken files, poses that are not rotations or point elsewhere, intrinsics that do not match the
image, objects that are blank, or cropped by the image or by near and far, backgrounds that are not white, and
inconsistent alpha and depth. Swapped, mirrored or upside-down views are found by comparing their shape with
that of other views: by depth if available, otherwise by silhouettes (of at least 20 views; views that look
alike may be swapped or mirrored unnoticed). Then objects are compared, to find outliers, and images and ids
that are in two splits. A note says which known data set has the same cameras.

A table lists the findings, with the first files. --output writes REPORT.md and report.json with all of them,
objects.png (an image of each object, marked if something is wrong) and cameras.png (camera positions).

Errors degrade training or evaluation, warnings may, notes do not. --quick reads 60 objects of each split and
24 views of each: this takes a minute for any set, but finds duplicates only among these.

Exit codes: 0 no errors, 1 errors were found, 2 bad input.
"""
QUICK_OBJECTS, QUICK_VIEWS = 60, 24
TIME_LIMIT_S = 1800  # for one object, after which it counts as hanging
Task = tuple[int, int]  # indices of split and object


@dataclass(frozen=True)
class Options:
    """What to check, and how thoroughly."""

    root: Path
    layout: str = "auto"
    quick: bool = False
    object_radius: float | None = None  # scene units


def main(argv: list[str] | None = None) -> int:
    """Parse the command line and check; returns the exit code."""
    arguments = make_parser().parse_args(argv)
    options = Options(arguments.root, arguments.layout, arguments.quick, arguments.object_radius)
    try:
        summaries, findings = check(options, workers=arguments.workers)
        lines = _show(arguments, summaries, findings)
    except (ValueError, OSError) as error:
        print(f"check_data: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("check_data: stopped; nothing was written", file=sys.stderr)
        return 2
    print(*lines, sep="\n")
    return int(any(finding.severity == "error" for finding in findings))


def make_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = OneLineParser(
        prog="python -m scripts.check_data",
        description=__doc__,
        epilog=HELP,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("root", type=Path, metavar="ROOT", help="folder of the data set")
    add("--layout", default="auto", help="layout of its files (data.layout; default: detected automatically)")
    add("--object-radius", type=_positive, metavar="R", help="data.object_radius for training")
    add("--quick", action="store_true", help="check a sample of the objects and of their views")
    add("--output", type=Path, metavar="DIR", help="write the report and its images there")
    add("--workers", type=_count, metavar="N", help="processes (default: one per core)")
    return parser


def check(
    options: Options, *, workers: int | None = None, progress: bool = True
) -> tuple[list["Summary"], list["Finding"]]:
    """Summaries of the objects that were read, and all findings, in the order of the splits.

    Raises ValueError if no split can be opened.
    """
    from data.checks.cross_object import check_between
    from data.checks.known_datasets import check_origin
    from data.checks.open_splits import open_splits
    from data.formats.registry import LAYOUTS
    from scripts.common.process_pool import available_cores

    if options.layout not in ("auto", *LAYOUTS):
        raise ValueError(
            f"--layout {options.layout}: is not one of auto, {', '.join(LAYOUTS)}; choose one of them"
        )
    splits, findings = open_splits(options.root, options.layout)
    tasks = list(_tasks(splits, options))
    summaries = _check_all(tasks, splits, options, workers or available_cores(), progress)
    findings += [finding for summary in summaries for finding in summary.findings]
    return summaries, _once(findings) + check_between(summaries) + check_origin(summaries)


def _once(findings: list["Finding"]) -> list["Finding"]:
    """The findings, without repeated notices: a single scene in several splits has them in each split."""
    seen: set[tuple[str, str]] = set()
    kept = []
    for finding in findings:
        key = finding.place, finding.message
        if finding.check != "notices" or key not in seen:
            kept.append(finding)
        seen.add(key)
    return kept


def _tasks(splits: list["OpenSplit"], options: Options) -> Iterator[Task]:
    from data.checks.read_object import sample

    for number, split in enumerate(splits):
        for index in sample(len(split.raw), QUICK_OBJECTS if options.quick else None):
            yield number, index


def _check_all(
    tasks: list[Task], splits: list["OpenSplit"], options: Options, workers: int, progress: bool
) -> list["Summary"]:
    """Summaries in the order of the tasks."""
    from tqdm import tqdm

    from scripts.common.process_pool import WorkerKilledError, run_each

    alone = workers == 1 or len(tasks) < 3  # starting a process takes seconds
    if alone:
        results = ((number, _check_one(task, splits, options)) for number, task in enumerate(tasks))
    else:
        jobs = [(options, *task) for task in tasks]
        results = run_each(_check_task, jobs, workers=workers, time_limit_s=TIME_LIMIT_S)
    summaries: dict[int, Summary] = {}
    for number, result in tqdm(results, total=len(tasks), unit="object", disable=None if progress else True):
        if isinstance(result, WorkerKilledError):
            result = _not_checked(tasks[number], splits, str(result))
        elif isinstance(result, Exception):
            raise result
        summaries[number] = result
    return [summaries[number] for number in range(len(tasks))]


def _not_checked(task: Task, splits: list["OpenSplit"], cause: str) -> "Summary":
    """The summary of an object whose worker was killed."""
    from data.checks.check_object import Summary
    from data.checks.findings import Finding

    split, index = splits[task[0]], task[1]
    name, place = split.raw.ids[index], split.raw.place(index)
    message = f"was not checked: {cause}; inspect its files, or check it with --workers 1"
    return Summary(
        split.split, name, place, (Finding("unreadable", "error", split.split, name, place, message),)
    )


def _check_task(options: Options, number: int, index: int) -> "Summary":
    """Check one object, in a worker."""
    return _check_one((number, index), _opened(options), options)


@cache  # once per worker
def _opened(options: Options) -> list["OpenSplit"]:
    import torch

    from data.checks.open_splits import open_splits

    torch.set_num_threads(1)  # the other workers use the other cores
    return open_splits(options.root, options.layout)[0]


def _check_one(task: Task, splits: list["OpenSplit"], options: Options) -> "Summary":
    from data.checks.check_object import check_object

    number, index = task
    return check_object(
        splits[number],
        index,
        max_views=QUICK_VIEWS if options.quick else None,
        object_radius=options.object_radius,
    )


def _show(arguments: argparse.Namespace, summaries: list["Summary"], findings: list["Finding"]) -> list[str]:
    """Return the lines to print; also writes the files of --output."""
    from data.checks.plots import write_camera_plot, write_sheet
    from data.checks.report import counts_of, table, totals, write_reports

    lines = [*counts_of(summaries), ""]
    if findings:
        # Show paths relative to ROOT, to shorten the lines.
        lines += [*(line.replace(f"{arguments.root}/", "") for line in table(findings)), ""]
    lines.append(f"{arguments.root}: {totals(findings)}")
    if arguments.output:
        folder = arguments.output
        write_reports(folder, arguments.root, summaries, findings)
        write_sheet(folder / "objects.png", summaries, findings)
        write_camera_plot(folder / "cameras.png", summaries)
        lines.append(f"{folder}: REPORT.md, report.json, objects.png, cameras.png")
    return lines


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a positive whole number")
    return int(text)


def _positive(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is not a positive number")
    return value


if __name__ == "__main__":
    sys.exit(main())
