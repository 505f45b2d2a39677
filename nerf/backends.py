"""Rendering backends: the reference, blocks of rays on the CPU, or fused Triton kernels on a GPU.

All have the same contract and are interchangeable up to rounding. Axes: b scene, r ray, n sample.
"""

from collections.abc import Callable
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from data.cameras.pinhole import Rays
from nerf.composite import Rendering, absorption_weights, density_reference, render_reference
from nerf.cpu.render import render_blocked
from nerf.field import RadianceField
from nerf.fused.operators import WIDEST
from nerf.fused.render import channels_last, fused_available, fused_density, render_fused
from nerf.sampling import RaySamples, Refinement
from nerf.volume import FrustumVolume

BackendName = Literal["auto", "reference", "blocked", "fused"]
Render = Callable[[FrustumVolume, RadianceField, Rays, RaySamples, Refinement | None], Rendering]
Density = Callable[[FrustumVolume, RadianceField, Rays, RaySamples], Float[Tensor, "b r n"]]


def choose_backend(name: BackendName, device: torch.device, *, widest: int = 1) -> BackendName:
    """Resolve a backend for tensors on `device` with at most `widest` channels; "auto" is the fastest.

    Raises ValueError if the requested backend cannot run there.
    """
    if name == "auto":
        if device.type == "cpu":
            return "blocked"
        return "fused" if widest <= WIDEST and fused_available(device) else "reference"
    missing = None
    if name == "blocked" and device.type != "cpu":
        missing = "the CPU"
    if name == "fused" and not fused_available(device):
        missing = "a CUDA device and Triton"
    if missing:
        raise ValueError(
            f"model.renderer.backend: {name} needs {missing}, but the model is on {device}; use auto"
        )
    return name


def prepared(name: BackendName, volume: FrustumVolume) -> FrustumVolume:
    """Convert the volume once for all passes of a backend: to float32, except that the fused one also reads
    half precision (its MLP then keeps ten bits) and needs channels last.
    """
    if name == "fused" and volume.features.dtype in (torch.bfloat16, torch.float16, torch.float32):
        return channels_last(volume)
    return volume.apply(lambda tensor: tensor.float() if tensor.is_floating_point() else tensor)


def _in_two_passes(density: Density, render: Callable[..., Rendering]) -> Render:
    """Render in two passes: density alone to place more samples, then everything at all samples."""

    def run(
        volume: FrustumVolume,
        field: RadianceField,
        rays: Rays,
        samples: RaySamples,
        refinement: Refinement | None = None,
    ) -> Rendering:
        if refinement is not None:
            with torch.no_grad():
                weight = absorption_weights(density(volume, field, rays, samples), samples.width)
            samples, _, _ = refinement(rays, samples, weight)
        return render(volume, field, rays, samples)

    return run


BACKENDS: dict[str, Render] = {
    "reference": _in_two_passes(density_reference, render_reference),
    "blocked": render_blocked,
    "fused": _in_two_passes(fused_density, render_fused),
}
