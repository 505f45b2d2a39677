"""The report in a browser: the film turns and can be scrubbed, curves suit the dark, nothing sticks out."""

from pathlib import Path

import pytest

from scripts.report import __main__ as report
from tests.browser import opened, until
from tests.scripts.report.made_runs import lines, plant_run


@pytest.fixture
def page(tmp_path: Path) -> Path:
    """The report of a run with three pictures and a long name in its log."""
    rows = [row | {"x" * 80: 1.0} for row in lines(40)]
    pictures = dict.fromkeys((20, 40, 400), (20, 32))
    run = plant_run(tmp_path / "run", rows, steps=400, pictures=pictures, warnings=[(100, "empty")])
    assert report.main([str(run)]) == 0
    return run / "report.html"


def test_the_film_is_scrubbed_and_turns(page: Path):
    with opened(page) as window:
        slider, caption = window.locator(".player input"), window.locator(".hero figcaption")
        large, small = window.locator(".hero img"), window.locator(".film img")
        assert (slider.input_value(), caption.inner_text()) == ("2", "Step 400")
        slider.fill("0")
        assert caption.inner_text() == "Step 20"
        assert large.get_attribute("src") == small.nth(0).get_attribute("src")
        small.nth(1).click()
        assert (slider.input_value(), caption.inner_text()) == ("1", "Step 40")
        window.locator(".player button").click()
        until(lambda: caption.inner_text() == "Step 400")


def test_curves_have_the_colours_of_the_theme_and_fit_a_narrow_window(page: Path):
    ink = "getComputedStyle(document.querySelector('.plot path[style*=\"--c0\"]')).stroke"
    with opened(page, viewport={"width": 360, "height": 800}) as window:
        colours = []
        for scheme in ("light", "dark"):
            window.emulate_media(color_scheme=scheme)
            colours.append(window.evaluate(ink))
        window.emulate_media(color_scheme="dark", media="print")  # on white paper
        assert colours == ["rgb(25, 28, 32)", "rgb(240, 241, 242)"]
        assert window.evaluate(ink) == colours[0]
        window.emulate_media(media="screen")
        assert window.evaluate("document.documentElement.scrollWidth") == 360
        window.locator(".plot a").first.click()
        assert window.evaluate("location.hash") == "#warning-1"
