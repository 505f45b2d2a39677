"""nerfstudio's and Blender's transforms.json: round trips, defaults, and one error for each malformed key."""

import json
import math
from copy import deepcopy

import pytest
import torch

from data.cameras.pinhole import cameras_from_poses, opencv_to_opengl
from data.cameras.poses import spiral
from data.cameras.transforms_json import from_transforms, to_transforms


def example_cameras():
    """Three cameras with different, off-centre intrinsics, fx != fy."""
    intrinsics = torch.tensor([[0.9, 0.0, 0.45], [0.0, 1.4, 0.6], [0.0, 0.0, 1.0]]).repeat(3, 1, 1)
    intrinsics[:, 0, 0] += torch.tensor([0.0, 0.1, 0.2])
    return cameras_from_poses(spiral(3), intrinsics)


def example_document():
    """What a user may have written: square pictures of a Blender scene."""
    pose = opencv_to_opengl(spiral(3)[1]).tolist()
    return {"camera_angle_x": 0.8, "frames": [{"file_path": "a", "transform_matrix": pose}]}


def test_cameras_survive_the_round_trip_through_json():
    cameras, names = example_cameras(), ["a.png", "b.png", "c.png"]
    document = json.loads(json.dumps(to_transforms(cameras, names, height=50, width=70)))
    back, paths = from_transforms(document)
    assert paths == names
    torch.testing.assert_close(back.cam_to_world, cameras.cam_to_world)
    torch.testing.assert_close(back.intrinsics, cameras.intrinsics)
    torch.testing.assert_close(back.near, cameras.near)
    torch.testing.assert_close(back.far, cameras.far)


def test_the_document_is_in_pixels_and_opengl_axes():
    cameras = example_cameras()
    document = to_transforms(cameras, ["a", "b", "c"], height=50, width=70)
    assert (document["w"], document["h"]) == (70, 50)
    frame = document["frames"][1]
    expected = {"fl_x": 70 * 1.0, "fl_y": 50 * 1.4, "cx": 70 * 0.45, "cy": 50 * 0.6}
    assert {key: frame[key] for key in expected} == pytest.approx(expected)
    third_column = torch.tensor(frame["transform_matrix"])[:3, 2]
    torch.testing.assert_close(third_column, -cameras.cam_to_world[1, :3, 2])


def test_intrinsics_in_common_are_written_once_and_as_angles_of_view_too():
    cameras = example_cameras()[torch.tensor([1, 1])]
    document = to_transforms(cameras, ["a", "b"], height=50, width=70)
    assert set(document["frames"][0]) == {"file_path", "transform_matrix"}
    pixels = {"fl_x": 70 * 1.0, "fl_y": 50 * 1.4, "cx": 70 * 0.45, "cy": 50 * 0.6}
    assert {key: document.pop(key) for key in pixels} == pytest.approx(pixels)
    by_angles, _ = from_transforms(document)
    torch.testing.assert_close(by_angles.intrinsics[1, :2, :2], cameras.intrinsics[1, :2, :2])


def test_an_angle_of_view_alone_means_square_pictures():
    cameras, _ = from_transforms(example_document())
    focal = 0.5 / math.tan(0.4)
    torch.testing.assert_close(
        cameras.intrinsics[0], torch.tensor([[focal, 0, 0.5], [0, focal, 0.5], [0, 0, 1]])
    )


def test_an_angle_of_view_with_a_size_means_square_pixels():
    cameras, _ = from_transforms(example_document() | {"w": 200, "h": 100})
    assert cameras.intrinsics[0, 1, 1] == pytest.approx(2 * 0.5 / math.tan(0.4))


def test_two_angles_of_view_are_both_honoured():
    cameras, _ = from_transforms(example_document() | {"camera_angle_y": 0.5})
    assert cameras.intrinsics[0, 0, 0] == pytest.approx(0.5 / math.tan(0.4))
    assert cameras.intrinsics[0, 1, 1] == pytest.approx(0.5 / math.tan(0.25))


def test_a_frames_own_intrinsics_win_over_the_documents():
    document = example_document() | {"fl_x": 100.0, "w": 200, "h": 100}
    document["frames"].append(deepcopy(document["frames"][0]) | {"fl_x": 150.0, "fl_y": 80.0, "cx": 60.0})
    intrinsics = from_transforms(document)[0].intrinsics
    torch.testing.assert_close(intrinsics[0], torch.tensor([[0.5, 0, 0.5], [0, 1.0, 0.5], [0, 0, 1]]))
    torch.testing.assert_close(intrinsics[1], torch.tensor([[0.75, 0, 0.3], [0, 0.8, 0.5], [0, 0, 1]]))


def test_the_object_radius_sets_near_and_far():
    cameras, _ = from_transforms(example_document(), object_radius=0.25)
    torch.testing.assert_close(cameras.far - cameras.near, torch.tensor([0.5]))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"frames": []}, "`frames`"),
        ({"frames": "all"}, "`frames`"),
        ({"camera_angle_x": None}, "frame 0: `fl_x` or `camera_angle_x` is missing"),
        ({"camera_angle_x": 45}, "frame 0: `camera_angle_x` is 45"),
        ({"camera_angle_x": "wide"}, "frame 0: `camera_angle_x` is 'wide'"),
        ({"fl_x": 100.0}, "frame 0: `w` is missing"),
        ({"fl_x": -1.0, "w": 10, "h": 10}, "frame 0: `fl_x` is -1.0"),
        ({"cy": 10.0}, "frame 0: `h` is missing"),
        ({"k1": 0.1}, "frame 0: .*undistort first"),
        ({"camera_model": "OPENCV_FISHEYE"}, "frame 0: `camera_model`"),
    ],
)
def test_a_malformed_document_is_refused_naming_key_and_frame(change, message):
    with pytest.raises(ValueError, match=message) as caught:
        from_transforms(example_document() | change)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"file_path": None}, "frame 0: `file_path`"),
        ({"transform_matrix": [[1, 0, 0, 0]]}, "frame 0: `transform_matrix` must be 4 rows"),
        ({"transform_matrix": [["1", 0, 0, 0]] * 4}, "frame 0: `transform_matrix` must be 4 rows"),
        (
            {"transform_matrix": [[1, 0, 0, 0]] * 3 + [[0, 0, 0, 1]]},
            "frame 0, `transform_matrix`: .*singular",
        ),
    ],
)
def test_a_malformed_frame_is_refused_naming_key_and_frame(change, message):
    document = example_document()
    document["frames"][0] |= change
    with pytest.raises(ValueError, match=message):
        from_transforms(document)


def test_one_file_path_for_each_camera_is_needed():
    with pytest.raises(ValueError, match="2 file paths"):
        to_transforms(example_cameras(), ["a", "b"], height=5, width=7)
