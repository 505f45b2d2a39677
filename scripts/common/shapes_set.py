"""Write the embedded data set of procedural cars in the layout of SRN or NMR."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal, get_args

from data.formats.srn.writer import claim_root, write_contact_sheet
from scripts.common.process_pool import available_cores

Layout = Literal["srn", "nmr"]
CATEGORY, CATEGORY_NAME = "02958343", "car,auto,automobile,machine,motorcar"  # ShapeNet's
NMR_VIEWS = 24
RECIPE = 1  # version of the cars and their renderings, so that different ones never mix


@dataclass(frozen=True)
class ShapesOptions:
    """The options that determine the data set; counts, and `size` in pixels."""

    objects: int = 200
    views: int = 24
    size: int = 64
    val: int = 20
    seed: int = 0
    recipe: int = RECIPE
    layout: Layout = "srn"
    first: int = 0  # number of the first car; a number determines a car

    def __post_init__(self):
        if self.layout not in get_args(Layout):
            raise ValueError(f"layout is {self.layout}; give one of {', '.join(get_args(Layout))}")
        if self.layout == "nmr" and self.views != NMR_VIEWS:
            raise ValueError(f"views is {self.views}; the layout nmr has {NMR_VIEWS} views of every object")
        least = {"objects": 1, "views": 1, "size": 8, "val": 0, "seed": 0, "first": 0}
        for name, minimum in least.items():
            if getattr(self, name) < minimum:
                raise ValueError(f"{name} is {getattr(self, name)}; give {minimum} or more")

    @property
    def record(self) -> dict[str, object]:
        """The parameters that identify a set; None for the default of an option that older sets lack."""
        later = {"layout": "srn", "first": 0}
        return asdict(self) | {name: None for name, usual in later.items() if getattr(self, name) == usual}


def make_shapes(
    root: Path, options: ShapesOptions, *, workers: int | None = None, progress: bool = True
) -> None:
    """Write the data set to `root`, or complete it, with `workers` processes (default: one per core).

    Raises ValueError if `root` contains another data set.
    """
    root = Path(root)
    if workers is not None and workers < 1:
        raise ValueError(f"workers is {workers}; give 1 or more")
    claim_root(root, options.record, option="--root")
    workers = workers or available_cores()
    pending = [task for task in _tasks(root, options) if not task[0].is_dir()]
    _write_all(pending, options, workers, progress)
    if options.layout == "nmr":
        from data.formats.nmr.writer import write_lists

        write_lists(root, CATEGORY, CATEGORY_NAME, _splits(options))
    first, picture = (
        ("cars_train", "rgb/000000.png") if options.layout == "srn" else (CATEGORY, "image/0000.png")
    )
    if pending or not (root / "contact_sheet.png").exists():
        write_contact_sheet(root / "contact_sheet.png", root / first, picture=picture)


def _splits(options: ShapesOptions) -> dict[str, list[str]]:
    """Names of the objects of each split; in the layout nmr, as many again as in val are for the test."""
    from data.shapes.cars import car_style

    counts = {"train": options.objects, "val": options.val}
    if options.layout == "nmr":
        counts["test"] = options.val
    names, begin = {}, options.first
    for split, count in counts.items():
        numbers = range(begin, begin + count)
        names[split] = [f"{object_id:06d}_{car_style(object_id)}" for object_id in numbers]
        begin += count
    return names


def _tasks(root: Path, options: ShapesOptions) -> Iterator[tuple[Path, int]]:
    """(folder, object id) of every object."""
    object_id = options.first
    for split, names in _splits(options).items():
        folder = root / (f"cars_{split}" if options.layout == "srn" else CATEGORY)
        for name in names:
            yield folder / name, object_id
            object_id += 1


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

    from data.formats.nmr.writer import ELEVATION_RAD, write_nmr_object
    from data.formats.srn.writer import INTRINSICS, write_object
    from data.meshes.datasets.camera_poses import even_turn, random_poses
    from data.meshes.ray_casting import render_views
    from data.shapes.cars import car

    if options.layout == "nmr":
        poses = even_turn(options.views, ELEVATION_RAD)
    else:
        poses = random_poses(options.views, "band", np.random.default_rng((options.seed, object_id)))
    size = options.size
    pictures = render_views(car(object_id), poses, intrinsics=INTRINSICS, height=size, width=size)
    if options.layout == "nmr":
        write_nmr_object(folder, pictures, poses, INTRINSICS)
    else:
        write_object(folder, pictures, poses)
