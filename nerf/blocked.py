"""The renderer for the CPU: the sums of `nerf.composite`, block by block of rays.

The reference writes every intermediate of every sample to memory, several times. Here a block of rays goes
through the whole calculation while it is in the caches, and of a sample only its features are kept, for the
backward pass. A sample is evaluated once, also where a second round follows the first, and not at all where
no source has a say. Axes: s source view, r ray, n sample, k sample that a source knows, c feature, f latent
channel, q sources whose features enter the MLP one by one (1 where they are pooled before).
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor
from torch.autograd.function import once_differentiable

from data.cameras import Rays
from nerf import mlp
from nerf.composite import BACKGROUND, Rendering, absorption_weights, refuse_gradients
from nerf.field import FieldConfig, RadianceField
from nerf.lookup import Places, Sources
from nerf.mlp import Layers
from nerf.refinement import Refinement
from nerf.sampling import RaySamples
from nerf.threads import Turns, in_parallel
from nerf.volume import FrustumVolume

BLOCK = 32768  # samples; what is known of them is a few megabytes


def render_blocked(
    volume: FrustumVolume,
    field: RadianceField,
    rays: Rays,
    samples: RaySamples,
    refinement: Refinement | None = None,
) -> Rendering:
    """What `render_reference` returns at `samples` and those that `refinement` adds to them.

    Gradients reach the volume's features and the field's weights, once. Raises ValueError where rays, samples
    or cameras want one.
    """
    refuse_gradients(volume, rays, samples)
    inputs = (volume.features, *Layers.of(field).tensors())
    # In `forward`, gradients are off, and what wants one is said also where nobody will ask for it.
    remember = torch.is_grad_enabled() and any(tensor.requires_grad for tensor in inputs)
    task = _Task(volume, field.config, rays, samples, refinement, remember)
    return Rendering(*_Render.apply(task, *inputs))


@dataclass(frozen=True)
class _Round:
    """Samples of a block that were placed at the same time, and what the sources know about them."""

    num: int  # a ray
    places: Places
    features: Float[Tensor, "p c"]
    density: Float[Tensor, "k"]  # logits, united over the sources
    colour: Float[Tensor, "k f"]  # likewise


@dataclass(frozen=True)
class _Block:
    """Some rays of one scene."""

    scene: int
    rows: slice
    rays: Rays
    samples: RaySamples
    refinement: Refinement | None


@dataclass(frozen=True)
class _Plan:
    """The samples of a block, placed and looked up."""

    rounds: list[_Round]
    samples: RaySamples  # of all rounds, in the order of their distance
    order: Int[Tensor, "r n"] | None  # which of the rounds' samples, laid end to end, each was


@dataclass(frozen=True)
class _Task:
    """All that `_Render` takes beside the tensors that want gradients."""

    volume: FrustumVolume
    config: FieldConfig
    rays: Rays
    samples: RaySamples
    refinement: Refinement | None
    remember: bool  # what the backward pass needs

    def blocks(self, scene: int) -> list[_Block]:
        """The rays of a scene, a few at a time."""
        num_rays, num = self.samples.distance.shape[1:]
        step = max(1, BLOCK // (num + (self.refinement.num if self.refinement else 0)))
        firsts = range(0, num_rays, step)
        return [self._block(scene, slice(first, min(first + step, num_rays))) for first in firsts]

    def _block(self, scene: int, rows: slice) -> _Block:
        def part(tensor: Tensor) -> Tensor:
            return tensor[scene, rows]

        samples = RaySamples(part(self.samples.distance), part(self.samples.width))
        refinement = self.refinement and self.refinement.apply(part)
        return _Block(scene, rows, self.rays.apply(part), samples, refinement)


class _Render(torch.autograd.Function):
    """The rendering as one operation, so that its intermediates live for a block only."""

    @staticmethod
    def forward(ctx: Any, task: _Task, features: Tensor, *layers: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        b, num_rays = task.samples.distance.shape[:2]
        latent = features.new_empty(b, num_rays, len(layers[3]) - 1)
        depth, opacity = features.new_empty(2, b, num_rays)
        ctx.task, ctx.plans = task, []
        ctx.save_for_backward(*layers)
        for scene in range(b):
            blocks, sources = task.blocks(scene), Sources(task.volume, scene)
            work = _Forward(task, sources, sources.table(features[scene]), Layers(*layers))
            for block, (plan, found) in zip(blocks, in_parallel(work, blocks), strict=True):
                for whole, part in zip((latent, depth, opacity), found, strict=True):
                    whole[scene, block.rows] = part
                ctx.plans.append(plan)
        return latent, depth, opacity

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        task, layers, plans = ctx.task, Layers(*ctx.saved_tensors), iter(ctx.plans)
        sums = Layers(*(torch.zeros_like(layer) for layer in layers.tensors()))
        volumes = torch.zeros_like(task.volume.features.movedim(2, -1), memory_format=torch.contiguous_format)
        for scene, volume in enumerate(volumes):
            given = [gradient[scene] for gradient in gradients]
            sources = Sources(task.volume, scene)
            work = _Backward(
                task, sources, layers, given, volume.flatten(0, 3) if ctx.needs_input_grad[1] else None
            )
            items = [(number, block, next(plans)) for number, block in enumerate(task.blocks(scene))]
            for found in in_parallel(work, items):
                for total, part in zip(sums.tensors(), found.tensors(), strict=True):
                    total += part
        return (None, volumes.movedim(-1, 2), *sums.tensors())


@dataclass(frozen=True)
class _Forward:
    """What is done with each block of a scene."""

    task: _Task
    sources: Sources
    table: Float[Tensor, "v c"]
    layers: Layers

    @torch.no_grad()
    def __call__(self, block: _Block) -> tuple[_Plan | None, tuple[Tensor, Tensor, Tensor]]:
        plan = _plan(block, self.sources, self.table, self.layers, self.task.config)
        logits = [(turn.density, turn.colour) for turn in plan.rounds]
        found = _blend(plan, logits, block.rays, self.task.config)
        return plan if self.task.remember else None, found


@dataclass(frozen=True)
class _Backward:
    """What is done with each block of a scene afterwards. In their order they add to the volume's gradient,
    so that its rounding does not depend on who comes first."""

    task: _Task
    sources: Sources
    layers: Layers
    given: list[Tensor]  # gradients of latent image, depth and opacity
    table: Float[Tensor, "v c"] | None  # gradient of the volume; None: not wanted
    turns: Turns = field(default_factory=Turns)

    @torch.no_grad()
    def __call__(self, item: tuple[int, _Block, _Plan]) -> Layers:
        """The layers' gradients."""
        (number, block, plan), config = item, self.task.config
        sums = Layers(*(torch.zeros_like(layer) for layer in self.layers.tensors()))
        with self.turns.number(number) as wait, torch.autocast("cpu", enabled=False):
            given = [gradient[block.rows] for gradient in self.given]
            of_logits = _blend_backward(plan, block.rays, config, given)
            found = [
                _decode_backward(turn, self.layers, config, changes, sums)
                for turn, changes in zip(plan.rounds, of_logits, strict=True)
            ]
            if self.table is None:
                return sums
            corners = [
                self.sources.corners(turn.places, pooled=config.pool == "before") for turn in plan.rounds
            ]
            wait()
            for where, gradient in zip(corners, found, strict=True):
                where.scatter(gradient, self.table)
        return sums


def _plan(block: _Block, sources: Sources, table: Tensor, layers: Layers, config: FieldConfig) -> _Plan:
    """Place and evaluate the samples of a block, round by round."""
    turn = _evaluate(block, block.samples.distance, sources, table, layers, config)
    if block.refinement is None:
        return _Plan([turn], block.samples, None)
    density = _spread(turn, _density(turn.density, config), len(block.samples.distance))
    weight = absorption_weights(density, block.samples.width)
    samples, more, order = block.refinement(block.rays, block.samples, weight)
    return _Plan([turn, _evaluate(block, more, sources, table, layers, config)], samples, order)


def _evaluate(
    block: _Block, distance: Tensor, sources: Sources, table: Tensor, layers: Layers, config: FieldConfig
) -> _Round:
    places = sources.place(block.rays, distance, config.outside)
    pooled = config.pool == "before"
    features = sources.corners(places, pooled=pooled).gather(table)
    density, colour = mlp.forward(features, layers)
    if not pooled:
        density = (density.view_as(places.share) * places.share).sum(dim=0)
        colour = torch.einsum("skf,sk->kf", colour.unflatten(0, places.share.shape), places.share)
    return _Round(distance.shape[1], places, features, density, colour)


def _decode_backward(
    turn: _Round, layers: Layers, config: FieldConfig, of_logits: tuple[Tensor, Tensor], sums: Layers
) -> Float[Tensor, "p c"]:
    """Gradient of a round's features; the layers' are added to `sums`."""
    density, colour = of_logits
    if config.pool == "after":
        share = turn.places.share
        density, colour = (density * share).flatten(), (colour * share[..., None]).flatten(0, 1)
    return mlp.backward(turn.features, layers, density, colour, sums)


def _density(logits: Tensor, config: FieldConfig) -> Tensor:
    return config.density_scale * F.softplus(logits)


def _blend(
    plan: _Plan, logits: Sequence[tuple[Tensor, Tensor]], rays: Rays, config: FieldConfig
) -> tuple[Float[Tensor, "r f"], Float[Tensor, "r"], Float[Tensor, "r"]]:
    """Latent image, depth and opacity of a block's rays, as `nerf.composite.composite` has them."""
    num_rays, samples = len(plan.samples.distance), plan.samples
    density = [
        _spread(turn, _density(thickness, config), num_rays)
        for turn, (thickness, _) in zip(plan.rounds, logits, strict=True)
    ]
    density = density[0] if plan.order is None else torch.cat(density, dim=-1).gather(-1, plan.order)
    weight = absorption_weights(density, samples.width)
    opacity = weight.sum(dim=-1)
    depth = (weight * samples.distance).sum(dim=-1) * rays.cosine
    if plan.order is not None:
        weight = torch.empty_like(weight).scatter(-1, plan.order, weight)
    latent = ((1 - opacity) * BACKGROUND)[:, None]
    weights = weight.split([turn.num for turn in plan.rounds], dim=-1)
    for turn, (_, colour), share in zip(plan.rounds, logits, weights, strict=True):
        index = turn.places.index
        known = share.flatten() if len(index) == share.numel() else share.flatten().index_select(0, index)
        latent = latent + _RaySums.apply(torch.sigmoid(colour), known, index // turn.num, num_rays)
    return latent, depth, opacity


def _blend_backward(
    plan: _Plan, rays: Rays, config: FieldConfig, given: Sequence[Tensor]
) -> list[tuple[Tensor, Tensor]]:
    """Gradients of the logits of density and colour, round by round."""
    with torch.enable_grad():
        logits = [
            tuple(part.detach().requires_grad_() for part in (turn.density, turn.colour))
            for turn in plan.rounds
        ]
        found = torch.autograd.grad(_blend(plan, logits, rays, config), sum(logits, ()), given)
    return list(zip(found[::2], found[1::2], strict=True))


class _RaySums(torch.autograd.Function):
    """Weighted sums of the samples of each ray."""

    @staticmethod
    def forward(ctx: Any, colour: Tensor, weight: Tensor, ray: Tensor, num_rays: int) -> Tensor:
        ctx.save_for_backward(colour, weight, ray)
        first = torch.searchsorted(ray, torch.arange(num_rays))
        samples = torch.arange(len(ray))
        return F.embedding_bag(samples, colour, first, per_sample_weights=weight, mode="sum")

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        colour, weight, ray = ctx.saved_tensors
        given = gradient.index_select(0, ray)
        of_weight = torch.linalg.vecdot(colour, given)
        return given.mul_(weight[:, None]), of_weight, None, None


def _spread(turn: _Round, values: Float[Tensor, "k"], num_rays: int) -> Float[Tensor, "r n"]:
    """Values of the known samples among zeros for the others."""
    total = num_rays * turn.num
    if len(values) < total:
        values = values.new_zeros(total).index_copy(0, turn.places.index, values)
    return values.unflatten(0, (num_rays, turn.num))
