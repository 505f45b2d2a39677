"""Volume renderer for the CPU: `nerf.composite` computed in blocks of rays.

The reference writes every intermediate of every sample to memory. Here a block of rays is fully computed
while it is in the caches, and only the sample placement is saved for the backward pass. Each sample is
evaluated once, also with a second pass, and samples outside all source frustums are skipped. Axes: b scene,
s source view, r ray, n sample, m sample of a pass, c feature, d depth plane, h, w; v grid points of all
sources, p lookups.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.autograd.function import once_differentiable

from data.cameras.pinhole import Cameras, Rays
from nerf.composite import Rendering, absorption_weights, refuse_gradients
from nerf.cpu import mlp
from nerf.cpu.blending import PassSamples, Plan, blend, blend_backward, density_of, spread
from nerf.cpu.lookup import Corners, Places, Sources, as_rows, zeros_in_rows
from nerf.cpu.mlp import Layers
from nerf.cpu.threads import OrderedSection, in_parallel
from nerf.field import FieldConfig, RadianceField
from nerf.sampling import RaySamples, Refinement
from nerf.volume import FrustumVolume

BLOCK = 65536  # samples; with fewer, threads would mostly wait for the GIL


def render_blocked(
    volume: FrustumVolume,
    field: RadianceField,
    rays: Rays,
    samples: RaySamples,
    refinement: Refinement | None = None,
) -> Rendering:
    """Render at `samples` and those added by `refinement`, as `render_reference`.

    Supports first-order gradients of the volume's features and the field's weights. Raises ValueError if
    rays, samples or cameras require one.
    """
    refuse_gradients(volume, rays, samples)
    inputs = (volume.features, *Layers.of(field).tensors())
    # Record this here: in `forward`, gradients are off and `requires_grad` is unreliable.
    remember = torch.is_grad_enabled() and any(tensor.requires_grad for tensor in inputs)
    task = _Task(
        volume.cameras, volume.valid, volume.align_corners, field.config, rays, samples, refinement, remember
    )
    return Rendering(*_Render.apply(task, *inputs))


@dataclass(frozen=True)
class _Block:
    """A block of rays of one scene."""

    scene: int
    number: int  # within the scene
    rows: slice
    rays: Rays
    samples: RaySamples
    refinement: Refinement | None


@dataclass(frozen=True)
class _Task:
    """The inputs of `_Render` besides the differentiable tensors."""

    cameras: Cameras
    valid: Bool[Tensor, "b s"]
    align_corners: bool
    config: FieldConfig
    rays: Rays
    samples: RaySamples
    refinement: Refinement | None
    remember: bool  # whether to save for the backward pass

    def scenes(self, features: Float[Tensor, "b s c d h w"], layers: Layers) -> list["_Scene"]:
        """Prepare all scenes for lookups."""
        volume = FrustumVolume(features, self.cameras, self.valid, align_corners=self.align_corners)
        scenes = []
        # Threads are not in inference mode, and cannot write to inference tensors.
        with torch.autocast("cpu", enabled=False), torch.inference_mode(False), torch.no_grad():
            for scene, part in enumerate(features):
                sources = Sources(volume, scene, self.rays.apply(itemgetter(scene)))
                scenes.append(_Scene(sources, sources.table(part), layers, self.config))
        return scenes

    def blocks(self) -> list[_Block]:
        """Split the rays of all scenes into blocks."""
        b, num_rays, num = self.samples.distance.shape
        step = max(1, BLOCK // (num + (self.refinement.num if self.refinement else 0)))
        firsts = range(0, num_rays, step)
        return [
            self._block(scene, number, slice(first, min(first + step, num_rays)))
            for scene in range(b)
            for number, first in enumerate(firsts)
        ]

    def _block(self, scene: int, number: int, rows: slice) -> _Block:
        def part(tensor: Tensor) -> Tensor:
            return tensor[scene, rows]

        samples = RaySamples(part(self.samples.distance), part(self.samples.width))
        refinement = self.refinement and self.refinement.apply(part)
        return _Block(scene, number, rows, self.rays.apply(part), samples, refinement)


@dataclass(frozen=True)
class _Found:
    """The field at some samples, with the intermediates for its gradient."""

    places: Places
    corners: Corners
    features: Float[Tensor, "p c"]
    samples: PassSamples


@dataclass(frozen=True)
class _Scene:
    """The source volumes of a scene, and the MLP."""

    sources: Sources
    table: Float[Tensor, "v c"]
    layers: Layers
    config: FieldConfig

    def evaluate(self, block: _Block, distance: Float[Tensor, "r m"]) -> _Found:
        """Evaluate the field at these distances along the rays of a block."""
        places = self.sources.place(block.rows, distance, self.config.outside)
        corners = self.sources.corners(places, pooled=self.config.pool == "before")
        features = corners.gather(self.table)
        density, colour = mlp.forward(features, self.layers)
        if self.config.pool == "after":
            density = (density.view_as(places.share) * places.share).sum(dim=0)
            colour = torch.einsum("skf,sk->kf", colour.unflatten(0, places.share.shape), places.share)
        return _Found(places, corners, features, PassSamples(distance, places.index, density, colour))

    def decode_backward(
        self, found: _Found, of_logits: tuple[Tensor, Tensor], sums: Layers
    ) -> Float[Tensor, "p c"]:
        """Return the gradient of the features; gradients of the layers are added to `sums`."""
        density, colour = of_logits
        if self.config.pool == "after":
            share = found.places.share
            density, colour = (density * share).flatten(), (colour * share[..., None]).flatten(0, 1)
        return mlp.backward(found.features, self.layers, density, colour, sums)


class _Render(torch.autograd.Function):
    """Rendering as one autograd function, so that intermediates exist for one block only."""

    @staticmethod
    def forward(ctx: Any, task: _Task, features: Tensor, *layers: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        b, num_rays = task.samples.distance.shape[:2]
        latent = features.new_empty(b, num_rays, len(layers[3]) - 1)
        depth, opacity = features.new_empty(2, b, num_rays)
        ctx.task, ctx.plans = task, []
        # Inference tensors cannot be saved for backward.
        features = features.clone() if features.is_inference() else features
        ctx.save_for_backward(features, *layers)
        blocks, work = task.blocks(), _Forward(task.scenes(features, Layers(*layers)))
        for block, (plan, found) in zip(blocks, in_parallel(work, blocks), strict=True):
            for whole, part in zip((latent, depth, opacity), found, strict=True):
                whole[block.scene, block.rows] = part
            if task.remember:
                ctx.plans.append(plan)
        return latent, depth, opacity

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        task, (features, *layers) = ctx.task, ctx.saved_tensors
        scenes = task.scenes(features, Layers(*layers))
        sums = Layers(*(torch.zeros_like(layer) for layer in layers))
        volumes = tables = None
        if ctx.needs_input_grad[1]:
            volumes = zeros_in_rows(features)
            tables = [as_rows(part) for part in volumes]
        work = _Backward(scenes, gradients, tables, [OrderedSection() for _ in scenes])
        for found in in_parallel(work, zip(task.blocks(), ctx.plans, strict=True)):
            for total, part in zip(sums.tensors(), found.tensors(), strict=True):
                total += part
        return (None, volumes, *sums.tensors())


@dataclass(frozen=True)
class _Forward:
    """The forward pass of a block."""

    scenes: list[_Scene]

    @torch.no_grad()
    def __call__(self, block: _Block) -> tuple[Plan, tuple[Tensor, Tensor, Tensor]]:
        """Return the sample placement and the rendering of a block."""
        scene = self.scenes[block.scene]
        with torch.autocast("cpu", enabled=False):
            first = scene.evaluate(block, block.samples.distance).samples
            if block.refinement is None:
                plan, passes = Plan([first.distance], block.samples, None), [first]
            else:
                density = spread(first, density_of(first.density, scene.config))
                weight = absorption_weights(density, block.samples.width)
                samples, more, order = block.refinement(block.rays, block.samples, weight)
                plan = Plan([first.distance, more], samples, order)
                passes = [first, scene.evaluate(block, more).samples]
            return plan, blend(plan, passes, block.rays, scene.config)


@dataclass(frozen=True)
class _Backward:
    """The backward pass of a block. Evaluating samples again takes 1/7 of the time and saves half the memory.

    Blocks of a scene add to its volumes' gradient in order, so that rounding is deterministic.
    """

    scenes: list[_Scene]
    given: Sequence[Tensor]  # gradients of latent image, depth and opacity
    tables: list[Float[Tensor, "v c"]] | None  # gradients of the volumes; None if not required
    sections: list[OrderedSection]  # per scene

    @torch.no_grad()
    def __call__(self, item: tuple[_Block, Plan]) -> Layers:
        """Return the gradients of the layers."""
        block, plan = item
        scene = self.scenes[block.scene]
        with self.sections[block.scene].number(block.number) as wait, torch.autocast("cpu", enabled=False):
            sums = Layers(*(torch.zeros_like(layer) for layer in scene.layers.tensors()))
            given = [gradient[block.scene, block.rows] for gradient in self.given]
            found = [scene.evaluate(block, distance) for distance in plan.distances]
            of_logits = blend_backward(
                plan, [each.samples for each in found], block.rays, scene.config, given
            )
            changes = [
                (each.corners, scene.decode_backward(each, change, sums))
                for each, change in zip(found, of_logits, strict=True)
            ]
            del found, of_logits
            if self.tables is not None:
                wait()
                for corners, change in changes:
                    corners.scatter(change, self.tables[block.scene])
        return sums
