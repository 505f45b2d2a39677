"""Keys of transforms.json of other programs: which count, which are refused, which are named."""

import json
import math
from pathlib import Path

import pytest
import torch

from data.cameras.pinhole import opencv_to_opengl, pinhole
from data.cameras.poses import orbit
from data.cameras.transforms_json import from_transforms
from data.formats.registry import open_raw
from tests.scene_files import NUM, plant_scene, refuses, train_cameras

SIDE = 24
FOCAL = 24.6096  # pixels: 1.0254 widths of 24
IDENTITY = opencv_to_opengl(orbit(torch.tensor([0.3]), torch.tensor([0.2])))[0].tolist()


def intrinsics_of(document: dict, **frame) -> list[float]:
    """fx, fy, cx, cy of a lone frame."""
    frame = {"file_path": "a", "transform_matrix": IDENTITY} | frame
    matrix = from_transforms(document | {"frames": [frame]})[0].intrinsics[0]
    return [float(matrix[0, 0]), float(matrix[1, 1]), float(matrix[0, 2]), float(matrix[1, 2])]


DOCUMENT = {"w": 64, "h": 64, "fl_x": 65.6256, "fl_y": 65.6256, "cx": 32.0, "cy": 30.0}
ANGLE = 2 * math.atan(0.5 / 2.0508)
FRAMES = {
    "angle": ({"camera_angle_x": ANGLE}, [2.0508, 2.0508, 0.5, 30 / 64]),
    "both angles": ({"camera_angle_x": ANGLE, "camera_angle_y": 2 * math.atan(0.5 / 1.5)}, [2.0508, 1.5]),
    "degrees": ({"x_fov": math.degrees(ANGLE)}, [2.0508, 2.0508]),
    "pixels": ({"fl_x": 131.2512}, [2.0508, 2.0508]),
    "both pixels": ({"fl_x": 131.2512, "fl_y": 96}, [2.0508, 1.5]),
    "y alone": ({"fl_y": 131.2512}, [1.0254, 2.0508]),
    "y angle alone": ({"camera_angle_y": ANGLE}, [1.0254, 2.0508]),
    "size": ({"w": 128, "h": 128}, [0.5127, 0.5127, 0.25, 30 / 128]),
    "principal point": ({"cx": 16.0}, [1.0254, 1.0254, 0.25, 30 / 64]),
    "null": ({}, [1.0254, 1.0254, 0.5, 30 / 64]),
}


@pytest.mark.parametrize("name", FRAMES)
def test_a_frames_own_intrinsics_win_in_whatever_form(name: str):
    frame, expected = FRAMES[name]
    assert intrinsics_of(DOCUMENT, **frame)[: len(expected)] == pytest.approx(expected, rel=1e-5)


def test_a_focal_length_along_y_alone_means_square_pixels():
    document = {"w": 96, "h": 64, "fl_y": 64.0}
    assert intrinsics_of(document)[:2] == pytest.approx([64 / 96, 1.0])
    assert intrinsics_of({"w": 96, "h": 64, "y_fov": 90.0})[:2] == pytest.approx([0.5 * 64 / 96, 0.5])


REFUSED = {
    "latlong": True,
    "equirectangular": True,
    "orthographic": True,
    "is_fisheye": True,
    "lens": "latlong",
    "camera_model": "OPENCV_FISHEYE",
    "distortion_model": "fisheye",
    "k1": -0.02,
    "k4": 1e-3,
    "k5": 0.3,
    "k6": 0.3,
    "p2": 0.001,
    "s1": 0.1,
    "b1": 2.0,
    "skew": 0.5,
    "ftheta_p0": 0.2,
    "distortion_params": [0.0, 0.1],
    "from_mitsuba": True,
    "from_na": True,
}


@pytest.mark.parametrize("key", REFUSED)
@pytest.mark.parametrize("of_frame", [True, False])
def test_what_is_no_pinhole_is_refused_in_one_line_that_names_the_key(key: str, of_frame: bool):
    own, shared = ({key: REFUSED[key]}, {}) if of_frame else ({}, {key: REFUSED[key]})
    with refuses(rf"frame 0: .*`{key}`.*(undistort first|convert the poses)"):
        intrinsics_of(DOCUMENT | shared, **own)


def test_a_frame_takes_back_what_the_document_asks_for():
    assert intrinsics_of(DOCUMENT | {"k1": 0.1}, k1=0.0)[0] == pytest.approx(1.0254)


OFF = {"latlong": False, "is_fisheye": False, "k1": 0, "k5": 0.0, "distortion_params": [0, 0.0], "lens": None}


def test_keys_that_switch_nothing_on_change_nothing(tmp_path: Path):
    plant_scene(tmp_path / "plain")
    plant_scene(tmp_path / "off", **OFF, camera_model="OPENCV", rolling_shutter=[0, 0, 0, 0], anything="")
    torch.testing.assert_close(train_cameras(tmp_path / "off"), train_cameras(tmp_path / "plain"))
    assert open_raw(tmp_path / "off", "train").notices(0) == ()


def test_keys_of_other_programs_that_change_nothing_are_not_named(tmp_path: Path):
    ngp = {"aabb_scale": 16, "scale": 0.33, "offset": [0.5] * 3, "aabb": [[0] * 3, [1] * 3]}
    ngp |= {"enable_depth_loading": True, "integer_depth_scale": 0.001, "n_frames": NUM}
    studio = {"applied_transform": [[1, 0, 0, 0]] * 3, "applied_scale": 0.5, "ply_file_path": "a.ply"}
    folder = plant_scene(tmp_path / "all", **ngp, **studio, orientation_override="none")
    document = json.loads((folder / "transforms.json").read_text())
    for frame in document["frames"]:
        frame |= {"sharpness": 30.5, "colmap_im_id": 3, "depth_file_path": "d.png", "rotation": 0.01}
    (folder / "transforms.json").write_text(json.dumps(document))
    raw = open_raw(folder, "train")
    assert raw.notices(0) == ()
    torch.testing.assert_close(raw.cameras(0), train_cameras(plant_scene(tmp_path / "plain")))


def test_keys_that_may_change_the_meaning_are_named_once(tmp_path: Path):
    folder = plant_scene(tmp_path / "all", warp=[0.1, 0.2], rolling_shutter=[0, 0, 0.1, 0], near=0.5, far=6.0)
    document = json.loads((folder / "transforms.json").read_text())
    for number, frame in enumerate(document["frames"]):
        frame |= {"time": 0.1 * number, "bend": 3}
    (folder / "transforms.json").write_text(json.dumps(document))
    file = folder / "transforms.json"
    assert open_raw(folder, "train").notices(0) == (
        f"{file}: `time` is not supported: the scene is assumed static",
        f"{file}: `rolling_shutter` is not supported: a global shutter is assumed",
        f"{file}: `near`, `far` are not supported: data.object_radius sets the working volume",
        f"{file}: `bend`, `warp` are unknown; check that poses and images are valid without",
    )


def test_without_a_size_focal_lengths_are_pixels_of_each_picture(tmp_path: Path):
    sizes = [(SIDE, SIDE), (2 * SIDE, 2 * SIDE), (2 * SIDE, SIDE)]
    frames = [
        {"fl_x": FOCAL * w / SIDE, "fl_y": FOCAL * h / SIDE, "cx": w / 2, "cy": h / 2}
        for w, h in (sizes[view % 3] for view in range(NUM))
    ]
    folder = plant_scene(tmp_path / "mixed", sizes=sizes, keys_of_frames=frames, without=("w", "h", "fl_x"))
    _, intrinsics = train_cameras(folder)
    torch.testing.assert_close(intrinsics, pinhole(FOCAL / SIDE).expand(NUM - 2, 3, 3))


def test_a_shared_focal_length_without_a_size_is_pixels_of_each_picture(tmp_path: Path):
    folder = plant_scene(tmp_path / "m", sizes=[(24, 24), (48, 48)], without=("w", "h"), fl_x=FOCAL)
    _, intrinsics = train_cameras(folder)
    expected = [FOCAL / 48 if view % 2 else FOCAL / 24 for view in range(NUM) if view % 8]
    assert intrinsics[:, 0, 0].tolist() == pytest.approx(expected)
    assert intrinsics[:, 1, 1].tolist() == pytest.approx(expected)


def test_half_a_size_follows_from_the_shape_of_the_picture(tmp_path: Path):
    folder = plant_scene(tmp_path / "m", sizes=[(48, 24)], without=("h",), w=96, fl_x=96.0)
    matrix = train_cameras(folder)[1][0]
    assert matrix.diagonal().tolist() == pytest.approx([1.0, 2.0, 1.0])


def test_portrait_and_landscape_pictures_go_by_their_own_shape(tmp_path: Path):
    angle = {"camera_angle_x": 2 * math.atan(0.5 / 1.0254)}
    for keys in ({"keys_of_frames": [angle] * NUM}, angle):
        folder = plant_scene(tmp_path / f"m{len(keys)}{'keys_of_frames' in keys}", sizes=[(36, 24), (24, 36)],
                             without=("w", "h", "fl_x"), **keys)  # fmt: skip
        _, intrinsics = train_cameras(folder)
        assert intrinsics[:, 0, 0].tolist() == pytest.approx([1.0254] * (NUM - 2))
        wide = [1.0254 * (24 / 36 if view % 2 else 36 / 24) for view in range(NUM) if view % 8]
        assert intrinsics[:, 1, 1].tolist() == pytest.approx(wide)
