"""Views a second from a PNG folder and from the same set packed, and the share of training that waits.

Three ways to get a view as training wants it, a float image with its camera: decoded from a PNG file each
time (plain), taken from decoded pictures of which not one is missing (cached: the most that memory can gain),
and read from a packed set (packed). Nothing else is kept between reads, so the number of runs changes no
figure. All files lie in the system's memory, so no disk is measured.
"""

import random
import tempfile
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import islice
from multiprocessing import get_context
from pathlib import Path

import torch

from data.config import DataConfig
from data.formats.registry import open_split
from data.scenes.batch import SceneBatch
from data.scenes.loader import SceneLoader
from data.scenes.objects import Objects
from models.training.meter import Meter
from scripts.benchmark.cases.step import update_of
from scripts.benchmark.context import Bench, model_variants
from scripts.benchmark.machine import Run, finish
from scripts.benchmark.measure import Figure, Task, Variant, measure
from scripts.common.shapes_set import ShapesOptions, make_shapes
from scripts.packing.plan import PackOptions, pack_splits
from scripts.packing.sources import open_sources

SECTION = "loader"
OBJECTS = {"full": 16, "small": 2}
VIEWS = {"full": 50, "small": 6}  # of an object
SCENES = {"full": 128, "small": 4}  # of a run and a process
SCENE_VIEWS = 4
NUM_PROCESSES = 2  # that read concurrently, without batches
STEPS = {"full": 64, "small": 2}  # of a run: many, so that what lies ready at its beginning matters little
FED_STEPS = {"full": 4, "small": 2}  # training steps over which waiting is measured


@dataclass(frozen=True)
class Source:
    """A way to get views."""

    name: str
    data: DataConfig
    kept: bool = False  # whether all pictures are decoded before anything is measured


def loader_figures(bench: Bench) -> list[Figure]:
    """Seconds per stored image and per view: read in this process, in two processes, and in batches."""
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        sources = _sources(Path(folder), bench)
        stored = [_stored(source, bench) for source in sources if not source.kept]
        figures = measure(Task(SECTION, "a picture as stored", stored), bench)
        reading = [_reading(source, bench) for source in sources]
        figures += measure(Task(SECTION, "a view", reading), bench)
        reading = [_reading_at_once(source, bench, stack) for source in sources if bench.wants(source.name)]
        figures += measure(Task(SECTION, f"a view, {NUM_PROCESSES} processes at once", reading), bench)
        for workers in dict.fromkeys((0, bench.config.data.workers)):
            loading = [_loading(source, workers, bench) for source in sources if not source.kept]
            task = f"a view in batches, {workers or 'no'} loading processes"
            figures += measure(Task(SECTION, task, loading), bench)
        _compare(figures, bench)
        if bench.wants("packed") and bench.wants("ours"):
            bench.remark(SECTION, _waiting(sources[-1].data, bench))
    bench.remark(SECTION, "The memory of other processes is not counted.")
    return figures


def _sources(folder: Path, bench: Bench) -> list[Source]:
    """The configured data settings, with procedural cars for pictures, as they are and packed."""
    size, data = bench.size, bench.config.data
    options = ShapesOptions(objects=OBJECTS[size], views=VIEWS[size], size=data.image_size, val=0)
    make_shapes(folder / "shapes", options, progress=False)
    pack_splits(open_sources(folder / "shapes", "auto", ["train"]), PackOptions(folder / "packed", workers=1))
    most = data.largest_sources[1]
    png = data.model_copy(update={"root": str(folder / "shapes"), "sources": (most, most), "cache_mb": 0})
    kept = png.model_copy(update={"cache_mb": 2**16})
    packed = png.model_copy(update={"root": str(folder / "packed")})
    return [Source("plain", png), Source("cached", kept, kept=True), Source("packed", packed)]


def _open(source: Source) -> Objects:
    # Only one process reads them, so it owns all the memory.
    objects = open_split(source.data.model_copy(update={"workers": 0}), "train")
    for index in range(len(objects)):
        objects.read(index, range(objects.num_views(index)) if source.kept else [0])
    return objects


def _read(objects: Objects, scenes: int, draw: random.Random) -> None:
    """Random views of random objects."""
    for _ in range(scenes):
        index = draw.randrange(len(objects))
        objects.read(index, draw.sample(range(objects.num_views(index)), SCENE_VIEWS))


def _stored(source: Source, bench: Bench) -> Variant:
    raw, count, draw = _open(source).raw, SCENES[bench.size] * SCENE_VIEWS, random.Random(0)

    def run() -> None:
        for _ in range(count):
            index = draw.randrange(len(raw))
            raw.picture(
                index, draw.randrange(raw.num_views(index))
            ).clone()  # otherwise no byte of it would be read

    return Variant(source.name, run, count=count)


def _reading(source: Source, bench: Bench) -> Variant:
    objects, scenes, draw = _open(source), SCENES[bench.size], random.Random(0)
    return Variant(source.name, lambda: _read(objects, scenes, draw), count=scenes * SCENE_VIEWS)


_opened: list[tuple[Objects, random.Random]] = []  # of a reading process


def _start(source: Source, seed: int) -> None:
    torch.set_num_threads(1)
    _opened[:] = [(_open(source), random.Random(seed))]


def _read_here(scenes: int) -> None:
    objects, draw = _opened[0]
    _read(objects, scenes, draw)


def _reading_at_once(source: Source, bench: Bench, stack: ExitStack) -> Variant:
    # A pool for each process: of one for all, a process could be given everybody's work.
    pools = [
        stack.enter_context(ProcessPoolExecutor(1, get_context(), _start, (source, seed)))
        for seed in range(NUM_PROCESSES)
    ]
    scenes = SCENES[bench.size]

    def run() -> None:
        for job in [pool.submit(_read_here, scenes) for pool in pools]:
            job.result()

    return Variant(source.name, run, count=NUM_PROCESSES * scenes * SCENE_VIEWS)


def _loading(source: Source, workers: int, bench: Bench) -> Variant:
    scenes, steps = bench.config.train.batch, STEPS[bench.size]
    data = source.data.model_copy(update={"workers": workers})
    batches = _batches(data, scenes)
    run: Run = lambda: list(islice(batches, steps))  # noqa: E731
    return Variant(source.name, run, count=steps * scenes * (data.largest_sources[1] + data.targets))


def _batches(data: DataConfig, batch: int) -> Iterator[SceneBatch]:
    return SceneLoader(open_split(data, "train"), data, seed=0, batch=batch).batches()


def _compare(figures: list[Figure], bench: Bench) -> None:
    plain = {figure.task: figure.seconds for figure in figures if figure.variant == "plain"}
    for figure in figures:
        text = f"{figure.task}, {figure.variant}: {1 / figure.seconds:.0f} views a second"
        if figure.variant != "plain" and figure.task in plain:
            text += f", {plain[figure.task] / figure.seconds:.1f} times plain"
        bench.remark(SECTION, f"{text}.")


def _waiting(data: DataConfig, bench: Bench) -> str:
    """The share of time that training steps of one scene spend waiting for the loader."""
    update = update_of(next(variant for variant in model_variants(bench) if variant.name == "ours"), bench)
    batches, meter = _batches(data, 1), Meter()

    def train(batch: SceneBatch) -> None:
        finish(lambda: update(batch.apply(lambda tensor: tensor.to(bench.device))), bench.device)

    train(next(batches))  # a warm-up
    meter.since = meter.clock()
    for batch in islice(meter.timed(batches), FED_STEPS[bench.size]):
        train(batch)
    share = meter.waited / (meter.clock() - meter.since)
    steps = f"{FED_STEPS[bench.size]} training steps of one scene"
    return f"Of the time of {steps} on the packed set, {share:.1%} went by waiting for the loader."
