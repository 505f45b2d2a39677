"""COLMAP's text models: cameras by reprojection up to a similarity, pictures, and what can be wrong."""

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from data.cameras.normalise import focus, looks_at_origin, normalise_world
from data.cameras.pinhole import cameras_from_poses
from data.cameras.poses import orbit
from data.formats.registry import open_raw

HEIGHT, WIDTH, NUM = 6, 8, 9
POINTS = np.array([[0.1, 0.3, -0.2], [-0.4, 0.05, 0.3], [0.0, -0.25, 0.1], [0.2, 0.2, 0.2]])
# A reconstruction's world: turned by axis and angle, scaled, moved.
AXIS, ANGLE, SCALE, SHIFT = np.array([2.0, -1.0, 2.0]) / 3, 2.1, 7.0, np.array([3.0, -40.0, 11.0])


def quaternion(axis: np.ndarray, angle: float) -> np.ndarray:
    return np.concatenate([[math.cos(angle / 2)], math.sin(angle / 2) * axis])


def rotate(q: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Points turned by a unit quaternion: q p q*, without matrices."""
    return points + 2 * np.cross(q[1:], np.cross(q[1:], points) + q[0] * points)


def to_quaternion(rotation: np.ndarray) -> np.ndarray:
    """Of a rotation matrix, as the eigenvector of a symmetric matrix with the largest eigenvalue."""
    m = rotation
    symmetric = np.array(
        [
            [m[0, 0] + m[1, 1] + m[2, 2], m[2, 1] - m[1, 2], m[0, 2] - m[2, 0], m[1, 0] - m[0, 1]],
            [0, m[0, 0] - m[1, 1] - m[2, 2], m[0, 1] + m[1, 0], m[0, 2] + m[2, 0]],
            [0, 0, m[1, 1] - m[0, 0] - m[2, 2], m[1, 2] + m[2, 1]],
            [0, 0, 0, m[2, 2] - m[0, 0] - m[1, 1]],
        ]
    )
    return np.linalg.eigh(symmetric, UPLO="U")[1][:, -1]


def reconstruction(points: np.ndarray) -> np.ndarray:
    """Points of our world in the reconstruction's."""
    return SCALE * rotate(quaternion(AXIS, ANGLE), points) + SHIFT


def ring() -> torch.Tensor:
    """Cameras that look at the origin from all sides, at one elevation, so that the mean of up is z."""
    azimuth = 2 * math.pi / NUM * torch.arange(NUM)
    return orbit(azimuth, torch.full_like(azimuth, 0.3), 1.3)


def colours(view: int) -> np.ndarray:
    return np.random.RandomState(view).randint(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)


def image_lines() -> list[str]:
    lines = ["# Image list with two lines of data per image:", f"# Number of images: {NUM}"]
    for view, pose in enumerate(ring().double().numpy()):
        turn = quaternion(AXIS, ANGLE)
        # Camera axes in the reconstruction's world are the rows of world-to-camera.
        world_to_camera = rotate(turn, pose[:3, :3].T)
        q = to_quaternion(world_to_camera) * (-1 if view % 2 else 1) * 1.01  # sign and length do not matter
        t = -world_to_camera @ reconstruction(pose[:3, 3])
        numbers = " ".join(f"{number:.12g}" for number in (*q, *t))
        lines += [
            f"{view + 5} {numbers} {1 + view % 2} a photo {view}.png",
            "" if view % 3 else "1.5 2 -1 3 4 17",
        ]
    return lines


CAMERA_LINES = ["# Camera list", "1 SIMPLE_PINHOLE 8 6 9 4 3", "2 PINHOLE 16 12 20 22 7 6.5"]
INTRINSICS = (
    [[9 / 8, 0, 0.5], [0, 9 / 6, 0.5], [0, 0, 1]],
    [[20 / 16, 0, 7 / 16], [0, 22 / 12, 6.5 / 12], [0, 0, 1]],
)


def plant(folder: Path, model: str = "sparse/0", *, cameras: list[str] = CAMERA_LINES, images=None) -> Path:
    (folder / "images").mkdir(parents=True)
    (folder / model).mkdir(parents=True, exist_ok=True)
    for view in range(NUM):
        Image.fromarray(colours(view)).save(folder / f"images/a photo {view}.png")
    (folder / model / "cameras.txt").write_text("\n".join(cameras) + "\n")
    (folder / model / "images.txt").write_text("\n".join(image_lines() if images is None else images))
    return folder


def refuses(message: str):
    """The error has one line, which begins with a path or a key."""
    return pytest.raises(ValueError, match=r"\A[^\n]*" + message + r"[^\n]*\Z")


@pytest.mark.parametrize("model", ["", "sparse", "sparse/0", "colmap", "colmap/sparse/0"])
def test_a_reconstruction_in_any_world_comes_back_upright_centred_and_at_scale(tmp_path: Path, model: str):
    folder = plant(tmp_path / "cup", model)
    assert open_raw(folder, "train").ids == ("cup",)
    poses, intrinsics = (
        torch.cat(parts)
        for parts in zip(*(open_raw(folder, s).cameras(0) for s in ("test", "train")), strict=True)
    )
    order = [0, 8, *range(1, 8)]
    # The first picture's right is x, so its camera is at -90 degrees.
    azimuth = 2 * math.pi / NUM * torch.arange(NUM) - math.pi / 2
    expected = orbit(azimuth, torch.full_like(azimuth, 0.3), 1.3)[order]
    torch.testing.assert_close(poses, expected, atol=2e-5, rtol=0)
    torch.testing.assert_close(intrinsics, torch.tensor(INTRINSICS)[[view % 2 for view in order]])


def test_points_are_seen_where_the_model_puts_them(tmp_path: Path):
    cameras = cameras_from_poses(*open_raw(plant(tmp_path / "cup"), "test").cameras(0))
    turned = POINTS[:, [1, 0, 2]] * [1, -1, 1]  # by -90 degrees round z, as in the test above
    ours = cameras[1].project(torch.tensor(turned, dtype=torch.float32)).numpy()
    words = next(line for line in image_lines() if line.endswith(" 8.png")).split()
    q, t = np.array(words[1:5], float), np.array(words[5:8], float)
    in_camera = rotate(q / np.linalg.norm(q), reconstruction(POINTS)) + t
    x, y, z = in_camera.T
    expected = np.stack([(9 * x / z + 4) / 8, (9 * y / z + 3) / 6, z / SCALE], axis=1)  # camera 1
    np.testing.assert_allclose(ours, expected, atol=2e-5)


def test_pictures_are_found_by_name_and_split_every_eighth(tmp_path: Path):
    folder = plant(tmp_path / "cup")
    test, train = open_raw(tmp_path, "test", "colmap"), open_raw(tmp_path, "train")
    assert (test.num_views(0), train.num_views(0)) == (2, 7)
    assert np.array_equal(test.picture(0, 1).numpy(), colours(8))
    assert np.array_equal(train.picture(0, 2).numpy(), colours(3))
    assert train.place(0) == str(folder)


@pytest.mark.parametrize("seed", range(3))
def test_the_rule_for_worlds_does_not_depend_on_the_world_it_starts_from(seed: int):
    generator = torch.Generator().manual_seed(seed)
    azimuth, elevation, roll = torch.rand(3, 5, generator=generator, dtype=torch.float64)
    poses = orbit(2 * azimuth, elevation)
    poses[:, :3, 3] += 0.1 * torch.rand(5, 3, generator=generator, dtype=torch.float64)
    turn = torch.linalg.qr(torch.randn(3, 3, generator=generator, dtype=torch.float64))[0]
    turn = turn * torch.linalg.det(turn)
    moved = poses.clone()
    moved[:, :3, :3] = turn @ poses[:, :3, :3]
    moved[:, :3, 3] = 3.5 * poses[:, :3, 3] @ turn.T + roll[:3]
    once, again = normalise_world(poses, "a"), normalise_world(moved, "a")
    torch.testing.assert_close(once, again)
    torch.testing.assert_close(focus(once, "a"), torch.zeros(3, dtype=torch.float64))
    assert once[:, :3, 3].norm(dim=-1).mean().item() == pytest.approx(1.3)
    assert once[0, 1, 0].item() == pytest.approx(0, abs=1e-12)  # the first picture's right is x, made level
    assert once[0, 0, 0] > 0
    up = -once[:, :3, 1].mean(dim=0)
    torch.testing.assert_close(up / up.norm(), torch.tensor([0, 0, 1.0], dtype=torch.float64))


def test_the_nearest_point_to_two_axes_is_the_middle_of_their_shortest_link():
    eye = torch.eye(4, dtype=torch.float64).repeat(2, 1, 1)
    eye[0, :3, 3] = torch.tensor([0.0, 0.0, -5.0])  # looks along z
    eye[1, :3, :3] = torch.tensor([[0.0, 0, 1], [0, 1, 0], [-1, 0, 0]])  # looks along x
    eye[1, :3, 3] = torch.tensor([-7.0, 2.0, 3.0])
    torch.testing.assert_close(focus(eye, "a"), torch.tensor([0.0, 1.0, 3.0], dtype=torch.float64))


def test_cameras_that_look_past_or_away_from_the_origin_are_noticed():
    poses, intrinsics = ring(), torch.tensor(INTRINSICS[0]).repeat(NUM, 1, 1)
    assert looks_at_origin(poses, intrinsics)
    away, aside = poses.clone(), poses.clone()
    away[:, :3, 3] *= -1
    aside[:, :3, 3] += torch.tensor([1.0, 0.0, 0.0])
    assert not looks_at_origin(away, intrinsics)
    assert not looks_at_origin(aside, intrinsics)


def replaced(place: int, old: str, new: str) -> Callable[[], list[str]]:
    def lines() -> list[str]:
        lines = image_lines()
        assert old in lines[place]
        lines[place] = lines[place].replace(old, new)
        return lines

    return lines


CAMERA_ERRORS = {
    "1 OPENCV 8 6 9 9 4 3 0.1 0 0 0": "OPENCV has lens distortion; undistort by `colmap image_undistorter`",
    "1 SIMPLE_RADIAL 8 6 9 4 3 0.1": "line 1: SIMPLE_RADIAL has lens distortion",
    "1 HOLOGRAM 8 6 9 4 3": "line 1: HOLOGRAM is an unknown camera model",
    "1 PINHOLE 8 6 9 4 3": "line 1: PINHOLE has 4 parameters, but there are 3",
    "1 PINHOLE 8": "line 1: CAMERA_ID MODEL WIDTH HEIGHT PARAMS... expected; the line is truncated",
    "1 SIMPLE_PINHOLE 8 6 nine 4 3": "line 1: numbers expected",
    "1 SIMPLE_PINHOLE 8 6 nan 4 3": "line 1: holds nan or inf",
    "1 SIMPLE_PINHOLE 8 6 -9 4 3": "line 1: sizes and focal lengths must be positive",
}


@pytest.mark.parametrize("line", CAMERA_ERRORS)
def test_a_bad_camera_is_named_by_file_and_line(tmp_path: Path, line: str):
    folder = plant(tmp_path / "cup", cameras=[line])
    with refuses(CAMERA_ERRORS[line].replace("(", r"\(")) as error:
        open_raw(folder, "train").cameras(0)
    assert str(error.value).startswith(str(folder / "sparse/0/cameras.txt"))


IMAGE_ERRORS = {
    "cut": (replaced(2, " 1 a photo 0.png", ""), r"images\.txt, line 3: IMAGE_ID .* the line is truncated"),
    "points": (replaced(3, "1.5 2", "1.5"), r"images\.txt, line 4: triples X Y POINT3D_ID expected"),
    "no points": (
        lambda: [line for line in image_lines() if line and line[0] != "1"],
        "line 4: numbers expected",
    ),
    "camera": (replaced(2, " 1 a", " 7 a"), r"images\.txt, line 3: camera 7 is not in cameras\.txt"),
    "words": (replaced(2, "5 ", "5 x"), "line 3: numbers expected"),
    "quaternion": (lambda: ["1 0 0 0 0 1 1 1 1 a photo 0.png"], "line 1: the quaternion is zero"),
    "nothing": (lambda: ["# nothing"], r"images\.txt: registers no images"),
    "one": (lambda: image_lines()[:4], r"images\.txt: the cameras are parallel"),
    "picture": (
        replaced(2, "photo 0", "photo x"),
        r"images/a photo x\.png: does not exist, but .*refers to it",
    ),
}


@pytest.mark.parametrize("name", IMAGE_ERRORS)
def test_a_bad_list_of_pictures_is_one_line_that_begins_with_a_file(tmp_path: Path, name: str):
    lines, message = IMAGE_ERRORS[name]
    folder = plant(tmp_path / "cup", images=lines())
    with refuses(message) as error:
        open_raw(folder, "train").cameras(0)
    assert str(error.value).startswith(str(folder))


def test_pictures_of_another_shape_than_their_camera_are_refused(tmp_path: Path):
    folder = plant(tmp_path / "cup")
    Image.new("RGB", (6, 8)).save(folder / "images/a photo 0.png")
    with refuses("photo 0.png: is 6 x 8, but .*cameras.txt .camera 1. describes images of 8 x 6"):
        open_raw(folder, "train").cameras(0)


def test_every_picture_is_held_against_its_own_camera(tmp_path: Path):
    folder = plant(tmp_path / "cup", cameras=[*CAMERA_LINES[:2], "2 PINHOLE 12 16 20 22 6 8"])
    for view in range(1, NUM, 2):
        Image.new("RGB", (6, 8)).save(folder / f"images/a photo {view}.png")
    _, intrinsics = open_raw(folder, "train").cameras(0)
    assert intrinsics[:, 0, 0].tolist() == pytest.approx([20 / 12, 9 / 8] * 3 + [20 / 12])
    Image.new("RGB", (8, 6)).save(folder / "images/a photo 5.png")
    with refuses(r"photo 5.png: is 8 x 6, but .*cameras.txt \(camera 2\) describes images of 12 x 16"):
        open_raw(folder, "train").cameras(0)


def test_a_binary_model_is_no_text_model_and_the_remedy_is_named(tmp_path: Path):
    folder = plant(tmp_path / "cup")
    for name in ("cameras", "images"):
        (folder / f"sparse/0/{name}.txt").rename(folder / f"sparse/0/{name}.bin")
    with refuses("no scenes .*a binary model is converted by `colmap model_converter --output_type TXT`"):
        open_raw(folder, "train")


def test_pictures_that_do_not_agree_about_up_are_refused():
    poses = ring()[[0, 4]]
    poses[1, :3, :2] *= -1
    poses[1, :3, :3] = poses[0, :3, :3] * torch.tensor([-1.0, -1.0, 1.0])
    with refuses("^cup: the images do not agree on an up direction"):
        normalise_world(poses, "cup")


def first_pictures(num: int) -> list[str]:
    """The lines of a model of so many pictures."""
    return image_lines()[: 2 + 2 * num]


def test_the_largest_of_several_models_is_read_which_is_said(tmp_path: Path):
    folder, whole = plant(tmp_path / "cup", "sparse/10"), plant(tmp_path / "whole")
    for name, num in (("2", 3), ("0", 4)):
        (folder / "sparse" / name).mkdir()
        (folder / "sparse" / name / "cameras.txt").write_text("\n".join(CAMERA_LINES))
        (folder / "sparse" / name / "images.txt").write_text("\n".join(first_pictures(num)))
    raw = open_raw(folder, "train")
    assert raw.num_views(0) == 7
    torch.testing.assert_close(raw.cameras(0), open_raw(whole, "train").cameras(0))
    said = "is read, the largest of 3 models with 9 images; others: 0 (4), 2 (3)"
    assert raw.notices(0) == (f"{folder / 'sparse/10'}: {said}",)
    assert open_raw(whole, "train").notices(0) == ()


def test_of_models_of_one_size_the_first_is_read(tmp_path: Path):
    folder = plant(tmp_path / "cup", "sparse/1", images=first_pictures(5))
    (folder / "sparse/0").mkdir()
    for name in ("cameras.txt", "images.txt"):
        (folder / "sparse/0" / name).write_bytes((folder / "sparse/1" / name).read_bytes())
    assert "sparse/0: is read, the largest of 2 models" in open_raw(folder, "train").notices(0)[0]


def test_a_lone_model_may_have_any_number(tmp_path: Path):
    raw = open_raw(plant(tmp_path / "cup", "sparse/3"), "train")
    assert (raw.num_views(0), raw.notices(0)) == (7, ())


@pytest.mark.parametrize("written", ["left\\{}.png", "left/{}.png", ".\\left\\{}.png"])
def test_pictures_in_folders_are_found_by_names_that_windows_wrote(tmp_path: Path, written: str):
    lines = [
        line.rsplit(" ", 3)[0] + " " + written.format(f"{number // 2}") if number % 2 == 0 else line
        for number, line in enumerate(image_lines()[2:])
    ]
    folder = plant(tmp_path / "cup", images=lines)
    (folder / "images/left").mkdir()
    for view in range(NUM):
        (folder / f"images/a photo {view}.png").rename(folder / f"images/left/{view}.png")
    test = open_raw(folder, "test")
    assert np.array_equal(test.picture(0, 1).numpy(), colours(8))
    (folder / "images/left/8.png").unlink()
    with refuses(r"images/left/8\.png: does not exist, but .*images\.txt refers to it"):
        open_raw(folder, "train").num_views(0)


def test_masks_put_the_object_of_a_reconstruction_on_white(tmp_path: Path):
    folder = plant(tmp_path / "cup")
    (folder / "masks").mkdir()
    shown = np.arange(HEIGHT * WIDTH).reshape(HEIGHT, WIDTH) % 3 == 0
    for view in range(NUM):
        Image.fromarray(255 * shown.astype(np.uint8)).save(folder / f"masks/a photo {view}.png.png")
    test = open_raw(folder, "test")
    assert np.array_equal(test.alpha(0, 1).numpy(), 255 * shown.astype(np.uint8))
    assert np.array_equal(test.picture(0, 1).numpy(), np.where(shown[..., None], colours(8), 255))
    assert test.notices(0)[0].endswith("are applied: what is black in them becomes white")
