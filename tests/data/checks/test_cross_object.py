"""Objects that are compared with each other: odd ones out, and where a set comes from. No files are read."""

from dataclasses import replace

import numpy as np
import pytest

from data.cameras.poses import srn_test_path
from data.checks.check_object import Summary
from data.checks.cross_object import check_between
from data.checks.known_datasets import check_origin


def group(split: str, num: int, **changes) -> list[Summary]:
    """Objects like those of the SRN cars."""
    usual = Summary(
        split, "", "", (), stored=50, num_read=50, size=(128, 128), focal=131.25 / 128, distance=1.3
    )
    return [
        replace(usual, object_id=f"{split}{i}", place=f"/data/{split}/{split}{i}", **changes)
        for i in range(num)
    ]


ODD = {
    "view count": {"stored": 49},
    "size": {"size": (64, 64)},
    "focal length": {"focal": 1.2},
    "distance": {"distance": 1.5},
}


def test_objects_that_are_alike_are_silent():
    assert not check_between(group("train", 9) + group("val", 3))
    assert not check_between([])


@pytest.mark.parametrize("check", ODD)
def test_an_odd_one_out_is_found(check):
    objects = group("train", 9)
    objects[4] = replace(objects[4], **ODD[check])
    [found] = check_between(objects)
    assert (found.check, found.severity, found.object_id) == (check, "warning", "train4")


@pytest.mark.parametrize("check", ODD)
def test_sets_in_which_objects_differ_anyway_get_one_note(check):
    objects = group("train", 5) + [
        replace(s, object_id=f"b{s.object_id}", **ODD[check]) for s in group("train", 4)
    ]
    [found] = check_between(objects)
    assert (found.check, found.severity, found.object_id) == (check, "note", "")


@pytest.mark.parametrize("check", ["focal length", "distance"])
def test_splits_of_two_sets_are_told_apart(check):
    [found] = check_between(group("train", 4) + group("val", 3, **ODD[check]))
    assert (found.check, found.severity, found.split) == ("splits differ", "warning", "val")
    assert check in found.message


def test_objects_that_share_pictures_are_found_in_one_split_too():
    objects = group("train", 3)
    for i, digests in ((0, [5, 7]), (2, [9, 7])):
        objects[i] = replace(objects[i], digests=np.array(digests, np.uint64), files="/rgb/0.png\n/rgb/1.png")
    [found] = check_between(objects)
    assert (found.check, found.severity, found.place) == (
        "same picture",
        "warning",
        "/data/train/train2/rgb/1.png",
    )
    assert "/data/train/train0/rgb/1.png" in found.message


@pytest.mark.parametrize(("shift", "expected"), [(0, 1), (1, 1), (3, 0)])
def test_look_alikes_may_differ_by_a_level_but_not_by_more(shift, expected):
    rng = np.random.default_rng(0)
    picture = rng.integers(50, 200, (8, 8, 3), dtype=np.uint8)
    [one] = group("train", 1, signatures=((11, picture), (12, picture[::-1].copy())))
    [other] = group("val", 1, signatures=((11, picture + np.uint8(shift)),))
    findings = check_between([replace(s, digests=np.zeros(0, np.uint64)) for s in (one, other)])
    assert [f.check for f in findings] == ["look-alike"] * expected
    elsewhere = replace(other, signatures=((13, picture),))  # the same picture, but from another pose
    assert not check_between([one, elsewhere])


def test_the_original_srn_cars_are_known_again():
    spiral = srn_test_path(251)[:, :3, 3].numpy()
    [train] = check_origin(group("train", 3))
    [val] = check_origin(group("val", 3, stored=251, positions=spiral))
    assert "original SRN cars (training views)" in train.message
    assert "original SRN cars (the test spiral)" in val.message
    [chairs] = check_origin(group("train", 3, distance=2.0))
    assert "original SRN chairs" in chairs.message


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"focal": 1.0939}, "focal length 1.0254"),
        ({"distance": 1.2}, "distance 1.3"),
        ({"stored": 24}, "50 views"),
        ({"stored": 251, "positions": np.ones((251, 3), np.float32)}, "50 views"),
    ],
    ids=["focal length", "distance", "views", "251 views that are no spiral"],
)
def test_re_rendered_cars_are_told_from_the_original_ones(changes, said):
    [found] = check_origin(group("train", 3, **changes))
    assert "re-render" in found.message
    assert said in found.message
