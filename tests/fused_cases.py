"""Cases for the fused kernels, and what must hold for each: on the CPU under Triton's interpreter, and
compiled on a GPU."""

import copy
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from data.cameras.pinhole import Rays
from nerf.composite import Rendering, render_reference
from nerf.field import FieldConfig, RadianceField
from nerf.fused.render import render_fused
from nerf.published import within_cube
from nerf.sampling import RaySamples, uniform
from nerf.volume import FrustumVolume
from tests.scenes import as_double, cameras

B = 2
FAINT = 1e-3  # gradients smaller than this are all but none


@dataclass(frozen=True)
class Case:
    """One rendering: everything that a backend takes."""

    volume: FrustumVolume
    field: RadianceField
    rays: Rays
    samples: RaySamples

    def to(self, device: str) -> "Case":
        """The same on another device."""

        def move(tensor: Tensor) -> Tensor:
            return tensor.to(device)

        samples = RaySamples(move(self.samples.distance), move(self.samples.width))
        field = copy.deepcopy(self.field).to(device)
        return Case(self.volume.apply(move), field, self.rays.apply(move), samples)

    def double(self) -> "Case":
        """The same in float64."""
        samples = RaySamples(self.samples.distance.double(), self.samples.width.double())
        field = copy.deepcopy(self.field).double()
        return Case(self.volume.apply(as_double), field, self.rays.apply(as_double), samples)


def case(
    *,
    num_source: int = 2,
    valid: list[list[bool]] | None = None,
    size: tuple[int, int, int, int] = (5, 4, 6, 7),
    hidden: int = 7,
    latent: int = 3,
    num_rays: int = 5,
    num_samples: int = 9,
    align_corners: bool = False,
    dtype: torch.dtype = torch.float32,
    cube: bool = False,
    **field: Any,
) -> Case:
    """Noise seen by cameras from all sides; `size` is (c, d, h, w), other keywords are the field's."""
    generator = torch.Generator().manual_seed(num_source + 10 * hidden)
    features = torch.randn(B, num_source, *size, generator=generator).to(dtype)
    seen = torch.ones(B, num_source, dtype=torch.bool) if valid is None else torch.tensor(valid)
    torch.manual_seed(4)
    net = RadianceField(
        FieldConfig(hidden=hidden, **({"density_scale": 3.0} | field)),
        channels=size[0],
        latent_channels=latent,
    )
    rays = cameras(B, 1, seed=4).rays(5, 5).apply(lambda tensor: tensor.flatten(1, 2)[:, 7 : 7 + num_rays])
    rays = within_cube(rays, 0.1) if cube else rays
    samples = uniform(rays, num_samples, torch.rand(B, num_rays, num_samples, generator=generator))
    return Case(FrustumVolume(features, cameras(B, num_source), seen, align_corners), net, rays, samples)


def _with_density(logit: float, **changes: Any) -> Case:
    """The density's logit is all but the same everywhere."""
    made = case(**changes)
    with torch.no_grad():
        made.field.output.bias[0] = logit
    return made


def _opaque_in_front() -> Case:
    """The first sample of each ray lets nothing through, whatever follows."""
    return _with_density(8.0, density_scale=1e6, outside="clamp", num_samples=20)


def _missing() -> Case:
    """Half of the rays pass beside the cube."""
    made = case(cube=True)
    away = made.rays.directions.clone()
    away[:, ::2] *= -1
    rays = within_cube(replace(made.rays, directions=away), 0.1)
    assert (rays.near == rays.far).any()
    return replace(made, rays=rays, samples=uniform(rays, 9))


def _behind() -> Case:
    """Rays from within the sources' working volume, past their cameras and on."""
    made = case(outside="clamp", num_source=3)
    position = made.volume.cameras.positions[:, :1]
    start = position * 0.5 + torch.tensor([0.04, -0.03, 0.05])  # so that no ray meets a camera's centre
    directions = torch.nn.functional.normalize(position, dim=-1).expand_as(made.rays.directions)
    rays = replace(made.rays, origins=start.expand_as(directions), directions=directions)
    return replace(made, rays=rays)


CASES: dict[str, Callable[[], Case]] = {
    "one source": lambda: case(num_source=1),
    "one source, pool after": lambda: case(num_source=1, pool="after", outside="clamp"),
    "two sources": lambda: case(pool="before", outside="clamp"),
    "two sources, pool after": lambda: case(pool="after", outside="mask", align_corners=True),
    "three sources, some padding": lambda: case(
        num_source=3, valid=[[True, False, True], [False, True, False]], align_corners=True
    ),
    "three sources, some padding, pool after": lambda: case(
        num_source=3, valid=[[True, False, True], [True, True, True]], pool="after", outside="clamp"
    ),
    "eight sources": lambda: case(num_source=8, num_rays=3, num_samples=5),
    "one channel, two planes": lambda: case(size=(1, 2, 3, 5), hidden=1, latent=4, num_rays=7),
    "many channels": lambda: case(size=(19, 3, 5, 4), hidden=33, latent=17, num_rays=3),
    "blocks of hidden units": lambda: case(hidden=131, latent=16, num_rays=3),
    "blocks of hidden units, pool after": lambda: case(hidden=75, latent=5, num_rays=3, pool="after"),
    "several tiles": lambda: case(num_rays=3, num_samples=37, density_scale=0.5),
    "one sample": lambda: case(num_samples=1, num_rays=7),
    "one ray": lambda: case(num_rays=1),
    "no density": lambda: _with_density(-200.0),
    "a whiff of density": lambda: _with_density(-18.0, density_scale=1e6),
    "an opaque first sample": _opaque_in_front,
    "an opaque middle": lambda: _with_density(1.0, density_scale=40.0, num_samples=40, num_rays=3),
    "no valid source": lambda: case(valid=[[False, False], [True, False]], outside="clamp"),
    "rays that miss": _missing,
    "points behind the cameras": _behind,
}


def run(render: Callable[..., Rendering], made: Case) -> tuple[list[Tensor], list[Tensor]]:
    """Outputs, and gradients of the volume and of the field's four parameters."""
    features = made.volume.features.detach().clone().requires_grad_()
    made.field.zero_grad()
    found = render(replace(made.volume, features=features), made.field, made.rays, made.samples)
    outputs = [found.latent, found.depth, found.opacity]
    generator = torch.Generator().manual_seed(11)
    changes = [torch.randn(output.shape, generator=generator).to(output) for output in outputs]
    torch.autograd.backward(outputs, changes)
    return [x.detach() for x in outputs], [features.grad, *(p.grad for p in made.field.parameters())]


def errors(made: Case, device: str) -> tuple[float, float]:
    """Largest error of the outputs, absolute, and of the gradients, in units of each one's largest value or
    of FAINT, whichever is more; against float64."""
    here = made.to(device)
    outputs, gradients = run(render_fused, here)
    true_outputs, true_gradients = run(render_reference, made.double())
    for found, true in zip(outputs + gradients, true_outputs + true_gradients, strict=True):
        assert found.shape == true.shape
    assert all(output.dtype == torch.float32 for output in outputs)
    assert gradients[0].dtype == made.volume.features.dtype
    return (
        max(float((a.cpu() - b).abs().max()) for a, b in zip(outputs, true_outputs, strict=True)),
        max(
            float((a.cpu() - b).abs().max() / b.abs().max().clamp_min(FAINT))
            for a, b in zip(gradients, true_gradients, strict=True)
        ),
    )


def within_a_graph(device: str, backend: str) -> None:
    """A function around the kernels gives the same, compiled as one graph, with its gradient."""
    made = case(num_rays=3).to(device)

    def loss(features: Tensor) -> Tensor:
        volume = replace(made.volume, features=2 * features)
        found = render_fused(volume, made.field, made.rays, made.samples)
        return (found.latent**2).sum() + (found.depth * found.opacity).sum()

    results = []
    for function in (torch.compile(loss, backend=backend, fullgraph=True), loss):
        features = made.volume.features.clone().requires_grad_()
        value = function(features)
        value.backward()
        results.append((value.detach(), features.grad))
    torch.testing.assert_close(*results, atol=1e-6, rtol=1e-5)  # atomics add in any order


def alone_in_a_process(code: str, **environment: str) -> None:
    """Run `code` with this module's names in a process without run-time checks of shapes, which cannot be
    compiled."""
    here = Path(__file__).parent
    done = subprocess.run(
        [sys.executable, "-c", f"from fused_cases import *; {code}"],
        env=os.environ | {"PYTHONPATH": f"{here}{os.pathsep}{here.parent}"} | environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-3000:]
