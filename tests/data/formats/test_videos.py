"""Videos as data: folders of frames and films, splits, and what is wrong with them."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

from data.config import DataConfig
from data.formats.registry import open_split
from data.images.files import write_mp4
from data.scenes.loader import SceneLoader


def write_frames(folder, count=5, size=(9, 12), seed=0):
    folder.mkdir(parents=True)
    random = np.random.default_rng(seed)
    for number in range(count):
        pixels = random.integers(0, 255, (*size, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"frame_{number}.png")
    return folder


def config(root, **changes) -> DataConfig:
    options = {"image_size": 8, "sources": (1, 1), "window": 4} | changes
    return DataConfig(root=str(root), layout="videos", **options)


def test_frames_are_in_natural_order_and_cut_to_their_middle(tmp_path):
    folder = write_frames(tmp_path / "train" / "kitchen" / "images", count=12)
    objects = open_split(config(tmp_path, image_size=9), "train", cameras=False)
    assert objects.ids == ("kitchen",)
    assert objects.num_views(0) == 12
    expected = np.asarray(Image.open(folder / "frame_10.png"))[:, 1:10]
    assert np.array_equal(objects.stored_picture(0, 10).numpy(), expected)
    views = objects.read_views(0, [10, 2])
    assert views.cameras is None
    assert views.images.shape == (1, 2, 3, 9, 9)


def test_films_are_videos(tmp_path):
    frames = torch.zeros(6, 16, 20, 3, dtype=torch.uint8)
    frames[3:] = 255
    (tmp_path / "train").mkdir()
    write_mp4(tmp_path / "train" / "walk.mp4", frames)
    objects = open_split(config(tmp_path), "train", cameras=False)
    assert objects.ids == ("walk",)
    assert objects.num_views(0) == 6
    means = objects.read(0, range(6))[0].mean(dim=(1, 2, 3))
    assert (means[:3] < -0.9).all()
    assert (means[3:] > 0.9).all()


def test_splits_json_decides(tmp_path):
    for name in ("a/1", "a/2", "b/1"):
        write_frames(tmp_path / name)
    (tmp_path / "splits.json").write_text(json.dumps({"train": ["a/1", "b/1"], "test": {"a/2": []}}))
    assert open_split(config(tmp_path), "train", cameras=False).ids == ("a_1", "b_1")
    assert open_split(config(tmp_path), "val", cameras=False).ids == ("a_2",)
    (tmp_path / "splits.json").write_text(json.dumps({"train": ["a/9"], "test": []}))
    with pytest.raises(ValueError, match=r"splits\.json: names a_9, which is no video"):
        open_split(config(tmp_path), "train", cameras=False)
    (tmp_path / "splits.json").write_text("[")
    with pytest.raises(ValueError, match=r"splits\.json: is no list of splits"):
        open_split(config(tmp_path), "train", cameras=False)


def test_a_record_has_other_frames_in_every_epoch(tmp_path):
    write_frames(tmp_path / "train" / "a", count=40)
    options = config(tmp_path, window=20)
    loader = SceneLoader(open_split(options, "train", cameras=False), options, seed=0, batch=1)
    drawn = [loader.choose(number) for number in range(8)]
    assert len({(choice.source, choice.target) for choice in drawn}) > 5
    assert loader.choose(3) == drawn[3]


@pytest.mark.parametrize("problem", ["short", "unreadable", "empty"])
def test_bad_videos_are_named_in_one_line(tmp_path, problem):
    train = tmp_path / "train"
    train.mkdir()
    if problem == "short":
        write_frames(train / "a", count=1)
        message = "a: is a video of 1 frames; use videos of 2 or more"
    elif problem == "unreadable":
        (train / "a.mp4").write_bytes(b"no film")
        message = r"a\.mp4: cannot be read as video"
    else:
        message = "holds no video; give folders of frames or video files"
    with pytest.raises(ValueError, match=message) as raised:
        SceneLoader(open_split(config(tmp_path), "train", cameras=False), config(tmp_path), seed=0, batch=1)
    assert "\n" not in str(raised.value)


def test_damaged_videos_are_skipped_on_demand(tmp_path):
    write_frames(tmp_path / "train" / "a")
    (tmp_path / "train" / "b.mp4").write_bytes(b"no film")
    options = config(tmp_path, damaged="skip")
    loader = SceneLoader(open_split(options, "train", cameras=False), options, seed=0, batch=2)
    batch = loader.load(0)
    assert batch.scene_ids == ("a", "a")
    assert all("b.mp4: cannot be read as video" in line for line in batch.damage)
    assert batch.apply(lambda tensor: tensor[:1]).source.cameras is None


def test_models_that_need_cameras_refuse_video(tmp_path):
    write_frames(tmp_path / "train" / "a")
    objects = open_split(config(tmp_path), "train", cameras=False)
    objects.require(frozenset())
    with pytest.raises(ValueError, match="a: is video without cameras"):
        objects.require(frozenset({"cameras"}))
    with pytest.raises(ValueError, match="a: is video without cameras"):
        open_split(config(tmp_path), "train")
