"""Train a model of novel views: python train.py CONFIG.json [key=value ...]

One process trains on one device; for several, `--processes N` on one machine, and torchrun on more
(docs/several_gpus.md). The same command resumes.
"""

import os
import sys
from functools import partial
from typing import TYPE_CHECKING

from scripts.training.arguments import make_parser
from scripts.training.compilation import compile_model
from scripts.training.messages import tell, tolerate_disk_errors, warn
from scripts.training.processes import (
    ANOTHER_ENDED,
    exit_code,
    fail,
    is_one_of_several,
    joined,
    launch_processes,
)
from scripts.training.run_claim import in_a_run_of_its_own
from scripts.training.stages import run_stages, stages_of

if TYPE_CHECKING:  # heavy imports happen where they are used, so that --help answers at once
    from torch import Tensor

    from config.run import RunConfig
    from models.training.distributed import Workers
    from models.training.interruption import StopSignal


def main(argv: list[str] | None = None) -> int:
    """Parse the command line and train; errors of the user and of the machine become one line."""
    arguments = make_parser().parse_intermixed_args(argv)
    if arguments.processes != 1 or arguments.restarts:
        return launch_processes(__file__, argv, lambda: [stage.folder for stage in stages_of(arguments)])
    from models.training.interruption import StopRequested, StopSignal

    with StopSignal(launched="TORCHELASTIC_RUN_ID" in os.environ) as stop:
        try:
            with stop.abandonable(not is_one_of_several()):
                from data.scenes.batch_transfer import lost_process
                from models.device import out_of_memory
                from models.training.distributed import LostRankError

                stages = stages_of(arguments)
                with joined(stages[0].train.device, stop) as workers:
                    run_stages(stages, train, stop, workers, plan=arguments.plan)
        except StopRequested:
            print("train.py: stopped; there was nothing to save", file=sys.stderr)
        except LostRankError:
            return fail(ANOTHER_ENDED, code=1, first=False)
        except (ValueError, OSError) as error:
            return fail(str(error), code=exit_code(error))
        except (RuntimeError, MemoryError) as error:
            if lost := lost_process(error):
                return fail(str(lost), code=exit_code(lost))
            if not out_of_memory(error):
                raise
            advice = "lower train.batch and raise train.accumulate, which makes the same updates"
            return fail(f"out of memory; {advice}; of a recipe, those of the stage: stages.NAME.train.batch")
    return 0


@in_a_run_of_its_own
def train(config: "RunConfig", stop: "StopSignal", workers: "Workers | None" = None) -> int:
    """Train from the newest checkpoint of the run, or from its beginning, to `config.train.steps`.

    `workers` are the processes that train together (default: this one alone). Returns the updates made by the
    end, which are fewer if a stop was requested. Raises ValueError or OSError, in one line for the user, if
    input is bad or the loss is not finite.
    """
    import torch

    from config.families import family
    from data.formats.registry import open_split
    from data.scenes.facts import DataFacts
    from data.scenes.loader import SceneLoader, held_out
    from models.device import autocast, place
    from models.training.distributed import exchange, join_workers, reseed
    from models.training.ema import EMA
    from models.training.optimizer import (
        clip_gradients,
        make_optimizer,
        set_learning_rate,
        trained_parameters,
    )
    from models.training.reporting import Reporter, learning_rate
    from models.training.run_directory import RunFolder
    from scripts.common.progress import progress_bar

    # Data.
    workers = workers or join_workers(config.train.device, {})
    objects = open_split(config.data, "train", cameras=False)
    config = config.fitted(DataFacts(objects))
    held_out_objects = open_split(config.data, "val", cameras=False) if config.train.preview_every else None
    accumulate, total = config.train.accumulate, config.train.steps
    share = {"batch": config.train.batch, "rank": workers.rank, "world": workers.world}
    loader = SceneLoader(objects, config.data, seed=config.seed, total=total * accumulate, **share)

    # Model, optimizer and average, from the newest checkpoint if there is one.
    torch.manual_seed(config.seed)
    folder = RunFolder(config)
    model = place(family(config.model.family)(config.model, init_weights=not folder.started), workers.device)
    loader.requires = model.requires
    objects.require(model.requires)
    optimizer, ema = make_optimizer(model, config.optim), EMA(model, config.optim.ema)
    trained = trained_parameters(model)
    hooks = {"warn": partial(warn, workers=workers), "tolerate_disk_errors": tolerate_disk_errors}
    reporter = Reporter(config, model, ema, folder, workers, **hooks)
    step, message = folder.start(model, ema, optimizer)
    if held_out_objects and workers.is_main:
        reporter.watch(held_out(held_out_objects, config.train.previews))
    if config.train.compile:
        compile_model(model, workers)
    parallel = workers.wrap(model)
    batches = reporter.batches(loader.batches(step * accumulate))

    def forward_backward(part: int) -> "dict[str, Tensor]":
        """One pass: its gradients are added to those of the update; returns its losses."""
        reseed(config.seed, workers.rank, step * accumulate + part)
        batch = next(batches).apply(lambda tensor: tensor.to(workers.device, non_blocking=True))
        sync = exchange(parallel, gradients=part == accumulate - 1)
        with sync, autocast(config.train.precision, workers.device):
            losses = parallel(batch, step / total)
        (sum(losses.values()) / accumulate).backward()
        return {name: loss.detach() for name, loss in losses.items()}  # the graph's memory is free again

    def passes() -> "dict[str, Tensor] | None":
        """All passes of an update; returns the losses of the last, None if a stop was requested."""
        for part in range(accumulate):
            losses = None
            if not workers.any(stop.requested):
                losses = stop.attempt(partial(forward_backward, part), workers.is_single)
            if losses is None:
                return None
            reporter.add(step + 1, losses)
        return losses

    # Nothing is refused from here on, so that there is no folder without a run.
    if workers.is_main:
        notice = reporter.open(step)
        tell((*objects.notices, *(held_out_objects.notices if held_out_objects else ())), "train.py")
        for line in filter(None, (*model.notices, message, notice)):
            print(line, file=sys.stderr)
        if held_out_objects and step == 0:
            reporter.preview(step, stop)
    saved, stopped, losses = step, False, {}
    shown = {"total": total, "initial": step, "desc": config.name, "unit": "step"}
    with stop.deferred(), progress_bar(**shown, disable=not workers.is_main) as bar:
        while step < total and not stopped:
            # Batch, forward and backward.
            progress = step / total
            found = passes()
            stopped, losses = found is None, found or losses

            # Update.
            if stopped:
                reporter.forget(step + 1)
            else:
                reporter.add(step + 1, clip_gradients(trained, config.optim.clip))
                set_learning_rate(optimizer, config.optim, step, progress)
                optimizer.step()
                optimizer.zero_grad(set_to_none=True)
                step += 1
                ema.update(model, step)
                bar.update()

            # Report and preview.
            due = step % config.train.save_every == 0 or step == total
            save = step > saved and (due or stopped)
            look = not stopped and config.train.preview_every and step % config.train.preview_every == 0
            if not reporter.empty and (save or look or step % config.train.log_every == 0):
                line = reporter.line(step, progress, losses, saved=saved, lr=learning_rate(optimizer))
                if workers.is_main:
                    reporter.write(line | (reporter.preview(step, stop) if look else {}))
                    bar.set_postfix({name: f"{line[name]:.4f}" for name in ("loss", *losses, "data_wait")})

            # Save. The next time there may be room again; after the last one there is no next.
            if save:
                with tolerate_disk_errors(not stopped and step < total), reporter.pausing():
                    if workers.is_main:
                        folder.save(model, ema, optimizer, step)
                    saved = step
    damaged = reporter.close()
    if workers.is_main:
        print(f"{'stopped' if step < total else 'done'} at step {step}: {folder.path}", file=sys.stderr)
    if damaged:
        advice = f"`python -m scripts.check_data {config.data.root}` finds all of them"
        warn(f"damaged files met and named above: {damaged}; {advice}", workers)
    return step


if __name__ == "__main__":
    sys.exit(main())
