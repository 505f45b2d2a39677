"""The procedural cars and the program that writes them."""

import json

import numpy as np
import pytest
from PIL import Image

from data.formats.srn.layout import DEPTH_STEPS
from data.meshes.mesh import Mesh
from data.meshes.primitives import mirrored
from data.meshes.ray_casting import look_at_origin, render_meshes
from data.shapes.cars import car, car_style
from data.shapes.styles import STYLES
from scripts.common.shapes_set import ShapesOptions, make_shapes
from scripts.make_shapes import main

SPLITS = ("cars_train", "cars_val")
INTRINSICS = np.array([[131.25 / 128, 0, 0.5], [0, 131.25 / 128, 0.5], [0, 0, 1]])
POSES = np.stack([look_at_origin(np.array(p)) for p in ([-0.6, -1.0, 0.5], [0.8, 1.0, 0.2])])


def _render(mesh: Mesh):
    return render_meshes(mesh, POSES, intrinsics=INTRINSICS, height=64, width=64)


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    root = tmp_path_factory.mktemp("cars") / "root"
    options = ShapesOptions(objects=2, views=3, size=33, val=1)
    make_shapes(root, options, workers=1, progress=False)
    return root, options


def test_the_same_id_is_the_same_car_and_another_id_another():
    first, again, other = car(7), car(7), car(8)
    np.testing.assert_array_equal(first.vertices, again.vertices)
    np.testing.assert_array_equal(first.face_colours, again.face_colours)
    assert first.vertices.shape != other.vertices.shape or (first.vertices != other.vertices).any()


def test_a_car_knows_its_style_and_many_styles_occur():
    styles = [car_style(i) for i in range(60)]
    assert len(set(styles)) >= 8
    np.testing.assert_array_equal(car(5).vertices, car(5, style=styles[5]).vertices)


@pytest.mark.parametrize("style", STYLES)
def test_every_style_is_normalised_and_looks_like_something(style):
    mesh = car(3, style=style)
    low, high = mesh.vertices.min(0), mesh.vertices.max(0)
    np.testing.assert_allclose(low, -high, atol=1e-12)
    assert np.linalg.norm(high - low) == pytest.approx(1)
    assert high[0] == high.max()  # longer than wide or high
    assert 3000 < len(mesh.faces) < 13000

    views = _render(mesh)
    assert 0.04 < (views.alpha > 0).mean() < 0.5
    solid = views.alpha == 255
    assert max(mesh.face_colours.max(), views.rgb[solid].max()) <= 246
    assert (views.rgb[views.alpha == 0] == 255).all()
    assert views.rgb[solid].min() < 50  # tyres
    assert views.rgb[solid].std() > 20


@pytest.mark.parametrize("object_id", range(6))
def test_no_car_equals_its_mirror_image(object_id):
    mesh = car(object_id)
    straight, reversed_ = _render(mesh), _render(mirrored(mesh))
    assert (np.abs(straight.rgb.astype(int) - reversed_.rgb).max(-1) > 40).sum() > 10  # pixels of two views


def test_front_and_rear_differ():
    mesh = car(4)
    turned = Mesh(mesh.vertices * [-1, -1, 1], mesh.faces, mesh.face_colours)
    difference = np.abs(_render(mesh).rgb.astype(int) - _render(turned).rgb).max(-1)
    assert (difference > 40).mean() > 0.02


def test_unknown_cars_are_refused():
    with pytest.raises(ValueError, match="object_id"):
        car(-1)
    with pytest.raises(ValueError, match="sedan"):
        car(0, style="submarine")


def test_the_files_are_in_the_srn_layout_and_say_what_was_rendered(written):
    root, options = written
    folders = sorted(root.glob("cars_*/*"))
    assert [folder.parent.name for folder in folders] == ["cars_train", "cars_train", "cars_val"]
    assert folders[2].name == f"000002_{car_style(2)}"

    lines = (folders[2] / "intrinsics.txt").read_text().splitlines()
    focal, centre_x, centre_y, _ = map(float, lines[0].split())
    assert (focal, centre_x, centre_y) == pytest.approx((131.25 / 128 * 33, 16.5, 16.5), abs=1e-5)
    assert lines[3].split() == ["33", "33"]

    files = sorted((folders[2] / "pose").iterdir())
    poses = np.stack([np.array(file.read_text().split(), float).reshape(4, 4) for file in files])
    assert len(poses) == options.views
    np.testing.assert_allclose(
        poses[:, :3, :3] @ poses[:, :3, :3].swapaxes(1, 2), np.tile(np.eye(3), (3, 1, 1)), atol=1e-7
    )
    np.testing.assert_allclose(
        poses[:, :3, 3], -1.3 * poses[:, :3, 2], atol=1e-7
    )  # at 1.3, facing the origin

    expected = render_meshes(car(2), poses, intrinsics=INTRINSICS, height=33, width=33)
    for kind, factor, tolerance in (("rgb", 1, 1), ("alpha", 1, 0), ("depth", DEPTH_STEPS, 1)):
        pictures = [
            np.asarray(Image.open(file)).astype(int) for file in sorted((folders[2] / kind).iterdir())
        ]
        difference = np.abs(np.stack(pictures) - getattr(expected, kind) * factor)
        assert (difference > tolerance).mean() < 0.002  # poses are rounded to 9 digits in the files


def test_elevations_stay_in_their_band(written):
    heights = [float(file.read_text().split()[11]) / 1.3 for file in written[0].glob("cars_*/*/pose/*.txt")]
    low, high = np.sin(np.radians([-5, 70]))
    assert low <= min(heights) <= max(heights) <= high


def test_a_second_run_completes_what_is_missing_and_touches_nothing_else(written):
    root, options = written
    kept, lost = sorted(root.glob("cars_train/*"))
    before = {file: file.stat().st_mtime_ns for file in kept.rglob("*")}
    lost_picture = (lost / "rgb" / "000001.png").read_bytes()
    lost.rename(lost.with_name(f".{lost.name}"))  # what a killed run leaves behind
    make_shapes(root, options, workers=1, progress=False)
    assert {file: file.stat().st_mtime_ns for file in kept.rglob("*")} == before
    assert (lost / "rgb" / "000001.png").read_bytes() == lost_picture
    assert not list(root.rglob(".*"))


def test_sets_of_other_numbers_share_no_car_and_a_number_is_the_same_car(written, tmp_path, capsys):
    root, _ = written
    options = ["--objects", "1", "--val", "2", "--views", "3", "--size", "33", "--workers", "1"]
    assert main(["--root", str(tmp_path / "set"), "--first", "2", *options]) == 0
    found = {split: sorted(f.name[:6] for f in (tmp_path / "set" / split).iterdir()) for split in SPLITS}
    assert found == {"cars_train": ["000002"], "cars_val": ["000003", "000004"]}
    (ours,), (theirs,) = (where.glob("cars_*/000002_*/rgb/000001.png") for where in (root, tmp_path / "set"))
    assert ours.read_bytes() == theirs.read_bytes()
    assert main(["--root", str(tmp_path / "set"), *options]) == 2
    assert main(["--root", str(tmp_path / "new"), "--layout", "videos", "--first", "2", *options]) == 2
    lines = capsys.readouterr().err.splitlines()[-2:]
    assert "was made with first 2 instead of the default" in lines[0]
    assert lines[1].startswith("make_shapes: --first 2: ")
    assert not (tmp_path / "new").exists()


def test_other_parameters_or_foreign_data_are_refused_in_one_line(written, tmp_path, capsys):
    root, _ = written
    assert main(["--root", str(root), "--objects", "2", "--val", "1", "--views", "4", "--size", "33"]) == 2
    (tmp_path / "cars_train").mkdir()
    assert main(["--root", str(tmp_path)]) == 2
    (tmp_path / "parameters.json").write_text("{")
    assert main(["--root", str(tmp_path)]) == 2
    assert main(["--root", str(tmp_path / "new"), "--views", "0"]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 4
    assert f"{root} was made with views 3 instead of 4" in lines[0]
    assert not (tmp_path / "new").exists()


def test_a_root_that_cannot_be_written_is_named_in_one_line(tmp_path, capsys):
    blocked = tmp_path / "file"
    blocked.write_text("in the way")
    assert main(["--root", str(blocked / "root")]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert str(blocked) in line


def test_parameters_are_recorded_and_a_sheet_shows_the_cars(written):
    root, options = written
    assert json.loads((root / "parameters.json").read_text())["views"] == options.views
    assert Image.open(root / "contact_sheet.png").size == (2 * 33, 33)
