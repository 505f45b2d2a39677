"""NMR's ShapeNet: cameras by reprojection, pictures by pixel, lists, and one line for what can be wrong."""

import math
import pickle
import shutil
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from data.cameras.pinhole import cameras_from_poses
from data.cameras.poses import orbit
from data.checks.check_object import check_object
from data.checks.open_splits import OpenSplit
from data.config import DataConfig
from data.formats.nmr.cameras import read_cameras, require_even_turn, view_angles
from data.formats.registry import at_root, open_raw, open_split

DISTANCE, ELEVATION_DEG, FOCAL = 2.732, 30.0, 1 / math.tan(math.radians(30))
VIEWS, SIZE = 24, 8
POINTS = np.array([[0.1, 0.3, -0.2], [-0.4, 0.05, 0.3], [0.0, -0.25, 0.1]])  # in the files' world, y up


def world_mat(view: int, elevation_deg: float = ELEVATION_DEG) -> np.ndarray:
    """World to camera of a view, worked out in the files' own world."""
    azimuth, elevation = math.radians(15 * view), math.radians(elevation_deg)
    eye = DISTANCE * np.array(
        [
            math.cos(elevation) * math.sin(azimuth),
            math.sin(elevation),
            math.cos(elevation) * math.cos(azimuth),
        ]
    )
    forward = -eye / DISTANCE
    right = np.cross(forward, [0.0, 1.0, 0.0])
    right /= np.linalg.norm(right)
    rotation = np.stack([right, np.cross(forward, right), forward])
    matrix = np.eye(4)
    matrix[:3, :3], matrix[:3, 3] = rotation, -rotation @ eye
    return matrix


def camera_arrays(num_views: int = VIEWS) -> dict[str, np.ndarray]:
    arrays = {}
    for view in range(num_views):
        arrays[f"world_mat_{view}"] = world_mat(view).astype(np.float32)
        arrays[f"camera_mat_{view}"] = np.diag([FOCAL, FOCAL, 1.0, 1.0]).astype(np.float32)
    return arrays


def pixels(name: str, view: int) -> np.ndarray:
    """Noise on white in the middle."""
    picture = np.full((SIZE, SIZE, 3), 255, np.uint8)
    picture[2:6, 3:7] = np.random.RandomState(ord(name[0]) + view).randint(0, 255, (4, 4, 3))
    return picture


def plant(folder: Path, *, num_views: int = VIEWS, arrays: dict[str, np.ndarray] | None = None) -> Path:
    """An object with pictures on white and masks."""
    for kind in ("image", "mask"):
        (folder / kind).mkdir(parents=True)
    mask = np.zeros((SIZE, SIZE), np.uint8)
    mask[2:6, 3:7] = 255
    for view in range(num_views):
        Image.fromarray(pixels(folder.name, view)).save(folder / f"image/{view:04d}.png")
        Image.fromarray(mask).save(folder / f"mask/{view:04d}.png")
    np.savez(folder / "cameras.npz", **(arrays or camera_arrays(num_views)))
    return folder


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Categories 02 (a, b, c) and 03 (a, d); the softras lists swap what is learned from and judged on."""
    lists = {
        "02/train": "a b", "02/val": "c", "02/test": "c", "02/softras_train": "c", "02/softras_test": "a b",
        "03/train": "d", "03/test": "a", "03/softras_train": "a", "03/softras_test": "d",
    }  # fmt: skip
    for name in ("02/a", "02/b", "02/c", "03/a", "03/d"):
        plant(tmp_path / name, num_views=3)
    for name, objects in lists.items():
        (tmp_path / f"{name}.lst").write_text("\n".join(objects.split()) + "\n\n")
    return tmp_path


def refuses(message: str):
    """The error has one line, which begins with a path or a key."""
    return pytest.raises(ValueError, match=r"\A[^\n]*" + message + r"[^\n]*\Z")


@pytest.mark.parametrize("form", ["4x4", "3x4", "inverse"])
def test_points_are_seen_where_the_files_matrices_put_them(tmp_path: Path, form: str):
    arrays = camera_arrays()
    for view in range(VIEWS):
        arrays[f"camera_mat_{view}"] = np.array([[1.7, 0, 0.1, 0], [0, 1.5, -0.2, 0], [0, 0, 1, 0]]) * 2.0
        matrix = arrays.pop(f"world_mat_{view}")
        name = "world_mat_inv" if form == "inverse" else "world_mat"
        arrays[f"{name}_{view}"] = np.linalg.inv(matrix) if form == "inverse" else matrix[: int(form[0])]
    plant(tmp_path / "02/a", arrays=arrays)
    (tmp_path / "02/train.lst").write_text("a")
    cameras = cameras_from_poses(*open_raw(tmp_path, "train").cameras(0))
    x, y, z = POINTS.T
    ours = torch.tensor(np.stack([x, -z, y], axis=1), dtype=torch.float32)
    for view in range(VIEWS):
        homogeneous = np.concatenate([POINTS, np.ones((3, 1))], axis=1)
        in_camera = (world_mat(view) @ homogeneous.T)[:3]
        seen = (np.array([[1.7, 0, 0.1], [0, 1.5, -0.2], [0, 0, 1]]) @ in_camera).T
        expected = np.concatenate([(seen[:, :2] / seen[:, 2:] + 1) / 2, seen[:, 2:]], axis=1)
        np.testing.assert_allclose(cameras[view].project(ours).numpy(), expected, atol=2e-6)


def test_the_public_cameras_stand_upright_round_the_object(tmp_path: Path):
    plant(tmp_path / "02/a")
    (tmp_path / "02/train.lst").write_text("a")
    poses, intrinsics = open_raw(tmp_path, "train").cameras(0)
    # y up becomes z up, so that azimuth 0 of the files (on their z axis) is ours at -90 degrees.
    azimuth = torch.deg2rad(15.0 * torch.arange(VIEWS) - 90)
    expected = orbit(azimuth, torch.full_like(azimuth, math.radians(ELEVATION_DEG)), DISTANCE)
    torch.testing.assert_close(poses, expected, atol=1e-5, rtol=1e-5)
    focal = FOCAL / 2
    torch.testing.assert_close(intrinsics[5], torch.tensor([[focal, 0, 0.5], [0, focal, 0.5], [0, 0, 1]]))
    angles = view_angles(poses)
    torch.testing.assert_close(angles.distance, torch.full((VIEWS,), DISTANCE))
    torch.testing.assert_close(angles.elevation_deg, torch.full((VIEWS,), ELEVATION_DEG))
    torch.testing.assert_close(angles.azimuth_deg[:6], 270 + 15.0 * torch.arange(6))
    torch.testing.assert_close(angles.azimuth_deg[7:], 15.0 * torch.arange(1, VIEWS - 6))
    require_even_turn(poses, "a")
    require_even_turn(poses.flip(0), "a")


def test_views_that_do_not_go_round_evenly_are_named(tmp_path: Path):
    azimuth = torch.deg2rad(15.0 * torch.arange(VIEWS))
    poses = orbit(azimuth, torch.full_like(azimuth, 0.5))
    swapped = poses.clone()
    swapped[[4, 9]] = poses[[9, 4]]
    with refuses("^a: from view 3 to view 4 the azimuth changes by 90.0 degrees instead of 15.0"):
        require_even_turn(swapped, "a")
    higher = orbit(azimuth, 0.5 + 0.1 * (torch.arange(VIEWS) == 7))
    with refuses("^a: view 7 is at an elevation of 34.4 degrees and view 0 at 28.6"):
        require_even_turn(higher, "a")


def test_pictures_on_white_come_as_they_are_and_in_order(root: Path):
    objects = open_raw(root, "train")
    assert objects.ids == ("02_a", "02_b", "03_d")
    assert objects.names(1) == ("02/b", "02_b", "b")
    for view in range(3):
        assert np.array_equal(objects.picture(1, view).numpy(), pixels("b", view))
    assert objects.alpha(1, 0).sum() == 16 * 255
    assert objects.depth(1, 0) is None


def test_views_go_by_their_number_also_where_one_is_missing(root: Path):
    (root / "02/a/image/0001.png").unlink()
    objects = open_raw(root, "train")
    assert objects.num_views(0) == 2
    assert np.array_equal(objects.picture(0, 1).numpy(), pixels("a", 2))
    torch.testing.assert_close(objects.cameras(0)[0], objects.cameras(1)[0][[0, 2]])


@pytest.mark.parametrize(("ground", "binary"), [(0, True), (0, False), (90, False)])
def test_another_background_becomes_white_by_the_mask_without_a_fringe(root: Path, ground: int, binary: bool):
    share = np.zeros((SIZE, SIZE, 1))
    share[2:6, 3:7] = 1.0 if binary else 0.6
    colours = pixels("a", 0).astype(float)
    stored = colours * share + ground * (1 - share)
    Image.fromarray(stored.round().astype(np.uint8)).save(root / "02/a/image/0000.png")
    mask = (share[..., 0] * (1 if binary else 255)).astype(np.uint8)  # 0 and 1 are as good as 0 and 255
    Image.fromarray(mask).save(root / "02/a/mask/0000.png")
    expected = colours * share + 255 * (1 - share)
    picture = open_raw(root, "train").picture(0, 0).numpy().astype(float)
    assert np.abs(picture - expected).max() <= 1.5
    assert (picture[share[..., 0] == 0] == 255).all()


def test_lists_decide_the_splits_and_the_layout_says_which_lists(root: Path):
    assert open_raw(root, "test").ids == ("02_c", "03_a")
    assert open_raw(root, "val").ids == ("02_c",)  # 03 has no such list
    assert open_raw(root, "train", "nmr_softras").ids == ("02_c", "03_a")
    assert open_raw(root / "03", "train").ids == ("03_d",)
    for path in root.glob("*/*.lst"):
        if not path.name.startswith("softras_"):
            path.unlink()
    assert open_raw(root, "test").ids == ("02_a", "02_b", "03_d")
    with refuses(r"data\.root=.*no category has a list softras_val\.lst.*data\.layout"):
        open_raw(root, "val")
    with refuses(r"no category has a list gen_train\.lst"):
        open_raw(root, "train", "nmr_gen")


def test_training_reads_it_like_any_other_set(root: Path):
    views = {"02/a": [2, 0], "d": [1]}
    (root / "views.json").write_text(str(views).replace("'", '"'))
    config = DataConfig(root=str(root), image_size=SIZE // 2, views=str(root / "views.json"))
    objects = open_split(config, "train")
    assert [objects.num_views(index) for index in range(3)] == [2, 3, 1]
    images, cameras = objects.read(0, [0, 1])
    assert images.shape == (2, 3, SIZE // 2, SIZE // 2)
    radius = DISTANCE * math.sin(math.radians(30))
    torch.testing.assert_close(cameras.near, torch.full((2,), DISTANCE - radius), atol=1e-5, rtol=0)
    torch.testing.assert_close(cameras.far, torch.full((2,), DISTANCE + radius), atol=1e-5, rtol=0)


def change_arrays(**changes: object) -> Callable[[Path], None]:
    """Writes cameras.npz anew with other arrays; None leaves one out."""

    def change(folder: Path) -> None:
        arrays = {name: value for name, value in (camera_arrays(3) | changes).items() if value is not None}
        np.savez(folder / "cameras.npz", **arrays)

    return change


def write(content: bytes) -> Callable[[Path], object]:
    return lambda folder: (folder / "cameras.npz").write_bytes(content)


def write_one_array(folder: Path) -> None:
    with (folder / "cameras.npz").open("wb") as file:
        np.save(file, np.eye(4))


def truncate(folder: Path) -> None:
    path = folder / "cameras.npz"
    path.write_bytes(path.read_bytes()[:-200])


def damage(folder: Path) -> None:
    path = folder / "cameras.npz"
    content = bytearray(path.read_bytes())
    content[content.index(b"NUMPY") + 150] ^= 255  # in the first array's numbers
    path.write_bytes(bytes(content))


SCALED = np.diag([2.0, 2.0, 2.0, 1.0]) @ world_mat(1)
BAD_FILES = {
    "missing": (lambda folder: (folder / "cameras.npz").unlink(), "is missing or not a complete npz archive"),
    "empty": (write(b""), "not a complete npz archive"),
    "pickle": (write(pickle.dumps({"world_mat_0": [1]})), "not a complete npz archive"),
    "pickled array": (change_arrays(world_mat_1=np.array([None])), "cannot be read .*allow_pickle=False"),
    "one array": (write_one_array, "not a complete npz archive"),
    "truncated": (truncate, "not a complete npz archive"),
    "damaged": (damage, "cannot be read .*CRC"),
    "no pose": (change_arrays(world_mat_1=None), "has no world_mat_inv_1 nor world_mat_1"),
    "no intrinsics": (change_arrays(camera_mat_2=None), "has no camera_mat_2"),
    "shape": (change_arrays(world_mat_0=np.eye(3)), "world_mat_0 is float64 of shape .3, 3. instead of"),
    "dtype": (change_arrays(world_mat_0=np.full((4, 4), "x")), "world_mat_0 is <U1 of shape"),
    "nan": (change_arrays(world_mat_0=np.full((4, 4), np.nan)), "world_mat_0 holds nan or inf"),
    "scaled": (change_arrays(world_mat_1=SCALED), "world_mat_1: the pose is scaled or sheared"),
    "skewed": (change_arrays(camera_mat_1=np.eye(4) + np.eye(4, k=1)), "camera_mat_1 is not of the form"),
    "backwards": (change_arrays(camera_mat_1=np.diag([1.0, 1, -1, 1])), "camera_mat_1 is not of the form"),
}


@pytest.mark.parametrize("name", BAD_FILES)
def test_bad_cameras_are_one_line_that_begins_with_their_file(root: Path, name: str):
    change, message = BAD_FILES[name]
    change(root / "02/a")
    with refuses(message) as error:
        open_raw(root, "train").cameras(0)
    assert str(error.value).startswith(str(root / "02/a/cameras.npz"))


def test_a_list_that_names_a_missing_object_or_one_twice_is_refused(root: Path):
    (root / "02/train.lst").write_text("a\nzebra\nyak\n")
    with refuses(r"02/train\.lst: names zebra, which is not in its folder \(2 of 3 are not\)"):
        open_raw(root, "train")
    (root / "02/train.lst").write_text("a\nb\na\n")
    with refuses(r"02/train\.lst: names a twice"):
        open_raw(root, "train")
    (root / "02/train.lst").write_bytes(b"\xff\xfe\x80")
    with refuses(r"02/train\.lst: cannot be read as text"):
        open_raw(root, "train")


def test_bad_pictures_are_named(root: Path):
    objects = open_raw(root, "train")
    Image.new("L", (3, 5)).save(root / "02/a/mask/0000.png")
    with refuses(r"mask/0000\.png: is \[5, 3\] pixels \(height, width\), but its image is \[8, 8\]"):
        objects.picture(0, 0)
    (root / "02/a/mask/0001.png").unlink()
    with refuses(r"mask/0001\.png: there is no such file"):
        objects.picture(0, 1)
    (root / "02/b/image/0001.png").rename(root / "02/b/image/1.png")
    with refuses(r"image/1\.png: images must be called 0000\.png"):
        objects.num_views(1)
    for path in (root / "03/d/image").iterdir():
        path.unlink()
    with refuses("03/d/image: has no images"):
        objects.num_views(2)


def test_a_header_that_claims_more_than_memory_holds_is_one_line(tmp_path: Path):
    header = f"{{'descr': '<f8', 'fortran_order': False, 'shape': ({10**15},), }}".ljust(117) + "\n"
    with zipfile.ZipFile(tmp_path / "cameras.npz", "w") as file:
        file.writestr("world_mat_0.npy", b"\x93NUMPY\x01\x00" + struct.pack("<H", 118) + header.encode())
    with refuses(r"cameras\.npz: cannot be read \(.*\); restore the file"):
        read_cameras(tmp_path / "cameras.npz", (0,))


def test_a_category_without_its_training_list_is_not_left_out_in_silence(root: Path):
    (root / "02/train.lst").unlink()
    (root / "notes").mkdir()  # no category
    with refuses(r"02/train\.lst: is missing, though there is .*03/train\.lst; restore"):
        open_raw(root, "train", "nmr")
    plant(root / "02/z")
    for path in (root / "02").glob("*.lst"):
        path.unlink()
    with refuses(r"02/train\.lst: is missing"):
        open_raw(root, "train", "nmr")
    shutil.rmtree(root / "02")
    assert open_raw(root, "train", "nmr").ids == ("03_d",)


def placement(root: Path) -> list[str]:
    summary = check_object(OpenSplit("train", open_raw(root, "train")), 0)
    return [found.message for found in summary.findings if found.check == "placement"]


def test_the_check_of_a_data_set_finds_views_that_leave_the_circle(tmp_path: Path):
    (tmp_path / "02").mkdir()
    (tmp_path / "02/train.lst").write_text("a")
    plant(tmp_path / "02/a")
    assert placement(tmp_path) == []
    arrays = camera_arrays()
    arrays["world_mat_4"], arrays["world_mat_5"] = arrays["world_mat_5"], arrays["world_mat_4"]
    np.savez(tmp_path / "02/a/cameras.npz", **arrays)
    assert len(found := placement(tmp_path)) == 1
    assert found[0].startswith(f"{tmp_path / '02/a'}: from view 3 to view 4 the azimuth changes by 30.0")
    for view in range(VIEWS):  # at random heights, as DVR drew them
        arrays[f"world_mat_{view}"] = world_mat(7 * view % 24, elevation_deg=5.0 * (view % 9))
    np.savez(tmp_path / "02/a/cameras.npz", **arrays)
    assert placement(tmp_path) == []


def test_another_set_keeps_the_lists_of_the_config_where_it_has_them(tmp_path):
    for name in ("train", "softras_train", "softras_test"):
        (tmp_path / "nmr/02").mkdir(parents=True, exist_ok=True)
        (tmp_path / f"nmr/02/{name}.lst").write_text("a")
    config = DataConfig(root="old", layout="nmr_softras", depth_scale=2.0, views="list.json")
    found = at_root(config, str(tmp_path / "nmr"))
    assert (found.root, found.layout) == (str(tmp_path / "nmr"), "nmr_softras")
    assert (found.depth_scale, found.views, found.image_size) == (1.0, None, config.image_size)
    for other in (tmp_path / "srn", tmp_path / "nmr"):
        other.mkdir(exist_ok=True)
        layout = "nmr_gen" if other.name == "nmr" else "nmr_softras"
        assert at_root(config.model_copy(update={"layout": layout}), str(other)).layout == "auto"
