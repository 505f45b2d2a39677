"""One's own photos: squares, cameras from pose files and from transforms.json, and what can be wrong."""

import json
import re
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import Tensor

from data.cameras.pinhole import Cameras, cameras_from_poses, pinhole
from data.cameras.poses import orbit, srn_test_path
from data.cameras.transforms_json import to_transforms
from data.images.pixels import to_uint8
from data.photos.photos import camera_notices, placement_notices, read_photos, square_on_white
from data.scenes.batch import all_valid

POSES = srn_test_path(5)


def write_photo(path: Path, height: int, width: int, colour: int = 7) -> Path:
    Image.new("RGB", (width, height), (colour, 0, 200)).save(path)
    return path


def write_pose(path: Path, pose: Tensor) -> Path:
    path.write_text("\n".join(" ".join(map(str, row)) for row in pose.tolist()))
    return path


def write_document(path: Path, names: list[str], *, height: int, width: int) -> Path:
    cameras = cameras_from_poses(POSES[: len(names)], pinhole(1.3, aspect=width / height))
    path.write_text(json.dumps(to_transforms(cameras, names, height=height, width=width)))
    return path


@pytest.mark.parametrize(("height", "width"), [(5, 9), (9, 5), (8, 5), (6, 6)])
def test_a_point_stays_on_its_pixel_when_a_photo_becomes_a_square(height: int, width: int):
    picture = torch.randint(0, 200, (height, width, 3), dtype=torch.uint8)
    before = torch.tensor([[1.1, 0.0, 0.45], [0.0, 1.7, 0.6], [0.0, 0.0, 1.0]])
    square, after = square_on_white(picture, before)
    assert square.shape == (max(height, width), max(height, width), 3)
    white = 3 * 255 * (max(height, width) ** 2 - height * width)
    assert square.long().sum() == picture.long().sum() + white
    for row, column in ((0, 0), (2, 4), (height - 1, width - 1)):
        uv = torch.tensor([(column + 0.5) / width, (row + 0.5) / height, 1.0])
        u, v, _ = (after @ torch.linalg.inv(before) @ uv).tolist()
        assert torch.equal(square[int(v * len(square)), int(u * len(square))], picture[row, column])


def test_without_intrinsics_pixels_are_square_and_the_focal_length_is_that_of_the_srn_cars(tmp_path: Path):
    photo = write_photo(tmp_path / "car.png", 12, 20)
    views = read_photos([photo], [write_pose(tmp_path / "pose.txt", POSES[1])], image_size=10)
    assert views.images.shape == (1, 1, 3, 10, 10)
    torch.testing.assert_close(views.cameras.intrinsics[0, 0], pinhole(), atol=1e-6, rtol=1e-6)
    torch.testing.assert_close(views.cameras.cam_to_world[0, 0], POSES[1])
    assert to_uint8(views.images)[0, 0, 5, 5].tolist() == [7, 0, 200]
    assert to_uint8(views.images)[0, 0, 0, 5].tolist() == [255, 255, 255]


def test_transforms_json_names_the_photos_in_any_order(tmp_path: Path):
    photos = [write_photo(tmp_path / f"{name}.png", 12, 20) for name in ("b", "a")]
    document = write_document(tmp_path / "transforms.json", ["images/a.png", "./b"], height=24, width=40)
    views = read_photos(photos, [document], image_size=10)
    torch.testing.assert_close(views.cameras.cam_to_world[0], POSES[[1, 0]], atol=1e-6, rtol=1e-6)
    expected = torch.tensor([[1.3, 0.0, 0.5], [0.0, 1.3, 0.5], [0.0, 0.0, 1.0]])
    torch.testing.assert_close(views.cameras.intrinsics[0, 0], expected, atol=1e-6, rtol=1e-6)


def test_an_angle_of_view_alone_is_that_of_the_photos_width(tmp_path: Path):
    photo = write_photo(tmp_path / "car.png", 12, 20)
    path = write_document(tmp_path / "transforms.json", ["any"], height=12, width=20)
    document = json.loads(path.read_text())
    frame = {key: document["frames"][0][key] for key in ("file_path", "transform_matrix")}
    path.write_text(
        json.dumps({"camera_angle_x": 2 * torch.atan(torch.tensor(0.5 / 1.3)).item(), "frames": [frame]})
    )
    views: Cameras = read_photos([photo], [path], image_size=10).cameras
    assert views.intrinsics[0, 0, 0, 0].item() == pytest.approx(1.3, rel=1e-5)
    assert views.intrinsics[0, 0, 1, 1].item() == pytest.approx(1.3, rel=1e-5)


def test_an_intrinsics_file_wins(tmp_path: Path):
    photo = write_photo(tmp_path / "car.png", 8, 8)
    document = write_document(tmp_path / "transforms.json", ["car"], height=8, width=8)
    own = tmp_path / "intrinsics.txt"
    own.write_text("30. 10. 8. 0.\n0. 0. 0.\n1.\n16 20\n")
    matrix = read_photos([photo], [document], own, image_size=4).cameras.intrinsics[0, 0]
    expected = torch.tensor([[1.5, 0.0, 0.5], [0.0, 30 / 16, 0.5], [0.0, 0.0, 1.0]])
    torch.testing.assert_close(matrix, expected)


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("{", "is not JSON"),
        ("[]", "must hold a JSON object"),
        ('{"frames": 3}', "frames"),
        ('{"frames": [{"file_path": "x"}, {"file_path": "y"}]}', "0 of its 2 frames are called car.png"),
        ('{"camera_angle_x": 1, "frames": [{"file_path": "car"}]}', "transform_matrix"),
    ],
)
def test_a_bad_document_is_named_in_one_line(tmp_path: Path, content: str, problem: str):
    photo, document = write_photo(tmp_path / "car.png", 6, 6), tmp_path / "transforms.json"
    document.write_text(content)
    with pytest.raises(ValueError, match=problem) as error:
        read_photos([photo], [document], image_size=4)
    assert str(error.value).startswith(str(document))
    assert "\n" not in str(error.value)


def test_a_document_for_pictures_of_another_shape_is_refused(tmp_path: Path):
    photo = write_photo(tmp_path / "car.png", 6, 6)
    document = write_document(tmp_path / "transforms.json", ["car"], height=12, width=20)
    with pytest.raises(ValueError, match=r"is 6 x 6, but .* describes images of 20 x 12"):
        read_photos([photo], [document], image_size=4)


def test_every_photo_needs_a_camera(tmp_path: Path):
    photo, pose = write_photo(tmp_path / "car.png", 6, 6), write_pose(tmp_path / "pose.txt", POSES[0])
    with pytest.raises(ValueError, match="2 photos, but 1 camera files"):
        read_photos([photo, photo], [pose], image_size=4)
    document = write_document(tmp_path / "transforms.json", ["other"], height=6, width=6)
    with pytest.raises(ValueError, match="0 of its 1 frames"):
        read_photos([photo, photo], [document], image_size=4)


@pytest.mark.parametrize("content", ["1 2 3", "a b c", " ".join(["0"] * 16), ""])
def test_a_bad_pose_file_is_named(tmp_path: Path, content: str):
    photo, pose = write_photo(tmp_path / "car.png", 6, 6), tmp_path / "pose.txt"
    pose.write_text(content)
    with pytest.raises(ValueError, match=r"pose\.txt"):
        read_photos([photo], [pose], image_size=4)


@pytest.mark.parametrize(
    ("rows", "columns", "said"),
    [
        ((11, 19), (9, 23), None),  # the origin is in the middle, at 15, 15
        ((11, 19), (1, 7), r"the object's centre is 0\.37 of the image width from where"),
        ((20, 28), (21, 29), r"the object's centre is 0\.45 of the image width from where"),
        ((2, 30), (9, 23), "the object touches the image border"),
        ((0, 30), (0, 30), None),  # no white ground, so it is not known where the object is
        ((0, 0), (0, 0), None),
    ],
)
def test_an_object_that_is_not_where_its_camera_says_is_noticed(tmp_path, rows, columns, said):
    images = torch.ones(1, 1, 3, 30, 30)
    images[..., slice(*rows), slice(*columns)] = -0.5
    cameras = cameras_from_poses(POSES[:1], pinhole()).apply(lambda tensor: tensor[None])
    notices = placement_notices([tmp_path / "car.png"], all_valid(images, cameras))
    assert len(notices) == (said is not None)
    if said is not None:
        assert re.fullmatch(rf"{tmp_path}/car\.png: {said}[^\n]*", notices[0])


def test_a_mask_that_the_frame_of_a_photo_names_puts_it_on_white(tmp_path: Path):
    photo = write_photo(tmp_path / "car.png", 6, 6)
    document = write_document(tmp_path / "transforms.json", ["car"], height=6, width=6)
    keys = json.loads(document.read_text())
    keys["frames"][0]["mask_path"] = "mask.png"
    document.write_text(json.dumps(keys))
    shown = torch.eye(6, dtype=torch.bool)
    Image.fromarray(255 * shown.numpy().astype("uint8")).save(tmp_path / "mask.png")
    views = read_photos([photo], [document], image_size=6)
    expected = torch.where(shown[..., None], torch.tensor([7, 0, 200]), 255)
    assert torch.equal(to_uint8(views.images)[0, 0].long(), expected)
    (tmp_path / "mask.png").unlink()
    with pytest.raises(ValueError, match=r"\A.*mask\.png: does not exist"):
        read_photos([photo], [document], image_size=6)


def test_photos_of_different_sizes_have_focal_lengths_in_pixels_of_their_own(tmp_path: Path):
    photos = [write_photo(tmp_path / "a.png", 6, 6), write_photo(tmp_path / "b.png", 12, 12)]
    document = write_document(tmp_path / "transforms.json", ["a", "b"], height=6, width=6)
    keys = json.loads(document.read_text())
    for key in ("w", "h", "fl_y", "cx", "cy", "camera_angle_x", "camera_angle_y"):
        del keys[key]
    keys["frames"][1]["fl_x"] = 2 * keys["fl_x"]
    document.write_text(json.dumps(keys))
    intrinsics = read_photos(photos, [document], image_size=6).cameras.intrinsics[0]
    torch.testing.assert_close(intrinsics, pinhole(1.3).expand(2, 3, 3))


def test_keys_that_do_not_count_and_worlds_that_do_not_stand_upright_are_said(tmp_path: Path):
    poses, names = orbit(torch.arange(4.0), torch.full((4,), 0.3), 1.3), ["a", "b", "c", "d"]
    path = tmp_path / "transforms.json"
    document = to_transforms(cameras_from_poses(poses, pinhole()), names, height=6, width=6)
    path.write_text(json.dumps(document))
    assert camera_notices([path, path]) == []
    poses[:, :3] = torch.tensor([[1.0, 0, 0], [0, 0, 1], [0, -1, 0]]) @ poses[:, :3]
    document = to_transforms(cameras_from_poses(poses, pinhole()), names, height=6, width=6)
    path.write_text(json.dumps(document | {"warp": 2}))
    assert camera_notices([path]) == [
        f"{path}: `warp` is unknown; check that poses and images are valid without",
        f"{path}: its cameras are not upright along z; rotate the world so that z is up",
    ]
    assert camera_notices([tmp_path / "pose.txt"]) == []
