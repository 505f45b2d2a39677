"""Preflight check: three updates, a preview and a checkpoint of every run, before the first of them starts.

It finds errors that would otherwise end a run after hours, and measures what the runs will cost.
"""

import gc
import io
import json
import shutil
import statistics
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stderr, suppress
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import safe_open

from config.documents import merge
from config.families import family
from config.run import RunConfig, validate_config
from models.checkpoints.format import checkpoints_of
from models.device import out_of_memory
from models.training.distributed import Workers
from models.training.memory import peak_extra_bytes

FOLDER = ".preflight_{}"  # beside the runs, with the name of the first; deleted afterwards
STEPS = 3  # the first includes one-time costs
Train = Callable[[RunConfig], None]
Say = Callable[[str], object]


@dataclass(frozen=True)
class Cost:
    """The cost of a run, estimated from its first steps."""

    config: RunConfig
    trained: dict[str, int]  # parameters that learn, by part of the model
    seconds: float  # of an update
    peak_bytes: int | None  # peak memory of this process; None if the system does not report it
    checkpoint_bytes: int

    @property
    def total_seconds(self) -> float:
        """Time of all updates, without previews and checkpoints."""
        return self.config.train.steps * self.seconds


def preflight(
    runs: Sequence[RunConfig], train: Train, workers: Workers, say: Say = lambda line: None
) -> Iterator[Cost | None]:
    """Train every run for three steps with `train`, and yield its cost (None except on the main process).

    A run that will start from the weights of an earlier one starts from those of its trial. Progress is
    passed to `say`, line by line; all files are deleted. Raises a one-line ValueError for whatever would have
    stopped the real run; if memory does not suffice, it names a batch that fits.
    """
    tried: dict[str, str] = {}
    with _folder(runs[0], workers) as folder:
        for number, run in enumerate(runs, start=1):
            say(f"stage {number} of {len(runs)}: {_trial(run)}" if run.recipe else _trial(run))
            small = _shortened(run, folder, transfer=tried.get(run.transfer or "", run.transfer))
            try:
                with redirect_stderr(io.StringIO()):  # it is printed when the run itself starts
                    peak = peak_extra_bytes(lambda small=small: train(small), workers.device)
                short = False
            except ValueError as error:
                raise ValueError(f"{run.name}: {error}" if run.recipe else str(error)) from error
            except (RuntimeError, MemoryError) as error:
                if not out_of_memory(error):
                    raise
                short = True
            if short:  # after the handler, since the error keeps memory alive
                raise ValueError(_advice(run, small, train, workers, say))
            tried[str(run.folder)] = str(small.folder)
            workers.barrier()  # until the main process has written everything
            yield _cost(run, small, peak) if workers.is_main else None
        workers.barrier()  # until no other process reads what is deleted now


@contextmanager
def _folder(run: RunConfig, workers: Workers) -> Iterator[Path]:
    """Context with a folder for trials, on the disk of the real runs."""
    folder = Path(run.runs) / FOLDER.format(run.name)
    new = [parent for parent in folder.parents if not parent.exists()]
    try:
        if workers.is_main:
            shutil.rmtree(folder, ignore_errors=True)  # of an interrupted trial
        workers.barrier()
        yield folder
    finally:
        if workers.is_main:
            shutil.rmtree(folder, ignore_errors=True)
            for parent in new:
                with suppress(OSError):  # not empty
                    parent.rmdir()


def _trial(run: RunConfig) -> str:
    """Describe the trial of a run."""
    previews = f", {run.train.previews} previews" if run.train.preview_every else ""
    scenes = f"{scenes_of_update(run)} scenes of {run.data.image_size} pixels"
    return f"trying {STEPS} updates of {scenes}{previews} and a checkpoint of {run.name}"


def _shortened(run: RunConfig, folder: Path, *, transfer: str | None, batch: int | None = None) -> RunConfig:
    """Shorten a run to three steps with its largest number of source views, optionally with another batch."""
    train = {"steps": STEPS, "log_every": 1, "save_every": STEPS, "wandb": "off", "keep": 1}
    train |= {"preview_every": STEPS if run.train.preview_every else 0, "batch": batch or run.train.batch}
    data = {"sources": list(run.data.largest_sources)}
    changes = {"runs": str(folder), "transfer": transfer, "data": data, "train": train}
    return validate_config(merge(run.model_dump(mode="json"), changes), run.name)


def _cost(run: RunConfig, small: RunConfig, peak: int | None) -> Cost:
    """Read the cost of a run from the files of its trial."""
    lines = [json.loads(line) for line in (small.folder / "log.jsonl").read_text("utf-8").splitlines()]
    checkpoint = checkpoints_of(small.folder)[-1]
    trained: Counter[str] = Counter()
    with safe_open(checkpoint, framework="pt") as file:
        for name in file.keys():  # noqa: SIM118 (no dict)
            if name.startswith("optim.") and name.endswith(".exp_avg"):
                trained[name.split(".")[1]] += torch.Size(file.get_slice(name).get_shape()).numel()
    seconds = statistics.median(line["seconds"] for line in lines[1:])
    return Cost(run, dict(trained), seconds, peak, checkpoint.stat().st_size)


def _advice(run: RunConfig, small: RunConfig, train: Train, workers: Workers, say: Say) -> str:
    """Advise on an out-of-memory error: the largest batch that fits and makes the same updates."""
    batch, scenes = run.train.batch, run.train.batch * run.train.accumulate
    said = f"{run.name}: out of memory with train.batch={batch} at data.image_size={run.data.image_size}"

    def instead(divisor: int) -> str:
        return f"{run.key('train.batch')}={divisor} {run.key('train.accumulate')}={scenes // divisor}"

    smaller = [divisor for divisor in range(batch - 1, 0, -1) if scenes % divisor == 0]
    if smaller and workers.world > 1:  # ranks would have to fail together, so nothing is tried
        return f"{said}; try {instead(smaller[0])}: the same updates"
    for divisor in smaller:
        say(f"{run.name}: out of memory; trying train.batch={divisor}")
        gc.collect()
        torch.cuda.empty_cache()
        shutil.rmtree(small.folder, ignore_errors=True)
        if _fits(_shortened(run, Path(small.runs), transfer=small.transfer, batch=divisor), train):
            return f"{said}; {instead(divisor)} fits and makes the same updates"
    settings = family(run.model.family).resource_settings
    twice = " ".join(f"{key}=true" for key in settings if key.endswith(".checkpointing"))
    return (
        f"{said}{', and with train.batch=1' if smaller else ''}; compute parts twice ({twice}), or lower "
        "train.previews or data.image_size"
    )


def _fits(small: RunConfig, train: Train) -> bool:
    try:
        with redirect_stderr(io.StringIO()):
            train(small)
    except (RuntimeError, MemoryError) as error:
        if not out_of_memory(error):
            raise
        return False
    return True


def scenes_of_update(run: RunConfig) -> str:
    """The scenes of an update of one process, such as "8" or "4 x 2" with accumulation."""
    passes = f" x {run.train.accumulate}" if run.train.accumulate > 1 else ""
    return f"{run.train.batch}{passes}"
