"""How steady films are that sample_views.py has drawn: reprojection error between neighbouring views.

    python -m scripts.consistency samples/quickstart/OBJECT samples/consistent/OBJECT

Each pixel of a view is carried to the surface by the depth of the volume, from there into the next view, and
back the same way; where both see the same surface (opacity of at least 0.5, depths within 3 %), colours are
compared. The error is a root mean square in levels of 8 bits. A film may be steady because it is blurred:
`detail` is the root mean square difference of neighbouring pixels on the surface.
"""

import argparse
import sys
from dataclasses import asdict, dataclass, fields
from math import isfinite
from pathlib import Path
from statistics import fmean, stdev
from typing import TYPE_CHECKING

from scripts.command_line import OneLineParser

if TYPE_CHECKING:  # heavy imports happen where they are used, so that --help answers at once
    from collections.abc import Iterable

    from torch import Tensor

    from models.consistency import SeenView
    from models.generated import Film

HELP = """\
examples:
  python -m scripts.consistency samples/independent samples/autoregressive --output consistency.json
  python -m scripts.consistency samples/autoregressive --depth samples/independent --preview
  python -m scripts.consistency samples/car --data data/embedded       (drawn with --trajectory data)

A FOLDER is that of one film, or holds those of several objects, of which means are taken, with their standard
errors. Depth is that of each film's own volume. --depth takes it from other films of the same objects and
cameras: films are then compared on the same surface. --data takes it from a data set that has depth, where
views were drawn from its own cameras, and measures its pictures, too.

Exit codes: 0 done, 2 bad input.
"""


@dataclass(frozen=True)
class Steadiness:
    """What is found of one film."""

    error: float  # levels of 8 bits
    psnr: float  # dB
    compared: float  # percent of the pixels that show a surface
    detail: float  # levels of 8 bits


def main(argv: list[str] | None = None) -> int:
    """Parse the command line, measure, print a table; user errors become one line and exit code 2."""
    arguments = make_parser().parse_args(argv)
    try:
        rows = consistency(arguments)
        print(table(rows))
        if arguments.output:
            from scripts.evaluate import write_json

            named = {name: [known(film) for film in films] for name, films in rows.items()}
            write_json(arguments.output, named)
        if arguments.colmap:
            print(*reconstructions(arguments.folders), sep="\n")
    except (ValueError, OSError) as error:
        print(f"consistency: {error}", file=sys.stderr)
        return 2
    return 0


def make_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = OneLineParser(
        prog="python -m scripts.consistency",
        description=__doc__,
        epilog=HELP,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("folders", nargs="+", type=Path, metavar="FOLDER", help="films, or folders of films")
    add("--depth", type=Path, metavar="FOLDER", help="films whose depth is used (default: their own)")
    add("--data", metavar="ROOT", help="data set whose depth is used")
    add("--split", default="test", choices=("train", "val", "test"), help="of the data set (default: test)")
    help = "as data.depth_scale: what its depth pictures are multiplied by; 0.5: 20000 steps a unit (1)"
    add("--depth-scale", type=float, default=1.0, metavar="X", help=help)
    add("--preview", action="store_true", help="also the previews, without diffusion")
    add("--colmap", action="store_true", help="also reconstruct each film by COLMAP (pip install pycolmap)")
    add("--output", type=Path, metavar="FILE", help="also write the figures of each film to a JSON file")
    return parser


def consistency(arguments: argparse.Namespace) -> dict[str, list[Steadiness]]:
    """The films of every row of the table. Raises ValueError or OSError, in one line for the user."""
    from models.generated import films_in, seen_views

    if arguments.depth and arguments.data:
        raise ValueError("--depth and --data both say whose depth is used; give only one")
    rows: dict[str, list[Steadiness]] = {}
    for folder in arguments.folders:
        films = films_in(folder)
        depths, truth = surfaces(films, arguments)
        pairs = list(zip(films, depths, strict=True))
        rows[f"{folder}"] = [measured(seen_views(film, depth)) for film, depth in pairs]
        if arguments.preview:
            rows[f"{folder}, previews"] = [
                measured(seen_views(film, depth, pictures=film.previews)) for film, depth in pairs
            ]
        if truth:
            rows[f"{arguments.data}, as for {folder}"] = [measured(views) for views in truth]
    return rows


def surfaces(
    films: list["Film"], arguments: argparse.Namespace
) -> tuple[list[list["Tensor"]], list[list["SeenView"]]]:
    """The depth of the views of each film, from where the command line says, and the truth, if it is asked.

    Raises ValueError where that does not fit the films.
    """
    from data.images import picture_size
    from data.objects import DataConfig
    from data.sets import open_split
    from models.generated import depths_of, films_in, require_same_cameras, true_views

    if arguments.data:
        size = picture_size(films[0].pictures[0])[0]
        config = DataConfig(root=arguments.data, image_size=size, depth_scale=arguments.depth_scale)
        objects = open_split(config, arguments.split)
        truth = [true_views(film, objects) for film in films]
        return [[view.depth for view in views] for views in truth], truth
    others = films
    if arguments.depth:
        found = films_in(arguments.depth)
        named = {other.name: other for other in found}
        others = [named.get(film.name) for film in films]
        if None in others:
            missing = films[others.index(None)].name
            raise ValueError(f"{arguments.depth}: has no film of {missing}; draw it, or give another folder")
    for film, other in zip(films, others, strict=True):
        require_same_cameras(film, other)
    return [list(depths_of(other)) for other in others], []


def measured(views: "Iterable[SeenView]") -> Steadiness:
    """The figures of a film."""
    from models.consistency import detail, film_agreement

    views = list(views)
    agreement = film_agreement(views)
    details = [value for value in map(detail, views) if isfinite(value)]
    mean = fmean(details) if details else float("nan")
    return Steadiness(agreement.error, agreement.psnr, 100 * agreement.share, mean)


def table(rows: dict[str, list[Steadiness]]) -> str:
    """Means over films, with their standard errors where there are several, as Markdown."""
    lines = ["| film | films | error (levels) | PSNR (dB) | compared (%) | detail (levels) |"]
    lines.append("|---|---|---|---|---|---|")
    for name, films in rows.items():
        figures = (mean([getattr(film, key.name) for film in films]) for key in fields(Steadiness))
        lines.append(f"| {name} | {len(films)} | {' | '.join(figures)} |")
    return "\n".join(lines)


def known(film: Steadiness) -> dict[str, float | None]:
    """The figures of a film as JSON has them; None where there is nothing to compare."""
    return {name: value if isfinite(value) else None for name, value in asdict(film).items()}


def mean(values: list[float]) -> str:
    """The mean of those that are known, with its standard error where there are several."""
    finite = [value for value in values if isfinite(value)]
    if not finite:
        return "-"
    error = f" \u00b1 {stdev(finite) / len(finite) ** 0.5:.2f}" if len(finite) > 1 else ""
    return f"{fmean(finite):.2f}{error}"


def reconstructions(folders: list[Path]) -> list[str]:
    """What COLMAP makes of each film, a line each. Raises ValueError where it is not installed."""
    from models.generated import films_in
    from models.reconstruction import reconstruct
    from scripts.progress import progress_bar

    lines = []
    for film in progress_bar(
        [film for folder in folders for film in films_in(folder)], unit="film", desc="COLMAP"
    ):
        found = reconstruct(film.pictures)
        registered = f"{found.num_registered} of {found.num_pictures} views registered"
        lines.append(f"{film.folder}: COLMAP: {registered}, {found.num_points} points")
    return lines


if __name__ == "__main__":
    sys.exit(main())
