"""Evaluate transferred poses: python -m scripts.pose_transfer RUN --data sets/shapes_videos

Each held-out car is drawn along the video of another one, and compared with renderings from a camera with the
same movement relative to its first frame. For comparison: two baselines, and videos drawn with their own
poses, which is auto-encoding and not transfer.
"""

import argparse
import sys
from pathlib import Path

from scripts.common.command_line import OneLineParser, number_between


def main(argv: list[str] | None = None) -> int:
    """Command line; user errors become one line and exit code 2."""
    parser = OneLineParser(prog="python -m scripts.pose_transfer", description=(__doc__ or "").split("\n")[0])
    whole = number_between(int, 1, 100_000)
    parser.add_argument("run", help="run such as runs/NAME, or a checkpoint")
    help = "videos of make_shapes --layout videos (default: those of the training)"
    parser.add_argument("--data", metavar="ROOT", help=help)
    parser.add_argument("--split", default="val", choices=("train", "val"), help="of them (default: val)")
    parser.add_argument("--n", type=whole, default=8, metavar="N", help="pairs of videos (default: 8)")
    parser.add_argument("--frames", type=whole, default=6, metavar="N", help="of each (default: 6)")
    help = "views: against rendered cars; shifts: of moving textures, read by phase correlation"
    parser.add_argument("--by", choices=("views", "shifts"), default="views", help=help)
    parser.add_argument("--output", type=Path, metavar="FILE", help="the figures as JSON")
    return report(parser.parse_args(argv))


def report(arguments: argparse.Namespace) -> int:
    """Measure and print the figures; the exit code."""
    try:
        from scripts.pose_transfer.measure import measure_transfer, table
        from scripts.pose_transfer.shifts import measure_shifts

        by_shifts = arguments.by == "shifts"
        figures = (measure_shifts if by_shifts else measure_transfer)(
            arguments.run,
            root=arguments.data,
            split=arguments.split,
            pairs=arguments.n,
            frames=arguments.frames,
        )
        if arguments.output:
            from scripts.common.results import write_json

            write_json(arguments.output, figures)
    except (ValueError, OSError) as error:
        print(f"pose_transfer: {error}", file=sys.stderr)
        return 2
    if by_shifts:
        print(*(f"{name:9} {value:6.3f} pixels" for name, value in figures.items()), sep="\n")
    else:
        print(table(figures))
    return 0


if __name__ == "__main__":
    sys.exit(main())
