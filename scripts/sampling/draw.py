"""How sample_views.py draws the views of one object: in one pass or two, from where it was stopped."""

import argparse
import hashlib
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sample_views import shown
from scripts.sampling.arguments import check_combinations, chosen_policy
from scripts.sampling.jobs import (
    data_jobs,
    frame_photos,
    joint_sigma,
    output_folders,
    photo_jobs,
    photo_notices,
    with_choices,
)
from scripts.sampling.photo_angles import with_angles

if TYPE_CHECKING:  # heavy imports happen where they are used, so that --help answers at once
    from collections.abc import Callable, Iterable, Iterator

    import torch
    from tqdm import tqdm

    from config.run import RunConfig
    from data.scenes.views import Job
    from models.base import NVSModel, Prediction, SampleCallback
    from scripts.sampling.writer import Gallery


def draw(
    job: "Job",
    model: "NVSModel",
    config: "RunConfig",
    arguments: argparse.Namespace,
    gallery: "Gallery",
    bar: "tqdm",
    device: "torch.device",
) -> None:
    """Draw the views of one object that are not there yet, and write each as soon as it is.

    Several samples are as many scenes of a batch.
    """
    import torch

    from models.sampling.autoregressive import sample_jointly
    from scripts.common.progress import progress_bar

    def several(tensor: torch.Tensor) -> torch.Tensor:
        return tensor.to(device).expand(arguments.samples, *tensor.shape[1:])

    gallery.add_source(job.source)
    source, cameras = job.source.apply(several), job.cameras.apply(several)
    given = (model, source, cameras, seeds_of(job, arguments), config.sample)
    steps = progress_bar(total=config.sample.steps, unit="step", desc="denoising", leave=False)

    def on_step(step: int, clean: torch.Tensor) -> None:
        steps.update()
        if arguments.progress:
            gallery.add_step(clean)

    def report(views: list[int], known: frozenset[int]) -> None:
        bar.update(len([view for view in views if view not in known]))
        steps.reset()

    with steps:
        done, drafted = gallery.done, gallery.drafted
        if arguments.joint is None:
            for views, prediction in first_pass(given, arguments, done, gallery.view, on_step):
                gallery.add(views, prediction)
                report(views, done)
            return
        for views, prediction in first_pass(given, arguments, drafted, gallery.draft, on_step):
            gallery.add_draft(views, prediction)
            report(views, drafted)
        files = {"drafts": gallery.draft, "finals": gallery.view, "done": done}
        choices = {"window": arguments.joint, "sigma": joint_sigma(arguments)}
        predictions = sample_jointly(*given, **files, **choices, callback=on_step)
        for view, prediction in zip(pending(range(cameras.shape[1]), done), predictions, strict=True):
            gallery.add([view], prediction)
            report([view], done)


def first_pass(
    given: tuple,
    arguments: argparse.Namespace,
    done: frozenset[int],
    recall: "Callable[[int], torch.Tensor]",
    callback: "SampleCallback",
) -> "Iterator[tuple[list[int], Prediction]]":
    """Views that are not `done`, with their numbers: independent, or looking at those drawn before.

    `given` is what all ways of sampling take: model, source, cameras, seeds, options.
    """
    from models.sampling.autoregressive import batches, sample_autoregressive, sample_in_batches
    from models.sampling.conditioning import ORDERS, make_policy

    _, source, cameras, seeds, _ = given
    policy = chosen_policy(arguments)
    if policy is None:
        size = max(1, arguments.batch // arguments.samples)
        parts = batches(seeds.shape[1], size, done)
        predictions = sample_in_batches(*given, batch=size, done=done, callback=callback)
    else:
        order = ORDERS[arguments.order or "path"](source, cameras)
        parts = [[view] for view in pending(order, done)]
        files = {"order": order, "done": done, "recall": recall}
        look_at = make_policy(policy, arguments.look_at)
        predictions = sample_autoregressive(*given, look_at=look_at, **files, callback=callback)
    return zip(parts, predictions, strict=True)


def pending(order: "Iterable[int]", done: frozenset[int]) -> list[int]:
    """The views that are still to be drawn, in order."""
    return [view for view in order if view not in done]


def seeds_of(job: "Job", arguments: argparse.Namespace) -> "torch.Tensor":
    """A seed for each sample and view of an object: [n, t]."""
    import torch

    from data.seeds import derived_seed

    own = derived_seed(arguments.seed, job.name)
    views = range(job.cameras.shape[1])
    first = [derived_seed(own, 0 if arguments.same_noise else view) for view in views]
    others = [
        [derived_seed(seed, f"sample {number}") for seed in first] for number in range(1, arguments.samples)
    ]
    return torch.tensor([first, *others])


def settings(
    job: "Job", config: "RunConfig", arguments: argparse.Namespace, device: "torch.device"
) -> dict[str, Any]:
    """All that decides what the views of an object look like, as JSON data."""
    import torch

    from models.checkpoints.format import find_checkpoint
    from models.device import choose_precision

    checkpoint = find_checkpoint(arguments.transfer)
    file = checkpoint.stat()
    look = hashlib.sha256()
    for part in (job.source, job.cameras):
        part.apply(lambda tensor: look.update(tensor.contiguous().numpy().tobytes()) or tensor)
    names = ("seed", "batch", "samples", "look_at", "order", "same_noise", "joint", "joint_sigma", "progress")
    return {
        "run": config.name,
        "checkpoint": [checkpoint.name, file.st_size, file.st_mtime_ns],
        "object": job.name,
        "views_and_cameras": look.hexdigest(),
        "sample": config.sample.model_dump(mode="json"),
        "policy": chosen_policy(arguments),
        **{name: getattr(arguments, name) for name in names},
        "computed_by": [choose_precision(config.train.precision, device), device.type, torch.__version__],
    }


def sample_views(arguments: argparse.Namespace) -> list[Path]:
    """Sample what the command line asks for; returns the films and sheets that were written.

    Raises ValueError or OSError, in one line for the user, before anything is drawn wherever possible.
    """
    check_combinations(arguments)
    import torch

    from data.images.files import write_png
    from models.checkpoints.loading import load_model
    from models.device import autocast, choose_device, place
    from scripts.common.progress import progress_bar
    from scripts.sampling.writer import Gallery

    device = choose_device(arguments.device)
    model, config, _ = load_model(arguments.transfer)
    config = with_choices(config, arguments)
    framed = frame_photos(arguments) if arguments.image and not arguments.camera else []
    arguments, estimates = with_angles(config, arguments, framed)
    jobs = photo_jobs(config, arguments, framed) if arguments.image else data_jobs(config, arguments)
    for notice in photo_notices(arguments, framed, jobs[0].source) + estimates:
        print(f"sample_views.py: {notice}", file=sys.stderr)
    style = {"prefix": arguments.prefix, "fps": arguments.fps, "num_samples": arguments.samples}
    folders = output_folders(config, arguments, jobs)
    galleries = [Gallery(folder, job.cameras[0], **style) for folder, job in zip(folders, jobs, strict=True)]
    for job, gallery in zip(jobs, galleries, strict=True):
        notice = gallery.open(settings(job, config, arguments, device))
        if notice:
            print(f"sample_views.py: {notice}", file=sys.stderr)
    for number, photo in enumerate(framed):
        write_png(galleries[0].path(f"photo_{number:02d}.png"), shown(photo))

    place(model, device)
    written: list[Path] = []
    total = sum(job.cameras.shape[1] for job in jobs) * (1 if arguments.joint is None else 2)
    there = sum(len(gallery.done) + len(gallery.drafted) for gallery in galleries)
    precision = autocast(config.train.precision, device)
    with progress_bar(total=total, initial=there, unit="view") as bar, torch.no_grad(), precision:
        for job, gallery in zip(jobs, galleries, strict=True):
            bar.set_description(job.name)
            draw(job, model, config, arguments, gallery, bar, device)
            written += gallery.close()
    return written
