"""What computes a rendering: the reference, blocks of rays on the CPU, or one Triton kernel on a GPU.

All have the same contract, so that one may stand in for another to the last bits of rounding. Axes: b scene,
r ray, n sample.
"""

from collections.abc import Callable
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from data.cameras import Rays
from nerf.blocked import render_blocked
from nerf.composite import Rendering, absorption_weights, density_reference, render_reference
from nerf.field import RadianceField
from nerf.fused import fused_available, fused_density, render_fused
from nerf.refinement import Refinement
from nerf.sampling import RaySamples
from nerf.volume import FrustumVolume

BackendName = Literal["auto", "reference", "blocked", "fused"]
Render = Callable[[FrustumVolume, RadianceField, Rays, RaySamples, Refinement | None], Rendering]
Density = Callable[[FrustumVolume, RadianceField, Rays, RaySamples], Float[Tensor, "b r n"]]


def choose_backend(name: BackendName, device: torch.device) -> BackendName:
    """The backend that a name means for tensors on `device`; "auto" is the fastest that can run there.

    Raises ValueError where the backend asked for cannot.
    """
    if name == "auto":
        if device.type == "cpu":
            return "blocked"
        return "fused" if fused_available(device) else "reference"
    needs = {"blocked": "the CPU", "fused": "a CUDA device and Triton"}
    can = {"blocked": device.type == "cpu", "fused": fused_available(device)}
    if not can.get(name, True):
        raise ValueError(
            f"model.renderer.backend: {name} needs {needs[name]}, but the model is on {device}; use auto"
        )
    return name


def _in_two_passes(density: Density, render: Callable[..., Rendering]) -> Render:
    """First the density alone, by which more samples are placed, then everything at all of them."""

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
