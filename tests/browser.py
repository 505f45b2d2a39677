"""Chromium without a screen, for pages that stand alone."""

import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
FLAGS = "--no-sandbox --disable-gpu --no-first-run --disable-background-networking --disable-component-update"
PATIENCE_S = 300.0


@contextmanager
def opened(path: Path, **options: Any) -> Iterator[Any]:
    """A window with the page, which must neither fail nor use the network; `options` are playwright's."""
    playwright = pytest.importorskip("playwright.sync_api", reason="pip install -r requirements-dev.txt")
    if CHROMIUM is None:
        pytest.skip("there is no Chromium; apt-get install chromium")
    complaints, asked = [], []
    with playwright.sync_playwright() as driver:
        chromium = driver.chromium.launch(executable_path=CHROMIUM, args=FLAGS.split())
        window = chromium.new_page(**options)
        window.set_default_timeout(1000 * PATIENCE_S)
        window.on("console", lambda message: complaints.append(message.text))
        window.on("pageerror", lambda error: complaints.append(str(error)))
        window.on("request", lambda request: asked.append(request.url))
        window.goto(path.as_uri())
        yield window
        chromium.close()
    assert complaints == []
    assert not [url for url in asked if not url.startswith(("data:", path.parent.as_uri()))]


def until(condition: Callable[[], Any]) -> None:
    """Wait for a page that moves by itself."""
    end = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.05)
