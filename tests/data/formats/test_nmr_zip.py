"""NMR's data set straight from its archive: the same objects as from its folder, and bad archives."""

import shutil
from pathlib import Path

import pytest
import torch

from data.config import DataConfig
from data.formats.registry import open_raw, open_split
from scripts.make_shapes import main as make_shapes


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("nmr") / "NMR_Dataset"
    sizes = ["--objects", "2", "--val", "1", "--size", "8", "--workers", "1"]
    assert make_shapes(["--layout", "nmr", "--root", str(root), *sizes]) == 0
    return root


@pytest.fixture(params=["inside a folder", "bare"])
def archive(request, folder, tmp_path) -> Path:
    base = "NMR_Dataset" if request.param == "inside a folder" else "."
    where = folder.parent if base == "NMR_Dataset" else folder
    return Path(shutil.make_archive(str(tmp_path / "NMR_Dataset"), "zip", where, base))


@pytest.mark.parametrize("layout", ["auto", "nmr", "nmr_softras"])
def test_an_archive_holds_what_its_folder_does(folder, archive, layout):
    for split in ("train", "val", "test"):
        one, other = open_raw(folder, split, layout), open_raw(archive, split, layout)
        assert one.ids == other.ids
        for index in range(len(one)):
            assert one.names(index) == other.names(index)
            assert one.num_views(index) == other.num_views(index) == 24
            for mine, theirs in zip(one.cameras(index), other.cameras(index), strict=True):
                assert torch.equal(mine, theirs)
            assert torch.equal(one.picture(index, 5), other.picture(index, 5))
            assert other.alpha(index, 5) is None


def test_objects_of_an_archive_are_read_as_squares_and_travel_to_other_processes(archive):
    import pickle

    objects = open_split(DataConfig(root=str(archive), image_size=4), "train")
    images, _ = objects.read(0, [3, 1])
    assert images.shape == (2, 3, 4, 4)
    again = pickle.loads(pickle.dumps(objects.raw))
    assert torch.equal(again.picture(1, 2), objects.raw.picture(1, 2))


def test_an_archive_cut_short_is_named_in_one_line(archive):
    archive.write_bytes(archive.read_bytes()[:-500])
    with pytest.raises(ValueError, match=r"NMR_Dataset\.zip: is no whole zip archive") as caught:
        open_raw(archive, "train")
    assert "\n" not in str(caught.value)


def test_damage_inside_an_archive_names_the_file(archive):
    content = bytearray(archive.read_bytes())
    place = content.index(b"image/0000.png") + 40
    content[place : place + 60] = bytes(60)
    archive.write_bytes(content)
    problems = []
    for split in ("train", "val", "test"):
        raw = open_raw(archive, split)
        for index in range(len(raw)):
            try:
                raw.picture(index, 0)
            except ValueError as error:
                problems.append(str(error))
    assert len(problems) == 1
    assert "image/0000.png: " in problems[0]
    assert "\n" not in problems[0]


def test_archives_of_other_sets_keep_their_remedy(tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "in/note.txt").write_text("nothing")
    other = Path(shutil.make_archive(str(tmp_path / "cars_train"), "zip", tmp_path / "in"))
    with pytest.raises(ValueError, match=r"scripts\.prepare_srn"):
        open_raw(other, "train")
