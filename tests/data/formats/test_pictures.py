"""Folders of pictures without cameras."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import train
from data.config import DataConfig
from data.formats.pictures import Pictures
from data.formats.registry import open_raw, open_split
from data.scenes.loader import SceneLoader
from tests.scenes import run_document

SIZES = {"b10.JPG": (9, 6), "b2.png": (7, 11), "c.webp": (8, 8)}  # width, height


@pytest.fixture
def folder(tmp_path) -> Path:
    root = tmp_path / "teapot"
    root.mkdir()
    for number, (name, (width, height)) in enumerate(SIZES.items()):
        pixels = np.random.default_rng(number).integers(0, 256, (height, width, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(root / name)
    (root / "notes.txt").write_text("not a picture")
    (root / "._b2.png").write_text("left by an archiver")
    return root


def test_all_pictures_are_views_of_one_object_in_natural_order(folder):
    for split in ("train", "val", "test"):
        raw = open_raw(folder, split)
        assert isinstance(raw, Pictures)
        assert (raw.ids, raw.num_views(0)) == (("teapot",), 3)
        assert [tuple(raw.picture(0, view).shape[:2]) for view in range(3)] == [(11, 7), (6, 9), (8, 8)]


def test_pictures_are_turned_upright_and_put_on_white(folder):
    pixels = np.zeros((4, 6, 4), np.uint8)
    pixels[:, 4:] = (255, 0, 0, 255)
    image = Image.fromarray(pixels)
    exif = image.getexif()
    exif[0x0112] = 6  # to be turned clockwise: the right side becomes the bottom
    image.save(folder / "a.png", exif=exif)
    picture = open_raw(folder, "train").picture(0, 0)
    assert picture.shape == (6, 4, 3)
    assert picture[:4].eq(255).all()
    assert picture[4:].eq(torch.tensor([255, 0, 0])).all()


def test_batches_hold_no_cameras(folder):
    config = DataConfig(root=str(folder), image_size=5, image_height=7, sources=[1, 1])
    batch = SceneLoader(open_split(config, "train", cameras=False), config, seed=0, batch=2).load(0)
    assert batch.target.images.shape == (2, 1, 3, 7, 5)
    assert batch.target.cameras is None
    assert batch.target.projection is None


def test_a_family_that_needs_cameras_refuses_them_in_one_line(folder, tmp_path, capsys):
    import json

    path = tmp_path / "tiny.json"
    path.write_text(json.dumps(run_document(folder, tmp_path / "runs")))
    assert train.main([str(path)]) == 2
    message = capsys.readouterr().err
    assert f"{folder}: is a folder of pictures without cameras, which are needed here" in message


def test_damage_and_emptiness_are_one_line(folder, tmp_path):
    (folder / "b2.png").write_bytes((folder / "b2.png").read_bytes()[:40])
    config = DataConfig(root=str(folder), image_size=8)
    with pytest.raises(ValueError, match=r"b2\.png: not a readable image"):
        open_split(config, "train", cameras=False).read(0, [0])
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="empty: has 0 pictures"):
        open_raw(tmp_path / "empty", "train", "pictures")


@pytest.mark.parametrize("objects", ["cars_train", "objects", "."])
def test_a_picture_beside_the_folders_of_a_set_does_not_make_it_a_folder_of_pictures(tmp_path, objects):
    for number in range(2):
        scene = tmp_path / objects / f"car{number}"
        (scene / "rgb").mkdir(parents=True)
        (scene / "pose").mkdir()
        Image.new("RGB", (8, 8), "white").save(scene / "rgb" / "000000.png")
        (scene / "pose" / "000000.txt").write_text("1 0 0 0 0 1 0 0 0 0 1 -1 0 0 0 1")
        (scene / "intrinsics.txt").write_text("8 4 4 0.\n0. 0. 0.\n1.\n8 8\n")
    Image.new("RGB", (8, 8), "red").save(tmp_path / "contact_sheet.png")
    raw = open_raw(tmp_path, "train")
    assert not isinstance(raw, Pictures)
    assert "contact_sheet" not in " ".join(raw.ids)
