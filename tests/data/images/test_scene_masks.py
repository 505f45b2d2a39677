"""Masks beside the pictures of scenes: what they leave out is white, and what is wrong with them is said."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from data.formats.registry import open_raw
from tests.scene_files import NUM, ball, change, draw, plant_scene, refuses

WHITE = (255, 255, 255)
ALL = tuple(range(NUM))


def write_masks(folder: Path, pattern: str, *, invert: bool = False, views=ALL, mode: str = "L") -> None:
    """Masks named by a pattern, below the scene."""
    for view in views:
        path = folder / pattern.format(f"{view:03d}")
        path.parent.mkdir(exist_ok=True, parents=True)
        values = (ball(view) ^ invert).astype(np.uint8)
        Image.fromarray(values if mode == "01" else 255 * values).convert("L").save(path)


def set_mask_paths(folder: Path, pattern: str, views=ALL) -> None:
    document = json.loads((folder / "transforms.json").read_text())
    for view in views:
        document["frames"][view]["mask_path"] = pattern.format(f"{view:03d}")
    change(folder, frames=document["frames"])


def check_on_white(folder: Path, *, opacity: bool = True) -> None:
    """Whether every view of the scene shows its ball on white."""
    for split, views in (("train", [v for v in range(NUM) if v % 8]), ("val", [0, 8])):
        raw = open_raw(folder, split)
        for number, view in enumerate(views):
            assert np.array_equal(raw.picture(0, number).numpy(), draw(view, ground=WHITE))
            if opacity:
                assert np.array_equal(raw.alpha(0, number).numpy(), 255 * ball(view).astype(np.uint8))
            else:
                assert raw.alpha(0, number) is None


@pytest.mark.parametrize("name", ["m/{}.png", "./m/{}.png", "m\\{}.png", "m/{}"])
@pytest.mark.parametrize("mode", ["L", "01"])
def test_a_mask_that_a_frame_names_puts_the_object_on_white(tmp_path: Path, name: str, mode: str):
    folder = plant_scene(tmp_path / "a")
    write_masks(folder, "m/{}.png", mode=mode)
    set_mask_paths(folder, name)
    check_on_white(folder)
    assert open_raw(folder, "train").notices(0) == ()


@pytest.mark.parametrize(
    "pattern",
    ["masks/{}.png", "masks/{}.png.png", "masks/images/{}.png", "mask/{}.png", "images/{}.alpha.png"],
)
def test_masks_beside_the_pictures_put_the_object_on_white_which_is_said(tmp_path: Path, pattern: str):
    folder = plant_scene(tmp_path / "a")
    write_masks(folder, pattern)
    check_on_white(folder)
    (notice,) = open_raw(folder, "train").notices(0)
    assert notice.startswith(f"{folder / 'transforms.json'}: masks (such as ")
    assert notice.endswith(") are applied: what is black in them becomes white")


@pytest.mark.parametrize("mode", ["L", "01"])
def test_what_dynamic_masks_mark_becomes_white(tmp_path: Path, mode: str):
    folder = plant_scene(tmp_path / "a")
    write_masks(folder, "images/dynamic_mask_{}.png", invert=True, mode=mode)
    check_on_white(folder, opacity=False)
    (notice,) = open_raw(folder, "train").notices(0)
    assert notice.endswith(": 11 dynamic masks are applied: what they mark becomes white")


def test_dynamic_masks_of_some_pictures_leave_the_others_as_they_are(tmp_path: Path):
    folder = plant_scene(tmp_path / "a")
    write_masks(folder, "images/dynamic_mask_{}.png", invert=True, views=[1])
    raw = open_raw(folder, "train")
    assert np.array_equal(raw.picture(0, 0).numpy(), draw(1, ground=WHITE))
    assert np.array_equal(raw.picture(0, 1).numpy(), draw(2))


def test_a_mask_and_transparency_are_both_honoured(tmp_path: Path):
    folder = plant_scene(tmp_path / "a")
    left = np.zeros((24, 24), np.uint8)
    left[:, :12] = 255
    for view in range(NUM):
        pixels = np.dstack([draw(view), left])
        Image.fromarray(pixels, "RGBA").save(folder / f"images/{view:03d}.png")
    write_masks(folder, "masks/{}.png")
    raw = open_raw(folder, "train")
    shown = ball(1) & (left > 0)
    assert np.array_equal(raw.alpha(0, 0).numpy(), 255 * shown.astype(np.uint8))
    expected = draw(1)
    expected[~shown] = 255
    assert np.array_equal(raw.picture(0, 0).numpy(), expected)


def test_a_mask_that_is_missing_is_named(tmp_path: Path):
    folder = plant_scene(tmp_path / "a")
    write_masks(folder, "masks/{}.png", views=[v for v in range(NUM) if v != 3])
    with refuses(r"images/003\.png: has no mask, but other images have .*add it, or remove all masks"):
        open_raw(folder, "train").num_views(0)
    set_mask_paths(folder, "masks/{}.png")
    with refuses(r"masks/003\.png: does not exist, but frame 3 of transforms\.json refers to it; restore"):
        open_raw(folder, "val").num_views(0)
    set_mask_paths(plant_scene(tmp_path / "b"), "masks/{}.png", views=[2, 3])
    with refuses(r"transforms\.json: frame 0 has no `mask_path` .*other frames have"):
        open_raw(tmp_path / "b", "train").num_views(0)


def test_a_mask_of_another_size_is_named(tmp_path: Path):
    folder = plant_scene(tmp_path / "a")
    write_masks(folder, "masks/{}.png")
    Image.new("L", (12, 24)).save(folder / "masks/004.png")
    with refuses(r"masks/004\.png: is 12 x 24, but its image .*images/004\.png is 24 x 24; give a mask"):
        open_raw(folder, "train").num_views(0)


def test_a_folder_of_masks_of_other_pictures_is_said_to_be_unused(tmp_path: Path):
    folder = plant_scene(tmp_path / "a")
    write_masks(folder, "masks/other_{}.png")
    raw = open_raw(folder, "train")
    assert torch.equal(raw.picture(0, 0), torch.from_numpy(draw(1)))
    (notice,) = raw.notices(0)
    assert notice.endswith("masks: no file in it belongs to an image, so it is not used")
