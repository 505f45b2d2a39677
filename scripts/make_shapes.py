"""Write the embedded default data set: procedural cars, rendered in the SRN folder layout.

    python -m scripts.make_shapes --root data/embedded --objects 200 --views 24 --size 64

ROOT/cars_train/000123_coupe/ holds rgb/*.png on white, pose/*.txt (camera-to-world, OpenCV axes, 16 numbers),
intrinsics.txt (pixels), depth/*.png (16 bits, z-depth in 1/10000 scene unit, 0: background), alpha/*.png.
ROOT/cars_val/ holds objects whose ids follow the training ids. ROOT/contact_sheet.png shows what was made.
A second run with the same parameters completes what is missing and leaves the rest alone.
"""

import argparse
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from data.srn_writer import claim_root, write_contact_sheet
from data.workers import WorkerKilledError, available_cores

RECIPE = 1  # counts changes to the cars or their pictures, so that old and new ones never mix


@dataclass(frozen=True)
class ShapesOptions:
    """What decides the contents of the data set; all counts, `size` in pixels."""

    objects: int = 200
    views: int = 24
    size: int = 64
    val: int = 20
    seed: int = 0
    recipe: int = RECIPE

    def __post_init__(self):
        least = {"objects": 1, "views": 1, "size": 8, "val": 0, "seed": 0}
        for name, minimum in least.items():
            if getattr(self, name) < minimum:
                raise ValueError(f"{name} is {getattr(self, name)}; give {minimum} or more")


def make_shapes(
    root: Path, options: ShapesOptions, *, workers: int | None = None, progress: bool = True
) -> None:
    """Write the data set below `root`, or complete it; `workers` processes (None: one for each core).

    Raises ValueError if `root` holds another data set, and OSError if it cannot be written.
    """
    root = Path(root)
    if workers is not None and workers < 1:
        raise ValueError(f"workers is {workers}; give 1 or more")
    claim_root(root, asdict(options), option="--root")
    workers = workers or available_cores()
    pending = [task for task in _tasks(root, options) if not task[0].is_dir()]
    _write_all(pending, options, workers, progress)
    if pending or not (root / "contact_sheet.png").exists():
        write_contact_sheet(root / "contact_sheet.png", root / "cars_train")


def main(arguments: list[str] | None = None) -> int:
    """Command line; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m scripts.make_shapes", description=__doc__.split("\n")[0])
    parser.add_argument(
        "--root", type=Path, default=Path("data/embedded"), help="folder to write (%(default)s)"
    )
    parser.add_argument("--objects", type=int, default=200, help="training cars (%(default)s)")
    parser.add_argument("--views", type=int, default=24, help="views of each car (%(default)s)")
    parser.add_argument("--size", type=int, default=64, help="width and height in pixels (%(default)s)")
    parser.add_argument("--val", type=int, default=20, help="further cars for validation (%(default)s)")
    parser.add_argument("--workers", type=int, help="processes (default: one for each core)")
    parser.add_argument("--seed", type=int, default=0, help="of the cameras (%(default)s)")
    given = parser.parse_args(arguments)
    try:
        options = ShapesOptions(given.objects, given.views, given.size, given.val, given.seed)
        make_shapes(given.root, options, workers=given.workers)
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
    print(f"{given.root}: {counts}, {options.views} views each, see contact_sheet.png")
    return 0


def _tasks(root: Path, options: ShapesOptions) -> Iterator[tuple[Path, int]]:
    """(folder, object id) of every object."""
    from data.shapes import car_style

    for object_id in range(options.objects + options.val):
        split = "cars_train" if object_id < options.objects else "cars_val"
        yield root / split / f"{object_id:06d}_{car_style(object_id)}", object_id


def _write_all(pending: list[tuple[Path, int]], options: ShapesOptions, workers: int, progress: bool) -> None:
    from data.workers import run_each
    from scripts.progress import progress_bar

    tasks = [(*task, options) for task in pending]
    alone = workers == 1 or len(tasks) < 2
    with progress_bar(total=len(tasks), unit="car", disable=not progress or not tasks) as bar:
        for _, result in run_each(_write_car, tasks, workers=0 if alone else workers):
            if isinstance(result, Exception):
                raise result
            bar.update()


def _write_car(folder: Path, object_id: int, options: ShapesOptions) -> None:
    import numpy as np

    from data.mesh_views import random_poses
    from data.meshes import render_views
    from data.shapes import car
    from data.srn_writer import INTRINSICS, write_object

    poses = random_poses(options.views, "band", np.random.default_rng((options.seed, object_id)))
    size = options.size
    pictures = render_views(car(object_id), poses, intrinsics=INTRINSICS, height=size, width=size)
    write_object(folder, pictures, poses)


if __name__ == "__main__":
    sys.exit(main())
