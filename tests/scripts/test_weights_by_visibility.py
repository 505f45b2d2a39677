"""What input views see of a car, and the weights that they have there."""

import json

import pytest
import torch

import train
from data.cameras.pinhole import cameras_from_poses, pinhole
from data.cameras.poses import look_at
from data.images.files import read_picture
from data.meshes.primitives import box
from data.scenes.batch import all_valid
from scripts.make_shapes import main as make_shapes
from scripts.weights_by_visibility import (
    Case,
    depth_images,
    kinds_of,
    main,
    mean_weights,
    points_of,
    visible,
)
from tests.scenes import TINY_FAMILIES

SIZE, FINE = (20, 24), (90, 100)


def camera_at(*eye: float):
    poses = torch.stack([look_at(torch.tensor(place), torch.zeros(3)) for place in eye])
    return cameras_from_poses(poses, pinhole(), object_radius=0.8)


def test_faces_of_a_box_are_visible_from_where_their_normals_point():
    mesh = box((0.0, 0.0, 0.0), (0.5, 0.3, 0.4), (9, 9, 9))
    eyes = ((1.2, 0.5, 0.9), (-1.1, 0.6, 0.8), (-0.9, -1.0, 0.7), (0.1, -1.3, 0.2))
    cameras = camera_at(*eyes)
    depth = depth_images(mesh, cameras[:1], SIZE)[0]
    points = points_of(depth, cameras[0])[depth.flatten() > 0]
    assert len(points) > 40
    # A box is convex: a point of a face is visible just where the face is turned to the camera.
    half = torch.tensor([0.25, 0.15, 0.2])
    axis = (points.abs() / half).argmax(dim=1)
    side = points.gather(1, axis[:, None]).sign()[:, 0]
    margin = (points.abs() / half).sort(dim=1).values
    clear = margin[:, 1] < 0.9  # not at an edge
    towards = torch.tensor(eyes)[:, axis] * side - half[axis]
    expected = towards > 0
    found = visible(points, cameras, depth_images(mesh, cameras, FINE))
    assert torch.equal(found[:, clear], expected[:, clear])
    assert expected[:, clear].float().mean() > 0.3
    assert not expected[:, clear].all()


def test_the_other_side_of_a_car_is_seen_in_its_mirror_image():
    mesh = box((0.0, 0.0, 0.0), (0.5, 0.3, 0.4), (9, 9, 9))
    points = torch.tensor([[0.0, 0.15, 0.0], [0.25, 0.0, 0.0], [0.0, 0.0, -0.2]])
    cameras = camera_at((0.9, 1.0, 0.4), (0.9, -1.0, 0.4), (-1.2, 0.1, 0.4))
    kinds = kinds_of(points, cameras, depth_images(mesh, cameras, FINE))
    assert kinds.tolist() == [[0, 0, 2], [1, 0, 2], [2, 2, 2]]


def test_mean_weights_are_over_pixels_for_which_views_differ():
    kinds = torch.tensor([[[[0, 0, 2]], [[1, 0, 2]], [[2, 0, 0]]]])  # t=1, s=3, h=1, w=3
    weights = torch.tensor([[[[0.5, 0.9, 0.2]], [[0.4, 0.1, 0.2]], [[0.1, 0.0, 0.6]]]])
    surface = torch.tensor([[[True, True, False]]])
    images = torch.zeros(1, 3, 1, 3)
    source = all_valid(torch.zeros(1, 3, 3, 1, 3), None)
    case = Case(source, images, images, weights, kinds, surface)
    assert mean_weights(case) == pytest.approx([0.5, 0.4, 0.1])


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Tiny runs on the embedded cars, with and without weights."""
    folder = tmp_path_factory.mktemp("runs")
    sizes = ["--objects", "2", "--val", "2", "--size", "16", "--workers", "1"]
    assert make_shapes(["--layout", "nmr", "--root", str(folder / "set"), *sizes]) == 0
    for name, weighting in (("with", True), ("without", False)):
        unet = TINY_FAMILIES["viewfusion"]["unet"]
        document = {
            "name": name,
            "runs": str(folder),
            "model": {"family": "viewfusion", "unet": unet, "weighting": weighting},
            "data": {"root": str(folder / "set"), "image_size": 16, "sources": [1, 3]},
            "train": {"steps": 1, "batch": 1, "preview_every": 0, "device": "cpu", "precision": "float32"},
            "sample": {"steps": 2},
        }
        (folder / "config.json").write_text(json.dumps(document))
        assert train.main([str(folder / "config.json"), "train.preflight=false"]) == 0
    return folder


def test_an_untrained_model_gives_all_views_about_the_same_weight(runs, tmp_path, capsys):
    picture = tmp_path / "out.png"
    assert main([str(runs / "with"), "--inputs", "5", "--targets", "2", "--output", str(picture)]) == 0
    rows = [row.split("|") for row in capsys.readouterr().out.splitlines() if row.startswith("| sees")]
    assert [row[1].strip() for row in rows] == ["sees the part", "sees its mirror image only", "sees neither"]
    assert all(0.1 < float(row[2].split()[0]) < 0.3 for row in rows)
    height, width = read_picture(picture).shape[:2]
    assert (height, width) == (6 * (3 * 18 - 2), 6 * (6 * 18 - 2))


@pytest.mark.parametrize(
    ("run", "arguments", "named"),
    [
        ("without", [], "has no weights"),
        ("with", ["--inputs", "20", "--targets", "5"], "has 24 views"),
        ("with", ["--inputs", "1"], "--inputs 1"),
        ("with", ["--objects", "3"], "has 2"),
        ("nowhere", [], "nowhere"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(runs, tmp_path, capsys, run, arguments, named):
    assert main([str(runs / run), *arguments, "--output", str(tmp_path / "out.png")]) == 2
    error = capsys.readouterr().err
    assert named in error
    assert error.count("\n") == 1
    assert not (tmp_path / "out.png").exists()
