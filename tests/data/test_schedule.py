"""data/schedule.py: ramps against their closed forms, and what a config may and may not say."""

import json
import math
import re
from itertools import pairwise
from pathlib import Path

import pytest
from pydantic import BaseModel, TypeAdapter, ValidationError

from config.errors import known_fields
from config.families import FAMILIES
from config.run import RunConfig, validate_config
from data.config import DataConfig
from data.schedule import (
    Count,
    NonNegative,
    Probability,
    Ramp,
    Scheduled,
    count_at,
    largest,
    scheduled_values,
    value_at,
)

MOMENTS = [moment / 64 for moment in range(65)]


def test_a_number_is_the_same_at_any_time():
    assert {value_at(0.3, progress) for progress in MOMENTS} == {0.3}
    assert largest(0.3) == 0.3
    assert count_at(2, 0.7) == 2


def test_shapes_follow_their_closed_forms():
    for progress in (0.25, 0.4, 0.5, 0.7, 0.75):
        share = (progress - 0.25) / 0.5
        expected = {
            "linear": 3 - 2.5 * share,
            "cosine": 1.75 + 1.25 * math.cos(math.pi * share),
            "exponential": math.exp(math.log(3) + share * math.log(0.5 / 3)),
        }
        for shape, wanted in expected.items():
            ramp = Ramp(start=3, end=0.5, begin=0.25, until=0.75, shape=shape)
            assert value_at(ramp, progress) == pytest.approx(wanted)


@pytest.mark.parametrize("shape", ["linear", "cosine", "exponential"])
@pytest.mark.parametrize(("start", "end"), [(0.1, 0.7), (0.7, 0.1), (0.3, 0.3)])
def test_a_ramp_stays_at_its_ends_to_the_last_bit_and_never_turns_round(shape, start, end):
    ramp = Ramp(start=start, end=end, begin=0.25, until=0.75, shape=shape)
    values = [value_at(ramp, progress) for progress in MOMENTS]
    assert set(values[:17]) == {start}
    assert set(values[48:]) == {end}
    steps = [after - before for before, after in pairwise(values)]
    assert all(step * (end - start) >= 0 for step in steps) or start == end
    assert max(values) == pytest.approx(largest(ramp)) == pytest.approx(max(start, end))


def test_a_ramp_without_length_is_a_jump():
    ramp = Ramp(start=1, end=2, begin=0.5, until=0.5)
    assert [value_at(ramp, progress) for progress in (0.0, 0.49, 0.5, 1.0)] == [1, 1, 2, 2]
    at_once = Ramp(start=1, end=2, until=0)
    assert [value_at(at_once, progress) for progress in (0.0, 1.0)] == [2, 2]
    assert at_once.changing_at(0.0) == {}


def test_counts_are_the_nearest_whole_numbers_and_of_two_the_smaller():
    ramp = Ramp(start=1, end=3)
    counted = [count_at(ramp, progress) for progress in MOMENTS]
    assert counted == sorted(counted)
    assert [counted.count(number) for number in (1, 2, 3)] == [17, 32, 16]  # 1.5 counts as 1, 2.5 as 2


class Inner(BaseModel, frozen=True, extra="forbid"):
    """A section."""

    weight: NonNegative = 1.0


class Outer(BaseModel, frozen=True, extra="forbid"):
    """Sections and values of every kind."""

    inner: Inner = Inner()
    prob: Probability = 0.0
    rate: Scheduled = -1.0
    word: str = "text"


def test_only_what_changes_is_reported_by_the_path_of_its_key():
    ramp = {"start": 0, "end": 1}
    assert scheduled_values(Outer(), 0.5) == {}
    constant = Outer.model_validate({"rate": {"start": 2, "end": 2}})
    assert scheduled_values(constant, 0.5) == {}
    outer = Outer.model_validate({"inner": {"weight": ramp}, "rate": ramp})
    assert scheduled_values(outer, 0.25) == {"schedule/inner_weight": 0.25, "schedule/rate": 0.25}


def test_a_config_with_ramps_survives_a_round_trip_and_numbers_stay_numbers():
    outer = Outer.model_validate({"prob": {"start": 0, "end": 1, "shape": "cosine"}, "rate": 3})
    assert Outer.model_validate_json(outer.model_dump_json()) == outer
    assert outer.model_dump(mode="json")["rate"] == 3
    assert isinstance(outer.rate, float)


@pytest.mark.parametrize(
    ("kind", "value", "words"),
    [
        (Scheduled, {"start": 1}, ["end", "required"]),
        (Scheduled, {"start": 1, "end": 0, "begin": 0.5, "until": 0.2}, ["until (0.2) is before begin"]),
        (Scheduled, {"start": 1, "end": 0, "until": 1500}, ["until", "less than or equal to 1"]),
        (Scheduled, {"start": 1, "end": 0, "untill": 1}, ["untill", "not permitted"]),
        (Scheduled, {"start": 1, "end": 0, "shape": "exponential"}, ["above 0"]),
        (Scheduled, {"start": 1, "end": math.nan}, ["end", "finite"]),
        (Scheduled, math.inf, ["finite"]),
        (Scheduled, "much", ["valid number"]),
        (NonNegative, -0.1, ["at least 0"]),
        (NonNegative, {"start": 1, "end": -0.1}, ["at least 0", "both ends"]),
        (Probability, 1.1, ["between 0 and 1"]),
        (Probability, {"start": 1.1, "end": 0}, ["between 0 and 1", "both ends"]),
        (Count, 1.5, ["integer"]),
    ],
)
def test_a_wrong_value_has_one_error_that_is_about_what_was_meant(kind, value, words):
    with pytest.raises(ValidationError) as caught:
        TypeAdapter(kind).validate_python(value)
    assert caught.value.error_count() == 1
    assert all(word in str(caught.value) for word in words), str(caught.value)


def test_every_example_of_the_documentation_is_a_config_and_every_key_is_named_there():
    text = (Path(__file__).parents[2] / "docs/schedules.md").read_text(encoding="utf-8")
    examples = [
        json.loads(block) for block in re.findall(r"^```json\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    ]
    assert len(examples) == 4
    for example in examples:
        data = {"root": "somewhere"} | example.get("data", {})
        validate_config({"name": "x", "model": {}} | example | {"data": data}, "docs/schedules.md")
    known = {key for name in FAMILIES for key in known_fields(RunConfig, name)}
    ramps = {key.removesuffix(".until") for key in known if key.endswith(".until")}
    assert {"model.loss.rgb", "model.augment.prob", "model.noise"} < ramps
    assert [key for key in ramps - {"model.noise"} if f"`{key}`" not in text] == []


def test_the_example_of_the_sources_counts_as_the_documentation_says():
    config = DataConfig(root="somewhere", sources=(1, {"start": 1, "end": 3, "until": 0.5}))
    for progress, most in ((0.0, 1), (0.125, 1), (0.13, 2), (0.375, 2), (0.38, 3), (1.0, 3)):
        assert config.sources_at(progress) == (1, most)
        assert config.scheduled(progress) == {"schedule/most_sources": most}
    assert config.largest_sources == (1, 3)
