"""One novel view from one photo: 250 stochastic Euler steps of the plain model, or the configured sampler.

All steps of the plain sampler take the same time, so only some are run. The time of a view is extrapolated
from them, as its row notes.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch

from diffusion.samplers import SampleOptions, num_evaluations
from models.device import autocast
from scripts.benchmark.cases.networks import part_work
from scripts.benchmark.context import Bench, ModelVariant, model_variants
from scripts.benchmark.measure import Figure, Task, Variant, measure
from scripts.benchmark.roofline import Work, renderer_work

SECTION = "sample"
PLAIN = SampleOptions(sampler="euler", steps=250, stochastic=True)
VIEWS_AT_ONCE = {"cpu": 1, "cuda": 8}  # of a path round the object


@dataclass(frozen=True)
class _Way:
    """A variant of the model with its sampler, and how many views share a batch and the volume."""

    variant: ModelVariant
    options: SampleOptions  # as many steps as are run
    num_views: int


def sample_figures(bench: Bench) -> list[Figure]:
    """What comes before the denoising, then all of a view."""
    ways = [_way(variant, bench) for variant in model_variants(bench)]
    if not ways:
        return []
    beginning = _task("volume and latent image", ways, lambda way: _begin(way, bench), _work(bench, 0))
    begun = {figure.variant: figure for figure in measure(beginning, bench)}
    evaluations = num_evaluations(bench.config.sample)
    drawing = _task("a view", ways, lambda way: _draw(way, bench), _work(bench, evaluations))
    drawn = [
        _completed(figure, begun[figure.variant].seconds, bench.plain_steps)
        if figure.variant == "plain" and figure.variant in begun
        else figure
        for figure in measure(drawing, bench)
    ]
    sampler = bench.config.sample
    bench.remark(SECTION, f"Plain: {PLAIN.sampler}, {PLAIN.steps} steps, stochastic, one view at a time.")
    others = f"Others: {sampler.sampler}, {sampler.steps} steps"
    bench.remark(SECTION, f"{others}, {_num_views('ours', bench)} views of a path at a time.")
    return [*begun.values(), *drawn]


def _way(variant: ModelVariant, bench: Bench) -> _Way:
    variant.model.eval().requires_grad_(False)  # as programs load it: autocast then casts weights every time
    plain = PLAIN.model_copy(update={"steps": bench.plain_steps})
    options = plain if variant.name == "plain" else bench.config.sample
    return _Way(variant, options, _num_views(variant.name, bench))


def _num_views(name: str, bench: Bench) -> int:
    return 1 if name == "plain" else VIEWS_AT_ONCE[bench.device.type]


def _task(name: str, ways: list[_Way], run_of: Callable[[_Way], Callable[[], object]], least: Work) -> Task:
    variants = [Variant(way.variant.name, run_of(way), way.variant.precision, way.num_views) for way in ways]
    return Task(SECTION, name, variants, least)


def _begin(way: _Way, bench: Bench) -> Callable[[], object]:
    source, cameras, model = bench.views(1), bench.cameras(way.num_views, first=1), way.variant.model

    @torch.no_grad()
    def run() -> object:
        with autocast(way.variant.autocast, bench.device):
            return model.render(model.encode(source), cameras)

    return run


def _draw(way: _Way, bench: Bench) -> Callable[[], object]:
    source, cameras, model = bench.views(1), bench.cameras(way.num_views, first=1), way.variant.model
    seeds = torch.arange(way.num_views)[None]

    @torch.no_grad()
    def run() -> object:
        with autocast(way.variant.autocast, bench.device):
            return model.sample(source, cameras, seeds, way.options)

    return run


def _completed(figure: Figure, beginning: float, steps: int) -> Figure:
    """The figure of some steps as that of all: what precedes them once, and a step as long as those run."""
    if steps == PLAIN.steps:
        return figure

    def all_steps(seconds: float) -> float:
        return beginning + (seconds - beginning) * PLAIN.steps / steps

    times = {name: all_steps(getattr(figure, name)) for name in ("seconds", "fastest", "slowest")}
    return replace(figure, **times, note=f"estimated from {steps} of {PLAIN.steps} steps")


def _work(bench: Bench, evaluations: int) -> Work:
    """One photo encoded for all views of a batch, one view rendered and denoised as often as configured."""
    config = bench.config.model
    rendering = renderer_work(
        config.renderer,
        channels=config.encoder.channels,
        voxels=config.encoder.planes * bench.config.data.image_size**2,
        num_source=1,
        num_target=1,
        backward=False,
    )
    encoding = part_work(bench, "encoder", backward=False) * (1 / _num_views("ours", bench))
    return encoding + rendering + part_work(bench, "denoiser", backward=False) * evaluations
