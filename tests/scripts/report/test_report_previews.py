"""scripts/report/previews.py: the film keeps within its room, and says what it left out."""

import base64
import io
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, features

from data.cameras.pinhole import Cameras
from data.images.files import write_png
from data.scenes.batch import Views
from models.base import Prediction
from models.training.validation import preview_picture
from scripts.report import __main__ as report
from scripts.report.previews import LAYOUTS, evenly, make_previews
from scripts.report.read_run import read_run
from tests.html_pages import Element, read_page
from tests.scripts.report.made_runs import plant_run

ROWS = [{"step": 10, "loss": 1.5, "seconds": 2.0}]


def make(folder: Path, *arguments: str) -> tuple[Element, int]:
    """The page of a run, and its size in bytes."""
    output = folder.parent / "page.html"
    assert report.main([str(folder), "--output", str(output), *arguments]) == 0
    return read_page(output), output.stat().st_size


def picture(element: Element) -> Image.Image:
    kind, _, data = element.attributes["src"].partition(";base64,")
    assert kind in ("data:image/webp", "data:image/jpeg")
    return Image.open(io.BytesIO(base64.b64decode(data)))


def film(page: Element) -> list[int]:
    """Steps of the strip's pictures."""
    strips = page.all("ol", "film")
    words = [one.text for one in strips[0].all("span")] if strips else []
    return [int(word.removeprefix("step ").replace(",", "")) for word in words]


def remarks(page: Element) -> str:
    return page.with_id("pictures").text


@pytest.mark.skipif(not features.check("webp"), reason="this Pillow has no WebP")
def test_the_newest_picture_is_shown_as_it_is(tmp_path):
    run = plant_run(tmp_path / "run", ROWS, pictures={3: (31, 47), 7: (31, 47), 1000: (31, 47)})
    page, _ = make(run)
    large = page.all("figure", "hero")[0].all("img")[0]
    with Image.open(run / "samples" / "step-00001000.png") as truth:
        assert np.array_equal(np.array(picture(large)), np.array(truth))
    assert film(page) == [3, 7, 1000]
    assert {picture(one).size for one in page.all("ol", "film")[0].all("img")} == {(47, 31)}
    assert "max-mb" not in remarks(page)


def test_a_single_picture_makes_no_film(tmp_path):
    page, _ = make(plant_run(tmp_path / "run", ROWS, pictures={3: (31, 47)}))
    assert len(page.all("img")) == 1
    assert not page.all("div", "player")


@pytest.mark.parametrize(
    ("most", "scaled", "thinned"), [(8, False, False), (0.7, True, False), (0.2, True, True)]
)
def test_the_page_keeps_within_its_size(tmp_path, most, scaled, thinned):
    steps = dict.fromkeys(range(20, 1001, 20), (96, 120))
    page, size = make(plant_run(tmp_path / "run", ROWS, pictures=steps), "--max-mb", str(most))
    assert size <= most * 1e6
    shown, strip = film(page), page.all("ol", "film")[0]
    assert (shown[0], shown[-1]) == (20, 1000)
    gaps = np.diff(shown)
    assert max(gaps) - min(gaps) <= 20  # as even as steps allow
    told = re.search(r"Of 50 pictures (\d+) are here", remarks(page))
    assert bool(told) == thinned == (len(shown) < 50)
    assert not told or int(told[1]) == len(shown)
    widths = {picture(one).width for one in strip.all("img")}
    assert len(widths) == 1
    assert (widths != {120}) == scaled == ("scaled to" in remarks(page))
    assert {one.attributes["width"] for one in strip.all("img")} == {"120"}  # so that none jumps
    if thinned:
        assert size > 0.6 * most * 1e6  # the room is used


def test_pictures_of_unequal_size_in_bytes_keep_within_it_too(tmp_path):
    """Those by which the size of all is guessed are white."""
    steps = dict.fromkeys(range(1, 51), (96, 120))
    run = plant_run(tmp_path / "run", ROWS, pictures=steps)
    for step in evenly(list(steps), 9):
        write_png(run / "samples" / f"step-{step:08d}.png", torch.full((96, 120, 3), 255, dtype=torch.uint8))
    page, size = make(run, "--max-mb", "0.2")
    assert size <= 0.2e6
    assert 5 < len(film(page)) < 50


def test_without_room_for_pictures_the_page_says_so(tmp_path):
    run = plant_run(tmp_path / "run", ROWS, pictures={1: (300, 401), 2: (300, 401)})
    bare = make(plant_run(tmp_path / "bare", ROWS))[1]
    most = (bare + 9000) / 1e6
    page, size = make(run, "--max-mb", f"{most:.6f}")
    assert size <= most * 1e6
    assert page.all("img") == []
    assert "no room for one" in remarks(page)


def test_a_picture_cut_short_is_named_and_left_out(tmp_path, capsys):
    run = plant_run(tmp_path / "run", ROWS, pictures=dict.fromkeys((5, 6, 7, 8), (31, 47)))
    for step in (6, 8):  # 8: the newest
        path = run / "samples" / f"step-{step:08d}.png"
        path.write_bytes(path.read_bytes()[:2000])
    (run / "samples" / ".step-00000009.png").write_text("unfinished")
    (run / "samples" / "other.png").write_text("nothing of ours")
    page, _ = make(run)
    assert film(page) == [5, 7]
    assert page.all("figcaption")[0].text == "Step 7"
    told = [one.text for one in page.with_id("problems").all("li")]
    assert [Path(line.split(":")[0]).name for line in told] == ["step-00000008.png", "step-00000006.png"]
    assert capsys.readouterr().err.count("is no whole picture") == 2


def test_a_run_whose_pictures_are_all_damaged_has_a_page(tmp_path):
    run = plant_run(tmp_path / "run", ROWS)
    (run / "samples" / "step-00000001.png").write_bytes(b"")
    page, _ = make(run)
    assert page.all("img") == []
    assert page.with_id("pictures") is None
    assert len(page.with_id("problems").all("li")) == 1


SHADES = {"source": -1.0, "preview": -0.5, "weights": 0.2, "sample": 0.5, "truth": 0.9}


def drawn_by_the_trainer(layout: tuple[str, ...]) -> torch.Tensor:
    """Pictures of 8 pixels of three views, with other shades in every column."""
    cameras = Cameras(
        torch.eye(4).expand(3, 1, 4, 4),
        torch.eye(3).expand(3, 1, 3, 3),
        torch.ones(3, 1),
        torch.full((3, 1), 3.0),
    )

    def images(name: str) -> torch.Tensor:
        return torch.full((3, 1, 3, 8, 8), SHADES[name])

    def views(name: str, num: int) -> Views:
        several = cameras.apply(lambda tensor: tensor.expand(-1, num, *tensor.shape[2:]))
        shown = images(name).expand(-1, num, -1, -1, -1).clone()
        shown[:, 1:] = 0.7  # further sources have no column
        return Views(shown, several, torch.ones(3, num, dtype=torch.bool))

    surface = torch.full((3, 1, 1, 8, 8), 1.0)
    share = (images("weights") + 1) / 2
    parts = {
        "preview": images("preview"),
        "depth": surface,
        "opacity": surface,
        "weights": torch.stack([share, 1 - share], dim=2),
    }
    prediction = Prediction(images("sample"), **{name: parts[name] for name in layout if name in parts})
    return preview_picture(views("source", 2), prediction, views("truth", 1))


@pytest.mark.parametrize("layout", LAYOUTS, ids=len)
def test_columns_are_named_as_the_trainer_lays_them_out(tmp_path, layout):
    drawn = drawn_by_the_trainer(layout)
    run = plant_run(tmp_path / "run", ROWS, data={"image_size": 8})
    write_png(run / "samples" / "step-00000001.png", drawn)
    assert make_previews(read_run(run), 10**6).large.columns == layout
    width = drawn.shape[1] / len(layout)
    middles = [drawn[4, int((number + 0.5) * width)].tolist() for number in range(len(layout))]
    for name, middle in zip(layout, middles, strict=True):
        if name in SHADES:
            assert middle == [pytest.approx((SHADES[name] + 1) * 127.5, abs=1)] * 3, name
    if "depth" in layout:
        assert middles[layout.index("depth")] != middles[layout.index("opacity")]  # near, and opaque
    page, _ = make(run)
    assert [one.text for one in page.all("div", "columns")[0].all("span")] == list(layout)


@pytest.mark.parametrize("size", [None, "8", 0, 9])
def test_columns_are_not_guessed_where_the_size_of_images_is_not_that_of_the_picture(tmp_path, size):
    run = plant_run(tmp_path / "run", ROWS, data={"image_size": size})
    write_png(run / "samples" / "step-00000001.png", drawn_by_the_trainer(LAYOUTS[2]))
    assert make_previews(read_run(run), 10**6).large.columns == ()


def test_pictures_of_another_layout_get_no_names(tmp_path):
    page, _ = make(plant_run(tmp_path / "run", ROWS, pictures={3: (31, 47)}))
    assert page.all("div", "columns") == []


def test_evenly_chosen_items_keep_both_ends():
    assert evenly(range(10), 4) == [0, 3, 6, 9]
    assert evenly(range(3), 5) == [0, 1, 2]
    assert evenly(range(7), 1) == [6]
    assert evenly([], 3) == []
    for num in range(2, 40):
        chosen = evenly(range(40), num)
        assert len(set(chosen)) == num
        assert (chosen[0], chosen[-1]) == (0, 39)
