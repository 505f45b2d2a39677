"""Train a model of novel views: python train.py CONFIG.json [key=value ...]

One process trains on one device; for several, `--processes N` on one machine, and torchrun on more
(docs/several_gpus.md). The same command resumes.
"""

import argparse
import os
import sys
from contextlib import ExitStack, suppress
from typing import TYPE_CHECKING

from scripts.training.arguments import make_parser
from scripts.training.compilation import compile_model, keep_compiled
from scripts.training.messages import forgiving, tell, warn
from scripts.training.processes import ANOTHER_ENDED, fail, is_one_of_several, joined, launch_processes
from scripts.training.run_claim import held_run, in_a_run_of_its_own

if TYPE_CHECKING:  # heavy imports happen where they are used, so that --help answers at once
    from pathlib import Path

    from config.run import RunConfig
    from models.base import NVSModel
    from models.training.distributed import Workers
    from models.training.ema import EMA
    from models.training.interruption import StopSignal
    from models.training.validation import HeldOut


def main(argv: list[str] | None = None) -> int:
    """Parse the command line and train; user errors become one line and exit code 2."""
    arguments = make_parser().parse_intermixed_args(argv)
    if arguments.processes != 1 or arguments.restarts:
        return launch_processes(__file__, argv, lambda: [stage.folder for stage in stages_of(arguments)])
    from models.training.interruption import StopRequested, StopSignal

    with StopSignal(launched="TORCHELASTIC_RUN_ID" in os.environ) as stop:
        try:
            with stop.at_once(not is_one_of_several()):
                from data.scenes.batch_transfer import lost_process
                from models.device import out_of_memory
                from models.training.peer_monitor import LostRankError

                stages = stages_of(arguments)
                with joined(stages[0].train.device, stop) as workers:
                    run(stages, stop, workers, plan=arguments.plan)
        except StopRequested:
            print("train.py: stopped; there was nothing to save", file=sys.stderr)
        except LostRankError:
            return fail(ANOTHER_ENDED, code=1, first=False)
        except (ValueError, OSError) as error:
            return fail(str(error))
        except (RuntimeError, MemoryError) as error:
            if line := lost_process(error):
                return fail(line)
            if not out_of_memory(error):
                raise
            advice = "lower train.batch and raise train.accumulate, which makes the same updates"
            return fail(f"out of memory; {advice}; of a recipe, those of the stage: stages.NAME.train.batch")
    return 0


def stages_of(arguments: argparse.Namespace) -> list["RunConfig"]:
    """The runs that the command line asks for, in order. Raises ValueError where the config is wrong."""
    from config.recipe import load_stages

    return load_stages(arguments.config, arguments.changes, only=arguments.stage)


def run(stages: list["RunConfig"], stop: "StopSignal", workers: "Workers", *, plan: bool) -> None:
    """Train one run, or the stages of a recipe that are not done yet; or find out what it costs (`plan`).

    Raises ValueError or OSError as `train` does.
    """
    from config.recipe import require_start, write_list
    from models.checkpoints.format import last_step
    from models.training.interruption import StopRequested

    done = [stage for stage in stages[:-1] if (last_step(stage.folder) or 0) >= stage.train.steps]
    left = [stage for stage in stages if stage not in done]
    fresh = [stage for stage in left if last_step(stage.folder) is None]
    wanted = any(stage.train.preflight for stage in fresh)  # all or none: each begins with the one before
    keep_compiled(stages)
    if fresh[:1] == left[:1]:
        require_start(left[0])
    with ExitStack() as claim:
        if not plan:  # before the trial, so that a second start is refused at once
            claim.enter_context(held_run(left[0], workers, warned=False))
        try:
            try_out(stages if plan else fresh if wanted else [], stop, workers)
        except StopRequested:
            if workers.first:
                print("train.py: stopped before the first step", file=sys.stderr)
            return
        if plan:
            return
        if workers.first:
            for stage in done:
                print(f"{stage.name}: done", file=sys.stderr)
            if len(stages) > 1:
                write_list(stages)
        for stage in left:
            if train(stage, stop, workers) < stage.train.steps:
                break
            claim.close()  # every stage holds its own folder while it trains
            workers.meet()  # the next stage begins with the weights that the first process has saved


def try_out(stages: list["RunConfig"], stop: "StopSignal", workers: "Workers") -> None:
    """Try the first steps of every stage, and say what all will cost.

    Raises ValueError where a stage could not be trained, and StopRequested where that is asked for.
    """
    from models.training.interruption import StopRequested
    from models.training.preflight import lacks_room, plan, preflight

    def attempt(stage: "RunConfig") -> None:
        train(stage, stop, workers)
        if workers.any(stop.requested):
            raise StopRequested

    def say(line: str) -> None:
        if workers.first:
            print(line, file=sys.stderr)

    if not stages:
        return
    costs = list(preflight(stages, attempt, workers, say))
    if workers.first:
        print("\n".join(filter(None, (plan(costs), lacks_room(costs)))), file=sys.stderr)


@in_a_run_of_its_own
def train(config: "RunConfig", stop: "StopSignal", workers: "Workers | None" = None) -> int:
    """Train from the newest checkpoint of the run, or from its beginning, to `config.train.steps`.

    Returns the updates made by the end, which are fewer where a stop was asked for.
    `workers` are the processes that train together; None: this one alone. Raises ValueError or OSError, in
    one line for the user, where input is bad or the loss is not finite.
    """
    import torch

    from config.families import family
    from data.formats.registry import open_split
    from data.scenes.loader import SceneLoader, held_out
    from models.checkpoints.format import checkpoint_path
    from models.device import autocast, place
    from models.training.distributed import exchange, join_workers, reseed
    from models.training.ema import EMA
    from models.training.interruption import StopRequested
    from models.training.meter import DamageCount, Meter, Watch
    from models.training.optimizer import (
        clip_gradients,
        make_optimizer,
        set_learning_rate,
        trained_parameters,
    )
    from models.training.run_directory import RunFolder
    from models.training.sanity_checks import Alarm
    from models.training.tracking import Tracker
    from models.training.validation import HeldOut
    from scripts.common.progress import progress_bar

    workers = workers or join_workers(config.train.device, {})
    objects = open_split(config.data, "train", cameras=False)
    held_out_objects = open_split(config.data, "val", cameras=False) if config.train.preview_every else None
    rank, world, accumulate, scenes = workers.rank, workers.world, config.train.accumulate, config.train.batch
    share = {"batch": scenes, "rank": rank, "world": world, "total": config.train.steps * accumulate}
    loader = SceneLoader(objects, config.data, seed=config.seed, **share)
    torch.manual_seed(config.seed)
    folder = RunFolder(config)
    model = place(family(config.model.family)(config.model, init_weights=not folder.started), workers.device)
    loader.requires = model.requires
    objects.require(model.requires)
    optimizer, ema = make_optimizer(model, config.optim), EMA(model, config.optim.ema)
    trained, watch, alarm = trained_parameters(model), Watch(model, ema, workers.device), Alarm()
    step, message = folder.start(model, ema, optimizer)
    damage = DamageCount(skip=config.data.damaged == "skip", say=lambda line: warn(line, workers))
    if held_out_objects and workers.first:
        (views,) = damage.named([held_out(held_out_objects, config.train.previews)])
        watched = HeldOut(views, config.sample, config.train.precision, workers.device)
    if config.train.compile:
        compile_model(model, workers)
    meter = Meter(images=scenes * world * config.data.targets)
    parallel, saved, leave = workers.wrap(model), step, False
    batches = meter.waiting_for(damage.named(loader.batches(step * accumulate)))
    if workers.first:  # nothing is refused from here on, so that there is no folder without a run
        folder.open(step)
        tracker = Tracker(config)
        known = () if held_out_objects is None else held_out_objects.notices
        tell((*objects.notices, *known), "train.py")
        for line in filter(None, (*model.notices, message, tracker.notice)):
            print(line, file=sys.stderr)
        if held_out_objects and step == 0:
            with meter.pausing():
                draw_preview(watched, model, ema, folder.picture(step), stop)
    shown = {"total": config.train.steps, "initial": step, "desc": config.name, "unit": "step"}
    with stop.later(), progress_bar(**shown, disable=not workers.first) as bar:
        while step < config.train.steps and not leave:
            progress = step / config.train.steps
            try:
                for part in range(accumulate):
                    if workers.any(stop.requested):
                        raise StopRequested
                    with stop.at_once(workers.alone):
                        reseed(config.seed, rank, step * accumulate + part)
                        batch = next(batches).apply(
                            lambda tensor: tensor.to(workers.device, non_blocking=True)
                        )
                        sync = exchange(parallel, gradients=part == accumulate - 1)
                        with sync, autocast(config.train.precision, workers.device):
                            losses = parallel(batch, progress)
                        (sum(losses.values()) / accumulate).backward()
                    # Without the graph, whose memory the next pass needs.
                    losses = {name: loss.detach() for name, loss in losses.items()}
                    meter.add(step + 1, losses)
            except StopRequested as request:
                # Held until all is saved: loading processes end with it, and that may take a while.
                leave, held = True, request
                meter.forget(step + 1)
            else:
                meter.add(step + 1, clip_gradients(trained, config.optim.clip))
                set_learning_rate(optimizer, config.optim, step, progress)
                optimizer.step()
                optimizer.zero_grad(set_to_none=True)
                step += 1
                ema.update(model, step)
                bar.update()

            due = step % config.train.save_every == 0 or step == config.train.steps
            save = step > saved and (due or leave)
            preview = not leave and config.train.preview_every and step % config.train.preview_every == 0
            if meter.entries and (save or preview or step % config.train.log_every == 0):
                meter.add(step, watch.weights())
                try:
                    means, times = meter.report()
                except ValueError as error:
                    kept = checkpoint_path(folder.path, saved) if saved else "none yet"
                    advice = f"lower {config.key('optim.lr')} or check the data"
                    raise ValueError(f"{error}; last good checkpoint: {kept}; {advice}") from error
                means = workers.mean(means | {"data_wait": times.pop("data_wait")})
                damaged = damage.figures(workers.distinct)
                if workers.first:
                    loss, lr = sum(means[name] for name in losses), optimizer.param_groups[0]["lr"]
                    report = {"step": step, "loss": loss, **means, **times, **watch.memory(), "lr": lr}
                    report |= config.data.scheduled(progress) | model.scheduled(progress) | damaged
                    if preview:
                        with meter.pausing():
                            report |= draw_preview(watched, model, ema, folder.picture(step), stop)
                    with forgiving():
                        folder.log(report)
                    for warning in alarm.hear(report):
                        warn(f"step {step}: {warning}")
                        with forgiving():
                            folder.warn(step, warning)
                    tracker.log(report)
                    bar.set_postfix({name: f"{report[name]:.4f}" for name in ("loss", *losses, "data_wait")})
            if save:
                # The next time there may be room again; after the last one there is no next.
                with forgiving(not leave and step < config.train.steps), meter.pausing():
                    if workers.first:
                        folder.save(model, ema, optimizer, step)
                    saved = step
    held = None  # noqa: F841 (lets it go)
    if workers.first:
        tracker.finish()
        outcome = "stopped" if step < config.train.steps else "done"
        print(f"{outcome} at step {step}: {folder.path}", file=sys.stderr)
    if damage.problems:
        advice = f"`python -m scripts.check_data {config.data.root}` finds all of them"
        warn(f"damaged files met and named above: {len(damage.problems)}; {advice}", workers)
    return step


def draw_preview(
    watched: "HeldOut", model: "NVSModel", ema: "EMA", path: "Path", stop: "StopSignal"
) -> dict[str, float]:
    """Save a picture of held-out views; returns its figures, none where a stop was asked for meanwhile."""
    from data.images.files import write_png
    from models.training.interruption import StopRequested

    figures: dict[str, float] = {}
    with suppress(StopRequested):
        picture, figures = watched.look(model, ema, at_once=stop.at_once)
        with forgiving():
            write_png(path, picture)
    return figures


if __name__ == "__main__":
    sys.exit(main())
