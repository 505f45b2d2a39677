"""Train the runs of a command line in order: a single one, or the stages of a recipe."""

import argparse
import sys
from collections.abc import Callable
from contextlib import ExitStack
from typing import TYPE_CHECKING

from scripts.training.compilation import keep_compiled
from scripts.training.run_claim import held_run

if TYPE_CHECKING:  # heavy imports happen where they are used, so that --help answers at once
    from config.run import RunConfig
    from models.training.distributed import Workers
    from models.training.interruption import StopSignal

    Train = Callable[[RunConfig, StopSignal, Workers], int]  # trains one run; returns its updates


def stages_of(arguments: argparse.Namespace) -> list["RunConfig"]:
    """The runs of the command line, in order. Raises ValueError if the config is wrong."""
    from config.recipe import load_stages

    return load_stages(arguments.config, arguments.changes, only=arguments.stage)


def run_stages(
    stages: list["RunConfig"], train: "Train", stop: "StopSignal", workers: "Workers", *, plan: bool
) -> None:
    """Train the unfinished stages; for a `plan`, only measure the cost of all stages.

    Raises ValueError or OSError as `train` does.
    """
    from config.recipe import require_start, write_list
    from models.checkpoints.format import last_step

    # What is left to do.
    done = [stage for stage in stages[:-1] if (last_step(stage.folder) or 0) >= stage.train.steps]
    left = [stage for stage in stages if stage not in done]
    unstarted = [stage for stage in left if last_step(stage.folder) is None]
    wanted = any(stage.train.preflight for stage in unstarted)  # all or none: each starts from the one before
    keep_compiled(stages)
    if unstarted[:1] == left[:1]:
        require_start(left[0])

    with ExitStack() as claim:
        # The trial; the claim comes first, so that a second start is refused at once.
        if not plan:
            claim.enter_context(held_run(left[0], workers, warned=False))
        if not try_out(stages if plan else unstarted if wanted else [], train, stop, workers):
            if workers.is_main:
                print("train.py: stopped before the first step", file=sys.stderr)
            return
        if plan:
            return

        # The runs.
        if workers.is_main:
            for stage in done:
                print(f"{stage.name}: done", file=sys.stderr)
            if len(stages) > 1:
                write_list(stages)
        for stage in left:
            if train(stage, stop, workers) < stage.train.steps:
                break
            claim.close()  # every stage holds its own folder while it trains
            workers.barrier()  # the next stage starts from the weights that the main process has saved


def try_out(stages: list["RunConfig"], train: "Train", stop: "StopSignal", workers: "Workers") -> bool:
    """Try the first steps of every stage and print the cost; returns False if a stop was requested.

    Raises ValueError if a stage cannot be trained.
    """
    from models.training.interruption import StopRequested
    from models.training.preflight import preflight
    from scripts.training.plan_table import lacks_room, plan

    def attempt(stage: "RunConfig") -> None:
        train(stage, stop, workers)
        if workers.any(stop.requested):
            raise StopRequested

    def say(line: str) -> None:
        if workers.is_main:
            print(line, file=sys.stderr)

    if not stages:
        return True
    try:
        costs = list(preflight(stages, attempt, workers, say))
    except StopRequested:
        return False
    if workers.is_main:
        print("\n".join(filter(None, (plan(costs), lacks_room(costs)))), file=sys.stderr)
    return True
