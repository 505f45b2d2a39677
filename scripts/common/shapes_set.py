"""The embedded data set of procedural cars, written or completed in the SRN layout."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from data.formats.srn.writer import claim_root, write_contact_sheet
from scripts.common.process_pool import available_cores

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


def _tasks(root: Path, options: ShapesOptions) -> Iterator[tuple[Path, int]]:
    """(folder, object id) of every object."""
    from data.shapes.cars import car_style

    for object_id in range(options.objects + options.val):
        split = "cars_train" if object_id < options.objects else "cars_val"
        yield root / split / f"{object_id:06d}_{car_style(object_id)}", object_id


def _write_all(pending: list[tuple[Path, int]], options: ShapesOptions, workers: int, progress: bool) -> None:
    from scripts.common.process_pool import run_each
    from scripts.common.progress import progress_bar

    tasks = [(*task, options) for task in pending]
    alone = workers == 1 or len(tasks) < 2
    with progress_bar(total=len(tasks), unit="car", disable=not progress or not tasks) as bar:
        for _, result in run_each(_write_car, tasks, workers=0 if alone else workers):
            if isinstance(result, Exception):
                raise result
            bar.update()


def _write_car(folder: Path, object_id: int, options: ShapesOptions) -> None:
    import numpy as np

    from data.formats.srn.writer import INTRINSICS, write_object
    from data.meshes.datasets.camera_poses import random_poses
    from data.meshes.ray_casting import render_views
    from data.shapes.cars import car

    poses = random_poses(options.views, "band", np.random.default_rng((options.seed, object_id)))
    size = options.size
    pictures = render_views(car(object_id), poses, intrinsics=INTRINSICS, height=size, width=size)
    write_object(folder, pictures, poses)
