"""One clear line for everything that can be wrong with a data set in the SRN layout."""

import json
import pickle
from pathlib import Path

import pytest
from PIL import Image
from pydantic import ValidationError

from data.config import DataConfig
from data.formats.registry import open_split

EYE = "1 0 0 0 0 1 0 0 0 0 1 2 0 0 0 1"


def config(root: Path, **changes) -> DataConfig:
    return DataConfig(**{"root": str(root), "image_size": 6, **changes})


def read_first(srn_root: Path, **changes):
    return open_split(config(srn_root, **changes), "train").read(0, [0])


def refuses(message: str):
    """The error has one line, which begins with a path or a key."""
    return pytest.raises(ValueError, match=r"\A[^\n]*" + message + r"[^\n]*\Z")


def write_list(srn_root: Path, content: object, name: str = "views.json") -> str:
    path = srn_root / name
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return str(path)


def test_a_missing_root_is_named(tmp_path):
    with refuses(r"data\.root=.*nowhere: there is no such folder"):
        open_split(config(tmp_path / "nowhere"), "train")


@pytest.mark.parametrize(
    ("name", "settings", "said"),
    [
        ("a.png", {}, "is a file; give the folder of a data set"),
        ("a.png", {"layout": "srn"}, "is a file; give the folder of a data set"),
        ("a.png", {"shards": "rank"}, "is a file; give the folder of a data set"),
        ("a.tar.gz", {}, "is an archive; pack it with `python -m scripts.prepare_srn [^`]*a.tar.gz --output"),
        ("train.safetensors", {}, "this is one file of a packed set; give the folder"),
    ],
)
def test_a_file_in_place_of_a_folder_is_called_what_it_is(tmp_path, name, settings, said):
    (tmp_path / name).write_bytes(b"")
    with refuses(rf"data\.root=.*{name}: {said}"):
        open_split(config(tmp_path / name, **settings), "train")


def test_a_folder_without_objects_is_named(tmp_path):
    with refuses("contains no objects .folders with rgb/ and pose/."):
        open_split(config(tmp_path), "train")


def test_an_empty_split_is_named(srn_root):
    (srn_root / "cars_test").mkdir()
    with refuses("cars_test: no objects in this split"):
        open_split(config(srn_root), "test")


def test_a_missing_train_folder_is_named(srn_root):
    (srn_root / "cars_train").rename(srn_root / "cars_test")
    with refuses(r"there is no \*_train folder"):
        open_split(config(srn_root), "train")


def test_a_single_object_cannot_be_split(tmp_path, plant_object):
    plant_object(tmp_path / "only")
    for split in ("train", "val"):
        with refuses("a single object cannot be split"):
            open_split(config(tmp_path), split)


def test_the_folder_of_one_object_is_not_a_data_set(srn_root):
    with refuses("this is a single object; give the folder above it"):
        open_split(config(srn_root / "cars_train/a"), "train")


@pytest.mark.parametrize(("missing", "kept"), [("rgb", "pose"), ("pose", "rgb")])
def test_an_object_without_its_pictures_or_poses_is_named(srn_root, missing, kept):
    (srn_root / "cars_train/a" / missing).rename(srn_root / "elsewhere")
    with refuses(f"cars_train/a: the object has no {missing}/ folder"):
        open_split(config(srn_root), "train")


def test_an_object_without_views_is_named(srn_root):
    for kind in ("rgb", "pose"):
        for path in (srn_root / "cars_train/a" / kind).iterdir():
            path.unlink()
    with refuses("cars_train/a: has no images"):
        open_split(config(srn_root), "train").num_views(0)


@pytest.mark.parametrize(("removed", "left"), [("rgb/000001.png", "pose"), ("pose/000001.txt", "rgb")])
def test_a_picture_without_pose_or_pose_without_picture_is_named(srn_root, removed, left):
    (srn_root / "cars_train/a" / removed).unlink()
    with refuses(rf"cars_train/a/{left}/000001\.\w+: has no (pose|picture) of the same name"):
        read_first(srn_root)


def test_two_pictures_of_one_view_are_named(srn_root):
    Image.new("RGB", (6, 6)).save(srn_root / "cars_train/a/rgb/000001.jpg")
    with refuses("two files for one view"):
        read_first(srn_root)


def test_a_truncated_picture_is_named(srn_root):
    path = srn_root / "cars_train/a/rgb/000000.png"
    path.write_bytes(path.read_bytes()[:90])
    with refuses(r"rgb/000000\.png: not a readable image"):
        read_first(srn_root)


@pytest.mark.parametrize("content", [b"", b"hello", b"\x89PNG\r\n\x1a\n", b"\x80\x04."])
def test_a_file_that_is_no_picture_is_named(srn_root, content):
    (srn_root / "cars_train/a/rgb/000000.png").write_bytes(content)
    with refuses(r"rgb/000000\.png: not a readable image"):
        read_first(srn_root)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("one two", "numbers expected"),
        ("", "holds 0 numbers"),
        ("1 0 0 0 0 1 0 0 0 0 1 2", "holds 12 numbers"),
        (EYE.replace("2", "nan"), "nan or inf"),
        (EYE.replace("1", "0", 1), "the pose is singular"),
        (EYE.replace("1", "-1", 1), "the pose is mirrored"),
        (EYE.replace("1", "1.5", 1), "the pose is scaled or sheared"),
        (EYE.replace("2 0 0 0", "2 0 0 3"), "last row"),
        (EYE.replace("2", "0"), "the camera is at the world origin"),
    ],
)
def test_a_bad_pose_is_named(srn_root, text, message):
    (srn_root / "cars_train/a/pose/000000.txt").write_text(text)
    with refuses(rf"pose/000000\.txt: .*{message}"):
        read_first(srn_root)


def test_a_pose_in_four_lines_and_with_a_byte_order_mark_is_read(srn_root):
    rows = "1 0 0 0\n0 1 0 0 \n0 0 1 2\n0 0 0 1\n\n"
    (srn_root / "cars_train/a/pose/000000.txt").write_text(rows, encoding="utf-8-sig")
    assert read_first(srn_root)[1].positions.tolist() == [[0, 0, 2]]


def test_binary_in_a_pose_is_named(srn_root):
    (srn_root / "cars_train/a/pose/000000.txt").write_bytes(b"\xff\xfe\x00\x80")
    with refuses(r"pose/000000\.txt: cannot be read as text"):
        read_first(srn_root)


@pytest.mark.parametrize("view", [4, -1])
def test_asking_for_a_view_that_the_object_has_not_is_refused(srn_root, view):
    with refuses(f"cars_train/a: view {view} requested, but the object has 4"):
        open_split(config(srn_root), "train").read(0, [0, view])


@pytest.mark.parametrize("sources", [(0, 2), (3, 2), (1, 2, 3)])
def test_impossible_numbers_of_sources_are_refused(tmp_path, sources):
    with pytest.raises(ValidationError, match="sources"):
        config(tmp_path, sources=sources)


def test_a_pickled_list_of_views_is_refused_by_name_and_by_content(srn_root):
    for name in ("cars.pickle", "cars.pkl", "cars.json"):
        (srn_root / name).write_bytes(pickle.dumps({"a": [0]}))
        with refuses("is a pickle, which could run code; convert it to JSON"):
            open_split(config(srn_root, views=str(srn_root / name)), "train")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "is not JSON"),
        ([0, 1], "is not a JSON object"),
        ({"a": 3}, "a needs a list of distinct whole numbers"),
        ({"a": []}, "a needs a list"),
        ({"a": [0, 0]}, "a needs a list"),
        ({"a": [True]}, "a needs a list"),
        ({"a": [-1]}, "a needs a list"),
        ({"zebra": [0]}, "names zebra, which is not in"),
    ],
)
def test_a_malformed_list_of_views_is_refused(srn_root, content, message):
    with refuses(rf"data\.views=.*views\.json: {message}"):
        open_split(config(srn_root, views=write_list(srn_root, content)), "train")


def test_a_missing_list_of_views_is_named(srn_root):
    with refuses(r"data\.views=.*none\.json: cannot be read"):
        open_split(config(srn_root, views=str(srn_root / "none.json")), "train")


def test_a_list_that_names_a_view_that_does_not_exist_is_refused(srn_root):
    objects = open_split(config(srn_root, views=write_list(srn_root, {"a": [0, 4]})), "train")
    with refuses("views.json: names view 4 of a, which has 4"):
        objects.num_views(0)
