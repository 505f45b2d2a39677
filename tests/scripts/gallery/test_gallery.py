"""scripts/gallery: the page shows what the films hold, needs nothing else, and is never half-written."""

import json
import math
import os
import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from data import files
from data.cameras.pinhole import Cameras, cameras_from_poses, pinhole
from data.cameras.poses import turntable
from data.images.files import read_picture
from data.images.pixels import from_uint8, to_uint8
from scripts.gallery import __main__ as gallery
from scripts.gallery.assets import Assets, FullError
from scripts.gallery.sources import Source, read_sources
from scripts.gallery.sprite_sheets import FASTEST, SLOWEST, frame_rate
from scripts.sampling import consistency as measure
from tests.html_pages import Element, read_page
from tests.made_films import SIDE, objects_of, plant_film, truncate
from tests.tiny_run import save_tiny_run, tiny_config

EVIL = "<script>alert('a')</script> & \"b\" <img src=x onerror=alert(1)>"
VIEWS = 5


@pytest.fixture
def films(tmp_path: Path, plant_object: Callable[..., Path]) -> Path:
    """Films `one` and `two` of objects bb and ccc from cameras of the data in `set`, `other` from others."""
    for name in ("bb", "ccc"):
        plant_object(tmp_path / "set/cars_val" / name, num_views=VIEWS, size=(SIDE, SIDE))
    objects = objects_of(tmp_path / "set")
    for seed, (way, name) in enumerate([("one", "bb"), ("one", "ccc"), ("two", "ccc")]):
        index = objects.ids.index(name)
        _, cameras = objects.read(index, range(VIEWS))
        plant_film(tmp_path / way / name, cameras, seed=seed, samples=2 if way == "two" else 1)
    elsewhere = cameras_from_poses(turntable(3), pinhole().expand(3, 3, 3))
    plant_film(tmp_path / "other" / "bb", elsewhere, seed=9)
    return tmp_path


@pytest.fixture
def run(films: Path) -> Path:
    return save_tiny_run(tiny_config(films / "set", films / "runs"))


def read(*words: object) -> list[Source]:
    return read_sources(gallery.make_parser().parse_args([str(word) for word in words]))


def turntable_of(count: int) -> Cameras:
    return cameras_from_poses(turntable(count), pinhole().expand(count, 3, 3))


def made(*words: object) -> Element:
    """The page that a command line makes."""
    words = [str(word) for word in words]
    assert gallery.main(words) == 0
    return read_page(Path(words[words.index("--output") + 1]) / "index.html")


def linked(page: Element) -> set[str]:
    """All that the page takes from elsewhere, but for data within it."""
    names = {one.attributes[key] for one in page.all() for key in ("src", "href") if key in one.attributes}
    return {name for name in names if not name.startswith("data:")}


def inside(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def item(page: Element, name: str) -> Element:
    return next(one for one in page.all("article") if one.attributes["data-name"] == name)


def frames(film: Element, folder: Path) -> torch.Tensor:
    """What the windows of a film show, one after another: [n h w 3]."""
    window = film.all("span", "frame")[0]
    style = dict(rule.split(":") for rule in window.attributes["style"].split(";"))
    width, height, columns, _ = (int(style[f"--{key}"]) for key in "whcr")
    sheet = read_picture(folder / window.all("img")[0].attributes["src"])
    places = [divmod(number, columns) for number in range(int(window.attributes["data-count"]))]
    return torch.stack(
        [
            sheet[row * height :, column * width :][:height, :width]
            for row, column in places
        ]
    )  # fmt: skip


def test_every_file_is_linked_and_nothing_else_is(films: Path):
    output = films / "page"
    page = made(films / "one", films / "two", "--data", films / "set", "--output", output, "--mp4")
    assert inside(output) - {"index.html"} == linked(page)
    assert any(name.endswith(".mp4") for name in linked(page))
    text = (output / "index.html").read_text()
    assert not re.search(r"https?:|@import|url\(|//", text.replace("// ", ""))
    assert str(films) not in text
    for image in page.all("img"):
        assert image.attributes["loading"] == "lazy"


def test_frames_are_the_pictures_of_the_films_and_of_the_set(films: Path):
    output = films / "page"
    page = made(films / "two", "--data", films / "set", "--output", output, "--quality", 100)
    known = {one.attributes["aria-label"]: frames(one, output) for one in page.all("button", "film")}
    kinds = {
        "sample": "view",
        "Preview": "preview",
        "Depth": "depth",
        "Mean of samples": "spread_mean",
        "Spread of samples": "spread_std",
    }
    for said, kind in kinds.items():
        expected = [read_picture(films / f"two/ccc/{kind}_{view:04d}.png") for view in range(VIEWS)]
        torch.testing.assert_close(known[f"{said} of ccc, two"], torch.stack(expected), rtol=0, atol=0)
    objects = objects_of(films / "set")
    truth = to_uint8(objects.read(objects.ids.index("ccc"), range(VIEWS))[0])
    torch.testing.assert_close(known["truth of ccc"], truth, rtol=0, atol=0)


def test_figures_are_those_of_the_other_programs(films: Path):
    page = made(films / "one", "--data", films / "set", "--output", films / "page")
    found = json.loads(item(page, "bb").attributes["data-figures"])
    row = measure.consistency([films / "one"], measure.DepthSource())
    steady = row[str(films / "one")][0]
    assert found["detail.0"] == steady.detail
    assert found.get("error.0", math.nan) == pytest.approx(steady.error, nan_ok=True)
    objects = objects_of(films / "set")
    truth = objects.read(objects.ids.index("bb"), range(VIEWS))[0]
    for key, kind in (("sample_psnr.0", "view"), ("preview_psnr.0", "preview")):
        images = [from_uint8(read_picture(films / f"one/bb/{kind}_{view:04d}.png")) for view in range(VIEWS)]
        errors = [
            ((image - true) / 2).square().mean().item() for image, true in zip(images, truth, strict=True)
        ]
        expected = sum(-10 * math.log10(error) for error in errors) / VIEWS
        assert found[key] == pytest.approx(expected, abs=1e-4)
    assert item(page, "bb").all("dl")[0].all("data")[0].attributes["value"] == repr(found["sample_psnr.0"])


def test_truth_is_left_out_where_the_set_has_no_such_views(films: Path, capsys):
    page = made(films / "other", "--data", films / "set", "--output", films / "page")
    assert "no truth: " in page.all("p", "state")[0].text
    assert "sample with --trajectory data" in capsys.readouterr().err
    assert not page.all("figure", "truth")
    assert not any("psnr" in key for key in json.loads(item(page, "bb").attributes["data-figures"]))
    page = made(films / "one", films / "other", "--data", films / "set", "--output", films / "page")
    assert "no truth for 1 sequence: " in page.all("p", "state")[0].text
    page = made(films / "one", "--output", films / "page")
    assert "give --data" in capsys.readouterr().err
    assert not page.all("figure", "truth")


def test_columns_stand_side_by_side_and_input_and_truth_once(films: Path):
    page = made(
        films / "one",
        films / "two",
        "--data",
        films / "set",
        "--output",
        films / "page",
        "--labels",
        "A",
        "B",
    )
    for name in ("bb", "ccc"):
        heads = [cell.all("h4")[0].text for cell in item(page, name).all("figure", "result")]
        inputs = ["Input", "Truth", "A", "Input", "B"] if name == "ccc" else ["Input", "Truth", "A", "B"]
        assert heads == inputs  # the inputs of ccc are different noise
    assert "not sampled" in item(page, "bb").text
    assert [row.all("th")[0].text.split("run")[0] for row in page.all("tbody")[0].all("tr")] == ["A", "B"]
    assert "run made, euler, steps 3, guidance 2.0, seed 0" in page.text
    rows = [row.all("th")[0].text for row in item(page, "ccc").all("table")[0].all("tr")[1:]]
    assert rows == ["Truth", "A: sample", "A: preview", "A: depth", "B: sample", "B: preview", "B: depth",
                    "B: mean of samples", "B: spread of samples"]  # fmt: skip


def test_hostile_names_stay_text(films: Path):
    record = films / "one/bb/sampling.json"
    document = json.loads(record.read_text()) | {"object": EVIL, "run": EVIL}
    record.write_text(json.dumps(document))
    evil = films / "one" / "<b onclick=x>&'\""
    evil.mkdir()
    for path in (films / "one/ccc").iterdir():
        if path.name != "sampling.json":  # the folder's name is then that of the object
            (evil / path.name).write_bytes(path.read_bytes())
    for single in ([], ["--single-file"]):
        words = ["--labels", EVIL, "--title", EVIL, "--output", films / "page", *single]
        page = made(films / "one", *words)
        assert {one.attributes["data-name"] for one in page.all("article")} == {EVIL, "ccc", evil.name}
        assert page.all("h1")[0].text == page.all("title")[0].text == EVIL
        assert len(page.all("script")) == 1 + len(single)
        assert not any("onerror" in one.attributes or "onclick" in one.attributes for one in page.all())
    assert all(
        re.fullmatch(r"media/[a-z0-9-]+\.(webp|jpeg)|index.html", name) for name in inside(films / "page")
    )


def test_a_single_file_holds_all_pictures(films: Path):
    made(films / "one", "--output", films / "page")
    page = made(films / "one", "--output", films / "page", "--single-file")
    assert not linked(page)
    assert inside(films / "page") == {"index.html"}
    held = json.loads(page.with_id("media").text)
    assert {one.attributes["data-media"] for one in page.all("img")} == set(held)
    assert all(value.startswith("data:image/") for value in held.values())


def test_a_long_film_is_thinned_evenly_and_to_its_room(films: Path, capsys):
    page = made(films / "one", "--output", films / "page", "--frames", 3, "--stills", 2)
    assert "3 of 5 views of a sequence" in page.text
    assert [cell.text for cell in item(page, "bb").all("tr")[0].all("th")] == ["view 0", "view 4"]
    words = ["--quality", 100, "--output", films / "page"]
    made(films / "one", *words, "--frames", 4)
    size = sum(path.stat().st_size for path in (films / "page").rglob("*") if path.is_file())
    made(films / "one", *words, "--max-mb", size / 1e6)
    lines = [line for line in capsys.readouterr().err.splitlines() if "trying" in line]
    assert len(lines) == 1
    assert "is too little for 5 views each; trying 4" in lines[0]
    assert size == sum(path.stat().st_size for path in (films / "page").rglob("*") if path.is_file())
    before = (films / "page/index.html").read_bytes()
    assert gallery.main([str(films / "one"), *map(str, words), "--max-mb", "0.02"]) == 2
    assert "gallery: --max-mb 0.02: is too little for 4 views of 2 objects" in capsys.readouterr().err
    assert (films / "page/index.html").read_bytes() == before


@pytest.mark.parametrize("kind", ["view", "preview", "depth16", "cond"])
def test_a_damaged_picture_is_one_line_and_no_page(films: Path, capsys, kind: str):
    path = sorted((films / "one/ccc").glob(f"{kind}_*.png"))[-1]
    truncate(path)
    assert gallery.main([str(films / "one"), "--output", str(films / "page")]) == 2
    line = capsys.readouterr().err.splitlines()[-1]
    assert line.startswith(f"gallery: {path}: not a readable image")
    if kind != "cond":
        path.unlink()
        assert gallery.main([str(films / "one"), "--output", str(films / "page")]) == 2
        assert f"{path}: there is no such file" in capsys.readouterr().err
    assert not (films / "page").exists()


def test_pictures_of_several_sizes_are_one_line(films: Path, capsys):
    from data.images.files import write_png

    write_png(films / "one/bb/preview_0002.png", torch.zeros(4, 4, 3, dtype=torch.uint8))
    assert gallery.main([str(films / "one"), "--output", str(films / "page")]) == 2
    assert "preview_0002.png: has another size than preview_0000.png" in capsys.readouterr().err


def test_what_stops_it_leaves_the_earlier_page_or_none(films: Path, monkeypatch, capsys):
    output = films / "page"

    def stopped(path: Path, text: str) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("scripts.gallery.assets.write_text_whole", stopped)
        assert gallery.main([str(films / "one"), "--output", str(output)]) == 130
    assert "run the same command to resume" in capsys.readouterr().err
    assert not output.exists()
    made(films / "one", "--output", output)
    before = {name: (output / name).read_bytes() for name in inside(output)}
    with monkeypatch.context() as patch:
        patch.setattr("scripts.gallery.assets.write_text_whole", stopped)
        assert gallery.main([str(films / "two"), "--output", str(output)]) == 130
    assert {name: (output / name).read_bytes() for name in inside(output)} == before


def test_a_second_call_replaces_the_page_and_what_it_alone_needed(films: Path):
    output = films / "page"
    made(films / "one", "--output", output)
    kept = output / "media/notes.txt"
    kept.write_text("mine")
    damaged = next(path for path in (output / "media").glob("ccc-*"))
    damaged.write_bytes(b"")
    made(films / "one", "--output", output)
    assert damaged.stat().st_size
    page = made(films / "two", "--output", output)
    assert inside(output) == {"index.html", "media/notes.txt"} | linked(page)


def test_the_same_content_is_kept_once_and_room_is_kept_to():
    gathered = Assets(5)
    names = {gathered.add("A b/..\u00e9", "webp", b"abc"), gathered.add("a B", "webp", b"abc")}
    assert {re.sub("[0-9a-f]{16}", "", name) for name in names} == {"a-b-.webp"}
    assert gathered.size == 3
    with pytest.raises(FullError):
        gathered.add("c", "webp", b"abcd")


def test_films_turn_at_one_rate(films: Path):
    for count in (9, 40):
        cameras = cameras_from_poses(turntable(count), pinhole().expand(count, 3, 3))
        elevation = math.radians(20)
        apart = math.degrees(2 * math.asin(math.cos(elevation) * math.sin(math.pi / count)))
        assert frame_rate(cameras) == pytest.approx(min(FASTEST, 120 / apart), rel=1e-4)
    assert frame_rate(cameras[:1]) == SLOWEST


ERRORS = {
    "nowhere": "no such run or checkpoint",
    "one --views 3": "--views is for runs",
    "one --way x": "--way is for runs",
    "one one": "is given twice",
    "one two --labels a": "give 2 different ones",
    "one two --labels a a": "give 2 different ones",
    "one --mp4 --single-file": "leave out --single-file",
    "one --output mine": "is no gallery",
    "one --output one/bb/view_0000.png": "is a file",
    "one --data nowhere": "there is no such folder",
    "one .": "has neither views",
}


@pytest.mark.parametrize("words", ERRORS)
def test_bad_input_is_one_line(films: Path, words: str, capsys, monkeypatch):
    monkeypatch.chdir(films)
    (films / "mine").mkdir()
    (films / "mine/index.html").write_text("<p>mine</p>")
    assert gallery.main(words.split()) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert lines[-1].startswith("gallery: ")
    assert ERRORS[words] in lines[-1]
    assert not (films / "gallery").exists()
    assert os.listdir(films / "mine") == ["index.html"]


def test_two_films_of_one_object_are_told(films: Path, capsys):
    path = films / "one/bb/sampling.json"
    path.write_text(path.read_text().replace('"bb"', '"ccc"'))
    assert gallery.main([str(films / "one"), "--output", str(films / "page")]) == 2
    assert "shows ccc, as does" in capsys.readouterr().err


def test_a_run_is_drawn_once(films: Path, run: Path, capsys, monkeypatch):
    from scripts.sampling.writer import SampleWriter

    words = ["--views", 2, "--way", "--samples 2 --steps 2", "--films", films / "drawn", "--output"]
    page = made(run, "--n", 2, *words, films / "page", "--single-file")
    (drawn,) = (films / "drawn/tiny").iterdir()
    assert re.fullmatch("samples_2_steps_2-[0-9a-f]{8}", drawn.name)
    assert inside(drawn) >= {f"{name}/views.mp4" for name in ("bb", "ccc")}
    assert len(page.all("figure", "truth")) == len(page.all("figure", "of-spread")) == 2
    monkeypatch.delattr(SampleWriter, "add")  # a second call draws nothing, of one object neither
    page = made(run, "--n", 1, *words, films / "page")
    assert [one.attributes["data-name"] for one in page.all("article")] == ["bb"]
    capsys.readouterr()
    for more, said in ((["--way", "'"], "is no list of flags"), (["--n", 1, "--object", "bb"], "only one")):
        assert gallery.main([str(word) for word in (run, *more)]) == 2
        assert said in capsys.readouterr().err
    with pytest.raises(SystemExit) as left:
        gallery.main([str(run), "--way", "--stepps 3"])
    assert left.value.code == 2
    sources = read(run, films / "one", "--way", "", "--way", "--policy all")
    assert [source.label for source in sources] == ["tiny", "tiny --policy all", "one"]
    plain, way, one = (source.folder.name for source in sources)
    assert (plain, way.rpartition("-")[0], one) == ("plain", "policy_all", "one")


OWN_FLAGS = {
    "--transfer a": "a SOURCE",
    "--output a": "--films",
    "--prefix a": "--films",
    "--image a": "--object",
    "--split val": "--split",
    "--trajectory spiral": "--trajectory",
    "--views=8": "--views",
    "--n 3": "--n",
    "--object bb": "--object",
    "--data a": "--data",
}


@pytest.mark.parametrize("flags", OWN_FLAGS)
def test_a_way_with_a_flag_that_the_gallery_sets_is_one_line(tmp_path: Path, capsys, flags: str):
    checkpoint = tmp_path / "run/checkpoints/step-00000001.safetensors"
    checkpoint.parent.mkdir(parents=True)
    checkpoint.touch()
    assert gallery.main([str(tmp_path / "run"), "--views", "2", "--way", f"--steps 3 {flags}"]) == 2
    flag = flags.replace("=", " ").split()[0]
    expected = f"gallery: --way: {flag} cannot be part of it; give the gallery {OWN_FLAGS[flags]} instead"
    assert capsys.readouterr().err.splitlines() == [expected]


def test_ways_that_look_alike_have_folders_of_their_own(run: Path):
    ways = ["--way", "--guidance 1.5", "--way", "--guidance -1.5"]
    folders = [source.folder for source in read(run, "--views", 2, *ways)]
    assert len(set(folders)) == 2
    assert folders == [source.folder for source in read(run, "--views", 2, *ways)]


def test_views_are_at_most_those_that_objects_have(run: Path, capsys):
    def views(*words: object) -> int:
        return read(run, *words)[0].drawing.num_views

    assert views("--n", 2) == VIEWS - 1
    assert views("--n", 1, "--way", "--cond-views 0 2 3") == VIEWS - 3
    assert views("--n", 2, "--trajectory", "spiral") == 20
    assert views("--n", 2, "--views", 3) == 3
    assert gallery.main([str(run), "--n", "2", "--views", "5"]) == 2
    said = "gallery: --views 5: bb has 4 beside the conditioning views; lower it"
    assert capsys.readouterr().err.splitlines() == [said]


def test_only_views_that_are_shown_are_read_for_the_truth(films: Path):
    _, cameras = objects_of(films / "set").read(0, range(VIEWS))
    plant_film(films / "few/bb", cameras[torch.tensor([3, 1])])
    truncate(films / "set/cars_val/bb/rgb/000002.png")
    page = made(films / "few", "--data", films / "set", "--output", films / "page", "--quality", 100)
    raw = [read_picture(films / f"set/cars_val/bb/rgb/{view:06d}.png") for view in (3, 1)]
    truth = frames(item(page, "bb").all("figure", "truth")[0].all("button")[0], films / "page")
    torch.testing.assert_close(truth, torch.stack(raw), rtol=0, atol=0)


def test_films_of_an_object_from_different_cameras_are_told(films: Path):
    page = made(films / "one", films / "other", "--output", films / "page")
    assert "cameras differ" in item(page, "bb").text
    assert "cameras differ" not in item(page, "ccc").text
    assert "cameras of the columns differ" in page.with_id("figures").text
    page = made(films / "one", films / "two", "--output", films / "page")
    assert "cameras" not in item(page, "ccc").text + page.with_id("figures").text


def test_stills_stand_under_their_own_views(films: Path):
    for folder, count in (("a", 9), ("b", 15), ("c", 9)):
        plant_film(films / folder / "bb", turntable_of(count), seed=count)
    words = ["--stills", 3, "--output", films / "page"]
    page = made(films / "a", films / "b", films / "c", *words)
    rows = [[cell.text for cell in row.all("th")] for row in item(page, "bb").all("tr")]
    heads = [[f"view {view}" for view in views] for views in ((1, 4, 7), (2, 7, 12), (1, 4, 7))]
    kinds = ("sample", "preview", "depth")
    expected = [
        [head, *([f"{label}: {kind}"] for kind in kinds)] for label, head in zip("abc", heads, strict=True)
    ]
    assert rows == [row for part in expected for row in part]


def test_means_over_fewer_films_and_different_objects_are_told(films: Path):
    plant_film(films / "one/d", turntable_of(3))
    page = made(films / "one", "--data", films / "set", "--output", films / "page")
    cells = [cell.text for cell in page.with_id("figures").all("tbody")[0].all("td")]
    assert cells[0] == "3"
    assert [cell.endswith(" (2 sequences)") for cell in cells[1:3]] == [True, True]  # PSNR
    assert "sequences)" not in cells[-1]  # detail
    note = page.with_id("figures").all("p")[0].text
    assert "different objects" not in note
    page = made(films / "one", films / "two", "--output", films / "page")
    assert "different objects" in page.with_id("figures").all("p")[0].text


def test_a_page_that_is_written_keeps_its_files_whatever_comes_then(films: Path, monkeypatch):
    write = files.write_text_whole

    def stopped_late(path: Path, text: str) -> None:
        write(path, text)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("scripts.gallery.assets.write_text_whole", stopped_late)
        assert gallery.main([str(films / "one"), "--output", str(films / "page")]) == 130
    assert linked(read_page(films / "page/index.html")) == inside(films / "page") - {"index.html"}


def test_a_folder_with_neither_films_nor_a_run_is_told(films: Path, capsys):
    (films / "one/bb/transforms.json").unlink()
    assert gallery.main([str(films / "one/bb")]) == 2
    line = capsys.readouterr().err.strip()
    assert line.startswith(f"gallery: {films}/one/bb: has neither views (transforms.json) nor a run (")
