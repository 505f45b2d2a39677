"""Our modules reproduce the published figures within the tolerances that were published with them."""

import pytest

from tests.reference.groups import GROUPS


@pytest.mark.parametrize("group", GROUPS)
def test_every_figure_of_the_group_is_reproduced(group):
    figures = list(GROUPS[group]())
    assert figures
    beyond = [
        f"{figure.name}: {figure.deviation:.2e}"
        for figure in figures
        if not figure.deviation <= figure.tolerance
    ]
    assert not beyond
