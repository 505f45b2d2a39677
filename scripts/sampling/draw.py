"""Sample the views of an object for sample_views.py: in one pass or two, resuming an interrupted call."""

import hashlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from config.run import RunConfig
from data.images.files import write_png
from data.photos.cut_out import beside
from data.scenes.views import Job
from data.seeds import derived_seed
from models.base import NVSModel, Prediction, SampleCallback
from models.checkpoints.format import find_checkpoint
from models.checkpoints.loading import load_model
from models.device import autocast, choose_device, choose_precision, place
from models.sampling.autoregressive import batches, sample_autoregressive, sample_in_batches, sample_jointly
from models.sampling.conditioning import ORDERS, make_policy
from scripts.common.progress import progress_bar
from scripts.sampling.jobs import output_folders, refine_sigma, sample_jobs, with_choices
from scripts.sampling.request import SampleRequest
from scripts.sampling.writer import SampleWriter
from scripts.training.messages import tell


def draw(
    job: Job,
    model: NVSModel,
    config: RunConfig,
    request: SampleRequest,
    writer: SampleWriter,
    bar: tqdm,
    device: torch.device,
) -> None:
    """Sample the missing views of one object, and write each as soon as it is finished.

    Several samples of a view are scenes of a batch.
    """

    def several(tensor: torch.Tensor) -> torch.Tensor:
        return tensor.to(device).expand(request.num_samples, *tensor.shape[1:])

    # The scene, repeated for each sample.
    writer.add_source(job.source)
    source, cameras = job.source.apply(several), job.cameras.apply(several)
    given = (model, source, cameras, seeds_of(job, request), config.sample)
    steps = progress_bar(total=config.sample.steps, unit="step", desc="denoising", leave=False)

    def on_step(step: int, clean: torch.Tensor) -> None:
        steps.update()
        if request.refine_window is None:
            writer.add_estimate(step, clean)
        if request.progress:
            writer.add_step(clean)

    def report(views: list[int], known: frozenset[int]) -> None:
        bar.update(len([view for view in views if view not in known]))
        steps.reset()

    # Independent or autoregressive views; with a refinement, these are drafts.
    with steps:
        done, drafted = writer.done, writer.drafted
        if request.refine_window is None:
            for views, prediction in first_pass(given, request, done, writer.view, on_step):
                writer.add(views, prediction)
                report(views, done)
            return
        for views, prediction in first_pass(given, request, drafted, writer.draft, on_step):
            writer.add_draft(views, prediction)
            report(views, drafted)

        # The refinement denoises the drafts jointly.
        files = {"drafts": writer.draft, "finals": writer.view, "done": done}
        choices = {"window": request.refine_window, "sigma": refine_sigma(request)}
        predictions = sample_jointly(*given, **files, **choices, callback=on_step)
        for view, prediction in zip(pending(range(cameras.shape[1]), done), predictions, strict=True):
            writer.add([view], prediction)
            report([view], done)


def first_pass(
    given: tuple,
    request: SampleRequest,
    done: frozenset[int],
    recall: Callable[[int], torch.Tensor],
    callback: SampleCallback,
) -> Iterator[tuple[list[int], Prediction]]:
    """Sample views that are not `done`, independently or autoregressively; yields them with their numbers.

    `given` are the common arguments of all ways of sampling: model, source, cameras, seeds, options.
    """
    model, source, cameras, seeds, _ = given
    if request.policy is None:
        size = max(1, request.batch // request.num_samples)
        parts = batches(seeds.shape[1], size, done, group=model.max_joint_views)
        predictions = sample_in_batches(*given, batch=size, done=done, callback=callback)
    else:
        order = ORDERS[request.order or "path"](source, cameras)
        parts = [[view] for view in pending(order, done)]
        files = {"order": order, "done": done, "recall": recall}
        policy = make_policy(request.policy, request.num_context)
        predictions = sample_autoregressive(*given, policy=policy, **files, callback=callback)
    return zip(parts, predictions, strict=True)


def pending(order: Iterable[int], done: frozenset[int]) -> list[int]:
    """The views that are still to be sampled, in order."""
    return [view for view in order if view not in done]


def seeds_of(job: Job, request: SampleRequest) -> torch.Tensor:
    """A seed for each sample and view of an object: [n, t]."""
    own = derived_seed(request.seed, job.name)
    views = range(job.cameras.shape[1])
    first = [derived_seed(own, 0 if request.same_noise else view) for view in views]
    others = [
        [derived_seed(seed, f"sample {number}") for seed in first] for number in range(1, request.num_samples)
    ]
    return torch.tensor([first, *others])


def settings(job: Job, config: RunConfig, request: SampleRequest, device: torch.device) -> dict[str, Any]:
    """Everything that determines the views of an object, as JSON data."""
    checkpoint = find_checkpoint(request.checkpoint)
    file = checkpoint.stat()
    look = hashlib.sha256()
    for part in (job.source, job.cameras):
        part.apply(lambda tensor: look.update(tensor.contiguous().numpy().tobytes()) or tensor)
    return {
        "run": config.name,
        "checkpoint": [checkpoint.name, file.st_size, file.st_mtime_ns],
        "object": job.name,
        "views_and_cameras": look.hexdigest(),
        "sample": config.sample.model_dump(mode="json"),
        "policy": request.policy,
        "seed": request.seed,
        "batch": request.batch,
        "samples": request.num_samples,
        "look_at": request.num_context,
        "order": request.order,
        "same_noise": request.same_noise,
        "joint": request.refine_window,
        "joint_sigma": request.refine_sigma,
        "progress": request.progress,
        "computed_by": [choose_precision(config.train.precision, device), device.type, torch.__version__],
    }


def sample_views(request: SampleRequest) -> list[Path]:
    """Sample the views of a request; returns the videos and sheets that were written.

    Notices are printed to standard error. Errors of the user are raised before sampling if possible.
    """
    # Model, cameras and photos.
    device = choose_device(request.device)
    model, config, _ = load_model(request.checkpoint)
    config = with_choices(config, request)
    request = replace(request, same_noise=request.same_noise or model.same_noise)
    jobs, framed, notices = sample_jobs(config, request.subject, request.trajectory, request.num_views)
    tell(notices, "sample_views.py")
    options = [model.options_of(config.sample, job.name) for job in jobs]
    configs = [config.model_copy(update={"sample": own}) for own in options]

    # A folder for each object, which may contain views of an earlier call.
    style = {"prefix": request.prefix, "fps": request.fps, "num_samples": request.num_samples}
    folders = output_folders(config, request.output, jobs)
    writers = [
        SampleWriter(folder, job.cameras[0], truth=job.truth, **style)
        for folder, job in zip(folders, jobs, strict=True)
    ]
    for job, writer, own in zip(jobs, writers, configs, strict=True):
        notice = writer.open(settings(job, own, request, device))
        if notice:
            tell([notice], "sample_views.py")
    for number, photo in enumerate(framed):
        shown = photo.picture if photo.original is None else beside(photo)
        write_png(writers[0].path(f"photo_{number:02d}.png"), shown)

    # Sample object by object; every view is written as soon as it is finished.
    place(model, device)
    written: list[Path] = []
    total = sum(job.cameras.shape[1] for job in jobs) * (1 if request.refine_window is None else 2)
    num_done = sum(len(writer.done) + len(writer.drafted) for writer in writers)
    precision = autocast(config.train.precision, device)
    with progress_bar(total=total, initial=num_done, unit="view") as bar, torch.no_grad(), precision:
        for job, writer, own in zip(jobs, writers, configs, strict=True):
            bar.set_description(job.name)
            draw(job, model, own, request, writer, bar, device)
            written += writer.close()
    return written
