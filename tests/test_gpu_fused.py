"""Fused kernels on a GPU: the cases of tests/nerf/fused/test_kernels.py, compiled instead of interpreted."""

import pytest
import torch

from nerf.composite import query
from nerf.fused.render import fused_density
from tests.fused_cases import CASES, alone_in_a_process, case, errors

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here"),
]

FULL = {"size": (16, 64, 48, 40), "hidden": 64, "latent": 16, "num_rays": 18, "num_samples": 128}


@pytest.mark.parametrize("name", CASES)
def test_the_kernels_equal_the_reference_in_float64_with_every_gradient(name):
    output_error, gradient_error = errors(CASES[name](), "cuda")
    # Wider than the interpreter's (1e-7 and 4e-6): the GPU's exp and log are good to 2e-7, and products of
    # two halves of a number to 2e-7. Not yet seen on a GPU.
    assert output_error < 1e-5
    assert gradient_error < 1e-4


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_volumes_in_half_precision_are_good_to_ten_bits(dtype):
    output_error, gradient_error = errors(case(dtype=dtype), "cuda")
    # Products keep ten bits of mantissa, 1e-3 at most; gradients are stored in eight or eleven bits.
    assert output_error < 3e-3
    assert gradient_error < 2e-2


@pytest.mark.parametrize("pool", ["before", "after"])
def test_the_default_sizes_of_the_field_equal_the_reference(pool):
    output_error, gradient_error = errors(case(pool=pool, **FULL), "cuda")
    assert output_error < 1e-5
    assert gradient_error < 1e-4


def test_density_alone_is_that_of_the_field():
    made = case(num_samples=18).to("cuda")
    parts = (made.volume, made.field, made.rays, made.samples)
    torch.testing.assert_close(fused_density(*parts), query(*parts)[0], atol=1e-5, rtol=1e-5)


def test_it_can_be_compiled_into_a_larger_graph():
    alone_in_a_process("within_a_graph('cuda', 'inductor')")
