"""DTU: cameras by two routes, splits, subsets, file names, masks, and damaged sets."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from config.run import validate_config
from data.config import DataConfig
from data.formats.dtu.calibration import HEIGHT, WIDTH, decompose, normalised_intrinsics, read_projections
from data.formats.dtu.objects import DTUObjects, open_dtu
from data.formats.dtu.selection import (
    ALL_34,
    INPUT_ORDER,
    REGNERF_25,
    SUBSETS,
    TEST_SCENES,
    TRAIN_SCENES,
    camera_of,
    picture_name,
)
from data.formats.dtu.writer import INTRINSICS, projection_of, write_calibrations, write_scene
from data.formats.registry import open_raw, open_split
from data.meshes.datasets.dtu_cameras import dtu_poses
from data.meshes.mesh import Mesh
from data.meshes.ray_casting import render_views
from data.scenes.facts import DataFacts
from data.scenes.loader import SceneLoader
from scripts.make_shapes import main as make_shapes
from scripts.pack import main as pack

BALL = np.array([0.21, -0.13, 0.17])  # centre of a small ball, off every symmetry


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    """Two training and two test scenes of 16 x 12 pixels."""
    root = tmp_path_factory.mktemp("dtu")
    options = ["--objects", "2", "--val", "2", "--size", "16", "--workers", "1"]
    assert make_shapes(["--layout", "dtu", "--root", str(root), *options]) == 0
    return root


@pytest.fixture
def copy(made, tmp_path) -> Path:
    return shutil.copytree(made, tmp_path / "copy")


@pytest.fixture(scope="module")
def ball(tmp_path_factory) -> Path:
    """One test scene: a small ball, as 160 x 120 pixels."""
    import trimesh

    root = tmp_path_factory.mktemp("ball")
    sphere = trimesh.creation.icosphere(subdivisions=2, radius=0.03)
    faces = len(sphere.faces)
    mesh = Mesh(
        np.asarray(sphere.vertices) + BALL, np.asarray(sphere.faces), np.full((faces, 3), 255, np.uint8)
    )
    size = {"height": 120, "width": 160}
    even = {"lighting": lambda normals: np.ones(len(normals)), "samples": 4}  # as bright as it is covered
    views = list(render_views(mesh, dtu_poses()[:49], intrinsics=INTRINSICS, **size, **even))
    write_calibrations(root, dtu_poses())
    write_scene(root, "scan8", {"3": views}, masks=True)
    return root


def config(root: Path, **options) -> DataConfig:
    return DataConfig.model_validate({"root": str(root), "image_size": 16, "image_height": 12, **options})


def seen_ball(root: Path) -> np.ndarray:
    """Pixels of 1600 x 1200 [v 2] at which the ball is in the pictures: the centroid of what is bright."""
    found = []
    raw = open_dtu(root, "test")
    for view in range(raw.num_views(0)):
        levels = raw.picture(0, view).double().mean(-1) - 8
        rows, columns = (torch.arange(size).double() + 0.5 for size in levels.shape)
        y, x = (levels.sum(1) @ rows, levels.sum(0) @ columns)
        found.append([x / levels.sum() * 10, y / levels.sum() * 10])
    return np.array(found, dtype=float)


def in_file_world(point: np.ndarray, root: Path) -> np.ndarray:
    """Triangulate the point of which the calibrations' own projections are in the pictures."""
    projections = read_projections(root)[list(ALL_34)].numpy()
    rows = [
        pixel * matrix[2] - matrix[axis]
        for matrix, pixels in zip(projections, point, strict=True)
        for axis, pixel in enumerate(pixels)
    ]
    homogeneous = np.linalg.svd(np.array(rows) / np.linalg.norm(rows, axis=1, keepdims=True))[2][-1]
    return homogeneous[:3] / homogeneous[3]


def test_a_known_point_is_where_calibrations_and_cameras_say(ball):
    pixels = seen_ball(ball)
    # First route: the matrices of the files, of a point that all pictures agree on.
    point = in_file_world(pixels, ball)
    homogeneous = np.append(point, 1) @ read_projections(ball)[list(ALL_34)].numpy().transpose(0, 2, 1)
    by_files = homogeneous[:, :2] / homogeneous[:, 2:]
    np.testing.assert_allclose(by_files, pixels, atol=1)  # of 1600: a tenth of a pixel of the picture
    # Second route: our cameras, in their normalised world. The similarity between the worlds is found by
    # the camera centres alone.
    raw = open_dtu(ball, "test")
    cameras = open_split(config(ball), "test").cameras(0)
    _, file_poses = decompose(read_projections(ball)[list(ALL_34)])
    there, here = file_poses[:, :3, 3], raw.cameras(0)[0][:, :3, 3].double()
    a, b = there - there.mean(0), here - here.mean(0)
    u, _, v = torch.linalg.svd(b.T @ a)
    sign = torch.diag(torch.tensor([1.0, 1.0, float(torch.det(u @ v))], dtype=torch.float64))
    rotation = u @ sign @ v
    moved = (b.norm() / a.norm()) * rotation @ (torch.from_numpy(point) - there.mean(0)) + here.mean(0)
    image = cameras.project(moved.float()[None].expand(34, 1, 3))[:, 0]
    size = torch.tensor([WIDTH, HEIGHT])
    np.testing.assert_allclose((image[:, :2] * size).numpy(), by_files, atol=0.05)
    assert (image[:, 2] > 0).all()


def test_decomposition_is_the_inverse_of_k_r_t_whatever_its_scale():
    generator = torch.Generator().manual_seed(1)
    rotation = torch.linalg.qr(torch.randn(5, 3, 3, generator=generator, dtype=torch.float64)).Q
    rotation = rotation * torch.linalg.det(rotation)[:, None, None]
    centre = torch.randn(5, 3, generator=generator, dtype=torch.float64)
    k = torch.tensor([[7.0, 0.3, 2.0], [0, 5.0, 3.0], [0, 0, 1]], dtype=torch.float64)
    matrix = k @ torch.cat([rotation, -(rotation @ centre[..., None])], dim=-1)
    scales = torch.tensor([1.0, -1.0, 250.0, -0.001, 3.0], dtype=torch.float64)[:, None, None]
    intrinsics, poses = decompose(scales * matrix)
    torch.testing.assert_close(intrinsics, k.expand(5, 3, 3))
    torch.testing.assert_close(poses[:, :3, :3], rotation.transpose(1, 2))
    torch.testing.assert_close(poses[:, :3, 3], centre)
    assert poses[:, 3].tolist() == [[0, 0, 0, 1]] * 5


def test_skew_is_left_out_where_it_comes_of_rounding(made):
    intrinsics, _ = decompose(read_projections(made))
    assert intrinsics[:, 0, 1].abs().max() > 0
    assert open_dtu(made, "train").cameras(0)[1][:, 0, 1].eq(0).all()
    skewed = torch.tensor([[1600.0, 16.0, 800.0], [0, 1200.0, 600.0], [0, 0, 1]], dtype=torch.float64)
    assert normalised_intrinsics(skewed)[0].tolist() == pytest.approx([1.0, 0.01, 0.5])


def test_the_world_is_upright_of_usual_size_and_the_same_for_every_choice_of_views(made):
    some = open_dtu(made, "train", config(made, dtu={"subset": 3}).dtu).cameras(0)[0]
    whole = open_dtu(made, "train").cameras(1)[0]
    assert torch.equal(some, whole[[ALL_34.index(camera) for camera in (22, 25, 28)]])
    assert (
        whole[:, 2, 0].abs().max() < 1e-4
    )  # their x axes are level, as those of the cameras that were written
    elevation = whole[:, 2, 3] / whole[:, :3, 3].norm(dim=1)
    assert 0.2 < elevation.min() < elevation.max() < 0.9
    assert 1.1 < whole[:, :3, 3].norm(dim=1).mean() < 1.35
    # Views from the right of others are so here, too: the world is not mirrored.
    assert torch.det(whole[0, :3, :3]) > 0
    torch.testing.assert_close(
        (whole[0, :3, 3] - whole[5, :3, 3]).norm() / (whole[3, :3, 3] - whole[9, :3, 3]).norm(),
        torch.tensor(dtu_distance(0, 5) / dtu_distance(3, 9)),
        rtol=1e-4,
        atol=0,
    )


def dtu_distance(first: int, second: int) -> float:
    centres = dtu_poses()[list(ALL_34), :3, 3]
    return float(np.linalg.norm(centres[first] - centres[second]))


def test_splits_and_views_are_those_of_papers():
    assert (len(TRAIN_SCENES), len(TEST_SCENES), len(ALL_34), len(REGNERF_25)) == (88, 15, 34, 25)
    assert not set(TRAIN_SCENES) & {*TEST_SCENES, 1, 2, 7, 25, 117}
    assert set(INPUT_ORDER) | set(REGNERF_25) == set(ALL_34)
    for smaller, larger in (("1", "3"), ("3", "6"), ("6", "9"), ("9", "all34")):
        assert set(SUBSETS[smaller]) < set(SUBSETS[larger])
    assert [len(SUBSETS[name]) for name in ("middle", "middle_by_2", "middle_by_3")] == [24, 12, 8]
    assert SUBSETS["1"] == (25,)
    assert not {3, 7, 16, 21, 36, 39} & set(ALL_34)


@pytest.mark.parametrize("lighting", ["0", "3", "max"])
def test_names_of_pictures_count_cameras_from_one(lighting):
    for camera in (0, 8, 48, 63):
        assert camera_of(picture_name(camera, lighting), lighting) == camera
    assert picture_name(0, "3") == "rect_001_3_r5000.png"
    for other in ("rect_000_3_r5000.png", "rect_001_4_r5000.png", "rect_01_3_r5000.png", "notes.txt"):
        assert camera_of(other, "3") is None


@pytest.mark.parametrize("lighting", [0, "0"])
def test_lighting_selects_files_as_a_number_or_as_text(made, lighting):
    other = open_dtu(made, "test", config(made, dtu={"lighting": lighting}).dtu)
    usual = open_dtu(made, "test")
    assert not torch.equal(other.picture(0, 5), usual.picture(0, 5))


def test_usual_scenes_are_split_by_scene_and_named_ones_by_view(made):
    assert open_dtu(made, "train").ids == ("scan3", "scan4")
    assert open_dtu(made, "val").ids == open_dtu(made, "test").ids == ("scan8", "scan21")
    assert "has 2 of the 88 training scenes" in open_dtu(made, "train").notices(0)[0]
    options = config(made, dtu={"scenes": [8], "subset": 3}).dtu
    train, test = (open_dtu(made, split, options) for split in ("train", "test"))
    assert train.ids == test.ids == ("scan8",)
    assert sorted((*train.camera_numbers, *test.camera_numbers)) == sorted(ALL_34)
    assert (train.num_views(0), test.num_views(0)) == (3, 31)
    both = open_dtu(made, "val", config(made, dtu={"scenes": "training", "subset": 0}).dtu)
    assert both.ids == ("scan3", "scan4")
    assert "all 34 views are for training" in both.notices(0)[-1]


def test_published_numbers_of_preprocessing_set_the_size(made):
    assert config_size(made, 1) == ("resize", 512, 384)
    assert config_size(made, 2) == ("resize", 768, 576)
    assert config_size(made, 0) == ("pad", 512, 512)
    with pytest.raises(ValueError, match="preprocessing 1 makes image_size 512, but it is 64"):
        config(made, image_size=64, dtu={"preprocessing": 1})
    with pytest.raises(ValueError, match="preprocessing"):
        config(made, dtu={"preprocessing": 3})


def config_size(root: Path, number: int) -> tuple[str, int, int]:
    found = DataConfig.model_validate({"root": str(root), "dtu": {"preprocessing": number}})
    again = DataConfig.model_validate(json.loads(found.model_dump_json()))
    assert again == found
    return found.dtu.preprocessing, found.image_size, found.height


def test_padding_moves_no_point_of_the_picture(ball):
    padded = DataConfig.model_validate(
        {"root": str(ball), "image_size": 160, "image_height": 160, "dtu": {"preprocessing": "pad"}}
    )
    plain = padded.model_copy(update={"image_height": 120, "dtu": config(ball).dtu})
    square, wide = (open_split(chosen, "test") for chosen in (padded, plain))
    images, cameras = square.read(0, [4])
    assert torch.equal(images[:, :, :120], wide.read(0, [4])[0])
    assert images[:, :, 120:].eq(-1).all()
    point = torch.tensor([[[0.05, -0.04, 0.02]]])
    there, here = cameras.project(point)[0, 0], wide.read(0, [4])[1].project(point)[0, 0]
    torch.testing.assert_close(there[:2] * 160, here[:2] * torch.tensor([160.0, 120.0]))


def test_masks_are_found_in_either_place_and_make_the_background_white(copy):
    white = config(copy, dtu={"background": "white"})
    first = open_dtu(copy, "test", white.dtu)
    opacity, picture = first.alpha(0, 7), first.picture(0, 7)
    assert 0 < (opacity > 0).sum() < opacity.numel()
    assert picture[opacity == 0].eq(255).all()
    assert not open_dtu(copy, "test").picture(0, 7)[opacity == 0].eq(255).any()
    folder = copy / "submission_data/idrmasks/scan8"
    for path in (folder / "mask").iterdir():
        path.rename(folder / path.name)
    again = open_dtu(copy, "test", white.dtu)
    assert torch.equal(again.alpha(0, 7), opacity)
    # View 7 is camera 12, and masks count cameras from 0.
    (folder / "012.png").unlink()
    with pytest.raises(ValueError, match=r"scan8/012\.png: there is no such mask.*missing_masks=white"):
        open_dtu(copy, "test", white.dtu).picture(0, 7)
    assert open_dtu(copy, "test", white.dtu).alpha(0, 7) is None
    assumed = config(copy, dtu={"background": "white", "missing_masks": "white"}).dtu
    assert torch.equal(open_dtu(copy, "test", assumed).picture(0, 7), open_dtu(copy, "test").picture(0, 7))
    assert open_dtu(copy, "test", assumed).alpha(0, 7).eq(255).all()


def test_batches_hold_the_numbers_of_the_calibration_files(made):
    settings = config(made, sources=[1, 3], targets=2)
    objects = open_split(settings, "train")
    batch = SceneLoader(objects, settings, seed=0, batch=2).load(3)
    assert batch.source.images.shape == (2, 3, 3, 12, 16)
    assert batch.target.projection.shape == (2, 2, 3, 4)
    every = DataFacts(objects).every_projection()
    assert every.shape == (64, 3, 4)
    choice = SceneLoader(objects, settings, seed=0, batch=2).choose(6)
    for place, view in enumerate(choice.target):
        expected = projection_of(dtu_poses()[ALL_34[view]])
        np.testing.assert_allclose(batch.target.projection[0, place], expected, rtol=1e-8)
        assert torch.equal(every[ALL_34[view]], batch.target.projection[0, place])


def test_a_packed_set_equals_its_folders(made, tmp_path):
    assert pack([str(made), "--output", str(tmp_path / "packed"), "--workers", "1"]) == 0
    packed, folders = (open_raw(root, "test") for root in (tmp_path / "packed", made))
    assert packed.ids == folders.ids
    assert torch.equal(packed.picture(1, 33), folders.picture(1, 33))
    torch.testing.assert_close(packed.cameras(1), folders.cameras(1))


def test_in_the_world_of_calibrations_cameras_are_the_numbers_of_the_files(made):
    settings = config(made, dtu={"world": "calibration", "subset": 6}, sources=[1, 1])
    objects = open_split(settings, "train")
    cameras, every = objects.cameras(0), DataFacts(objects).calibrated_cameras()
    assert (cameras.shape, every.shape) == ((6,), (64,))
    for found, numbers in ((cameras, objects.raw.projections(0)), (every, read_projections(made))):
        world_to_camera = torch.linalg.inv(found.cam_to_world.double())[:, :3]
        size = torch.tensor([[WIDTH], [HEIGHT], [1]])
        again = found.intrinsics.double() * size @ world_to_camera
        torch.testing.assert_close(again, numbers, rtol=1e-4, atol=0.02)
    # Scaled over the files, entries do not depend on the unit of pixels.
    assert DataFacts(open_split(config(made), "train")).calibrated_cameras().positions.norm(dim=1).max() < 2


DAMAGES = {
    "calibration": (
        lambda root: (root / "Calibration/cal18/pos_050.txt").unlink(),
        "cal18/pos_050.txt: there is no such calibration file",
    ),
    "calibration cut": (
        lambda root: (root / "Calibration/cal18/pos_007.txt").write_text("1 2 3 4\n5 6 7 8\n"),
        "pos_007.txt: has 8 numbers instead of 3 rows of 4",
    ),
    "calibration of words": (
        lambda root: (root / "Calibration/cal18/pos_007.txt").write_text("one\n"),
        "pos_007.txt: numbers expected",
    ),
    "calibration of zeros": (
        lambda root: (root / "Calibration/cal18/pos_007.txt").write_text("0 " * 12),
        "pos_007.txt: is no projection matrix",
    ),
    "picture missing": (
        lambda root: (root / "Rectified/scan3/rect_001_3_r5000.png").unlink(),
        r"rect_001_3_r5000.png: there is no such picture \(1 of 34 are missing\)",
    ),
    "no pictures": (
        lambda root: [path.unlink() for path in (root / "Rectified/scan3").glob("*_3_r5000.png")],
        "scan3: has 0 views of lighting 3",
    ),
    "picture cut": (
        lambda root: [
            path.write_bytes(path.read_bytes()[:60]) for path in (root / "Rectified/scan3").iterdir()
        ],
        "_3_r5000.png: not a readable image",
    ),
    "picture of another shape": (
        lambda root: [Image.new("RGB", (16, 16)).save(path) for path in (root / "Rectified/scan3").iterdir()],
        "is 16 x 16, but calibrations describe 1600 x 1200",
    ),
    "no scenes": (
        lambda root: [shutil.rmtree(path) for path in (root / "Rectified").iterdir()],
        "Rectified: has none of the scenes scan3, scan4 ... scan128",
    ),
}


def read_everything(root: Path, **options) -> None:
    objects = open_split(config(root, **options), "train")
    for index in range(len(objects)):
        objects.read(index, range(objects.num_views(index)))


@pytest.mark.parametrize(("damage", "message"), DAMAGES.values(), ids=DAMAGES)
def test_damage_is_one_line_that_names_the_file(copy, damage, message):
    read_everything(copy)
    damage(copy)
    with pytest.raises(ValueError, match=message) as found:
        read_everything(copy)
    assert "\n" not in str(found.value)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"scenes": ["scan99"]}, "scan99: there is no such scene"),
        ({"scenes": 99}, "scan99: there is no such scene"),
        ({"scenes": []}, "at least one scene"),
        ({"scenes": ["3", "scan3"]}, "each once"),
        ({"subset": 5}, "subset"),
        ({"lighting": 7}, "lighting"),
        ({"lighting": 6}, "0 views of lighting 6"),
        ({"scenes": "test", "subset": 1, "background": "white", "lighting": 2}, "0 views of lighting 2"),
        ({"background": "white"}, "there is no such mask"),
    ],
)
def test_options_that_do_not_suit_are_refused_in_one_line(made, options, message):
    with pytest.raises(ValueError, match=message):
        read_everything(made, dtu=options)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--views 0", "views is 0"),
        ("--views 24", "views is 24; the layout dtu has 49 or 64"),
        ("--size 18", "size is 18"),
        ("--objects 89", "objects is 89; the layout dtu has 88"),
        ("--val 16", "val is 16; the layout dtu has 15"),
        ("--objects 3", "was made with objects 2 instead of 3"),
    ],
)
def test_the_maker_refuses_what_dtu_has_not(made, words, message, capsys):
    given = ["--objects", "2", "--val", "2", "--size", "16", "--workers", "1", *words.split()]
    assert make_shapes(["--layout", "dtu", "--root", str(made), *given]) == 2
    assert message in capsys.readouterr().err


def test_the_layout_is_recognised_and_opened_with_the_options_of_the_run(made):
    assert isinstance(open_raw(made, "train"), DTUObjects)
    document = {
        "name": "x",
        "model": {},
        "data": {"root": str(made), "dtu": {"scenes": ["scan4"], "subset": 6}},
    }
    run = validate_config(document, "x")
    assert open_split(run.data, "train").num_views(0) == 6
    listed = made.parent / "views.json"
    listed.write_text(json.dumps({"scan4": [0, 2]}))
    assert open_split(run.data.model_copy(update={"views": str(listed)}), "train").num_views(0) == 2
