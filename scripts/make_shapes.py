"""Write the embedded default data set: procedural cars, rendered in the SRN folder layout.

    python -m scripts.make_shapes --root data/embedded --objects 200 --views 24 --size 64

ROOT/cars_train/000123_coupe/ holds rgb/*.png on white, pose/*.txt (camera-to-world, OpenCV axes, 16 numbers),
intrinsics.txt (pixels), depth/*.png (16 bits, z-depth in 1/10000 scene unit, 0: background), alpha/*.png.
ROOT/cars_val/ holds objects whose ids follow the training ids. ROOT/contact_sheet.png shows what was made.
A second run with the same parameters completes what is missing and leaves the rest alone.
"""

import argparse
import json
import math
import os
import shutil
import signal
import sys
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from pathlib import Path

DEPTH_STEPS = 10_000  # depth PNG values for one scene unit
DISTANCE = 1.3  # scene units from the camera to the object's centre
ELEVATIONS_DEG = (-5.0, 70.0)
FOCAL = 131.25 / 128  # focal length over image width, as in SRN cars
RECIPE = 1  # counts changes to the cars or their pictures, so that old and new ones never mix
SHEET_COLUMNS, SHEET_ROWS = 8, 5


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
    _claim(root, options)
    workers = workers or len(_available_cores())
    pending = [task for task in _tasks(root, options) if not task[0].is_dir()]
    _write_all(pending, options, workers, progress)
    if pending or not (root / "contact_sheet.png").exists():
        _write_contact_sheet(root)


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
    except (BrokenProcessPool, KeyboardInterrupt) as error:
        cause = "stopped" if isinstance(error, KeyboardInterrupt) else "a worker was killed (out of memory?)"
        print(f"make_shapes: {cause}; the same command continues where this one ended", file=sys.stderr)
        return 1
    counts = f"{options.objects} training and {options.val} validation cars"
    print(f"{given.root}: {counts}, {options.views} views each, see contact_sheet.png")
    return 0


def _available_cores() -> set[int]:
    return os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set(range(os.cpu_count() or 1))


def _claim(root: Path, options: ShapesOptions) -> None:
    """Record the parameters in an empty root, or check that they are the recorded ones."""
    record = root / "parameters.json"
    wanted = asdict(options)
    if record.exists():
        try:
            found = json.loads(record.read_text())
        except ValueError:
            raise ValueError(f"{record} is damaged; delete {root} or choose another --root") from None
        other = [
            f"{name} {found.get(name)} instead of {wanted[name]}"
            for name in wanted
            if found.get(name) != wanted[name]
        ]
        if other:
            raise ValueError(f"{root} was made with {', '.join(other)}; delete it or choose another --root")
        return
    if (root / "cars_train").exists() or (root / "cars_val").exists():
        raise ValueError(f"{root} holds data that this program did not make; choose another --root")
    root.mkdir(parents=True, exist_ok=True)
    unfinished = root / ".parameters.json"
    unfinished.write_text(json.dumps(wanted, indent=2) + "\n")
    unfinished.replace(record)


def _tasks(root: Path, options: ShapesOptions) -> Iterator[tuple[Path, int]]:
    """(folder, object id) of every object."""
    from data.shapes import car_style

    for object_id in range(options.objects + options.val):
        split = "cars_train" if object_id < options.objects else "cars_val"
        yield root / split / f"{object_id:06d}_{car_style(object_id)}", object_id


def _write_all(pending: list[tuple[Path, int]], options: ShapesOptions, workers: int, progress: bool) -> None:
    from tqdm import tqdm

    with tqdm(total=len(pending), unit="car", disable=not progress or not pending) as bar:
        if workers == 1 or len(pending) < 2:
            for folder, object_id in pending:
                _write_object(folder, object_id, options)
                bar.update()
            return
        # A fresh interpreter for each worker: the caller may hold threads, which a fork would break.
        pool = ProcessPoolExecutor(
            min(workers, len(pending)),
            mp_context=get_context("spawn"),
            initializer=signal.signal,  # Ctrl-C is for the parent alone, which then stops the workers
            initargs=(signal.SIGINT, signal.SIG_IGN),
        )
        try:
            for job in [pool.submit(_write_object, *task, options) for task in pending]:
                job.result()
                bar.update()
        finally:
            pool.shutdown(cancel_futures=True)


def _write_object(folder: Path, object_id: int, options: ShapesOptions) -> None:
    """Render one car into a hidden sibling of `folder`, then give that its name."""
    import numpy as np
    from PIL import Image

    from data.meshes import render_meshes
    from data.shapes import car

    size = options.size
    poses = _poses(object_id, options)
    intrinsics = np.array([[FOCAL, 0, 0.5], [0, FOCAL, 0.5], [0, 0, 1]])
    pictures = render_meshes(car(object_id), poses, intrinsics=intrinsics, height=size, width=size)

    unfinished = folder.with_name(f".{folder.name}")
    shutil.rmtree(unfinished, ignore_errors=True)
    for kind in ("rgb", "pose", "depth", "alpha"):
        (unfinished / kind).mkdir(parents=True)
    focal, centre = FOCAL * size, size / 2
    lines = (f"{focal:.6f} {centre:.6f} {centre:.6f} 0.", "0. 0. 0.", "1.", f"{size} {size}")
    (unfinished / "intrinsics.txt").write_text("\n".join(lines) + "\n")
    for i, pose in enumerate(poses):
        depth = np.round(pictures.depth[i] * DEPTH_STEPS).astype(np.uint16)
        Image.fromarray(pictures.rgb[i]).save(unfinished / "rgb" / f"{i:06d}.png")
        Image.fromarray(pictures.alpha[i]).save(unfinished / "alpha" / f"{i:06d}.png")
        Image.fromarray(depth).save(unfinished / "depth" / f"{i:06d}.png")
        numbers = " ".join(f"{number:.9g}" for number in pose.ravel())
        (unfinished / "pose" / f"{i:06d}.txt").write_text(numbers + "\n")
    unfinished.replace(folder)


def _poses(object_id: int, options: ShapesOptions):
    """Camera-to-world matrices [v, 4, 4], uniform by area on a band of the sphere around the object."""
    import numpy as np

    from data.meshes import look_at_origin

    random = np.random.default_rng((options.seed, object_id))
    low, high = (math.sin(math.radians(elevation)) for elevation in ELEVATIONS_DEG)
    height = random.uniform(low, high, options.views)
    azimuth_rad = random.uniform(0, 2 * math.pi, options.views)
    radius = np.sqrt(1 - height**2)
    directions = np.stack([radius * np.cos(azimuth_rad), radius * np.sin(azimuth_rad), height], axis=1)
    return np.stack([look_at_origin(DISTANCE * direction) for direction in directions])


def _write_contact_sheet(root: Path) -> None:
    """One view each of up to 40 training cars, spread over all of them."""
    import numpy as np
    from PIL import Image

    folders = sorted(folder for folder in (root / "cars_train").iterdir() if not folder.name.startswith("."))
    chosen = np.linspace(0, len(folders) - 1, min(len(folders), SHEET_COLUMNS * SHEET_ROWS)).astype(int)
    pictures = [Image.open(folders[i] / "rgb" / "000000.png") for i in chosen]
    width, height = pictures[0].size
    columns = min(len(pictures), SHEET_COLUMNS)
    sheet = Image.new("RGB", (columns * width, math.ceil(len(pictures) / columns) * height), "white")
    for i, picture in enumerate(pictures):
        sheet.paste(picture, (i % columns * width, i // columns * height))
    unfinished = root / ".contact_sheet.png"
    sheet.save(unfinished)
    unfinished.replace(root / "contact_sheet.png")


if __name__ == "__main__":
    sys.exit(main())
