"""Samples that are not finite."""

import pytest
import torch

from models.sampling.finite import require_finite


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_an_output_that_is_not_finite_is_an_error_that_names_it(bad):
    require_finite(torch.zeros(3), None, of="view 3")
    with pytest.raises(ValueError, match=r"\Aview 3: the model gave nan; "):
        require_finite(None, torch.tensor([0.0, bad]), of="view 3")
    with pytest.raises(ValueError, match=r"\Athe model gave nan; "):
        require_finite(torch.tensor([bad]))
