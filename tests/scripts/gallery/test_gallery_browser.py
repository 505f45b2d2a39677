"""The gallery in a browser: films turn together, can be scrubbed, enlarged, filtered and sorted."""

import json
from pathlib import Path

import pytest

from data.cameras.pinhole import cameras_from_poses, pinhole
from data.cameras.poses import turntable
from scripts.gallery import __main__ as gallery
from tests.browser import opened, until
from tests.made_films import plant_film

NUM_VIEWS = 7
SHOWN = """name => [...document.querySelectorAll(`[data-name=${name}] .film .frame`)].map(frame => {
  const [x, y] = ["--x", "--y"].map(axis => +frame.style.getPropertyValue(axis));
  return x + frame.dataset.columns * y;
})"""  # the view that each film of an object shows


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two methods on two objects, in a single file."""
    folder = tmp_path_factory.mktemp("gallery")
    cameras = cameras_from_poses(turntable(NUM_VIEWS), pinhole().expand(NUM_VIEWS, 3, 3))
    for seed, film in enumerate(("one/bb", "one/ccc", "two/bb", "two/ccc")):
        plant_film(folder / film, cameras, seed=seed)
    words = [folder / "one", folder / "two", "--output", folder / "page", "--single-file"]
    assert gallery.main([str(word) for word in words]) == 0
    return folder / "page/index.html"


def test_films_turn_together(page: Path):
    with opened(page) as window:
        until(lambda: window.evaluate(SHOWN, "bb")[0] > 1)
        window.locator("[name=play]").click()
        views = window.evaluate(SHOWN, "bb")
        assert len(views) == 6  # sample, preview and depth of two methods
        assert len(set(views)) == 1


def test_films_are_scrubbed_to_the_frame_and_enlarged(page: Path):
    with opened(page, reduced_motion="reduce") as window:
        assert set(window.evaluate(SHOWN, "bb")) == {0}  # nothing moves by itself
        film = window.locator("[data-name=bb] .film").first
        box = film.bounding_box()
        for view in (6, 2, 5):
            film.hover(position={"x": box["width"] * (view + 0.5) / NUM_VIEWS, "y": box["height"] / 2})
            assert set(window.evaluate(SHOWN, "bb")) == {view}
        assert set(window.evaluate(SHOWN, "ccc")) == {0}
        film.press("ArrowRight")
        assert set(window.evaluate(SHOWN, "bb")) == {6}
        window.locator("[data-name=bb] header input").fill("3")
        assert set(window.evaluate(SHOWN, "bb")) == {3}
        film.press("Enter")
        assert window.locator("#about").inner_text() == "sample of bb, one"
        assert window.locator("dialog output").inner_text() == "4 / 7"
        window.locator("[name=next]").click()
        assert window.locator("#about").inner_text() == "Preview of bb, one"
        window.keyboard.press("Escape")
        assert not window.locator("dialog").is_visible()
        pictures = window.evaluate("[...document.images].map(image => image.src.slice(0, 11))")
        assert set(pictures) == {"data:image/"}


def test_objects_are_filtered_and_sorted(page: Path):
    with opened(page, reduced_motion="reduce") as window:
        window.locator("[name=filter]").fill("CC")
        assert window.locator(".item:visible").count() == 1
        window.locator("[name=filter]").fill("")
        window.locator("[name=sort]").select_option("detail.1")
        items = window.locator(".item")
        figures = [json.loads(item.get_attribute("data-figures"))["detail.1"] for item in items.all()]
        assert figures == sorted(figures, reverse=True)
        window.locator("[name=turn]").click()
        turned = [json.loads(item.get_attribute("data-figures"))["detail.1"] for item in items.all()]
        assert turned == figures[::-1]
        window.locator("[value=depth]").uncheck()
        assert not window.locator(".of-depth").first.is_visible()
