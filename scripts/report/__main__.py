"""Make one HTML page of a run: held-out views as an animation, curves, figures, warnings, the config.

    python -m scripts.report runs/NAME
    python -m scripts.report runs/RECIPE --output docs/recipe.html --max-mb 3

Needs no server and no network, in the making as in the reading; a run may still be going on.
"""

import argparse
import math
import sys
import time
from pathlib import Path

from scripts.common.command_line import OneLineParser

HELP = """\
RUN is the folder of a run (config.json, log.jsonl, samples/, warnings.jsonl, checkpoints/) or of a recipe,
whose stages in 1_NAME, 2_NAME, ... then share one page. Nothing in it is changed but the page itself.

Pictures are re-encoded to keep within --max-mb: scaled to half their size at most, then thinned evenly; the
page says so. What cannot be read, in a run that was killed, say, is named on the page and left out.
"""


def main(argv: list[str] | None = None) -> int:
    """Parse the command line and write the page; user errors become one line and exit code 2."""
    arguments = make_parser().parse_args(argv)
    try:
        while not report(arguments) and arguments.watch:
            time.sleep(arguments.watch)
    except (ValueError, OSError) as error:
        print(f"report: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 0 if arguments.watch else 130
    return 0


def make_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = OneLineParser(
        prog="python -m scripts.report",
        description=__doc__,
        epilog=HELP,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("run", metavar="RUN", type=Path, help="runs/NAME, of one run or of a recipe")
    add("--output", type=Path, metavar="FILE", help="default: RUN/report.html")
    add("--max-mb", type=_positive, default=8.0, metavar="X", help="size of the page (default: 8)")
    add(
        "--watch",
        type=_positive,
        metavar="SECONDS",
        help="write it anew every so often until the run is done",
    )
    return parser


def report(arguments: argparse.Namespace) -> bool:
    """Write the page once; returns whether the run is finished.

    Raises ValueError, in one line for the user, if there is no run or the page cannot be written.
    """
    from data.files import write_text_whole
    from scripts.common.wording import megabytes
    from scripts.report.page import page_html
    from scripts.report.read_run import read_run

    run = read_run(arguments.run)
    finished = run.state() == "finished"
    refresh = None if finished else arguments.watch
    text, previews = page_html(run, most=round(arguments.max_mb * 1e6), refresh=refresh)
    path = arguments.output or arguments.run / "report.html"
    write_text_whole(path, text)
    for problem in (*run.problems, *previews.problems):
        print(f"report: {problem}", file=sys.stderr)
    print(f"{path}: {run.state()}, {len(previews.frames)} pictures, {megabytes(len(text.encode()))}")
    return finished


def _positive(text: str) -> float:
    value = float(text)
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"{text} is not above 0")
    return value


if __name__ == "__main__":
    sys.exit(main())
