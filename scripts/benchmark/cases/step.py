"""One training step with one scene: from the photos to the averaged weights."""

from collections.abc import Callable

import torch

from config.run import RunConfig
from data.scenes.batch import SceneBatch
from models.base import NVSModel
from models.device import autocast
from models.training.ema import EMA
from models.training.meter import Meter
from models.training.optimizer import clip_gradients, make_optimizer, set_learning_rate, trained_parameters
from scripts.benchmark.baseline import plain_update
from scripts.benchmark.cases.networks import part_work
from scripts.benchmark.context import Bench, ModelVariant, model_variants
from scripts.benchmark.measure import Figure, Task, Variant, measure
from scripts.benchmark.roofline import Work, renderer_work, update_work

SECTION = "step"
NUM_SOURCES = (1, 2)
Update = Callable[[SceneBatch], object]


def step_figures(bench: Bench) -> list[Figure]:
    """Steps with one and with two valid source views."""
    compared = list(model_variants(bench))
    updates = {variant.name: update_of(variant, bench) for variant in compared}
    found: list[Figure] = []
    for num in NUM_SOURCES if compared else ():
        batch = bench.scene_batch(num)
        variants = [_variant(variant, updates[variant.name], batch) for variant in compared]
        found += measure(
            Task(SECTION, f"{num} source views", variants, _work(bench, compared[0].model, num)), bench
        )
    return found


def update_of(variant: ModelVariant, bench: Bench) -> Update:
    """A training step of a variant's model, whose weights go on changing from call to call."""
    variant.model.train()
    optim = bench.config.optim
    if variant.name == "plain":
        return plain_update(variant.model, optim.lr, optim.clip)
    return configured_update(variant, bench.config, bench.device)


def configured_update(variant: ModelVariant, config: RunConfig, device: torch.device) -> Update:
    """What `train.py` does in a step."""
    model = variant.model
    optimizer, ema, meter = make_optimizer(model, config.optim), EMA(model, config.optim.ema), Meter()
    trained = trained_parameters(model)
    step = 0

    def update(batch: SceneBatch) -> None:
        nonlocal step
        set_learning_rate(optimizer, config.optim, step, 0.0)
        with autocast(variant.autocast, device):
            losses = model(batch, 0.0)
        sum(losses.values()).backward()
        meter.add(step + 1, losses | clip_gradients(trained, config.optim.clip))
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        step += 1
        ema.update(model, step)

    return update


def _variant(variant: ModelVariant, update: Update, batch: SceneBatch) -> Variant:
    return Variant(variant.name, lambda: update(batch), variant.precision)


def _work(bench: Bench, model: NVSModel, num_sources: int) -> Work:
    """Encoding the valid photos, rendering, the loss of the targets, and the new weights.

    Where the colour of the first source is learnt too, it is rendered like another target.
    """
    config, targets = bench.config.model, bench.config.data.targets
    rendering = renderer_work(
        config.renderer,
        channels=config.encoder.channels,
        voxels=config.encoder.planes * bench.config.data.image_size**2,
        num_source=num_sources,
        num_target=targets + ("rgb_source" in config.loss.terms),
        backward=True,
    )
    encoding = part_work(bench, "encoder", backward=True) * num_sources
    denoising = part_work(bench, "denoiser", backward=True) * targets
    return encoding + rendering + denoising + update_work(model)
