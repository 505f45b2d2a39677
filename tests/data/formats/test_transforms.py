"""Scenes of transforms.json: cameras by reprojection, pictures by pixel, splits, and what can be wrong."""

import json
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from data.cameras.pinhole import cameras_from_poses, opencv_to_opengl, pinhole
from data.cameras.poses import orbit
from data.config import DataConfig
from data.formats.registry import open_raw, open_split
from data.images.pixels import from_uint8
from data.scenes.batch import all_valid
from data.scenes.loader import SceneLoader
from data.splits import split_named
from scripts import export_transforms

POINTS = np.array([[0.4, 0.2, -0.3], [-0.5, 0.6, 0.1], [0.0, -0.2, 0.5]])
HEIGHT, WIDTH = 6, 8
DISTANCE, ANGLE = 4.0311, 0.6911  # of Blender's synthetic scenes


def poses(num: int, distance: float = DISTANCE) -> torch.Tensor:
    azimuth = torch.arange(num) * 1.1
    return orbit(azimuth, 0.2 + 0.05 * torch.arange(num), distance)


def colours(view: int) -> np.ndarray:
    return np.random.RandomState(view).randint(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)


def plant(
    folder: Path, num: int = 3, *, name: str = "transforms.json", first: int = 0, suffix: str = ".png", **keys
) -> Path:
    """A scene of `num` views from number `first` on, with angles of view unless `keys` say otherwise."""
    frames = []
    (folder / "images").mkdir(parents=True, exist_ok=True)
    for view in range(first, first + num):
        Image.fromarray(colours(view)).save(folder / f"images/r.{view}.png")
        matrix = opencv_to_opengl(poses(view + 1)[-1]).tolist()
        frames.append({"file_path": f"./images/r.{view}{suffix}", "transform_matrix": matrix})
    document = {"camera_angle_x": ANGLE, "frames": frames} | keys
    (folder / name).write_text(json.dumps(document))
    return folder


def rewrite(folder: Path, change: Callable[[dict], object]) -> None:
    path = folder / "transforms.json"
    document = json.loads(path.read_text())
    change(document)
    path.write_text(json.dumps(document))


def refuses(message: str):
    """The error has one line, which begins with a path or a key."""
    return pytest.raises(ValueError, match=r"\A[^\n]*" + message + r"[^\n]*\Z")


def seen(matrix: list[list[float]], fl_x: float, fl_y: float, cx: float, cy: float) -> np.ndarray:
    """(u, v, depth) of POINTS by the format's own definition: OpenGL axes, pixels."""
    homogeneous = np.concatenate([POINTS, np.ones((3, 1))], axis=1)
    x, y, z = (np.linalg.inv(np.array(matrix)) @ homogeneous.T)[:3]
    return np.stack([(fl_x * x / -z + cx) / WIDTH, (fl_y * -y / -z + cy) / HEIGHT, -z], axis=1)


def test_points_are_seen_where_the_document_puts_them(tmp_path: Path):
    keys = {"fl_x": 9.0, "fl_y": 10.0, "cx": 3.0, "cy": 3.5, "w": WIDTH, "h": HEIGHT}
    plant(tmp_path / "lego", 5, **keys)
    objects = open_raw(tmp_path / "lego", "train")
    document = json.loads((tmp_path / "lego/transforms.json").read_text())
    cameras = cameras_from_poses(*objects.cameras(0))
    for view, frame in enumerate(document["frames"][1:]):  # the first is held out
        expected = seen(frame["transform_matrix"], 9, 10, 3, 3.5)
        ours = cameras[view].project(torch.tensor(POINTS, dtype=torch.float32)).numpy()
        np.testing.assert_allclose(ours, expected, atol=1e-5)


@pytest.mark.parametrize("suffix", [".png", ""])
def test_angles_of_view_go_by_the_shape_of_the_pictures_and_suffixes_may_lack(tmp_path: Path, suffix: str):
    objects = open_raw(plant(tmp_path / "lego", 3, suffix=suffix), "train")
    _, intrinsics = objects.cameras(0)
    focal = 0.5 / math.tan(ANGLE / 2)
    expected = torch.tensor([[focal, 0, 0.5], [0, focal * WIDTH / HEIGHT, 0.5], [0, 0, 1]])
    torch.testing.assert_close(intrinsics, expected.expand(2, 3, 3))
    assert np.array_equal(objects.picture(0, 1).numpy(), colours(2))
    assert (objects.ids, objects.place(0)) == (("lego",), str(tmp_path / "lego"))
    assert objects.alpha(0, 0) is None


def test_the_working_volume_of_blenders_cameras_is_what_they_see(tmp_path: Path):
    config = DataConfig(root=str(plant(tmp_path / "lego", 4)), image_size=5)
    images, cameras = open_split(config, "train").read(0, [0, 2])
    assert images.shape == (2, 3, 5, 5)
    # The shorter side of the picture decides.
    radius = DISTANCE * math.sin(math.atan(math.tan(ANGLE / 2) * HEIGHT / WIDTH))
    torch.testing.assert_close(cameras.far, torch.full((2,), DISTANCE + radius), atol=1e-4, rtol=0)
    torch.testing.assert_close(cameras.near, torch.full((2,), DISTANCE - radius), atol=1e-4, rtol=0)


def test_transparent_pictures_come_on_white_with_their_opacity(tmp_path: Path):
    folder = plant(tmp_path / "lego", 2)
    opacity = np.arange(48, dtype=np.uint8).reshape(HEIGHT, WIDTH) * 5
    Image.fromarray(np.dstack([colours(1), opacity])).save(folder / "images/r.1.png")
    objects = open_raw(folder, "train")
    share = opacity[..., None] / 255
    expected = (colours(1) * share + 255 * (1 - share)).round()
    assert np.abs(objects.picture(0, 0).numpy().astype(float) - expected).max() <= 1
    assert np.array_equal(objects.alpha(0, 0).numpy(), opacity)


def pictures_of(root: Path, split: str, index: int = 0) -> list[int]:
    """The numbers of the views of a split, told by their pictures."""
    objects = open_raw(root, split)
    stored = [objects.picture(index, view).numpy() for view in range(objects.num_views(index))]
    return [next(n for n in range(40) if np.array_equal(colours(n), picture)) for picture in stored]


def test_of_a_lone_scene_every_eighth_view_is_held_out_in_natural_order(tmp_path: Path):
    folder = plant(tmp_path / "only", 18)
    rewrite(folder, lambda document: document["frames"].reverse())
    for root in (folder, tmp_path):
        assert pictures_of(root, "val") == pictures_of(root, "test") == [0, 8, 16]
        assert pictures_of(root, "train") == [view for view in range(18) if view % 8]
    expected = cameras_from_poses(poses(18), torch.eye(3)).cam_to_world[[0, 8, 16]]
    torch.testing.assert_close(open_raw(folder, "test").cameras(0)[0], expected, atol=1e-5, rtol=1e-5)


def test_blenders_files_decide_the_splits_of_a_lone_scene(tmp_path: Path):
    for first, name in ((0, "train"), (3, "val"), (5, "test")):
        plant(tmp_path / "lego", 2, name=f"transforms_{name}.json", first=first)
    assert [pictures_of(tmp_path / "lego", split) for split in ("train", "val", "test")] == [
        [0, 1],
        [3, 4],
        [5, 6],
    ]
    (tmp_path / "lego/transforms_test.json").unlink()
    assert pictures_of(tmp_path / "lego", "test") == [3, 4]
    (tmp_path / "lego/transforms_train.json").unlink()
    with refuses("lego: none of its 2 views is for train"):
        pictures_of(tmp_path / "lego", "train")
    plant(tmp_path / "all", 9, name="transforms_train.json")
    assert pictures_of(tmp_path / "all", "test") == [0, 8]


def test_several_scenes_are_split_by_scene_with_all_their_views(tmp_path: Path):
    for name in "abcd":
        plant(tmp_path / "loose" / name, 3)
        plant(tmp_path / "sorted" / ("my_train" if name < "c" else "val") / name, 2)
    training, held_out = (set(open_raw(tmp_path / "loose", split).ids) for split in ("train", "val"))
    assert training | held_out == set("abcd")
    assert len(held_out) == 1
    assert open_raw(tmp_path / "loose", "train").num_views(0) == 3
    assert open_raw(tmp_path / "sorted", "train").ids == ("a", "b")
    assert open_raw(tmp_path / "sorted", "test").ids == ("c", "d")
    (tmp_path / "sorted/my_train").rename(tmp_path / "sorted/test")
    with refuses(r"data\.root=.*there are no scenes for train"):
        open_raw(tmp_path / "sorted", "train")


def test_the_name_of_a_folder_says_its_split():
    names = {"train": "train", "my_val": "val", "a_train_test": "test", "trains": None, "testing_x": None}
    assert {name: split_named(name) for name in names} == names


def test_a_lone_scene_trains(tmp_path: Path):
    config = DataConfig(root=str(plant(tmp_path / "lego", 9)), image_size=4, sources=(1, 2), targets=2)
    objects = open_split(config, "train")
    batch = SceneLoader(objects, config, seed=3, batch=2).load(1)
    assert batch.scene_ids == ("lego", "lego")
    known = {from_uint8(torch.from_numpy(colours(view))).sum().item() for view in range(9)}
    assert len(known) == 9
    assert batch.target.images.shape == (2, 2, 3, 4, 4)


def test_a_world_that_the_cameras_do_not_look_at_the_middle_of_is_normalised(tmp_path: Path):
    folder = plant(tmp_path / "desk", 9)

    def move(document: dict) -> None:
        for frame in document["frames"]:
            for row in range(3):
                frame["transform_matrix"][row][3] = 5 * frame["transform_matrix"][row][3] + 30

    before = torch.cat([open_raw(folder, split).cameras(0)[0] for split in ("train", "test")])
    rewrite(folder, move)
    after = torch.cat([open_raw(folder, split).cameras(0)[0] for split in ("train", "test")])
    torch.testing.assert_close(after[:, :3, 3].norm(dim=-1), torch.full((9,), 1.3), atol=1e-3, rtol=0)
    # Angles between cameras stay; both splits share one world.
    angles = [part[:, :3, 2] @ part[:, :3, 2].T for part in (before, after)]
    torch.testing.assert_close(*angles, atol=1e-5, rtol=0)


def set_frame(number: int, **keys: object) -> Callable[[dict], None]:
    return lambda document: document["frames"][number].update(keys)


ERRORS = {
    "frames": (lambda document: document.update(frames=[]), "transforms.json: `frames` must be a list"),
    "path": (set_frame(1, file_path=3), "transforms.json: frame 1: `file_path` must be a string"),
    "picture": (set_frame(1, file_path="images/none"), "images/none: there is no such image"),
    "pose": (set_frame(2, transform_matrix=[[1]]), "frame 2: `transform_matrix` must be 4 rows"),
    "distortion": (lambda document: document.update(k1=0.1), "transforms.json: .*undistort first"),
    "fisheye": (lambda document: document.update(camera_model="OPENCV_FISHEYE"), "undistort first"),
    "shape": (lambda document: document.update(w=90, h=20), "is 8 x 6, but .* describes images of 90 x 20"),
    "focal": (lambda document: document.pop("camera_angle_x"), "`fl_x` or `camera_angle_x` is missing"),
}


@pytest.mark.parametrize("name", ERRORS)
def test_a_bad_document_is_one_line_that_begins_with_a_file(tmp_path: Path, name: str):
    change, message = ERRORS[name]
    folder = plant(tmp_path / "lego", 4)
    rewrite(folder, change)
    with refuses(message) as error:
        open_raw(folder, "train").cameras(0)
    assert str(error.value).startswith(str(folder))


def test_every_picture_must_have_the_shape_that_its_own_frame_says(tmp_path: Path):
    upright = {"w": HEIGHT, "h": WIDTH, "camera_angle_x": 0.5}
    folder = plant(tmp_path / "lego", 5, w=WIDTH, h=HEIGHT)
    Image.new("RGB", (HEIGHT, WIDTH)).save(folder / "images/r.3.png")
    with refuses(r"r\.3\.png: is 6 x 8, but .*transforms\.json describes images of 8 x 6; give"):
        open_raw(folder, "train").cameras(0)
    rewrite(folder, set_frame(3, **upright))
    _, intrinsics = open_raw(folder, "train").cameras(0)
    focal = 0.5 / math.tan(0.25)
    assert intrinsics[2].diagonal().tolist() == pytest.approx([focal, focal * HEIGHT / WIDTH, 1])
    rewrite(folder, set_frame(2, **upright))
    with refuses(r"r\.2\.png: is 8 x 6, but .* describes images of 6 x 8"):
        open_raw(folder, "train").cameras(0)


def test_keys_that_are_null_are_missing(tmp_path: Path):
    expected = open_raw(plant(tmp_path / "lego", 3), "train").cameras(0)
    rewrite(tmp_path / "lego", lambda document: document.update(w=None, h=None, camera_model=None, k1=None))
    rewrite(tmp_path / "lego", set_frame(1, camera_angle_x=None, w=None))
    torch.testing.assert_close(open_raw(tmp_path / "lego", "train").cameras(0), expected)


@pytest.mark.parametrize("content", ["{", "[]", b"\xff\xfe\x80"])
def test_what_is_no_document_is_named(tmp_path: Path, content: str | bytes):
    folder = plant(tmp_path / "lego", 4)
    (folder / "transforms.json").write_bytes(content if isinstance(content, bytes) else content.encode())
    with refuses(r"transforms\.json: (is not JSON|must hold a JSON object)"):
        open_raw(folder, "train").num_views(0)


def test_parallel_cameras_beside_the_origin_have_no_middle(tmp_path: Path):
    folder = plant(tmp_path / "wall", 4)

    def face_the_wall(document: dict) -> None:
        for number, frame in enumerate(document["frames"]):
            frame["transform_matrix"] = [[1, 0, 0, number], [0, 1, 0, 50], [0, 0, 1, 9], [0, 0, 0, 1]]

    rewrite(folder, face_the_wall)
    with refuses("the cameras are parallel"):
        open_raw(folder, "train").cameras(0)


def test_a_folder_without_scenes_is_refused_by_name(tmp_path: Path):
    with refuses(r"data\.root=.*no scenes .folders with transforms\.json. in it or below"):
        open_raw(tmp_path, "train", "transforms")


def test_an_exported_set_comes_back_as_it_was_in_the_same_splits(srn_root: Path, tmp_path_factory, capsys):
    out = tmp_path_factory.mktemp("out")
    flags = [str(srn_root), "--output", str(out)]
    assert export_transforms.main(flags) == 0
    assert sorted(path.relative_to(out).as_posix() for path in out.glob("*/*")) == [
        "train/a",
        "train/bb",
        "val/ccc",  # which is also the test split, and is written once
    ]
    for split in ("train", "val", "test"):
        before, after = open_raw(srn_root, split), open_raw(out, split)
        assert after.ids == before.ids
        for index in range(len(before)):
            torch.testing.assert_close(after.cameras(index), before.cameras(index))
            for view in range(before.num_views(index)):
                assert torch.equal(after.picture(index, view), before.picture(index, view))
    document = json.loads((out / "train/a/transforms.json").read_text())
    assert document["frames"][3]["file_path"] == "images/000003.png"
    assert document["fl_x"] == pytest.approx(6.6)
    kept = (out / "train/a/transforms.json").stat().st_mtime_ns
    assert export_transforms.main([*flags, "--split", "train", "--object", "a"]) == 0  # goes on where it was
    assert (out / "train/a/transforms.json").stat().st_mtime_ns == kept
    capsys.readouterr()
    assert export_transforms.main([*flags, "--object", "ccc", "zebra"]) == 2
    assert capsys.readouterr().err.startswith("export_transforms: there is no object 'zebra' among the 3")


@pytest.mark.parametrize("at_once", [True, False])
def test_an_exported_lone_scene_keeps_the_views_of_its_splits(tmp_path: Path, at_once: bool):
    plant(tmp_path / "lego", 18)
    flags = [str(tmp_path / "lego"), "--output", str(tmp_path / "out")]
    for more in [[]] if at_once else [["--split", "train"], ["--split", "test"]]:
        assert export_transforms.main([*flags, *more]) == 0
    for split in ("train", "val", "test"):
        assert pictures_of(tmp_path / "out", split) == pictures_of(tmp_path / "lego", split)
        before, after = (open_raw(tmp_path / name, split).cameras(0) for name in ("lego", "out"))
        torch.testing.assert_close(after, before)


def test_an_export_says_which_split_there_is_not(srn_root: Path, tmp_path: Path, capsys):
    (srn_root / "cars_train").rename(srn_root / "cars_test")
    assert export_transforms.main([str(srn_root), "--output", str(tmp_path / "out")]) == 0
    assert "left out: " in (said := capsys.readouterr().err)
    assert "there is no *_train folder" in said
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["test", "val"]


def test_an_export_does_not_mix_two_sets_of_the_same_names(tmp_path: Path, capsys):
    for number, root in enumerate(("one", "two")):
        for name in ("a", "b"):
            plant(tmp_path / root / name, 3, first=number)
    flags = ["--output", str(tmp_path / "out")]
    assert export_transforms.main([str(tmp_path / "one"), *flags]) == 0
    assert export_transforms.main([str(tmp_path / "one"), *flags]) == 0
    capsys.readouterr()
    assert export_transforms.main([str(tmp_path / "two"), *flags]) == 2
    assert "exists, but is not an export of" in capsys.readouterr().err.splitlines()[-1]


def test_our_own_output_is_a_scene(tmp_path: Path):
    from models.base import Prediction
    from scripts.sampling.writer import SampleWriter

    cameras = cameras_from_poses(poses(3), pinhole())
    gallery = SampleWriter(tmp_path, cameras)
    gallery.open({})
    images = from_uint8(50 * torch.arange(3, dtype=torch.uint8)[:, None, None, None].expand(3, 4, 4, 3))[None]
    gallery.add_source(all_valid(images[:, :1], cameras[None, :1]))
    gallery.add([0, 1, 2], Prediction(images, images, images[:, :, :1] + 2, images[:, :, :1].abs()))
    gallery.close()
    objects = open_raw(tmp_path, "train")
    torch.testing.assert_close(objects.cameras(0)[0], cameras.cam_to_world[1:], atol=1e-5, rtol=1e-5)
    assert int(objects.picture(0, 1)[0, 0, 0]) == 100
