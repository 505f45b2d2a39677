"""Packed passes and their composition: what must not change, and what must."""

import pytest
import torch
from torch import Tensor

from data.scenes.batch import valid_indices
from models.viewfusion.composition import compose, passes_of, passes_of_scenes, valid_of

COUNTS = torch.tensor([1, 4, 2])


def outputs(valid: Tensor, seed: int = 0) -> Tensor:
    """Passes whose values are those of their place, wherever that is in the batch."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*valid.shape, 6, 5, 7, generator=generator)[valid]


def padded(valid: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
    """The same composition without packing: missing views have passes, which are masked."""
    every = values.new_full((*valid.shape, *values.shape[1:]), 77.0)
    every[valid] = values
    logits = every[:, :, 3:].masked_fill(~valid[:, :, None, None, None], -torch.inf)
    weights = logits.exp() / logits.exp().sum(dim=1, keepdim=True)
    return weights, (weights * every[:, :, :3]).sum(dim=1)


def test_packed_passes_give_what_padded_and_masked_ones_do():
    valid = valid_of(COUNTS, 5)
    found = compose(outputs(valid), passes_of(valid), weighted=True)
    weights, noise = padded(valid, outputs(valid))
    torch.testing.assert_close(found.weights, weights)
    torch.testing.assert_close(found.prediction, noise)


def test_weights_sum_to_one_in_each_pixel_and_channel_and_are_zero_where_no_view_is():
    valid = torch.tensor([[False, True, False], [True, True, True]])
    weights = compose(outputs(valid), passes_of(valid), weighted=True).weights
    torch.testing.assert_close(weights.sum(dim=1), torch.ones(2, 3, 5, 7))
    assert (weights[0, [0, 2]] == 0).all()
    assert (weights[0, 1] == 1).all()
    assert weights[1].std(dim=(1, 2, 3)).min() > 0.1


def test_permuted_views_have_permuted_weights_and_the_same_noise():
    valid, order = torch.ones(2, 4, dtype=torch.bool), torch.tensor([2, 0, 3, 1])
    values = outputs(valid).unflatten(0, (2, 4))
    one = compose(values.flatten(0, 1), passes_of(valid), weighted=True)
    other = compose(values[:, order].flatten(0, 1), passes_of(valid), weighted=True)
    torch.testing.assert_close(other.prediction, one.prediction)
    torch.testing.assert_close(other.weights, one.weights[:, order])


def test_copies_of_a_view_are_that_view_but_count_beside_another():
    a, b = outputs(torch.ones(1, 2, dtype=torch.bool)).split(1)

    def noise(*parts: Tensor) -> Tensor:
        valid = torch.ones(1, len(parts), dtype=torch.bool)
        return compose(torch.cat(parts), passes_of(valid), weighted=True).prediction

    torch.testing.assert_close(noise(a, a, a), noise(a))
    assert (noise(a, a, b) - noise(a, b)).abs().max() > 0.1


def test_without_weighting_noise_is_the_mean_of_views_that_are_there():
    valid = valid_of(COUNTS, 4)
    values = outputs(valid)
    found = compose(values[:, :3], passes_of(valid), weighted=False)
    assert found.weights is None
    parts = values[:, :3].split(COUNTS.tolist())
    torch.testing.assert_close(found.prediction, torch.stack([part.mean(dim=0) for part in parts]))


def test_passes_in_half_precision_are_composed_in_full():
    valid = valid_of(COUNTS, 4)
    found = compose(outputs(valid).bfloat16(), passes_of(valid), weighted=True)
    assert found.weights.dtype == found.prediction.dtype == torch.float32
    torch.testing.assert_close(found.weights.sum(dim=1), torch.ones(3, 3, 5, 7))


@pytest.mark.parametrize("counts", [[1, 0], [5, 2], [-1, 3]])
def test_no_views_or_more_than_there_are_is_an_error(counts):
    with pytest.raises(ValueError, match="every scene needs 1 to 4 views"):
        valid_of(torch.tensor(counts), 4)


def test_a_target_without_views_is_an_error():
    with pytest.raises(ValueError, match="target 1 has no source view"):
        passes_of(torch.tensor([[True, False], [False, False]]))


def test_passes_of_scenes_are_those_of_their_targets():
    valid = torch.tensor([[True, False, True], [False, True, False]])
    passes = passes_of_scenes(valid_indices(valid), 3, 2, 2)
    expected = passes_of(valid.repeat_interleave(2, dim=0))
    assert passes.shape == expected.shape
    pairs = [set(zip(p.target.tolist(), p.view.tolist(), strict=True)) for p in (passes, expected)]
    assert pairs[0] == pairs[1]
    with pytest.raises(ValueError, match="a scene has no source view"):
        passes_of_scenes(torch.tensor([0, 2]), 3, 2, 2)
