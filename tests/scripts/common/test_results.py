"""Means and standard errors."""

import math

import pytest

from scripts.common.results import mean, standard_error


def test_the_standard_error_of_two_values_is_half_their_distance():
    assert standard_error([1.0, 4.0]) == pytest.approx(1.5)
    assert standard_error([1.0]) is None
    assert standard_error([]) is None
    assert math.isnan(standard_error([math.inf, 1.0]))


def test_means_are_of_finite_values():
    assert mean([1.0, math.nan, 4.0]) == "2.50 \u00b1 1.50"
    assert mean([2.0]) == "2.00"
    assert mean([math.nan]) == "-"
