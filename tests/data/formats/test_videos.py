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


def ids_of(root, split) -> tuple[str, ...]:
    return open_split(config(root), split, cameras=False).ids


def test_ids_of_a_list_are_ends_of_paths(tmp_path):
    """Lists have the ids of sequences alone, or with their category, and one file for each split."""
    for name in ("train/images/0a1", "train/images/0b2", "test/images/0c3"):
        write_frames(tmp_path / "re10k" / name)
    for split, content in (("train", {"0c3": ["x.png"], "0a1": []}), ("test", {"0b2": []})):
        (tmp_path / "re10k" / f"re10k_{split}_frame_dict.json").write_text(json.dumps(content))
    assert ids_of(tmp_path / "re10k", "train") == ("0a1", "0c3")
    assert ids_of(tmp_path / "re10k", "val") == ("0b2",)
    for name in ("toy_bus/110_1", "toy_bus/110_2", "apple/110_2"):
        write_frames(tmp_path / "co3d" / name / "images")
    listed = tmp_path / "co3d" / "splits.json"
    listed.write_text(json.dumps({"train": ["110_1", "apple/110_2"], "test": ["toy_bus/110_2"]}))
    assert ids_of(tmp_path / "co3d", "train") == ("apple_110_2", "toy_bus_110_1")
    assert ids_of(tmp_path / "co3d", "test") == ("toy_bus_110_2",)
    listed.write_text(json.dumps({"train": ["110_2"]}))
    with pytest.raises(ValueError, match=r"names 110_2, which is .*apple/110_2 as well as .*toy_bus/110_2"):
        ids_of(tmp_path / "co3d", "train")


def test_a_train_folder_of_images_is_no_video(tmp_path):
    """RE10K: ROOT/train/images/ID/*.png."""
    for name in ("train/images/b", "train/images/a", "test/images/a"):
        write_frames(tmp_path / name)
    assert (ids_of(tmp_path, "train"), ids_of(tmp_path, "val")) == (("a", "b"), ("a",))


def test_videos_of_one_name_in_two_splits_are_both_there(tmp_path):
    write_frames(tmp_path / "train" / "a", seed=1)
    write_frames(tmp_path / "val" / "a", seed=2)
    sets = [open_split(config(tmp_path), split, cameras=False) for split in ("train", "val")]
    assert [objects.ids for objects in sets] == [("a",), ("a",)]
    assert not torch.equal(*(objects.stored_picture(0, 0) for objects in sets))


def test_two_videos_of_one_id_are_refused(tmp_path):
    write_frames(tmp_path / "train" / "a_b")
    write_frames(tmp_path / "train" / "a" / "b")
    with pytest.raises(ValueError, match=r"has the same id as .*, a_b; rename one"):
        ids_of(tmp_path, "train")


@pytest.mark.parametrize("own_frames", [False, True])
def test_dl3dv_holds_out_what_its_test_folder_names(tmp_path, own_frames):
    for name in ("1K/aa", "1K/bb", "2K/cc"):
        write_frames(tmp_path / "training_256" / name / "images_8", count=5)
    held_out = tmp_path / "test_256" / "benchmark_960p" / "bb"
    if own_frames:
        write_frames(held_out / "images_8", count=7)
    else:
        held_out.mkdir(parents=True)
    assert ids_of(tmp_path, "train") == ("1K_aa", "2K_cc")
    objects = open_split(config(tmp_path), "test", cameras=False)
    assert objects.ids == (("benchmark_960p_bb",) if own_frames else ("1K_bb",))
    assert objects.num_views(0) == (7 if own_frames else 5)


def test_the_last_tenth_of_each_category_is_held_out(tmp_path):
    """CO3Dv2 and MVImgNet: ROOT/CATEGORY/SEQUENCE/images; a category of one sequence is trained on."""
    for category, count in (("apple", 11), ("bus", 3), ("cup", 1)):
        for number in range(count):
            write_frames(tmp_path / category / f"{number}_0" / "images", count=2, size=(2, 2))
    (tmp_path / "apple" / "set_lists").mkdir()
    assert ids_of(tmp_path, "val") == ("apple_9_0", "apple_10_0", "bus_2_0")
    assert len(ids_of(tmp_path, "train")) == 12


@pytest.mark.parametrize("content", ["3", "[", '["a"]', '{"train": 3}', '{"training": []}'])
def test_other_lists_are_refused_in_one_line(tmp_path, content):
    write_frames(tmp_path / "a")
    (tmp_path / "splits.json").write_text(content)
    with pytest.raises(ValueError, match=r"splits\.json: is no list of splits; write"):
        ids_of(tmp_path, "train")


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
