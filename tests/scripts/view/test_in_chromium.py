"""The viewer in headless Chromium: it loads, a drag changes the picture, samples appear, paths are saved."""

import io
import re
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from data.cameras.path_files import read_path
from scripts.view import __main__ as view
from tests.tiny_run import save_tiny_run, tiny_config

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
playwright = pytest.importorskip("playwright.sync_api", reason="pip install -r requirements-dev.txt")
pytest.importorskip("viser", reason="pip install -r requirements-viewer.txt")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium; apt-get install chromium")

FLAGS = """--no-sandbox --disable-gpu --use-angle=swiftshader --enable-unsafe-swiftshader --disable-quic
--no-first-run --disable-background-networking --disable-component-update --disable-sync"""
SIZE = {"width": 900, "height": 420}  # of the window in pixels; software draws it
PLACE = (250, 210)  # on the object
PATIENCE_S = 300.0
HARMLESS = re.compile(r"GPU stall|THREE\.Clock")  # of warnings


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("view")


@pytest.fixture(scope="module")
def viewer(folder: Path, plant_object: Callable[..., Path]) -> Iterator[Any]:
    """A viewer of a tiny model."""
    plant_object(folder / "data" / "cars_val" / "bb", num_views=3, size=(32, 32))
    run = save_tiny_run(tiny_config(folder / "data", folder))
    flags = ["--port", "0", "--size", "32", "--device", "cpu", "--output", str(folder / "paths")]
    opened = view.open_viewer(view.view_request(view.make_parser().parse_args([str(run), *flags])))
    yield opened
    opened.stop()


@pytest.fixture(scope="module")
def page(viewer: Any, folder: Path) -> Iterator[Any]:
    """The window; `page.said` is what its console says, `page.asked` every address it asks for."""
    with playwright.sync_playwright() as driver:
        context = driver.chromium.launch_persistent_context(
            str(folder / "profile"),
            executable_path=CHROMIUM,
            headless=True,
            viewport=SIZE,
            args=FLAGS.split(),
        )
        window = context.new_page()
        window.said, window.asked, window.address = [], [], viewer.url
        window.on("console", lambda message: window.said.append((message.type, message.text)))
        window.on("pageerror", lambda error: window.said.append(("error", str(error))))
        window.on("request", lambda request: window.asked.append(request.url))
        window.goto(viewer.url)
        window.wait_for_selector("button:has-text('Overview')", timeout=1000 * PATIENCE_S)
        yield window
        context.close()


def shot(page: Any) -> np.ndarray:
    """The scene without the controls beside it."""
    width = SIZE["width"] // 2
    clip = {"x": 0, "y": 0, "width": width, "height": SIZE["height"]}
    data = page.screenshot(clip=clip)
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB")).astype(int)


def until(condition: Callable[[], Any], what: str) -> Any:
    end = time.monotonic() + PATIENCE_S
    while not (found := condition()):
        assert time.monotonic() < end, f"waited in vain for {what}"
        time.sleep(0.2)
    return found


def drag(page: Any, across: int) -> None:
    page.mouse.move(*PLACE)
    page.mouse.down()
    page.mouse.move(PLACE[0] + across, PLACE[1] + across // 4, steps=4)
    page.mouse.up()


def press(page: Any, label: str) -> None:
    page.locator("button", has_text=re.compile(f"^{label}$")).first.click()


def still(page: Any) -> np.ndarray:
    """The scene once it no longer changes."""
    last = shot(page)

    def same() -> bool:
        nonlocal last
        before, last = last, shot(page)
        return bool((before == last).all())

    until(same, "a still scene")
    return last


def test_it_loads_without_errors_and_asks_nobody_else(page):
    picture = still(page)
    assert picture.std() > 5  # frusta, circles, the object
    assert [text for kind, text in page.said if kind == "error"] == []
    strange = [text for kind, text in page.said if kind == "warning" and not HARMLESS.search(text)]
    assert strange == []
    elsewhere = [one for one in page.asked if not one.startswith((page.address, "data:", "blob:"))]
    assert elsewhere == []


def test_dragging_turns_the_camera_and_changes_the_picture(page):
    before = still(page)
    press(page, "Input view")
    until(lambda: np.abs(shot(page) - before).mean() > 1, "the input view")
    before = still(page)
    drag(page, 120)
    until(lambda: np.abs(shot(page) - before).mean() > 1, "another picture")
    assert np.abs(still(page) - before).mean() > 1


def test_pressing_sample_makes_a_sample_appear(page):
    size = [2 * 256 + 8, 256]  # preview and sample beside each other, their 32 pixels 8 times enlarged

    def shown() -> bool:
        read = "pictures => pictures.map(one => [one.naturalWidth, one.naturalHeight])"
        return size in page.locator("img").evaluate_all(read)

    assert not shown()
    press(page, "Sample")
    until(shown, "the sample")
    page.get_by_text(re.compile(r"Preview, sample \(3 steps")).wait_for(timeout=1000 * PATIENCE_S)


def test_keyframes_make_a_path_that_is_saved(page, viewer, folder: Path):
    page.get_by_text("Camera path", exact=True).click()
    (window,) = viewer.windows.values()
    for num in (1, 2):
        still(page)
        press(page, "Add keyframe")
        until(lambda num=num: len(window.editor._keyframes) == num, "the keyframe")
        eye = window.session.eye
        drag(page, 80)
        until(lambda eye=eye: window.session.eye != eye, "a camera that has moved")
    press(page, "Save path")
    file = folder / "paths" / "path.json"
    until(file.is_file, "the file")
    path = read_path(file)
    assert len(path.cam_to_world) == 2
    assert (path.cam_to_world[0] - path.cam_to_world[1]).abs().max() > 0.05
    page.get_by_text("--trajectory").wait_for(timeout=1000 * PATIENCE_S)
    assert [text for kind, text in page.said if kind == "error"] == []
