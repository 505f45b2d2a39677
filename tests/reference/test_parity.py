"""Our modules reproduce the published figures within the tolerances that were published with them."""

import pytest
import torch

from tests.reference.figure import Figure
from tests.reference.groups import GROUPS


@pytest.mark.parametrize("group", GROUPS)
def test_every_figure_of_the_group_is_reproduced(group):
    figures = list(GROUPS[group]())
    assert figures
    beyond = [f"{figure.name}: {figure.deviation:.2e}" for figure in figures if not figure.within]
    assert not beyond


def test_what_is_no_number_is_not_within_tolerance():
    zero = torch.zeros(3)
    assert Figure("equal", zero, zero, 1e-9).within
    assert not Figure("beyond", zero + 1, zero, 0.5).within
    assert not Figure("nan", zero / 0, zero, 0.5).within
