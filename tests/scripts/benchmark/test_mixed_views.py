"""The benchmark of a model that composes views: its baseline, and its batch, are those that it names."""

import torch

from scripts.benchmark.cases.mixed_views import (
    VIEW_COUNTS,
    _config,
    _extrapolated,
    batch_of,
    plain_attention,
)
from scripts.benchmark.context import Bench
from scripts.benchmark.machine import Ceilings
from scripts.benchmark.measure import Figure


def small_bench() -> Bench:
    return Bench(torch.device("cpu"), "small", 1, 4, Ceilings(1e9, {"float32": 1e9, "bfloat16": 2e9}))


def test_plain_attention_is_its_formula():
    q, k, v = (torch.randn(2, 1, 5, 3, generator=torch.Generator().manual_seed(n)) for n in range(3))
    expected = (q @ k.mT / 3**0.5).softmax(dim=-1) @ v
    with plain_attention():
        torch.testing.assert_close(torch.nn.functional.scaled_dot_product_attention(q, k, v), expected)
        assert torch.backends.cuda.math_sdp_enabled()
        assert not torch.backends.cuda.flash_sdp_enabled()
    assert torch.backends.cuda.flash_sdp_enabled()


def test_the_batch_has_the_view_counts_of_the_published_test_configuration():
    bench = small_bench()
    batch = batch_of(_config(bench), bench)
    assert batch.source.valid.sum(dim=1).tolist() == list(VIEW_COUNTS)
    assert len(batch.source_indices) == sum(VIEW_COUNTS) == 28
    assert batch.target.images.shape[:2] == (8, 1)
    assert (batch.source.images[:, -1] != batch.target.images[:, 0]).any()


def test_a_published_view_takes_as_many_times_longer_as_it_has_steps():
    figure = Figure("mixed_views", "a view", "plain", 2.0, 1.0, 3.0, None, 0.5)
    found = _extrapolated(figure, 4, 2000)
    assert (found.seconds, found.fastest, found.slowest) == (1000.0, 500.0, 1500.0)
    assert "4 of 2000" in found.note
    assert found.floor == 0.5
