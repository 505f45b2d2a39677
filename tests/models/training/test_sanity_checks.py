"""models/training/sanity_checks.py: warnings with remedies, said when they are due and not otherwise."""

import re

import pytest

from config.errors import known_fields
from config.run import RunConfig
from models.training.sanity_checks import CHECKS, SanityChecks

HEALTHY = {
    "health/opacity": 0.2,
    "health/opacity_object": 0.7,
    "health/opacity_background": 0.05,
    "health/near_plane": 0.001,
    "health/latent_saturated": 0.01,
    "health/latent_flat": 0.0,
    "health/denoiser_error": 0.4,
    "health/condition_gain": 0.2,
    "gradient_norm": 0.8,
    "ema_drift": 0.02,
}
COLLAPSES = {
    "health/opacity_object": (0.001, "volumes are empty"),
    "health/opacity_background": (0.999, "volumes are full"),
    "health/near_plane": (0.97, "near plane (97%"),
    "health/latent_saturated": (0.98, "saturated (98%"),
    "health/latent_flat": (1.0, "look the same everywhere"),
    "health/condition_gain": (0.0, "ignores its condition"),
    "ema_drift": (0.8, "averaged weights"),
}


def test_a_healthy_run_says_nothing():
    alarm = SanityChecks()
    assert [alarm.update(HEALTHY) for _ in range(99)] == [[]] * 99


@pytest.mark.parametrize("figure", COLLAPSES)
def test_each_collapse_is_said_once_at_its_second_look_and_again_only_after_it_was_gone(figure):
    alarm, (value, words) = SanityChecks(), COLLAPSES[figure]
    looks = [HEALTHY | {figure: value if bad == "x" else HEALTHY[figure]} for bad in "x-xxxx-x-xx"]
    said = [alarm.update(look) for look in looks]
    assert [len(sentences) for sentences in said] == [0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 1]
    assert words in said[3][0]


def test_lines_without_previews_neither_hide_a_collapse_nor_count_as_another_look():
    alarm, plain = SanityChecks(), {"gradient_norm": 0.8, "ema_drift": 0.02}
    empty = HEALTHY | {"health/opacity_object": 0.0}
    said = [alarm.update(look) for look in (plain, empty, plain, plain, empty, plain)]
    assert [len(sentences) for sentences in said] == [0, 0, 0, 0, 1, 0]


def test_gradients_that_stay_far_above_their_recent_median_are_said():
    alarm, usual = SanityChecks(), [1.0, 2.0, 3.0] * 7
    norms = [*usual, 15.0, 2.0, 999.0, 2.0, 30.0, 40.0, 50.0]  # single leaps are what clipping is for
    said = [alarm.update({"gradient_norm": norm}) for norm in norms]
    assert [place for place, sentences in enumerate(said) if sentences] == [26]
    assert "gradients are 20 times as large" in said[26][0]  # as the median, 2


def test_the_first_gradients_have_nothing_to_be_compared_with():
    alarm = SanityChecks()
    assert [alarm.update({"gradient_norm": 20.0**power}) for power in range(10)] == [[]] * 10
    assert SanityChecks().update({"gradient_norm": 0.0}) == []


def test_every_symptom_has_a_collapse_here_and_names_keys_that_exist():
    assert {symptom.figure for symptom in CHECKS} == {*COLLAPSES, "gradient_rise"}
    known = set(known_fields(RunConfig, "genvs"))
    for symptom in CHECKS:
        keys = re.findall(r"\b(?:model|data|optim|train)\.[a-z_.]*[a-z]", symptom.sentence)
        assert keys, symptom.figure
        assert set(keys) <= known, symptom.figure
        assert "\n" not in symptom.sentence
