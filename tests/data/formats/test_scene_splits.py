"""Lists of files in transforms.json that say which views are trained on: taken at their word, or refused."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from data.checks.open_splits import open_splits
from data.formats.registry import open_raw
from tests.scene_files import NUM, change, draw, plant_scene, refuses

FILES = [f"images/{view:03d}.png" for view in range(NUM)]


def views_of(folder: Path) -> dict[str, list[int]]:
    """The numbers of the views of each split, told by their pictures."""
    found = {}
    for split in ("train", "val", "test"):
        raw = open_raw(folder, split)
        stored = [raw.picture(0, view).numpy() for view in range(raw.num_views(0))]
        found[split] = [next(n for n in range(NUM) if np.array_equal(draw(n), p)) for p in stored]
    return found


def test_without_lists_every_eighth_view_is_held_out(tmp_path: Path):
    held_out = [0, 8]
    expected = {"train": [view for view in range(NUM) if view % 8], "val": held_out, "test": held_out}
    assert views_of(plant_scene(tmp_path / "a")) == expected


def test_the_listed_files_are_the_split(tmp_path: Path):
    lists = {"train_filenames": FILES[2:7], "val_filenames": FILES[:2], "test_filenames": FILES[7:]}
    folder = plant_scene(tmp_path / "a", **lists)
    assert views_of(folder) == {"train": [2, 3, 4, 5, 6], "val": [0, 1], "test": [7, 8, 9, 10]}
    assert open_raw(folder, "train").notices(0) == ()
    change(folder, test_filenames=FILES[:2])
    assert views_of(folder) == {"train": [2, 3, 4, 5, 6], "val": [0, 1], "test": [0, 1]}
    assert [split.split for split in open_splits(folder)[0]] == ["train", "val"]
    change(folder, test_filenames=[], val_filenames=FILES[9:])
    assert views_of(folder) == {"train": [2, 3, 4, 5, 6], "val": [9, 10], "test": [9, 10]}
    left_out = "4 of 11 images are in none of its lists and are left out"
    assert open_raw(folder, "train").notices(0) == (f"{folder / 'transforms.json'}: {left_out}",)


def test_what_no_list_has_goes_where_there_is_no_list(tmp_path: Path):
    folder = plant_scene(tmp_path / "a", test_filenames=FILES[3:5])
    assert views_of(folder) == {"train": [0, 1, 2, *range(5, NUM)], "val": [3, 4], "test": [3, 4]}
    change(folder, test_filenames=None, train_filenames=FILES[3:])
    assert views_of(folder) == {"train": list(range(3, NUM)), "val": [0, 1, 2], "test": [0, 1, 2]}
    assert open_raw(folder, "train").notices(0) == ()
    change(folder, train_filenames=FILES)
    assert views_of(folder)["test"] == [0, 8]
    assert "leaves nothing to hold out" in open_raw(folder, "train").notices(0)[0]


@pytest.mark.parametrize("form", ["./{}", "{}", ".\\{}", "images/../{}", "/{}", "no suffix"])
def test_files_are_named_in_any_way_that_frames_may_name_them(tmp_path: Path, form: str):
    folder = plant_scene(tmp_path / "a")
    names = [form.format(name) for name in FILES]
    if form == "/{}":
        names = [str((folder / name).absolute()) for name in FILES]
    if form == "no suffix":
        names = [name.removesuffix(".png") for name in FILES]
    if "\\" in form:
        names = [name.replace("/", "\\") for name in names]
    change(folder, train_filenames=names[4:], val_filenames=names[:4])
    assert views_of(folder)["train"] == list(range(4, NUM))
    assert views_of(folder)["val"] == [0, 1, 2, 3]


ERRORS = {
    "unknown": (
        {"val_filenames": ["images/099.png"]},
        "`val_filenames` has 'images/099.png', which is not the",
    ),
    "of no frame": (
        {"test_filenames": ["images/extra.png"]},
        "'images/extra.png', which is not the image of a",
    ),
    "val": (
        {"train_filenames": FILES[:8], "val_filenames": FILES[7:]},
        "`val_filenames` and `train_filenames",
    ),
    "test": (
        {"train_filenames": FILES[:8], "test_filenames": ["./" + FILES[2]]},
        "both have .*002.png; keep",
    ),
    "text": ({"train_filenames": "images"}, "`train_filenames` must be a list of file names"),
    "numbers": ({"train_filenames": [1, 2]}, "`train_filenames` must be a list of file names"),
}


@pytest.mark.parametrize("name", ERRORS)
def test_a_list_that_cannot_be_meant_is_refused(tmp_path: Path, name: str):
    lists, message = ERRORS[name]
    folder = plant_scene(tmp_path / "a", **lists)
    shutil.copy(folder / FILES[0], folder / "images/extra.png")
    for split in ("train", "val", "test"):
        with refuses(rf"transforms\.json: .*{message}"):
            open_raw(folder, split).num_views(0)


def test_no_picture_is_both_trained_on_and_held_out(tmp_path: Path):
    folder = plant_scene(tmp_path / "a")
    document = json.loads((folder / "transforms.json").read_text())
    frames = document["frames"]
    for name, own in (("train", frames[:6]), ("val", frames[5:])):
        (folder / f"transforms_{name}.json").write_text(json.dumps(document | {"frames": own}))
    for split in ("train", "val", "test"):
        with refuses(r"a: .*005\.png is for train and for val .*keep each in one of the two"):
            open_raw(folder, split).num_views(0)
    # Frames with one picture stay together.
    folder = plant_scene(tmp_path / "twice")
    change(folder, frames=[*frames, *frames])
    assert views_of(folder)["train"] == [view for view in range(NUM) if view % 8 for _ in range(2)]
    assert views_of(folder)["test"] == [0, 0, 8, 8]


def test_among_several_scenes_lists_do_not_count_which_is_said(tmp_path: Path):
    for name in "abc":
        plant_scene(tmp_path / "set" / name, test_filenames=FILES[:2])
    raw = open_raw(tmp_path / "set", "train")
    assert len(raw) == 2
    assert raw.num_views(0) == NUM
    assert raw.notices(0)[-1].endswith("a: the splits of its views are ignored among several scenes")
