"""Evaluate one object: sample its missing views, and measure its files."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from config.run import RunConfig
from data.cameras.neighbours import cosines
from data.images.pixels import to_uint8
from data.scenes.batch import Views, concatenate
from data.scenes.objects import Objects
from data.seeds import derived_seed
from models.base import NVSModel, Prediction
from models.device import autocast
from models.perceptual import Distance
from models.sampling.autoregressive import sample_in_batches
from models.sampling.finite import require_finite
from scripts.evaluate.metrics.masked import MaskedJudges
from scripts.evaluate.metrics.metrics import judge_pictures
from scripts.evaluate.protocols import Task
from scripts.evaluate.quick import geometry_figures
from scripts.evaluate.records import (
    BASELINES,
    COPY,
    MEAN_IMAGE,
    NEAREST,
    PREVIEW,
    ObjectFolder,
    Record,
    mean_method,
    seed_method,
    seeds_of_mean,
)


@dataclass(frozen=True)
class Plan:
    """The remaining work for an object."""

    task: Task
    folder: ObjectFolder
    known: Record | None  # figures that are still valid
    seeds: tuple[int, ...]  # numbers of the seeds to sample with
    wanted: dict[str, tuple[str, ...]] = field(default_factory=dict)  # by method, metrics to compute

    @property
    def done(self) -> bool:
        """Whether nothing is left."""
        return not self.seeds and not any(self.wanted.values())


def make_plan(
    task: Task, folder: ObjectFolder, metrics: tuple[str, ...], num_seeds: int, *, has_mean: bool
) -> Plan:
    """Find the missing images and figures of an object; figures are valid if their images are intact."""
    known = folder.record()
    if known and ((known.sources, known.views) != (task.sources, task.targets)):
        known = None
    has_preview = known is None or PREVIEW in known.scores  # some families have none
    if known and has_preview and not folder.is_whole(PREVIEW, task.targets):
        known = None
    drawn = [known and folder.is_whole(seed_method(number), task.targets) for number in range(num_seeds)]
    seeds = tuple(number for number, whole in enumerate(drawn) if not whole)
    methods = [*map(seed_method, range(num_seeds)), *BASELINES[: 3 if has_mean else 2]]
    methods = [PREVIEW, *methods] if has_preview else methods
    methods += [mean_method(num_seeds)] * (num_seeds > 1)
    wanted = {}
    for method in methods:
        fresh = method in map(seed_method, seeds) or (seeds_of_mean(method) and seeds)
        have = known.scores.get(method, {}) if known and not fresh else {}
        wanted[method] = tuple(metric for metric in metrics if metric not in have)
    return Plan(task, folder, known, seeds, wanted)


@dataclass(frozen=True)
class Bench:
    """Samples and measures the objects of an evaluation."""

    model: NVSModel
    config: RunConfig
    objects: Objects
    judges: dict[str, Distance]
    masked: MaskedJudges | None  # of DTU
    mean_image: Tensor | None  # [3, h, w]; None if unknown
    device: torch.device
    seed: int
    batch: int

    def work(self, plan: Plan, tick: Callable[[int], None]) -> Record:
        """Do the remaining work for an object; `tick` is called with the number of views as they are sampled.

        Raises ValueError if the model's output is not finite.
        """
        task = plan.task
        geometry = self.objects.has_geometry(task.index)
        source = self.objects.read_views(task.index, task.sources).apply(self._there)
        target = self.objects.read_views(task.index, task.targets, geometry=geometry).apply(self._there)
        shape = plan.known.geometry if plan.known else {}
        for number in plan.seeds:
            prediction = self._draw(plan, number, source, target, tick)
            if not plan.known and geometry and prediction.depth is not None:
                shape = {name: _finite(value) for name, value in geometry_figures(prediction, target).items()}
        truth = None
        if self.masked and any(
            name in self.masked.judges for names in plan.wanted.values() for name in names
        ):
            truth = self.masked.truth(self.objects, task.index, task.targets)
        scores = {method: dict(found) for method, found in plan.known.scores.items()} if plan.known else {}
        for method, metrics in plan.wanted.items():
            if method == PREVIEW and plan.seeds and prediction.preview is None:
                continue
            if len(task.sources) == 1 and method == NEAREST:
                scores[method] = dict(scores[COPY])
                continue
            images = shown(method, plan.folder, task, source, target, self.mean_image) if metrics else None
            for metric in metrics:
                if metric in self.judges:
                    values = judge_pictures(self.judges[metric], images, target.images[0])
                else:
                    values = self.masked.figures(metric, to_uint8(images), truth)
                scores.setdefault(method, {})[metric] = [_finite(value) for value in values]
        record = Record(
            name=task.name,
            category=task.category,
            sources=task.sources,
            views=task.targets,
            scores=scores,
            geometry=shape,
        )
        plan.folder.keep(record)
        return record

    def _draw(
        self, plan: Plan, number: int, source: Views, target: Views, tick: Callable[[int], None]
    ) -> Prediction:
        """Sample all views with one seed and write them, with their previews if those are missing."""
        own = derived_seed(self.seed + number, plan.task.name)
        same = self.model.same_noise
        seeds = torch.tensor([[derived_seed(own, 0 if same else view) for view in plan.task.targets]])
        options = self.model.options_of(self.config.sample, plan.task.name)
        given = (self.model, source, target.cameras, seeds, options)
        parts: list[Prediction] = []
        views = iter(plan.task.targets)
        with torch.no_grad(), autocast(self.config.train.precision, self.device):
            for part in sample_in_batches(*given, batch=self.batch):
                for index, image in enumerate(part.images[0]):
                    view = next(views)
                    preview = None if part.preview is None else part.preview[0, index]
                    require_finite(image, preview, of=f"{plan.task.name}, view {view}")
                    plan.folder.write(seed_method(number), view, image)
                    if preview is not None and not plan.known and number == plan.seeds[0]:
                        plan.folder.write(PREVIEW, view, preview)
                parts.append(part)
                tick(part.images.shape[1])
        return concatenate(parts, axis=1)

    def _there(self, tensor: Tensor) -> Tensor:
        return tensor.to(self.device)


def shown(
    method: str, folder: ObjectFolder, task: Task, source: Views, target: Views, mean: Tensor | None
) -> Tensor:
    """The images of a method for the target views [t, 3, h, w], from its files if it has any."""
    if method == COPY:
        return source.images[0, :1].expand_as(target.images[0])
    if method == NEAREST:
        return source.images[0, nearest_sources(source, target)]
    if num := seeds_of_mean(method):
        samples = [folder.read(seed_method(number), task.targets) for number in range(num)]
        return torch.stack(samples).mean(dim=0).to(target.images)
    if method == MEAN_IMAGE:
        return mean.to(target.images).expand_as(target.images[0])
    return folder.read(method, task.targets).to(target.images)


def nearest_sources(source: Views, target: Views) -> Tensor:
    """For each target view [t] the number of the source view with the most similar viewing direction."""
    targets, sources = (views.cameras.cam_to_world[0, :, :3, 2] for views in (target, source))
    return torch.stack([cosines(sources, look).argmax() for look in targets])


def _finite(value: float) -> float | None:
    return round(value, 6) if math.isfinite(value) else None
