"""Compare the multi-view consistency of sampling policies.

    python -m scripts.compare_policies runs/NAME --page docs/consistency.md

Samples the same views in every way, and measures them like `python -m scripts.consistency`: with the depth of
each sequence's own volume, and with that of the independent views, so that all are compared on one surface.
"""

import argparse
import shlex
import sys
from dataclasses import dataclass, replace
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scripts.common.command_line import OneLineParser
from scripts.sampling.consistency import DepthSource, consistency, table
from scripts.sampling.request import SampleRequest, SubjectRequest

if TYPE_CHECKING:  # heavy modules are imported where they are used, so that --help is fast
    from torch import Tensor

    from scripts.sampling.consistency import Steadiness
    from scripts.sampling.reader import ViewSequence

# Way -> its overrides of a request for independent views.
WAYS: dict[str, dict[str, Any]] = {
    "independent": {},
    "same noise": {"same_noise": True},
    "published": {"policy": "published"},
    "published, same noise": {"policy": "published", "same_noise": True},
    "nearest": {"policy": "nearest"},
    "nearest, outward": {"policy": "nearest", "order": "outward"},
    "all": {"policy": "all"},
    "budget": {"policy": "budget"},
    "independent, joint": {"refine_window": 5},
    "published, joint": {"policy": "published", "refine_window": 5},
}
HELP = f"""\
ways: {", ".join(WAYS)}

The same command resumes an interrupted one without sampling existing views again. The page has the tables,
and links two images next to it: every way for the first object, and independent and published views of three.

Exit codes: 0 done, 2 bad input, 130 interrupted.
"""
INTRODUCTION = """\
# Multi-view consistency of the sampling policies

Every pixel of a view is unprojected by its depth and projected into the next view, and vice versa
([reprojection.py](../scripts/sampling/reprojection.py)). The error is the root mean square difference in
8-bit levels, over the pixels for which both views see the same surface. Detail is the root mean square
difference of neighbouring pixels on the surface: a consistent sequence with little detail is blurred. Gain is
the reduction of an object's error relative to its independent sequence. Figures are means over objects, with
standard errors.

A sequence's own depth is the depth of the volume that it was sampled from. Views conditioned on earlier views
change the volume, so their surface differs from that of the independent sequences, which are conditioned on
the photo alone. The depth of the independent sequences therefore penalises them wherever the photo leaves the
shape open; that table is included because it compares all sequences over the same pixels.
"""
SHOWN = 10  # views of a sequence on a contact sheet
LABEL = 170  # width of the label of a way in pixels


def main(argv: list[str] | None = None) -> int:
    """Parse the command line, sample and measure; user errors become one line and exit code 2."""
    words = sys.argv[1:] if argv is None else argv
    arguments = make_parser().parse_args(words)
    try:
        written = compare_policies(comparison(arguments, shlex.join(words)))
    except (ValueError, OSError) as error:
        print(f"compare_policies: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("compare_policies: interrupted; run the same command to resume", file=sys.stderr)
        return 130
    print(*written, sep="\n")
    return 0


def make_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = OneLineParser(
        prog="python -m scripts.compare_policies",
        description=__doc__,
        epilog=HELP,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("run", metavar="RUN", help="run such as runs/NAME, or a checkpoint")
    add("--data", metavar="ROOT", help="data set (default: the training data)")
    add("--split", default="val", choices=("train", "val", "test"), help="default: val")
    add("--objects", type=int, default=3, metavar="N", help="the first N objects (default: 3)")
    add(
        "--trajectory",
        default="turntable",
        metavar="NAME",
        help="as for sample_views.py (default: turntable)",
    )
    add("--views", type=int, default=20, metavar="N", help="of each object (default: 20)")
    add("--steps", type=int, metavar="N", help="denoising steps (default: the run's)")
    add("--ways", nargs="+", default=list(WAYS), choices=list(WAYS), metavar="WAY", help="default: all")
    add("--truth", action="store_true", help="also measure with the data set's depth; needs its cameras")
    help = "of the data set's depth, like data.depth_scale (default: that of the run; with --data, 1)"
    add("--depth-scale", type=float, metavar="X", help=help)
    add("--seed", type=int, default=0, metavar="N", help="of the samples (default: 0)")
    add("--device", default="auto", metavar="NAME", help="auto, cpu, cuda or cuda:N (default: auto)")
    add("--output", type=Path, metavar="FOLDER", help="for the views (default: samples/RUN/policies)")
    add("--page", type=Path, metavar="FILE", help="default: policies.md in the folder of the views")
    return parser


@dataclass(frozen=True)
class Comparison:
    """The view sequences to compare, the true depth, and the output."""

    request: SampleRequest  # of independent views; `output` is the folder of all sequences
    ways: tuple[str, ...]  # "independent" first
    truth: DepthSource | None  # a data set with depth
    page: Path
    command: str  # as the user typed it


def comparison(arguments: argparse.Namespace, command: str) -> Comparison:
    """The comparison that the parsed command line describes."""
    request = SampleRequest(
        checkpoint=arguments.run,
        subject=SubjectRequest(data=arguments.data, split=arguments.split, num=arguments.objects),
        trajectory=arguments.trajectory,
        num_views=arguments.views,
        options={"steps": arguments.steps} if arguments.steps else {},
        seed=arguments.seed,
        device=arguments.device,
        output=arguments.output or Path("samples") / Path(arguments.run).name / "policies",
    )
    ways = ("independent", *(way for way in arguments.ways if way != "independent"))
    truth = _truth(arguments) if arguments.truth else None
    return Comparison(request, ways, truth, arguments.page or request.output / "policies.md", command)


def _truth(arguments: argparse.Namespace) -> DepthSource:
    """The data set's depth: that of the training data with the run's scale, unless given otherwise."""
    from models.checkpoints.loading import load_model

    root, scale = arguments.data, arguments.depth_scale
    if root is None:
        data = load_model(arguments.run)[1].data
        root, scale = data.root, scale or data.depth_scale
    return DepthSource(data=root, split=arguments.split, depth_scale=scale or 1.0)


def compare_policies(comparison: Comparison) -> list[Path]:
    """Sample and measure every sequence, and write the page; returns the files written, the page first."""
    from data.files import write_text_whole
    from data.images.files import write_png
    from scripts.sampling.draw import sample_views
    from scripts.sampling.reader import sequences_in

    # Sample the views of all objects in every way, except those that exist.
    request, page = comparison.request, comparison.page
    folders = {way: request.output / folder_of(way) for way in comparison.ways}
    for way, folder in folders.items():
        sample_views(replace(request, output=folder, **WAYS[way]))
    sequences = {way: sequences_in(folder) for way, folder in folders.items()}
    num_objects = request.subject.num
    for way, found in sequences.items():
        if len(found) != num_objects:
            raise ValueError(
                f"{folders[way]}: has the views of {len(found)} objects, but {num_objects} are compared; "
                "delete it, or choose another --output"
            )

    # Measure them, and write the page with its two images.
    pictures = [page.with_name(f"{page.stem}{part}.png") for part in ("", "_objects")]
    write_png(pictures[0], sheet([(way, sequences[way][0]) for way in comparison.ways]))
    pair = [way for way in ("independent", "published") if way in sequences]
    rows = [(way, sequences[way][number]) for number in range(min(3, num_objects)) for way in pair]
    write_png(pictures[1], sheet(rows))
    found = figures(folders, comparison.truth)
    write_text_whole(page, page_text(found, [path.name for path in pictures], comparison.command))
    return [page, *pictures]


def folder_of(way: str) -> str:
    """The folder name of a way."""
    return way.replace(", ", "_").replace(" ", "_")


def figures(folders: dict[str, Path], truth: DepthSource | None) -> dict[str, dict[str, list["Steadiness"]]]:
    """The figures of each view sequence, by surface and way."""
    surfaces = {
        "own depth": DepthSource(),
        "depth of the independent sequences": DepthSource(folder=folders["independent"]),
    }
    if truth is not None:
        surfaces["the data set's depth"] = truth
    found = {}
    for name, source in surfaces.items():
        rows: dict[str, list[Steadiness]] = {}
        for way, folder in folders.items():
            of_way, *others = consistency([folder], source, previews=way == "independent").values()
            rows[way] = of_way
            if way == "independent":
                names = ("previews, without diffusion", "the pictures of the set")
                rows |= dict(zip(names, others, strict=False))
        found[name] = rows
    return found


def sheet(rows: list[tuple[str, "ViewSequence"]]) -> "Tensor":
    """A contact sheet with a labelled row of evenly spaced views for each sequence."""
    import numpy as np
    import torch
    from PIL import Image, ImageDraw

    from data.images.display import enlarge, grid
    from data.images.files import read_picture
    from data.scenes.views import evenly_spaced

    strips = []
    for name, sequence in rows:
        count = len(sequence.pictures)
        shown = evenly_spaced(range(count), min(SHOWN, count))
        views = torch.stack([read_picture(sequence.pictures[number]) for number in shown])
        strip = grid(enlarge(views, max(1, round(64 / views.shape[1]))), columns=len(views))
        label = Image.new("RGB", (LABEL, strip.shape[0]), "white")
        ImageDraw.Draw(label).text((4, strip.shape[0] // 2), name, fill="black", anchor="lm")
        strips.append(torch.cat([torch.from_numpy(np.array(label)), strip], dim=1))
    return torch.cat(strips)


def page_text(found: dict[str, dict[str, list["Steadiness"]]], pictures: list[str], command: str) -> str:
    """The page as Markdown: introduction, tables and images."""
    from scripts.common.results import mean

    parts = [INTRODUCTION]
    for name, rows in found.items():
        known = {way: [sequence.error for sequence in sequences] for way, sequences in rows.items()}
        header, rule, *lines = table(rows).splitlines()
        lines = [
            f"{line} {mean(differences(known['independent'], known[way]))} |"
            for way, line in zip(rows, lines, strict=True)
        ]
        parts.append(
            f"## On one surface: {name}\n\n" + "\n".join([f"{header} gain |", f"{rule}---|", *lines]) + "\n"
        )
    parts.append(f"![Every way for the first object]({pictures[0]})\n")
    parts.append(f"![Independent and published sequences]({pictures[1]})\n")
    parts.append(f"Made by:\n\n```sh\npython -m scripts.compare_policies {command}\n```\n")
    return "\n".join(parts)


def differences(first: list[float], second: list[float]) -> list[float]:
    """Differences of the finite pairs."""
    pairs = zip(first, second, strict=True)
    return [one - other for one, other in pairs if isfinite(one) and isfinite(other)]


if __name__ == "__main__":
    sys.exit(main())
