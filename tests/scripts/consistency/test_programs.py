"""The programs that measure films, on films of the smallest untrained model."""

import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from PIL import Image

import sample_views
from data.cameras.transforms_json import from_transforms
from data.images.files import read_channel, read_picture, write_depth
from data.images.pixels import from_uint8
from scripts import compare_policies
from scripts.consistency import __main__ as consistency
from scripts.consistency import reconstruction
from scripts.sampling import consistency as measure
from scripts.sampling.reader import sequences_in
from scripts.sampling.reprojection import SeenView, sequence_agreement
from scripts.sampling.request import SampleRequest
from tests.tiny_run import save_tiny_run, tiny_config

VIEWS = 4


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs")
    return save_tiny_run(tiny_config(folder / "nowhere", folder))


@pytest.fixture(scope="module")
def workplace(run: Path, tmp_path_factory: pytest.TempPathFactory, plant_object: Callable[..., Path]) -> Path:
    """Films of two objects: `one` and `two` along a turntable, `data` from the cameras of the data set."""
    folder = tmp_path_factory.mktemp("films")
    for name in ("bb", "ccc"):
        plant_object(folder / "set/cars_val" / name, num_views=VIEWS + 1, size=(32, 32), surfaces=True)
    fixed = ["--transfer", str(run), "--data", str(folder / "set"), "--n", "2", "--views", str(VIEWS)]
    ways = {
        "one": "--trajectory turntable",
        "two": "--trajectory turntable --policy nearest",
        "data": "--trajectory data",
    }
    for name, flags in ways.items():
        assert sample_views.main([*fixed, "--output", str(folder / name), *flags.split()]) == 0
    for path in folder.glob("*/*/depth16_*.png"):  # untrained volumes are nowhere opaque
        write_depth(path, torch.linspace(1.2, 1.26, 32 * 32).reshape(32, 32), step=1e-4)
    return folder


def by_hand(pictures: Path, depths: Path, name: str = "view") -> float:
    cameras, _ = from_transforms(json.loads((pictures / "transforms.json").read_text()))
    views = [
        SeenView(
            from_uint8(read_picture(pictures / f"{name}_{number:04d}.png")),
            read_channel(depths / f"depth16_{number:04d}.png", bits=16) / 10_000,
            cameras[number],
        )
        for number in range(VIEWS)
    ]
    return sequence_agreement(views).error


def figures(*flags: object) -> dict[str, list[measure.Steadiness]]:
    given = consistency.make_parser().parse_args([str(flag) for flag in flags])
    source = measure.DepthSource(given.depth, given.data, given.split, given.depth_scale)
    return measure.consistency(given.folders, source, previews=given.preview)


def test_figures_are_those_of_the_files(workplace: Path):
    one, two = workplace / "one", workplace / "two"
    rows = figures(one, two / "bb", "--preview")
    assert list(rows) == [str(one), f"{one}, previews", str(two / "bb"), f"{two / 'bb'}, previews"]
    assert [film.error for film in rows[str(one)]] == pytest.approx(
        [by_hand(one / name, one / name) for name in ("bb", "ccc")]
    )
    assert rows[f"{one}, previews"][0].error == pytest.approx(by_hand(one / "bb", one / "bb", "preview"))
    assert all(film.error > 0 and 0 < film.compared <= 100 for films in rows.values() for film in films)


def test_a_prefix_may_be_like_the_names_of_views(workplace: Path, tmp_path: Path):
    for path in (workplace / "one/bb").iterdir():
        shutil.copy(path, tmp_path / f"review_{path.name}")
    document = tmp_path / "review_transforms.json"
    text = document.read_text().replace('"view_', '"review_view_').replace('"depth16_', '"review_depth16_')
    document.write_text(text)
    names = [path.name for path in sequences_in(tmp_path)[0].previews]
    assert names == [f"review_preview_{number:04d}.png" for number in range(VIEWS)]


def test_depth_may_be_that_of_other_films(workplace: Path, tmp_path: Path):
    other = tmp_path / "other"
    shutil.copytree(workplace / "two", other)
    for path in other.glob("*/depth16_*.png"):
        write_depth(path, read_channel(path, bits=16) * 1e-4 - 0.15, step=1e-4)
    rows = figures(workplace / "one", "--depth", other)
    assert rows[str(workplace / "one")][1].error == pytest.approx(
        by_hand(workplace / "one/ccc", other / "ccc")
    )
    assert rows[str(workplace / "one")][1] != figures(workplace / "one")[str(workplace / "one")][1]


def test_depth_and_pictures_of_the_data_set_stand_beside_films_from_its_cameras(workplace: Path):
    from data.config import DataConfig
    from data.formats.registry import open_split

    rows = figures(workplace / "data", "--data", workplace / "set")
    assert list(rows) == [str(workplace / "data"), f"{workplace / 'set'}, as for {workplace / 'data'}"]
    objects = open_split(DataConfig(root=str(workplace / "set"), image_size=32), "test")
    known = objects.read_views(0, range(1, VIEWS + 1), geometry=True)  # view 0 is the input
    depth = torch.where(known.geometry.alpha >= 0.5, known.geometry.depth, 0.0)[0]
    truth = [SeenView(known.images[0, i], depth[i], known.cameras[0, i]) for i in range(VIEWS)]
    expected = sequence_agreement(truth)
    found = rows[f"{workplace / 'set'}, as for {workplace / 'data'}"][0]
    assert found.compared == pytest.approx(100 * expected.share)
    assert found.error == pytest.approx(expected.error, nan_ok=True)


def test_the_table_gives_means_with_standard_errors(capsys, workplace: Path, tmp_path: Path):
    films = [measure.Steadiness(error, 20.0, 50.0, math.nan) for error in (10.0, 14.0)]
    line = measure.table({"way": films, "other": films[:1]}).splitlines()[2:]
    assert line == [
        "| way | 2 | 12.00 \u00b1 2.00 | 20.00 \u00b1 0.00 | 50.00 \u00b1 0.00 | - |",
        "| other | 1 | 10.00 | 20.00 | 50.00 | - |",
    ]
    assert measure.known(films[0]) == {"error": 10.0, "psnr": 20.0, "compared": 50.0, "detail": None}
    output = tmp_path / "figures.json"
    assert consistency.main([str(workplace / "one"), "--output", str(output)]) == 0
    found = json.loads(output.read_text())[str(workplace / "one")]
    assert f"{(found[0]['error'] + found[1]['error']) / 2:.2f}" in capsys.readouterr().out


ERRORS = {
    "nowhere": "has no views",
    "one --depth data": "other cameras",
    "one --depth nowhere": "has no views",
    "one --depth two/bb": "no views of ccc",
    "one --depth two --data set": "only one",
    "one --data set": "--trajectory data",
    "one --colmap": "pycolmap is not installed",
}


@pytest.mark.parametrize("words", ERRORS)
def test_bad_input_is_one_line(workplace: Path, words: str, capsys, monkeypatch):
    monkeypatch.chdir(workplace)
    monkeypatch.setattr(reconstruction, "import_module", pytest.fail)
    if "colmap" in words:
        monkeypatch.setattr(reconstruction, "import_module", _missing)
    assert consistency.main(words.split()) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert lines[-1].startswith("consistency: ")
    assert ERRORS[words] in lines[-1]


def _missing(name: str) -> None:
    raise ImportError(name)


def test_a_film_without_depth_says_what_to_do(workplace: Path, tmp_path: Path, capsys):
    shutil.copytree(workplace / "one/bb", tmp_path / "old")
    path = tmp_path / "old/transforms.json"
    document = json.loads(path.read_text())
    for frame in document["frames"]:
        del frame["depth_file_path"]
    path.write_text(json.dumps(document))
    assert consistency.main([str(tmp_path / "old")]) == 2
    assert "sample it again" in capsys.readouterr().err
    assert consistency.main([str(tmp_path / "old"), "--depth", str(workplace / "two/bb")]) == 0


def test_colmap_finds_the_cameras_of_a_real_film_where_it_is_installed(tmp_path: Path):
    pytest.importorskip("pycolmap")
    found = reconstruction.reconstruct(textured_film(tmp_path))
    assert found.num_registered == found.num_pictures == 8
    assert found.num_points > 100
    noise = torch.randint(0, 256, (64, 64, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    Image.fromarray(noise.numpy()).save(tmp_path / "noise.png")
    assert reconstruction.reconstruct([tmp_path / "noise.png"] * 2).num_points == 0


def textured_film(folder: Path) -> list[Path]:
    """Eight views of a sphere with a texture of noise."""
    from data.cameras.pinhole import cameras_from_poses, pinhole
    from data.cameras.poses import orbit

    size, radius = 256, 0.5
    blobs = torch.rand(1, 3, 24, 24, 24, generator=torch.Generator().manual_seed(2))
    paths = []
    for number, pose in enumerate(orbit(0.12 * torch.arange(8.0), 0.1 * torch.sin(torch.arange(8.0)))):
        rays = cameras_from_poses(pose[None], pinhole())[0].rays(size, size)
        middle = -(rays.origins * rays.directions).sum(dim=1)
        inside = radius**2 - (rays.origins**2).sum(dim=1) + middle**2
        points = rays.origins + (middle - inside.clamp_min(0).sqrt())[:, None] * rays.directions
        colours = torch.nn.functional.grid_sample(blobs, 2 * points[None, None, None], align_corners=False)
        colours = torch.where(inside > 0, colours.reshape(3, -1), 1.0).T.unflatten(0, (size, size))
        paths.append(folder / f"{number}.png")
        Image.fromarray((255 * colours).byte().numpy()).save(paths[-1])
    return paths


def test_ways_are_compared_on_one_page(
    run: Path, tmp_path: Path, plant_object: Callable[..., Path], capsys, monkeypatch
):
    from scripts.sampling.writer import SampleWriter

    plant_object(tmp_path / "set/cars_val/bb", num_views=2, size=(9, 9))
    page, films = tmp_path / "docs/page.md", tmp_path / "films"
    words = [str(run), "--data", str(tmp_path / "set"), "--objects", "1", "--views", "2", "--steps", "2"]
    words += ["--ways", "published", "same noise", "--output", str(films), "--page", str(page)]
    assert compare_policies.main(words) == 0
    assert {path.name for path in films.iterdir()} == {"independent", "published", "same_noise"}
    assert {path.name for path in page.parent.iterdir()} == {"page.md", "page.png", "page_objects.png"}
    text = page.read_text()
    assert "--ways published 'same noise' --output" in text
    for row in ("independent", "published", "same noise", "previews, without diffusion"):
        assert text.count(f"\n| {row} |") == 2
    monkeypatch.setattr(SampleWriter, "add", pytest.fail)  # a second call draws nothing
    assert compare_policies.main(words) == 0
    shutil.copytree(films / "published", films / "published/of_another_call")
    assert compare_policies.main(words) == 2
    assert "published: has the views of 2 objects, but 1 are compared; delete it" in capsys.readouterr().err
    assert compare_policies.main([str(run), "--data", str(tmp_path / "nowhere")]) == 2
    assert capsys.readouterr().err.splitlines()[-1].startswith("compare_policies: ")


def test_every_way_is_a_request_that_makes_sense():
    requests = [SampleRequest(checkpoint="run", **changes) for changes in compare_policies.WAYS.values()]
    assert all(requests.count(request) == 1 for request in requests)
