"""Write the embedded default data set: procedural cars, rendered in the folder layout of SRN or NMR.

    python -m scripts.make_shapes --root data/embedded --objects 200 --views 24 --size 64
    python -m scripts.make_shapes --layout nmr --root sets/shapes_nmr

ROOT/cars_train/000123_coupe/ has rgb/*.png on white, pose/*.txt (camera-to-world, OpenCV axes, 16 numbers),
intrinsics.txt (pixels), depth/*.png (16 bits, z-depth in 1/10000 scene unit, 0: background), alpha/*.png.
ROOT/cars_val/ has objects whose ids follow the training ids. ROOT/contact_sheet.png shows the objects.
With --layout nmr, ROOT/02958343/000123_coupe/ has image/0000.png ... and cameras.npz: 24 views, spaced by 15
degrees of azimuth, at an elevation of 30 degrees. ROOT/02958343/{,softras_}{train,val,test}.lst list the
objects; the test split is as large as the validation split.
With --layout videos, ROOT/train/000123/*.png are the frames of a flight around a car, and cameras.json next
to them has the true cameras, for evaluation only; ROOT/val/ likewise.
With --layout dtu, ROOT has the folders of DTU (data/formats/dtu/objects.py): training and test scenes of 49
views of 4 : 3 under two lightings, 64 calibrations, and masks of the test scenes.
The same command completes an earlier one and keeps existing files.
"""

import argparse
import sys
from pathlib import Path
from typing import get_args

from scripts.common.process_pool import WorkerKilledError
from scripts.common.shapes_dtu import make_dtu
from scripts.common.shapes_set import Layout, ShapesOptions, make_shapes
from scripts.common.shapes_videos import make_videos


def main(arguments: list[str] | None = None) -> int:
    """Parse the command line and write the data set; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m scripts.make_shapes", description=__doc__.split("\n")[0])
    parser.add_argument(
        "--root", type=Path, default=Path("data/embedded"), help="folder to write (%(default)s)"
    )
    parser.add_argument("--objects", type=int, default=200, help="training cars (%(default)s)")
    parser.add_argument("--views", type=int, help="views of each car (24; of the layout dtu 49)")
    parser.add_argument("--size", type=int, default=64, help="width and height in pixels (%(default)s)")
    parser.add_argument("--val", type=int, default=20, help="further cars for validation (%(default)s)")
    parser.add_argument(
        "--first",
        type=int,
        default=0,
        metavar="N",
        help="number of the first car: sets of other numbers share no car (%(default)s)",
    )
    parser.add_argument("--workers", type=int, help="processes (default: one per core)")
    parser.add_argument("--seed", type=int, default=0, help="of the cameras (%(default)s)")
    help = "srn, nmr, dtu: posed views; videos: frames without poses; shifts: moving textures (%(default)s)"
    parser.add_argument(
        "--layout", choices=("srn", "nmr", "dtu", "videos", "shifts"), default="srn", help=help
    )
    given = parser.parse_args(arguments)
    try:
        usual = 49 if given.layout == "dtu" else 24
        views = usual if given.views is None else given.views
        counts = (given.objects, views, given.size, given.val, given.seed)
        if given.layout in get_args(Layout):
            options = ShapesOptions(*counts, layout=given.layout, first=given.first)
            make_shapes(given.root, options, workers=given.workers)
        elif given.layout == "dtu":
            options = ShapesOptions(*counts, first=given.first)
            make_dtu(given.root, options, workers=given.workers)
        else:
            if given.first:
                raise ValueError(f"--first {given.first}: is for posed views; leave it out")
            options = ShapesOptions(*counts)
            make_videos(given.root, options, kind=given.layout, workers=given.workers)
    except ValueError as error:
        print(f"make_shapes: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        reason = error.strerror or error
        print(f"make_shapes: cannot write {error.filename or given.root}: {reason}", file=sys.stderr)
        return 2
    except (WorkerKilledError, KeyboardInterrupt) as error:
        cause = "stopped" if isinstance(error, KeyboardInterrupt) else "a worker was killed (out of memory?)"
        print(f"make_shapes: {cause}; the same command continues where this one ended", file=sys.stderr)
        return 1
    counts = f"{options.objects} training and {options.val} validation cars"
    seen = "frames each" if given.layout in ("videos", "shifts") else "views each, see contact_sheet.png"
    print(f"{given.root}: {counts}, {options.views} {seen}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
