"""The renderer for the CPU: the sums of `nerf.composite`, block by block of rays.

The reference writes every intermediate of every sample to memory, several times. Here a block of rays goes
through the whole calculation while it is in the caches, and of a sample only its features are kept, for the
backward pass. A sample is evaluated once, also where a second round follows the first, and not at all where
no source has a say. Axes: s source view, r ray, n sample, k sample that a source knows, c feature, f latent
channel, q sources whose features enter the MLP one by one (1 where they are pooled before).
"""

from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable

from data.cameras import Rays
from nerf import mlp
from nerf.composite import Rendering, absorption_weights, refuse_gradients
from nerf.field import FieldConfig, RadianceField
from nerf.lookup import Sources, zeros_in_rows
from nerf.mlp import Layers
from nerf.refinement import Refinement
from nerf.rounds import Plan, Round, blend, blend_backward, density_of, spread
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
class _Block:
    """Some rays of one scene."""

    rows: slice
    rays: Rays
    samples: RaySamples
    refinement: Refinement | None


@dataclass(frozen=True)
class _Task:
    """All that `_Render` takes beside the tensors that want gradients."""

    volume: FrustumVolume
    config: FieldConfig
    rays: Rays
    samples: RaySamples
    refinement: Refinement | None
    remember: bool  # what the backward pass needs

    def sources(self, scene: int) -> Sources:
        """The source volumes of a scene."""
        return Sources(self.volume, scene, self.rays.apply(lambda tensor: tensor[scene]))

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
        return _Block(rows, self.rays.apply(part), samples, refinement)


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
            # Threads are never in inference mode, and could not write to what is made in it.
            with torch.inference_mode(False), torch.no_grad():
                blocks, sources = task.blocks(scene), task.sources(scene)
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
        volumes = zeros_in_rows(task.volume.features) if ctx.needs_input_grad[1] else None
        for scene in range(len(gradients[0])):
            given = [gradient[scene] for gradient in gradients]
            sources = task.sources(scene)
            table = None if volumes is None else sources.table(volumes[scene])
            work = _Backward(task, sources, layers, given, table)
            items = [(number, block, next(plans)) for number, block in enumerate(task.blocks(scene))]
            for found in in_parallel(work, items):
                for total, part in zip(sums.tensors(), found.tensors(), strict=True):
                    total += part
        return (None, volumes, *sums.tensors())


@dataclass(frozen=True)
class _Forward:
    """What is done with each block of a scene."""

    task: _Task
    sources: Sources
    table: Float[Tensor, "v c"]
    layers: Layers

    @torch.no_grad()
    def __call__(self, block: _Block) -> tuple[Plan | None, tuple[Tensor, Tensor, Tensor]]:
        with torch.autocast("cpu", enabled=False):
            plan = _make_plan(block, self.sources, self.table, self.layers, self.task.config)
            logits = [(turn.density, turn.colour) for turn in plan.rounds]
            found = blend(plan, logits, block.rays, self.task.config)
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
    def __call__(self, item: tuple[int, _Block, Plan]) -> Layers:
        """The layers' gradients."""
        (number, block, plan), config = item, self.task.config
        sums = Layers(*(torch.zeros_like(layer) for layer in self.layers.tensors()))
        with self.turns.number(number) as wait, torch.autocast("cpu", enabled=False):
            given = [gradient[block.rows] for gradient in self.given]
            of_logits = blend_backward(plan, block.rays, config, given)
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


def _make_plan(block: _Block, sources: Sources, table: Tensor, layers: Layers, config: FieldConfig) -> Plan:
    """Place and evaluate the samples of a block, round by round."""
    turn = _evaluate(block, block.samples.distance, sources, table, layers, config)
    if block.refinement is None:
        return Plan([turn], block.samples, None)
    density = spread(turn, density_of(turn.density, config), len(block.samples.distance))
    weight = absorption_weights(density, block.samples.width)
    samples, more, order = block.refinement(block.rays, block.samples, weight)
    return Plan([turn, _evaluate(block, more, sources, table, layers, config)], samples, order)


def _evaluate(
    block: _Block, distance: Tensor, sources: Sources, table: Tensor, layers: Layers, config: FieldConfig
) -> Round:
    places = sources.place(block.rows, distance, config.outside)
    pooled = config.pool == "before"
    features = sources.corners(places, pooled=pooled).gather(table)
    density, colour = mlp.forward(features, layers)
    if not pooled:
        density = (density.view_as(places.share) * places.share).sum(dim=0)
        colour = torch.einsum("skf,sk->kf", colour.unflatten(0, places.share.shape), places.share)
    return Round(distance.shape[1], places, features, density, colour)


def _decode_backward(
    turn: Round, layers: Layers, config: FieldConfig, of_logits: tuple[Tensor, Tensor], sums: Layers
) -> Float[Tensor, "p c"]:
    """Gradient of a round's features; the layers' are added to `sums`."""
    density, colour = of_logits
    if config.pool == "after":
        share = turn.places.share
        density, colour = (density * share).flatten(), (colour * share[..., None]).flatten(0, 1)
    return mlp.backward(turn.features, layers, density, colour, sums)
