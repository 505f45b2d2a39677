"""Which way of sampling gives the steadiest films: draws the same ones in every way, and measures them.

    python -m scripts.compare_policies runs/NAME --page docs/consistency.md

Ways are changes to a request. Films are measured as `python -m scripts.consistency` does it: with
the depth of each film's own volume, and with that of the independent film, which knows the photo alone, so
that all are compared on one surface.
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

if TYPE_CHECKING:  # heavy imports happen where they are used, so that --help answers at once
    from torch import Tensor

    from scripts.sampling.consistency import Steadiness
    from scripts.sampling.reader import ViewSequence

# Way -> what it changes in a request for independent views.
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

A second call goes on where the first was stopped, and draws no film again. The page holds the table, and two
pictures lie beside it: every way for the first object, and independent against published views for three.

Exit codes: 0 done, 2 bad input, 130 interrupted.
"""
INTRODUCTION = """\
# Ways of sampling, and how steady their films are

Every pixel of a view is carried to the surface by depth, and from there into the next view, and back the same
way ([reprojection.py](../scripts/sampling/reprojection.py)). The error is a root mean square in levels of 8
bits where both views see the same surface. Detail is the root mean square difference of neighbouring pixels
on the surface: steady films with little of it are blurred. Gain is by how much an object's error is below
that of its independent film. Figures are means over objects, with standard errors.

A film's own depth is that of the volume that it was drawn from. Views that look at earlier views change the
volume, so the depth of the independent films, which know the photo alone, is another surface than theirs, and
judges them too severely where the photo does not tell the shape; that table is given because all films are
compared in the same pixels.
"""
SHOWN = 10  # views of a film on a contact sheet
LABEL = 170  # pixels for the name of a way


def main(argv: list[str] | None = None) -> int:
    """Parse the command line, draw and measure; user errors become one line and exit code 2."""
    words = sys.argv[1:] if argv is None else argv
    arguments = make_parser().parse_args(words)
    try:
        written = compare_policies(comparison(arguments, shlex.join(words)))
    except (ValueError, OSError) as error:
        print(f"compare_policies: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("compare_policies: interrupted; the same command goes on from here", file=sys.stderr)
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
    add("--data", metavar="ROOT", help="data set (default: the one the model was trained on)")
    add("--split", default="val", choices=("train", "val", "test"), help="default: val")
    add("--objects", type=int, default=3, metavar="N", help="the first N objects (default: 3)")
    add(
        "--trajectory", default="turntable", metavar="NAME", help="as of sample_views.py (default: turntable)"
    )
    add("--views", type=int, default=20, metavar="N", help="of each film (default: 20)")
    add("--steps", type=int, metavar="N", help="denoising steps (default: the run's)")
    add("--ways", nargs="+", default=list(WAYS), choices=list(WAYS), metavar="WAY", help="default: all")
    add("--truth", action="store_true", help="measure with the data set's depth, too; needs its own cameras")
    help = "of the data set's depth, as data.depth_scale (default: as the run's; of --data, 1)"
    add("--depth-scale", type=float, metavar="X", help=help)
    add("--seed", type=int, default=0, metavar="N", help="of the samples (default: 0)")
    add("--device", default="auto", metavar="NAME", help="auto, cpu, cuda or cuda:N (default: auto)")
    add("--output", type=Path, metavar="FOLDER", help="of the films (default: samples/RUN/policies)")
    add("--page", type=Path, metavar="FILE", help="default: policies.md in the folder of the films")
    return parser


@dataclass(frozen=True)
class Comparison:
    """Which view sequences are compared, on which surfaces, and where the page goes."""

    request: SampleRequest  # of independent views; `output` is the folder of all sequences
    ways: tuple[str, ...]  # the independent one first
    truth: DepthSource | None  # a data set with depth
    page: Path
    command: str  # as the user typed it


def comparison(arguments: argparse.Namespace, command: str) -> Comparison:
    """What the parsed command line asks for."""
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
    """The data set's depth: of the run's set with the run's scale, unless the command line says otherwise."""
    from models.checkpoints.loading import load_model

    root, scale = arguments.data, arguments.depth_scale
    if root is None:
        data = load_model(arguments.run)[1].data
        root, scale = data.root, scale or data.depth_scale
    return DepthSource(data=root, split=arguments.split, depth_scale=scale or 1.0)


def compare_policies(comparison: Comparison) -> list[Path]:
    """Draw every sequence, measure it, and write the page; returns the files written, the page first.

    Raises ValueError or OSError, in one line for the user.
    """
    from data.files import write_text_whole
    from data.images.files import write_png
    from scripts.sampling.draw import sample_views
    from scripts.sampling.reader import films_in

    # Draw the views of all objects in every way; those that are there stay.
    request, page = comparison.request, comparison.page
    folders = {way: request.output / folder_of(way) for way in comparison.ways}
    for way, folder in folders.items():
        sample_views(replace(request, output=folder, **WAYS[way]))
    films = {way: films_in(folder) for way, folder in folders.items()}
    num_objects = request.subject.num
    for way, found in films.items():
        if len(found) != num_objects:
            raise ValueError(
                f"{folders[way]}: holds {len(found)} films, and {num_objects} are compared; delete it, or "
                "choose another --output"
            )

    # Measure them, and write the page with its two pictures.
    pictures = [page.with_name(f"{page.stem}{part}.png") for part in ("", "_objects")]
    write_png(pictures[0], sheet([(way, films[way][0]) for way in comparison.ways]))
    pair = [way for way in ("independent", "published") if way in films]
    rows = [(way, films[way][number]) for number in range(min(3, num_objects)) for way in pair]
    write_png(pictures[1], sheet(rows))
    found = figures(folders, comparison.truth)
    write_text_whole(page, page_text(found, [path.name for path in pictures], comparison.command))
    return [page, *pictures]


def folder_of(way: str) -> str:
    """The name of a way's folder."""
    return way.replace(", ", "_").replace(" ", "_")


def figures(folders: dict[str, Path], truth: DepthSource | None) -> dict[str, dict[str, list["Steadiness"]]]:
    """Of every surface and way, the figures of each film."""
    surfaces = {
        "own depth": DepthSource(),
        "depth of the independent films": DepthSource(folder=folders["independent"]),
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
    """A row of evenly spaced views for each film, behind its name."""
    import numpy as np
    import torch
    from PIL import Image, ImageDraw

    from data.images.display import enlarge, grid
    from data.images.files import read_picture
    from data.scenes.views import evenly_spaced

    strips = []
    for name, film in rows:
        count = len(film.pictures)
        shown = evenly_spaced(range(count), min(SHOWN, count))
        views = torch.stack([read_picture(film.pictures[number]) for number in shown])
        strip = grid(enlarge(views, max(1, round(64 / views.shape[1]))), columns=len(views))
        label = Image.new("RGB", (LABEL, strip.shape[0]), "white")
        ImageDraw.Draw(label).text((4, strip.shape[0] // 2), name, fill="black", anchor="lm")
        strips.append(torch.cat([torch.from_numpy(np.array(label)), strip], dim=1))
    return torch.cat(strips)


def page_text(found: dict[str, dict[str, list["Steadiness"]]], pictures: list[str], command: str) -> str:
    """The page: what was measured, the tables, and the pictures."""
    from scripts.common.results import mean

    parts = [INTRODUCTION]
    for name, rows in found.items():
        known = {way: [film.error for film in films] for way, films in rows.items()}
        header, rule, *lines = table(rows).splitlines()
        lines = [
            f"{line} {mean(differences(known['independent'], known[way]))} |"
            for way, line in zip(rows, lines, strict=True)
        ]
        parts.append(
            f"## On one surface: {name}\n\n" + "\n".join([f"{header} gain |", f"{rule}---|", *lines]) + "\n"
        )
    parts.append(f"![Every way for the first object]({pictures[0]})\n")
    parts.append(f"![Independent and published films]({pictures[1]})\n")
    parts.append(f"Made by:\n\n```sh\npython -m scripts.compare_policies {command}\n```\n")
    return "\n".join(parts)


def differences(first: list[float], second: list[float]) -> list[float]:
    """Of films that both could be measured."""
    pairs = zip(first, second, strict=True)
    return [one - other for one, other in pairs if isfinite(one) and isfinite(other)]


if __name__ == "__main__":
    sys.exit(main())
