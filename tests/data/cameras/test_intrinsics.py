"""Intrinsics in every form that the SRN layout has, and one clear line for those that are none."""

from pathlib import Path

import pytest
import torch
from PIL import Image

from data.cameras.pinhole import cameras_from_poses
from data.config import DataConfig
from data.formats.registry import open_split


def config(root: Path, **changes) -> DataConfig:
    return DataConfig(**{"root": str(root), "image_size": 6, **changes})


def read_first(srn_root: Path, **changes):
    """Image and camera of view 0 of the first training object."""
    images, cameras = open_split(config(srn_root, **changes), "train").read(0, [0])
    return images[0], cameras[0]


def refuses(message: str):
    """The error has one line, which begins with a path or a key."""
    return pytest.raises(ValueError, match=r"\A[^\n]*" + message + r"[^\n]*\Z")


def test_focal_and_principal_point_are_in_units_of_the_stated_size(srn_root):
    (srn_root / "cars_train/a/intrinsics.txt").write_text("30. 14. 6. 0.\n0. 0. 0.\n0.\n1.\n12 24\n")
    expected = torch.tensor([[30 / 24, 0, 14 / 24], [0, 30 / 12, 6 / 12], [0, 0, 1]])
    torch.testing.assert_close(read_first(srn_root)[1].intrinsics, expected)


@pytest.mark.parametrize("form", ["3x3", "4x4", "lines"])
def test_a_matrix_per_view_wins_and_may_be_in_other_pixels(srn_root, form):
    # The real cars: 525 and 256, pixels of 512, beside pictures of 128.
    Image.new("RGB", (128, 128)).save(srn_root / "cars_train/a/rgb/000000.png")
    (srn_root / "cars_train/a/intrinsics").mkdir()
    text = {
        "3x3": "525.0 0.0 256.0 0.0 525.0 256.0 0.0 0.0 1.0 ",
        "4x4": "525 0 256 0 0 525 256 0 0 0 1 0 0 0 0 1",
        "lines": "525 0 256\n0 525 256\n0 0 1\n",
    }[form]
    (srn_root / "cars_train/a/intrinsics/000000.txt").write_text(text)
    _, cameras = open_split(config(srn_root), "train").read(0, [0, 1])
    expected = torch.tensor([[525 / 512, 0, 0.5], [0, 525 / 512, 0.5], [0, 0, 1]])
    torch.testing.assert_close(cameras.intrinsics[0], expected)
    assert cameras.intrinsics[1, 0, 0] == pytest.approx(1.1)  # intrinsics.txt, for want of its own


@pytest.mark.parametrize("unit", [0.5, 1, 4])
def test_an_off_centre_matrix_keeps_its_focals_and_principal_point(srn_root, unit):
    (srn_root / "cars_train/a/intrinsics").mkdir()
    fx, fy, cx, cy = (6 * unit * share for share in (1.3, 0.8, 0.7, 0.4))
    (srn_root / "cars_train/a/intrinsics/000000.txt").write_text(f"{fx} 0. {cx} 0. {fy} {cy} 0. 0. 1.")
    expected = torch.tensor([[1.3, 0, 0.7], [0, 0.8, 0.4], [0, 0, 1]])
    torch.testing.assert_close(read_first(srn_root)[1].intrinsics, expected)


def test_a_matrix_beside_a_picture_that_is_not_square_is_divided_by_both_sides(srn_root):
    Image.new("RGB", (12, 8)).save(srn_root / "cars_train/a/rgb/000000.png")
    (srn_root / "cars_train/a/intrinsics").mkdir()
    (srn_root / "cars_train/a/intrinsics/000000.txt").write_text("18 0 6.6 0 16 3.2 0 0 1")
    expected = torch.tensor([[1.5, 0, 0.55], [0, 2.0, 0.4], [0, 0, 1]])
    torch.testing.assert_close(read_first(srn_root)[1].intrinsics, expected)


def test_near_and_far_follow_the_intrinsics(srn_root):
    _, camera = read_first(srn_root)
    expected = cameras_from_poses(camera.cam_to_world[None], camera.intrinsics)
    assert (camera.near, camera.far) == (expected.near[0], expected.far[0])


def test_missing_intrinsics_are_named(srn_root):
    (srn_root / "cars_train/a/intrinsics.txt").unlink()
    with refuses(r"cars_train/a/intrinsics\.txt: missing, and so is intrinsics/000000\.txt"):
        read_first(srn_root)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("6.6 3. 3. 0.\n0. 0. 0.\n1.\n", "neither"),
        ("6.6 3. 3. 0.\n0. 0. 0.\n1.\n6\n", "neither"),
        ("6.6 3. 3. 0.\n0. 0. 0.\n1.\n0 6\n", "must be positive"),
        ("-6.6 3. 3. 0.\n0. 0. 0.\n1.\n6 6\n", "must be positive"),
        ("6.6 3. 3. 0.\n0. 0. 0.\n1.\nsix six\n", "numbers expected"),
        ("6 0 0 0 6 0 3 3 1", "not of the form"),
        ("6 0 3 0 -6 3 0 0 1", "not of the form"),
        ("6 0 3 1 6 3 0 0 1", "not of the form"),
    ],
)
def test_bad_intrinsics_are_named(srn_root, text, message):
    (srn_root / "cars_train/a/intrinsics.txt").write_text(text)
    with refuses(rf"cars_train/a/intrinsics\.txt: .*{message}"):
        read_first(srn_root)
