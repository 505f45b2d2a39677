"""How steady films are that sample_views.py has drawn: reprojection error between neighbouring views.

    python -m scripts.consistency samples/quickstart/OBJECT samples/consistent/OBJECT

Each pixel of a view is carried to the surface by the depth of the volume, from there into the next view, and
back the same way; where both see the same surface (opacity of at least 0.5, depths within 3 %), colours are
compared. The error is a root mean square in levels of 8 bits. A film may be steady because it is blurred:
`detail` is the root mean square difference of neighbouring pixels on the surface.
"""

import argparse
import sys
from pathlib import Path

from scripts.common.command_line import OneLineParser
from scripts.sampling.consistency import DepthSource, consistency, known, table

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


def main(argv: list[str] | None = None) -> int:
    """Parse the command line, measure, print a table; user errors become one line and exit code 2."""
    arguments = make_parser().parse_args(argv)
    try:
        source = DepthSource(arguments.depth, arguments.data, arguments.split, arguments.depth_scale)
        rows = consistency(arguments.folders, source, previews=arguments.preview)
        print(table(rows))
        if arguments.output:
            from scripts.common.results import write_json

            named = {name: [known(film) for film in films] for name, films in rows.items()}
            write_json(arguments.output, named)
        if arguments.colmap:
            from scripts.consistency.reconstruction import reconstructions

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


if __name__ == "__main__":
    sys.exit(main())
