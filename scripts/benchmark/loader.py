"""Views read from the PNG folder of the embedded shapes, and the share of training that waits for them."""

import tempfile
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from data.batch import SceneBatch
from data.loader import SceneLoader
from data.objects import DataConfig
from data.sets import open_split
from models.meter import Meter
from scripts.benchmark.bench import Bench
from scripts.benchmark.clocks import finish
from scripts.benchmark.flavours import flavours
from scripts.benchmark.measure import Figure, Task, Variant, measure
from scripts.benchmark.step import update_of
from scripts.make_shapes import ShapesOptions, make_shapes

SECTION = "loader"
OBJECTS = {"full": 8, "small": 2}
VIEWS = {"full": 24, "small": 6}  # of an object
STEPS = {"full": 32, "small": 2}  # of a run: many, so that what lies ready at its beginning matters little
FED_STEPS = {"full": 4, "small": 2}  # training steps over which waiting is measured


def loader_figures(bench: Bench) -> list[Figure]:
    """Seconds a view: decoded each time in this process (plain), and as configured (ours)."""
    with tempfile.TemporaryDirectory() as folder:
        data = _shapes(Path(folder), bench)
        plain = data.model_copy(update={"workers": 0, "cache_mb": 0})
        variants = [_variant("plain", plain, bench), _variant("ours", data, bench)]
        figures = measure(Task(SECTION, "a view", variants), bench)
        for figure in figures:
            bench.remark(SECTION, f"{figure.variant}: {1 / figure.seconds:.0f} views a second.")
        if bench.wants("ours"):
            bench.remark(SECTION, _waiting(data, bench))
    kept = f"{data.workers} loading processes, up to {data.cache_mb} MB of decoded pictures kept"
    bench.remark(SECTION, f"Ours: {kept}; the memory of other processes is not counted.")
    return figures


def _shapes(folder: Path, bench: Bench) -> DataConfig:
    """A new data set. Every scene has as many sources as the config allows, so that views can be counted."""
    config = bench.config.data
    options = ShapesOptions(OBJECTS[bench.size], VIEWS[bench.size], config.image_size, val=0)
    make_shapes(folder / "shapes", options, workers=1, progress=False)
    most = config.sources[1]
    return config.model_copy(update={"root": str(folder / "shapes"), "sources": (most, most)})


def _batches(data: DataConfig, batch: int) -> Iterator[SceneBatch]:
    return SceneLoader(open_split(data, "train"), data, seed=0, batch=batch).batches()


def _variant(name: str, data: DataConfig, bench: Bench) -> Variant:
    scenes, steps = bench.config.train.batch, STEPS[bench.size]
    batches = _batches(data, scenes)

    def run() -> None:
        for _ in range(steps):
            next(batches)

    return Variant(name, run, count=steps * scenes * (data.sources[1] + data.targets))


def _waiting(data: DataConfig, bench: Bench) -> str:
    """The share of time that training steps of one scene spend waiting for the loader."""
    update = update_of(next(flavour for flavour in flavours(bench) if flavour.name == "ours"), bench)
    batches, meter = _batches(data, 1), Meter()

    def train(batch: SceneBatch) -> None:
        finish(lambda: update(batch.apply(lambda tensor: tensor.to(bench.device))), bench.device)

    train(next(batches))  # a warm-up
    meter.since = meter.clock()
    for batch in islice(meter.waiting_for(batches), FED_STEPS[bench.size]):
        train(batch)
    share = meter.waited / (meter.clock() - meter.since)
    steps = f"{FED_STEPS[bench.size]} training steps of one scene"
    return f"Of the time of {steps}, {share:.1%} went by waiting for the loader."
