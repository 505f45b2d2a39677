"""Fused kernels: interpreted on the CPU against the float64 reference, and compiled for GPUs."""

import importlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from nerf.composite import absorption_weights, query
from nerf.fused.operators import WIDEST, tiles
from nerf.fused.render import channels_last, fused_available, fused_density, render_fused
from nerf.renderer import RendererConfig, VolumeRenderer
from nerf.sampling import RaySamples
from tests.fused_cases import CASES, Case, alone_in_a_process, case, errors, run
from tests.scenes import cameras

pytest.importorskip("triton", reason="Triton comes with PyTorch for Linux only")

KERNELS = [f"nerf.fused.{name}" for name in ("device_functions", "mlp", "tile", "gradient", "kernels")]


@pytest.fixture(autouse=True, scope="module")
def _interpreter() -> Iterator[None]:
    """Kernels of this file are interpreted, those of other files in the same process are not."""
    compiled = {name: sys.modules.pop(name) for name in KERNELS if name in sys.modules}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TRITON_INTERPRET", "1")  # read when a kernel is declared
        importlib.import_module("nerf.fused.kernels")
    yield
    for name in KERNELS:
        sys.modules.pop(name)
    sys.modules.update(compiled)


@pytest.mark.parametrize("name", CASES)
def test_the_kernels_equal_the_reference_in_float64_with_every_gradient(name):
    output_error, gradient_error = errors(CASES[name](), "cpu")
    assert output_error < 5e-7  # worst seen 1.2e-7, interpreter, float32
    assert gradient_error < 1.5e-5  # worst seen 4.3e-6 (an opaque middle), else 1e-6, interpreter, float32


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.bfloat16, 4e-3), (torch.float16, 1e-3)])
def test_volumes_in_half_precision_are_read_as_they_are_stored(dtype, tolerance):
    output_error, gradient_error = errors(case(dtype=dtype, num_rays=3), "cpu")
    assert output_error < 5e-7  # worst seen 9e-8: sums are in float32
    assert gradient_error < tolerance  # half a unit in the last place of the stored gradient: 2e-3, 3e-4


def test_density_alone_is_that_of_the_field():
    for made in (case(pool="after", num_samples=18), CASES["three sources, some padding"]()):
        parts = (made.volume, made.field, made.rays, made.samples)
        found = fused_density(*parts)
        assert not found.requires_grad
        torch.testing.assert_close(found, query(*parts)[0], atol=2e-6, rtol=2e-6)  # worst seen 2.4e-7
        assert (found > 0).any()


def test_behind_what_is_opaque_no_density_is_worked_out_and_none_is_missed():
    made = CASES["an opaque middle"]()
    parts = (made.volume, made.field, made.rays, made.samples)
    found, exact = fused_density(*parts), query(*parts)[0]
    assert ((found == 0) & (exact > 0)).any()
    weights = [absorption_weights(density, made.samples.width) for density in (found, exact)]
    torch.testing.assert_close(*weights, atol=1e-6, rtol=0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_whole_pictures_with_samples_placed_by_importance(dtype):
    made, seen_by = case(num_rays=3, dtype=dtype), cameras(2, 1, seed=8)
    config = RendererConfig(size=3, latent_channels=3, coarse=5, fine=4, field=made.field.config)
    pictures = []
    for backend in ("reference", "fused"):
        torch.manual_seed(5)
        renderer = VolumeRenderer(
            config.model_copy(update={"backend": backend}), channels=made.volume.features.shape[2]
        )
        assert renderer.backend == backend
        with torch.no_grad():
            pictures.append(renderer(made.volume, seen_by))
    for name in ("latent", "depth", "opacity"):
        expected, found = (getattr(picture, name) for picture in pictures)
        # Where samples are placed depends on rounding: worst seen 3e-6.
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)


def test_gradients_stop_where_they_are_not_asked_for():
    made = case(num_rays=3)
    found = render_fused(made.volume, made.field, made.rays, made.samples)
    found.latent.sum().backward()
    assert made.volume.features.grad is None
    field_alone = [parameter.grad.clone() for parameter in made.field.parameters()]
    features = made.volume.features.clone().requires_grad_()
    made.field.zero_grad()
    found = render_fused(replace(made.volume, features=features), made.field, made.rays, made.samples)
    found.latent.sum().backward()
    torch.testing.assert_close([parameter.grad for parameter in made.field.parameters()], field_alone)


def test_a_volume_that_is_channels_last_already_gives_the_same():
    made = case(num_rays=3)
    turned = channels_last(made.volume)
    assert turned.features.shape == made.volume.features.shape
    assert turned.features.stride(2) == 1
    assert torch.equal(turned.features, made.volume.features)
    before, after = (run(render_fused, replace(made, volume=volume)) for volume in (made.volume, turned))
    assert all(torch.equal(one, two) for one, two in zip(before[0], after[0], strict=True))
    torch.testing.assert_close(after[1], before[1])


def test_it_can_be_compiled_into_a_larger_graph():
    alone_in_a_process(
        "within_a_graph('cpu', 'eager'); within_a_graph('cpu', 'aot_eager')", TRITON_INTERPRET="1"
    )


def test_operators_keep_the_promises_that_compilers_rely_on():
    from nerf.fused.render import _arguments

    made = case(num_rays=2, num_samples=3, num_source=1)
    arguments = _arguments(made.volume, made.field, made.rays, made.samples)
    arguments = [a.detach().requires_grad_(i in (0, 7)) if i < 11 else a for i, a in enumerate(arguments)]
    checks = ("test_schema", "test_autograd_registration", "test_faketensor")
    torch.library.opcheck(torch.ops.genvs.render_fused.default, tuple(arguments), test_utils=checks)


def test_a_second_derivative_is_refused_in_one_clear_line():
    made = case(num_rays=2, num_samples=3, num_source=1)
    features = made.volume.features.clone().requires_grad_()
    found = render_fused(replace(made.volume, features=features), made.field, made.rays, made.samples)
    (slope,) = torch.autograd.grad(found.latent.sum(), features, create_graph=True)
    with pytest.raises(ValueError, match=r"second derivative; use model\.renderer\.backend=reference"):
        slope.sum().backward()


def _asking(made: Case, owner: str) -> Case:
    """The case with one tensor of rays, samples or cameras that asks for a gradient."""
    if owner == "Rays.origins":
        return replace(made, rays=replace(made.rays, origins=made.rays.origins.clone().requires_grad_()))
    if owner == "RaySamples.width":
        samples = RaySamples(made.samples.distance, made.samples.width.clone().requires_grad_())
        return replace(made, samples=samples)
    near = made.volume.cameras.near.clone().requires_grad_()
    return replace(made, volume=replace(made.volume, cameras=replace(made.volume.cameras, near=near)))


@pytest.mark.parametrize("owner", ["Rays.origins", "RaySamples.width", "Cameras.near"])
def test_gradients_that_it_does_not_give_are_refused(owner):
    made = _asking(case(), owner)
    with pytest.raises(ValueError, match=f"{owner} requires a gradient.*model.renderer.backend=reference"):
        render_fused(made.volume, made.field, made.rays, made.samples)


def test_what_the_kernels_cannot_hold_is_refused():
    wide = case(latent=WIDEST + 1)
    with pytest.raises(ValueError, match=f"support {WIDEST} channels, not {WIDEST + 1}; use"):
        fused_density(wide.volume, wide.field, wide.rays, wide.samples)
    double = case().double()
    with pytest.raises(
        ValueError, match=r"volumes of torch\.float64; use model\.renderer\.backend=reference"
    ):
        render_fused(double.volume, double.field, double.rays, double.samples)


def test_no_rays_are_rendered_into_nothing():
    made = case(num_rays=0)
    found = render_fused(made.volume, made.field, made.rays, made.samples)
    assert found.latent.shape == (2, 0, 3)
    assert found.depth.shape == found.opacity.shape == (2, 0)


def test_tiles_are_what_matrix_units_take():
    for sizes in ((1, 1, 3), (16, 64, 16), (17, 4096, 200), (WIDEST, 100, 3)):
        cut = tiles(*sizes)
        assert min(cut.C_PAD, cut.HIDDEN_BLOCK, cut.LATENT_PAD, cut.BLOCK_RAYS * cut.BLOCK_SAMPLES) >= 16
        assert sizes[0] <= cut.C_PAD
        assert sizes[2] <= cut.LATENT_PAD
        assert all(
            size & (size - 1) == 0 for size in (cut.C_PAD, cut.HIDDEN_BLOCK, cut.LATENT_PAD, cut.BLOCK_RAYS)
        )


def test_where_the_kernels_can_run_is_told():
    assert fused_available("cuda")  # Triton is here; whether a GPU is, PyTorch says
    assert fused_available("cpu")  # interpreted
    kernels = sys.modules.pop("nerf.fused.kernels")
    try:
        assert not fused_available(torch.device("cpu"))
    finally:
        sys.modules["nerf.fused.kernels"] = kernels


def test_the_kernels_compile_for_gpus_that_are_not_here(tmp_path):
    # What the interpreter lets pass and the compiler does not: types, shapes, layouts, shared memory.
    asked = ["backward:90:fp32", "backward:80:bf16", "forward:80:fp32", "density:90:bf16"]
    clean = {key: value for key, value in os.environ.items() if key != "TRITON_INTERPRET"}
    done = subprocess.run(
        [sys.executable, Path(__file__).parents[2] / "fused_compile.py", *asked],
        env=clean | {"TRITON_CACHE_DIR": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    figures = [json.loads(line) for line in done.stdout.splitlines()]
    assert [figure["kernel"] for figure in figures] == asked
    assert all(figure["tensor_cores"] for figure in figures)
    # At most what lets two programs share a multiprocessor (163 KiB of an A100, 227 KiB of an H100).
    assert all(figure["shared"] <= 80 * 1024 for figure in figures)
