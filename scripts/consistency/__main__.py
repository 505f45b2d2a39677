"""Measure the multi-view consistency of sampled views: reprojection error between neighbouring views.

    python -m scripts.consistency samples/quickstart/OBJECT samples/consistent/OBJECT

Each pixel of a view is unprojected by the depth of the volume and projected into the next view, and vice
versa; where both see the same surface (opacity of at least 0.5, depths within 3 %), colours are compared. The
error is the root mean square difference in 8-bit levels. Views may be consistent because they are blurred:
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
  python -m scripts.consistency samples/car --data data/embedded       (sampled with --trajectory data)

A FOLDER contains the views of one object, or the folders of several objects, over which means are taken, with
standard errors. By default, the depth is that of each sequence's own volume. --depth uses that of other
sequences of the same objects and cameras, so that all are compared on the same surface. --data uses that of a
data set with depth, if the views were sampled from its cameras, and also measures its images.

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

            named = {name: [known(sequence) for sequence in sequences] for name, sequences in rows.items()}
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
    add("folders", nargs="+", type=Path, metavar="FOLDER", help="sampled views, or folders of them")
    add("--depth", type=Path, metavar="FOLDER", help="views whose depth is used (default: their own)")
    add("--data", metavar="ROOT", help="data set whose depth is used")
    add("--split", default="test", choices=("train", "val", "test"), help="of the data set (default: test)")
    help = "like data.depth_scale: factor for depth images; 0.5: 20000 steps per unit (default: 1)"
    add("--depth-scale", type=float, default=1.0, metavar="X", help=help)
    add("--preview", action="store_true", help="also measure the previews, without diffusion")
    help = "also reconstruct each sequence by COLMAP (pip install pycolmap)"
    add("--colmap", action="store_true", help=help)
    add("--output", type=Path, metavar="FILE", help="also write the figures of each object to a JSON file")
    return parser


if __name__ == "__main__":
    sys.exit(main())
