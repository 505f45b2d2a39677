"""A model that composes views (ViewFusion, published size): a training step with mixed view counts, a view.

The baseline computes as the published code does: packed passes in float32, attention by its formula, Adam
tensor by tensor, and 2000 ancestral steps for a view. All those steps take the same time, so only some are
run, and the time of a view is extrapolated from them, as its row notes.
"""

import copy
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

from config.families import family
from config.run import RunConfig, load_config
from data.scenes.batch import SceneBatch, Views
from diffusion.samplers import num_evaluations
from models.base import NVSModel
from models.device import autocast, choose_precision, place
from scripts.benchmark.cases.step import configured_update
from scripts.benchmark.context import UNTRAINED, Bench, ModelVariant
from scripts.benchmark.machine import ROOT
from scripts.benchmark.measure import Figure, Task, Variant, measure
from scripts.benchmark.roofline import Work, network_work, update_work

SECTION = "mixed_views"
CONFIG = ROOT / "config" / "viewfusion_nmr.json"
SMALL = [
    'model.unet={"channels": 8, "multipliers": [1, 2], "blocks": 1, "attention": [false, true], "groups": 4}',
    "data.image_size=16",
    "sample.steps=2",
]
VIEW_COUNTS = (1, 6, 3, 4, 2, 5, 3, 4)  # of the scenes of a step, as in the published test configuration


def mixed_views_figures(bench: Bench) -> list[Figure]:
    """A training step with eight scenes of one to six views, then a view from one photo."""
    config = _config(bench)
    variants = list(_variants(config, bench))
    if not variants:
        return []
    precisions = ", ".join(f"{one.name} {one.precision}" for one in variants)
    bench.remark(SECTION, f"Config: {CONFIG.name}, {torch.get_num_threads()} threads; {precisions}.")
    return _step_figures(config, variants, bench) + _view_figures(config, variants, bench)


def plain_attention() -> AbstractContextManager[None]:
    """A context in which attention is its formula, with all products of queries and keys in memory."""
    return sdpa_kernel(SDPBackend.MATH)


def batch_of(config: RunConfig, bench: Bench) -> SceneBatch:
    """Scenes of noise with VIEW_COUNTS source views, and a target for each."""
    num, most, size = len(VIEW_COUNTS), max(VIEW_COUNTS), config.data.image_size
    images = bench.uniform(num, most + 1, 3, size, size) * 2 - 1
    cameras = bench.cameras(most + 1).apply(lambda tensor: tensor.expand(num, *tensor.shape[1:]))
    valid = torch.arange(most + 1) < torch.tensor(VIEW_COUNTS)[:, None]
    everything = Views(images, cameras, valid.to(bench.device))
    source = everything.apply(lambda tensor: tensor[:, :most])
    target = everything.apply(lambda tensor: tensor[:, most:])
    target = replace(target, valid=torch.ones_like(target.valid))
    places = valid[:, :most].flatten().nonzero()[:, 0]
    return SceneBatch(source, target, ("noise",) * num, torch.arange(num), source_indices=places)


def _config(bench: Bench) -> RunConfig:
    return load_config(CONFIG, [UNTRAINED[-1], *(SMALL if bench.size == "small" else [])])


def _variants(config: RunConfig, bench: Bench) -> Iterator[ModelVariant]:
    """The selected ones, all with the same random weights."""
    torch.manual_seed(0)
    model = place(family(config.model.family)(config.model), bench.device)
    low = choose_precision(config.train.precision, bench.device)
    wanted = {"plain": "float32", "ours": low}
    if low != "float32" or "float32" in bench.variants:
        wanted["float32"] = "float32"
    if "bfloat16" in bench.variants:
        wanted["bfloat16"] = "bfloat16"
    for name, precision in wanted.items():
        if bench.wants(name):
            own = bench.network_precision if precision == "float32" else precision
            yield ModelVariant(name, copy.deepcopy(model), precision, own)


def _step_figures(config: RunConfig, variants: list[ModelVariant], bench: Bench) -> list[Figure]:
    batch, runs = batch_of(config, bench), []
    work = _pass_work(config, variants[0].model, bench, backward=True) * sum(VIEW_COUNTS)
    for variant in variants:
        variant.model.train()
        plain = variant.name == "plain"
        update = _plain_update(variant.model) if plain else configured_update(variant, config, bench.device)
        runs.append(Variant(variant.name, lambda update=update: update(batch), variant.precision))
    task = f"a step, {len(VIEW_COUNTS)} scenes, {sum(VIEW_COUNTS)} views"
    return measure(Task(SECTION, task, runs, work + update_work(variants[0].model)), bench)


def _plain_update(model: NVSModel) -> Callable[[SceneBatch], float]:
    """A training step with Adam tensor by tensor, which waits for the loss."""
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-4, foreach=False, fused=False)

    def update(batch: SceneBatch) -> float:
        optimizer.zero_grad()
        with plain_attention():
            loss = sum(model.loss(batch, progress=0.0).values())
            loss.backward()
        optimizer.step()
        return loss.item()

    return update


def _view_figures(config: RunConfig, variants: list[ModelVariant], bench: Bench) -> list[Figure]:
    source, cameras = bench.views(1), bench.cameras(1, first=1)
    source = replace(source, images=bench.uniform(1, 1, 3, *[config.data.image_size] * 2) * 2 - 1)
    seeds, runs = torch.zeros(1, 1, dtype=torch.long), []
    published = variants[0].model.published_options

    def draw_with(variant: ModelVariant) -> Callable[[], object]:
        plain = variant.name == "plain"
        few = published.model_copy(update={"steps": bench.plain_steps})
        options = few if plain else config.sample

        @torch.no_grad()
        def run() -> object:
            attention = plain_attention() if plain else nullcontext()
            with autocast(variant.autocast, bench.device), attention:
                return variant.model.sample(source, cameras, seeds, options)

        return run

    for variant in variants:
        variant.model.eval().requires_grad_(False)
        runs.append(Variant(variant.name, draw_with(variant), variant.precision))
    work = _pass_work(config, variants[0].model, bench, backward=False) * num_evaluations(config.sample)
    bench.remark(
        SECTION, f"Plain views: {published.sampler}, {published.steps} steps of the training's noise levels."
    )
    bench.remark(SECTION, f"Others: {config.sample.sampler}, {config.sample.steps} steps.")
    figures = measure(Task(SECTION, "a view from one photo", runs, work), bench)
    return [
        _extrapolated(figure, bench.plain_steps, published.steps) if figure.variant == "plain" else figure
        for figure in figures
    ]


def _extrapolated(figure: Figure, num_run: int, num_all: int) -> Figure:
    """The figure of some steps as that of all."""
    factor = num_all / num_run
    times = {name: getattr(figure, name) * factor for name in ("seconds", "fastest", "slowest")}
    return replace(figure, **times, note=f"estimated from {num_run} of {num_all} steps")


def _pass_work(config: RunConfig, model: NVSModel, bench: Bench, *, backward: bool) -> Work:
    """A pass of the U-Net for one source view."""
    side, unet = config.data.image_size, model.unet
    images = bench.uniform(1, 6, side, side)
    level = torch.ones(1, device=bench.device)
    condition = torch.zeros(1, config.model.angle.num_features(unet.noise_features), device=bench.device)

    def run() -> None:
        with torch.set_grad_enabled(backward):
            result = unet(images, level, condition)
        if backward:
            torch.autograd.grad(result.square().mean(), list(unet.parameters()))

    return network_work(run, unet, 12 * side**2, backward=backward)
