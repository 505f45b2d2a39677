"""The least work that a task can take, and the time that this work needs at the ceilings.

Counted are floating-point operations of the arithmetic that no implementation can leave out (a multiplication
and an addition are two), and bytes that must cross the memory bus when caches hold everything in between:
inputs and weights read once, results written once, all in float32. Nothing is counted for intermediate
results, however large, so a floor is a bound, and not always one that can be reached.
"""

from collections.abc import Callable
from dataclasses import dataclass

from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from nerf.renderer import RendererConfig
from scripts.benchmark.machine import Ceilings

FLOAT_BYTES = 4
CORNERS = 8  # of the cell between texels in which a sample lies


@dataclass(frozen=True)
class Work:
    """What must be moved and calculated."""

    num_bytes: float
    flops: float

    def __add__(self, other: "Work") -> "Work":
        return Work(self.num_bytes + other.num_bytes, self.flops + other.flops)

    def __mul__(self, times: float) -> "Work":
        return Work(self.num_bytes * times, self.flops * times)

    def floor(self, ceilings: Ceilings, precision: str) -> float:
        """Seconds, with memory transfer and computation in parallel: the longer of the two."""
        return max(self.num_bytes / ceilings.bandwidth, self.flops / ceilings.flops[precision])


def renderer_work(
    config: RendererConfig, *, channels: int, voxels: int, num_source: int, num_target: int, backward: bool
) -> Work:
    """Rendering `num_target` latent images of one scene from volumes of `voxels` texels each.

    Operations: trilinear lookups (eight texels per sample, source and channel), and the MLP once per sample.
    Bytes: the part of each volume that can be accessed, and the images. Backward also adds to the gradients
    of the volumes, passes each layer twice (inputs and weights), reads the volumes again, reads the gradient
    of the images and writes those of the volumes.
    """
    num_rays = num_target * config.size**2
    num_samples = num_rays * (config.coarse + config.fine)
    hidden, outputs = config.field.hidden, 1 + config.latent_channels
    evaluations = num_source if config.field.pool == "after" else 1
    blending = 2 * CORNERS * channels * num_source
    network = 2 * (channels + outputs) * hidden * evaluations
    touched = num_source * channels * min(voxels, CORNERS * num_samples) * FLOAT_BYTES
    images = num_rays * (config.latent_channels + 2) * FLOAT_BYTES
    if not backward:
        return Work(touched + images, num_samples * (blending + network))
    gradients = num_source * channels * voxels * FLOAT_BYTES
    return Work(2 * touched + gradients + 2 * images, num_samples * (2 * blending + 3 * network))


def network_work(run: Callable[[], object], network: nn.Module, num_ends: int, *, backward: bool) -> Work:
    """A pass through a network: `run` is carried out and its convolutions and matrix products are counted.

    Bytes: weights, and the `num_ends` numbers that go in and come out; backward reads the weights again and
    writes their gradients.
    """
    with FlopCounterMode(display=False) as counter:
        run()
    num_weights = sum(weight.numel() for weight in network.parameters())
    num_moved = num_weights * (3 if backward else 1) + num_ends
    return Work(FLOAT_BYTES * num_moved, counter.get_total_flops())


def update_work(network: nn.Module) -> Work:
    """AdamW and average: the gradient read; weight, both moments and average read and written."""
    count = sum(weight.numel() for weight in network.parameters() if weight.requires_grad)
    return Work(9 * count * FLOAT_BYTES, 0.0)
