"""Run an evaluation by a protocol: find the remaining work, do it, and write the table."""

from pathlib import Path

import torch
from torch import Tensor

from models.device import choose_device, place
from models.perceptual import Distance
from scripts.common.progress import progress_bar
from scripts.evaluate.evaluate_object import Bench, Plan, make_plan
from scripts.evaluate.metrics.masked import MaskedJudges, load_masked_judges
from scripts.evaluate.metrics.metrics import load_judges
from scripts.evaluate.plan import Evaluation, claim, known_mean_image, open_evaluation
from scripts.evaluate.protocols import Task
from scripts.evaluate.report import write_results
from scripts.evaluate.request import EvaluateRequest


def evaluate_by_protocol(
    request: EvaluateRequest, *, rank: int, world: int, local_rank: int
) -> tuple[str, list[Path]]:
    """Evaluate the part of one of `world` processes, and write the table if all parts are done.

    Returns a message for the user and the files written. Errors of the user are raised before sampling if
    possible.
    """
    device = choose_device(request.device, local_rank)
    evaluation = open_evaluation(request)
    claim(evaluation.folder, evaluation.setup)
    data = evaluation.config.data
    judges, notes = load_judges(device, (data.height, data.image_size))
    masked = None
    if evaluation.protocol.masked:
        padded = data.dtu.preprocessing == "pad"
        options = {"antialias": request.antialias, "missing": data.dtu.missing_masks}
        masked, more = load_masked_judges(device, padded=padded, **options)
        notes += more
    metrics = (*judges, *(masked.judges if masked else ()))
    mean, problems = known_mean_image(evaluation)
    part, parts = request.shard or (rank, world)
    own = [] if request.merge else evaluation.tasks[part::parts]
    plans = _plans(evaluation, own, metrics, mean)
    _work(evaluation, [plan for plan in plans if not plan.done], judges, masked, mean, device, request)
    others = [task for task in evaluation.tasks if task not in own]
    left = [plan.task.name for plan in _plans(evaluation, others, (), None) if not plan.done]
    if left and request.merge:
        raise ValueError(
            f"--merge: {len(left)} of {len(evaluation.tasks)} objects are not done, such as {left[0]}; run "
            "the same command without --merge"
        )
    if left:
        progress = f"part {part + 1} of {parts} is done; objects left to the others: {len(left)}"
        return f"{progress}. The last to finish writes the table, as does --merge", []
    return write_results(evaluation, mean, best_of=request.best_of, notes=[*notes, *problems], device=device)


def _plans(
    evaluation: Evaluation, tasks: list[Task], metrics: tuple[str, ...], mean: Tensor | None
) -> list[Plan]:
    """The remaining work for some of the objects; without metrics, only their images are checked."""
    bar = progress_bar(tasks, desc="checking existing results", unit="object", leave=False, delay=1)
    options = {"num_seeds": evaluation.num_seeds, "has_mean": mean is not None}
    return [make_plan(task, evaluation.folder_of(task), metrics, **options) for task in bar]


def _work(
    evaluation: Evaluation,
    plans: list[Plan],
    judges: dict[str, Distance],
    masked: MaskedJudges | None,
    mean: Tensor | None,
    device: torch.device,
    request: EvaluateRequest,
) -> None:
    """Sample and measure the remaining objects."""
    if not plans:
        return
    bench = Bench(
        model=place(evaluation.model, device),
        config=evaluation.config,
        objects=evaluation.objects,
        judges=judges,
        masked=masked,
        mean_image=mean,
        device=device,
        seed=request.seed,
        batch=request.batch,
    )
    total = sum(len(plan.task.targets) * max(1, len(plan.seeds)) for plan in plans)
    with progress_bar(total=total, unit="view") as bar:
        for plan in plans:
            bar.set_description(plan.task.name)
            bench.work(plan, bar.update)
            if not plan.seeds:
                bar.update(len(plan.task.targets))
