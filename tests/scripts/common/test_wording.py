"""scripts/common: numbers, times and sizes in words; styles and scripts that are safe within a page."""

import math
from pathlib import Path

import pytest

from scripts.common.wording import count, duration, number, plain
from tests.html_pages import PageReader


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (0.0, "0"), (-1.0, "-1.000"), (12.3456, "12.35"), (0.00034567, "0.0003457"), (9.99996, "10.00"),
        (1234567.0, "1,234,567"), (3.5e-9, "3.5e-9"), (-2e12, "-2e12"), (math.nan, "nan"),
        (-math.inf, "-inf"),
        (5e-324, "4.941e-324"), (99999.6, "100,000"),
    ],
)  # fmt: skip
def test_numbers_are_said_with_four_digits(value, said):
    assert plain(value) == said
    element = PageReader(number(value)).root.all("data")[0]
    assert element.attributes["value"] == repr(value)
    assert element.text.replace("\u2212", "-") == said


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(0.04, "0.0 s"), (9.94, "9.9 s"), (9.96, "10 s"), (59.4, "59 s"), (59.7, "60 s"), (61, "1 min 01 s"),
     (3599.7, "1 h 00 min"), (7500, "2 h 05 min"), (90000, "1 d 1 h")],
)  # fmt: skip
def test_times_are_said_in_two_units(seconds, said):
    assert duration(seconds) == said


def test_counts_of_weights_are_short():
    assert [count(value) for value in (721, 45678, 13_612_345, 2_000_000_000)] == [
        "721", "45,678", "13.6 M", "2.00 G"
    ]  # fmt: skip


def test_styles_and_scripts_fetch_nothing_and_end_no_tag():
    folder = Path(__file__).parents[3] / "scripts"
    pages = [f"{page}/{name}" for page in ("report", "gallery") for name in ("style.css", "page.js")]
    for name in ("common/html/base.css", *pages):
        text = (folder / name).read_text(encoding="ascii")
        assert "</" not in text
        assert "//" not in text.replace("// ", "")
