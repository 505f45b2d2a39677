"""Reports of a run: lines of the log, warnings and tracking."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager

import torch
from torch import Tensor

from config.run import RunConfig
from data.scenes.batch import SceneBatch
from models.base import NVSModel
from models.checkpoints.format import checkpoint_path
from models.training.distributed import Workers
from models.training.ema import EMA
from models.training.interruption import StopSignal
from models.training.meter import DamageCount, Meter, WeightStats
from models.training.run_directory import RunFolder
from models.training.sanity_checks import SanityChecks
from models.training.tracking import Tracker
from models.training.validation import HeldOut

Report = dict[str, float | int]


class Reporter:
    """Collects terms of the updates and writes their means to the log.

    All processes collect, and call `line` at the same steps; the main one writes. `warn` shows a warning;
    `tolerate_disk_errors` is the context of writes that the run can do without.
    """

    def __init__(
        self,
        config: RunConfig,
        model: NVSModel,
        ema: EMA,
        folder: RunFolder,
        workers: Workers,
        *,
        warn: Callable[[str], None],
        tolerate_disk_errors: Callable[[], AbstractContextManager[None]],
    ):
        self._config, self._model, self._ema = config, model, ema
        self._folder, self._workers = folder, workers
        self._warn, self._tolerate_disk_errors = warn, tolerate_disk_errors
        self._stats, self._checks = WeightStats(model, ema, workers.device), SanityChecks()
        self._meter = Meter(images=config.train.batch * workers.world * config.data.targets)
        self._damage = DamageCount(skip=config.data.damaged == "skip", say=warn)
        self._tracker: Tracker | None = None
        self._held_out: HeldOut | None = None
        self.pausing = self._meter.pausing  # context of work other than training

    def batches(self, batches: Iterable[SceneBatch]) -> Iterator[SceneBatch]:
        """Pass the batches through; waiting for them is timed, and damaged files are reported once."""
        return self._meter.timed(self._damage.named(batches))

    def watch(self, views: SceneBatch) -> None:
        """Set the held-out views of `preview`; damaged files are reported."""
        (views,) = self._damage.named([views])
        options, precision = self._config.sample, self._config.train.precision
        self._held_out = HeldOut(views, options, precision, self._workers.device)

    def preview(self, step: int, stop: StopSignal) -> dict[str, float]:
        """Save an image of the held-out views; returns its figures, none if a stop is requested."""
        path = self._folder.picture(step)
        with self.pausing():
            return self._held_out.save(self._model, self._ema, path, stop, self._tolerate_disk_errors)

    def open(self, step: int) -> str | None:
        """Open the run directory at `step` and start tracking; returns a notice about that, if any.

        Raises ValueError if the folder cannot be written.
        """
        self._folder.open(step)
        self._tracker = Tracker(self._config)
        return self._tracker.notice

    def add(self, step: int, terms: dict[str, Tensor]) -> None:
        """Collect terms of an update, without waiting for a GPU."""
        self._meter.add(step, terms)

    def forget(self, step: int) -> None:
        """Drop the terms of an abandoned update."""
        self._meter.forget(step)

    @property
    def empty(self) -> bool:
        """Whether nothing was collected since the last line."""
        return not self._meter.entries

    def line(self, step: int, progress: float, losses: Iterable[str], *, saved: int, lr: float) -> Report:
        """Means since the last line, over all processes, with times and weight norms.

        The terms named by `losses` add up to the loss. Raises ValueError naming the first term that is not
        finite and the last good checkpoint, of the step `saved` (0: none).
        """
        self._meter.add(step, self._stats.weights())
        try:
            means, times = self._meter.report()
        except ValueError as error:
            kept = checkpoint_path(self._folder.path, saved) if saved else "none yet"
            advice = f"lower {self._config.key('optim.lr')} or check the data"
            raise ValueError(f"{error}; last good checkpoint: {kept}; {advice}") from error
        means = self._workers.mean(means | {"data_wait": times.pop("data_wait")})
        damaged = self._damage.figures(self._workers.distinct)
        loss = sum(means[name] for name in losses)
        line = {"step": step, "loss": loss, **means, **times, **self._stats.memory(), "lr": lr}
        return line | self._config.data.scheduled(progress) | self._model.scheduled(progress) | damaged

    def write(self, line: Report) -> None:
        """Log and track a line, and print the warnings of its sanity checks."""
        with self._tolerate_disk_errors():
            self._folder.log(line)
        for warning in self._checks.update(line):
            self._warn(f"step {line['step']}: {warning}")
            with self._tolerate_disk_errors():
                self._folder.warn(line["step"], warning)
        self._tracker.log(line)

    def close(self) -> int:
        """Finish tracking; returns the number of damaged files that this process met."""
        if self._tracker:
            self._tracker.finish()
        return len(self._damage.problems)


def learning_rate(optimizer: torch.optim.Optimizer) -> float:
    """The learning rate of the first part of the model."""
    return optimizer.param_groups[0]["lr"]
