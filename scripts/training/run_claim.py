"""Allow only one training process per run."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import wraps
from typing import TYPE_CHECKING

from scripts.training.messages import warn

if TYPE_CHECKING:  # heavy imports happen where they are used, so that --help answers at once
    from config.run import RunConfig
    from models.training.distributed import Workers
    from models.training.interruption import StopSignal


def in_a_run_of_its_own(train: Callable[..., int]) -> Callable[..., int]:
    """Decorate `train(config, stop, workers)` so that it holds the lock of its run."""

    @wraps(train)
    def held(config: "RunConfig", stop: "StopSignal", workers: "Workers | None" = None) -> int:
        with held_run(config, workers):
            return train(config, stop, workers)

    return held


def held_run(
    config: "RunConfig", workers: "Workers | None" = None, *, warned: bool = True
) -> AbstractContextManager[None]:
    """Context in which no other process trains the run; of several `workers`, the main one holds the lock.

    `warned`: warn if the file system has no locks. Raises ValueError if another process trains the run.
    """
    from scripts.training.run_lock import hold_run

    if workers is not None and not workers.is_main:
        return nullcontext()
    return hold_run(config.folder, lambda line: warn(line, workers) if warned else None)
