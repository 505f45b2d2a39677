"""Make a web page that compares methods side by side: input, sample, preview, depth, truth and figures.

    python -m scripts.gallery runs/NAME                  sample missing views, then write the page
    python -m scripts.gallery samples/a samples/b        show existing output of sample_views.py

The page is a folder of small files, for any browser and any static host.
"""

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from scripts.common.command_line import OneLineParser, number_between
from scripts.sampling.arguments import TRAJECTORIES

if TYPE_CHECKING:  # heavy modules are imported where they are used, so that --help is fast
    from collections.abc import Sequence

    from scripts.gallery.methods import Method, Truth
    from scripts.gallery.sources import Source
    from scripts.sampling.reader import ViewSequence

HELP = """\
examples:
  python -m scripts.gallery runs/quickstart --n 8
  python -m scripts.gallery runs/quickstart --way "" --way "--policy nearest" --trajectory turntable
  python -m scripts.gallery runs/first runs/second --data srn_cars --object 1a2b3c --views 40
  python -m scripts.gallery samples/first samples/second --data srn_cars --labels before after

Every SOURCE is a column. Views of a run or checkpoint are sampled by sample_views.py, in each --way, into
FILMS/RUN/WAY/OBJECT; existing views are kept, so the same command resumes an interrupted one. A folder of
sampled views is shown as it is. Truth and PSNR need views from the data set's own cameras (--trajectory
data), and for folders also --data. Reprojection error and detail are those of scripts.consistency, with the
depth of each method.

OUTPUT/index.html and the small files in OUTPUT/media need no server and no network: open the page, or copy
the folder to any static host. Another call replaces the whole page. If there are more views than --frames,
evenly spaced ones are shown, and fewer if the total would exceed --max-mb.

Exit codes: 0 done, 2 bad input, 130 interrupted.
"""
FEWEST = 4  # frames that are kept at least


def main(argv: list[str] | None = None) -> int:
    """Parse the command line, sample, and write the page; user errors become one line and exit code 2."""
    arguments = make_parser().parse_args(argv)
    try:
        print(gallery(arguments))
    except (ValueError, OSError) as error:
        print(f"gallery: {error}", file=sys.stderr)
        return 2
    except (RuntimeError, MemoryError) as error:
        from models.device import out_of_memory

        reason = out_of_memory(error)
        if reason is None:
            raise
        print(f'gallery: {reason}; sample smaller batches: --way "--batch 1"', file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("gallery: interrupted; run the same command to resume", file=sys.stderr)
        return 130
    return 0


def make_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = OneLineParser(
        prog="python -m scripts.gallery",
        description=__doc__,
        epilog=HELP,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add, whole = parser.add_argument, number_between(int, 1, 100_000)
    add("sources", nargs="+", type=Path, metavar="SOURCE", help="runs, checkpoints or folders of views")
    add("--data", metavar="ROOT", help="data set with the truth (default: that of the first run)")
    add("--split", default="test", choices=("train", "val", "test"), help="of the data set (default: test)")

    add = parser.add_argument_group("sampling, for runs").add_argument
    add("--n", type=whole, metavar="N", help="the first N objects of the split (default: at most 4)")
    add("--object", nargs="+", metavar="ID", help="these objects instead")
    add("--views", type=whole, metavar="N", help="of each object (default: 20, or as many as exist)")
    add("--trajectory", choices=TRAJECTORIES, help="default: data")
    help = 'further flags of sample_views.py, in quotes; repeat for several columns (default: "")'
    add("--way", action="append", metavar="FLAGS", help=help)
    add("--films", type=Path, metavar="FOLDER", help="for sampled views (default: samples/gallery)")

    add = parser.add_argument_group("page").add_argument
    add("--output", type=Path, default=Path("gallery"), metavar="FOLDER", help="default: gallery")
    add("--title", metavar="TEXT", help="default: the labels of the columns")
    help = "names of the columns (default: of runs, ways, folders)"
    add("--labels", nargs="+", metavar="TEXT", help=help)
    help = "maximum number of views of an animation (default: 40)"
    add("--frames", type=whole, default=40, metavar="N", help=help)
    add("--stills", type=whole, default=6, metavar="N", help="views also shown as stills (default: 6)")
    help = "of images, 1 to 100; 100: lossless, about eight times larger (default: 92)"
    add("--quality", type=number_between(int, 1, 100), default=92, metavar="N", help=help)
    add("--mp4", action="store_true", help="also write MP4s for download; about eight times larger")
    add("--single-file", action="store_true", help="embed all images in index.html")
    add(
        "--max-mb",
        type=number_between(float, 0.01, 100_000),
        default=50.0,
        metavar="X",
        help="size of all files (default: 50)",
    )
    return parser


def gallery(arguments: argparse.Namespace) -> str:
    """Sample missing views and write the page; returns a message for the user.

    Errors of the user are raised before sampling if possible.
    """
    from scripts.common.wording import megabytes, plural
    from scripts.gallery.assets import INDEX, require_ours
    from scripts.gallery.methods import Truth
    from scripts.gallery.sources import read_sources, sequences_of, truth_config

    if arguments.mp4 and arguments.single_file:
        raise ValueError("--mp4 writes files next to the page; leave out --single-file")
    require_ours(arguments.output)
    sources = read_sources(arguments)
    truth = Truth(truth_config(sources, arguments.data), arguments.split)
    sequences = [sequences_of(source) for source in sources]
    methods = measure(sources, sequences, truth)
    num_objects = len({name for method in methods for name in method.entries})
    size = write_page(methods, truth, arguments)
    untrue = [entry.untrue for method in methods for entry in method.entries.values() if entry.untrue]
    if untrue:
        print(f"gallery: no truth for {plural(len(untrue), 'sequence')}: {untrue[0]}", file=sys.stderr)
    counted = f"{plural(num_objects, 'object')}, {plural(len(methods), 'column')}"
    return f"{arguments.output / INDEX}: {counted}, {megabytes(size)}"


def measure(
    sources: "Sequence[Source]", sequences: "Sequence[Sequence[ViewSequence]]", truth: "Truth"
) -> "list[Method]":
    """Measure all view sequences."""
    from scripts.common.progress import progress_bar
    from scripts.gallery.methods import Method, made_by, read_method

    methods = []
    with progress_bar(total=sum(map(len, sequences)), unit="sequence", desc="measuring") as bar:
        for source, own in zip(sources, sequences, strict=True):
            entries = {}
            for entry in read_method(own, truth):
                entries[entry.sequence.name] = entry
                bar.update()
            methods.append(Method(source.label, made_by(own[0]), entries))
    return methods


def write_page(methods: "Sequence[Method]", truth: "Truth", arguments: argparse.Namespace) -> int:
    """Write the page and its files, with as many frames as fit; returns their size in bytes.

    Raises ValueError if too few fit.
    """
    from scripts.common.progress import progress_bar
    from scripts.gallery.assets import Assets, FullError
    from scripts.gallery.page import page_html
    from scripts.gallery.sprite_sheets import SheetOptions, gallery_items

    most = round(arguments.max_mb * 1e6)
    total = len({name for method in methods for name in method.entries})
    longest = max(len(entry.sequence.pictures) for method in methods for entry in method.entries.values())
    frames = min(arguments.frames, longest)
    while True:
        assets = Assets(most, inline=arguments.single_file)
        options = SheetOptions(frames, arguments.stills, arguments.quality, arguments.mp4)
        try:
            shown = list(
                progress_bar(gallery_items(methods, truth, options, assets), total=total, unit="object")
            )
            text = page_html(methods, shown, assets, title=arguments.title)
            size = len(text.encode()) + (0 if arguments.single_file else assets.size)
            if size <= most:
                assets.publish(arguments.output, text)
                return size
        except FullError:
            pass
        if frames <= FEWEST:
            raise ValueError(
                f"--max-mb {arguments.max_mb:g}: is too little for {frames} views of {total} objects; allow "
                "more, show fewer objects, or lower --quality"
            )
        thinner = max(FEWEST, frames // 2)
        notice = f"--max-mb {arguments.max_mb:g}: is too little for {frames} views each; trying {thinner}"
        print(f"gallery: {notice}", file=sys.stderr)
        frames = thinner


if __name__ == "__main__":
    sys.exit(main())
