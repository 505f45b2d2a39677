"""The SRN layout as it occurs in the wild: folders, splits, pictures, lists of views."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from data.cameras.poses import srn_test_path
from data.config import DataConfig
from data.formats.registry import open_split
from data.images.pixels import from_uint8


def config(root: Path, **changes) -> DataConfig:
    return DataConfig(**{"root": str(root), "image_size": 6, **changes})


def pixels(path: Path) -> torch.Tensor:
    return torch.from_numpy(np.array(Image.open(path).convert("RGB")))


def read_first(srn_root: Path, **changes):
    """Image and camera of view 0 of the first training object."""
    images, cameras = open_split(config(srn_root, **changes), "train").read(0, [0])
    return images[0], cameras[0]


def test_images_and_cameras_are_those_of_the_files(srn_root):
    objects = open_split(config(srn_root), "train")
    assert objects.ids == ("a", "bb")
    assert (len(objects), objects.num_views(0), objects.num_views(1)) == (2, 4, 3)
    images, cameras = objects.read(1, [2, 0])
    for image, view in zip(images, (2, 0), strict=True):
        expected = from_uint8(pixels(srn_root / f"cars_train/bb/rgb/00000{view}.png"))
        assert torch.equal(image, expected)
    torch.testing.assert_close(cameras.cam_to_world, srn_test_path(3)[[2, 0]])
    torch.testing.assert_close(cameras.intrinsics[0], torch.tensor([[1.1, 0, 0.5], [0, 1.1, 0.5], [0, 0, 1]]))


def test_read_views_is_a_batch_of_one_scene(srn_root):
    views = open_split(config(srn_root), "train").read_views(0, [1, 3])
    assert views.images.shape == (1, 2, 3, 6, 6)
    assert views.cameras.shape == (1, 2)
    assert views.valid.all()


def test_the_object_radius_bounds_the_volume(srn_root):
    _, camera = read_first(srn_root, object_radius=0.4)
    assert (camera.near.item(), camera.far.item()) == pytest.approx((0.9, 1.7))


def test_val_and_test_folders_stand_in_for_one_another(srn_root):
    assert open_split(config(srn_root), "val").ids == open_split(config(srn_root), "test").ids == ("ccc",)


def test_train_val_and_test_folders_are_kept_apart(srn_root, plant_object):
    plant_object(srn_root / "cars_test/d")
    assert open_split(config(srn_root), "test").ids == ("d",)
    assert open_split(config(srn_root), "val").ids == ("ccc",)


def test_one_more_folder_level_is_found(tmp_path, plant_object):
    for split in ("train", "val"):
        plant_object(tmp_path / f"chairs_{split}/chairs_2.0_{split}/{split}_chair")
    assert open_split(config(tmp_path), "train").ids == ("train_chair",)
    assert open_split(config(tmp_path / "chairs_val"), "val").ids == ("val_chair",)


def test_several_train_folders_are_joined_and_equal_names_told_apart(tmp_path, plant_object):
    for name in ("cars_train/x", "chairs_train/x", "cars_val/y"):
        plant_object(tmp_path / name)
    assert open_split(config(tmp_path), "train").ids == ("cars_train/x", "chairs_train/x")


@pytest.mark.parametrize(("inside", "held_out"), [("", 2), ("cars_train", 2)])
def test_without_held_out_folders_a_tenth_is_held_out_for_good(tmp_path, plant_object, inside, held_out):
    names = [f"car{number}" for number in range(19)]
    for name in names:
        plant_object(tmp_path / inside / name, num_views=1)
    train, val = open_split(config(tmp_path), "train").ids, open_split(config(tmp_path), "val").ids
    assert len(val) == held_out
    assert sorted(train + val) == sorted(names)
    assert open_split(config(tmp_path), "test").ids == val == open_split(config(tmp_path), "val").ids


def test_two_objects_are_split_into_one_and_one(tmp_path, plant_object):
    for name in "ab":
        plant_object(tmp_path / name)
    assert len(open_split(config(tmp_path), "train")) == len(open_split(config(tmp_path), "val")) == 1


def test_hidden_files_and_what_archivers_leave_are_ignored(srn_root):
    (srn_root / "cars_train/__MACOSX/a/rgb").mkdir(parents=True)
    (srn_root / "cars_train/.DS_Store").write_bytes(b"x")
    (srn_root / "cars_train/a/rgb/._000000.png").write_bytes(b"x")
    (srn_root / "cars_train/a/rgb/Thumbs.db").write_bytes(b"x")
    (srn_root / "cars_train/a/depth").mkdir()
    objects = open_split(config(srn_root), "train")
    assert (objects.ids, objects.num_views(0)) == (("a", "bb"), 4)


def test_views_are_in_natural_order_of_their_names(srn_root):
    folder = srn_root / "cars_train/bb"
    for kind, suffix in (("rgb", "png"), ("pose", "txt")):
        for old, new in (("000000", "9"), ("000001", "10"), ("000002", "100")):
            (folder / kind / f"{old}.{suffix}").rename(folder / kind / f"{new}.{suffix}")
    images, _ = open_split(config(srn_root), "train").read(1, [0, 1, 2])
    for image, stem in zip(images, ("9", "10", "100"), strict=True):
        assert torch.equal(image, from_uint8(pixels(folder / f"rgb/{stem}.png")))


def test_opening_a_split_opens_no_picture(srn_root):
    (srn_root / "cars_train/a/rgb/000000.png").write_bytes(b"")
    assert open_split(config(srn_root), "train").num_views(0) == 4


def test_an_opaque_alpha_channel_changes_nothing(srn_root):
    path = srn_root / "cars_train/a/rgb/000000.png"
    expected, _ = read_first(srn_root)
    Image.open(path).convert("RGBA").save(path)
    assert Image.open(path).mode == "RGBA"
    assert torch.equal(read_first(srn_root)[0], expected)


def test_transparent_pixels_are_composited_on_white(srn_root):
    rgba = np.full((6, 6, 4), (200, 100, 0, 255), dtype=np.uint8)
    rgba[0, :, 3], rgba[1, :, 3] = 0, 51
    Image.fromarray(rgba).save(srn_root / "cars_train/a/rgb/000000.png")
    image, _ = read_first(srn_root)
    levels = ((image + 1) * 127.5).round()
    assert levels[:, 0, 0].tolist() == [255, 255, 255]
    assert levels[:, 1, 0].tolist() == [244, 224, 204]  # 0.2 * colour + 0.8 * 255
    assert levels[:, 2, 0].tolist() == [200, 100, 0]


def test_grey_and_palette_pictures_are_read_as_rgb(srn_root):
    path = srn_root / "cars_train/a/rgb/000000.png"
    for mode in ("L", "P", "1"):
        picture = Image.fromarray(np.arange(36, dtype=np.uint8).reshape(6, 6) * 7).convert(mode)
        picture.save(path)
        image, _ = read_first(srn_root)
        assert torch.equal(image, from_uint8(torch.from_numpy(np.array(picture.convert("RGB")))))


def test_a_transparent_palette_entry_becomes_white(srn_root):
    picture = Image.fromarray(np.zeros((6, 6), dtype=np.uint8)).convert("P")
    picture.putpalette([10, 20, 30] * 256)
    picture.save(srn_root / "cars_train/a/rgb/000000.png", transparency=0)
    assert (read_first(srn_root)[0] == 1).all()


def test_sixteen_bit_grey_is_scaled_not_clipped(srn_root):
    grey = (np.arange(36).reshape(6, 6) * 257 * 7).astype(np.uint16)
    Image.fromarray(grey).save(srn_root / "cars_train/a/rgb/000000.png")
    levels = ((read_first(srn_root)[0] + 1) * 127.5).round()
    assert levels[1].flatten().tolist() == [number * 7 for number in range(36)]


def test_jpeg_files_are_read(srn_root):
    path = srn_root / "cars_train/a/rgb/000000.png"
    Image.new("RGB", (6, 6), (90, 120, 30)).save(path.with_suffix(".jpg"), quality=95)
    path.unlink()
    levels = (read_first(srn_root)[0] + 1) * 127.5
    assert (levels[:, 0, 0] - torch.tensor([90.0, 120, 30])).abs().max() < 4


def test_halving_a_picture_takes_block_means(srn_root):
    image, _ = read_first(srn_root, image_size=3)
    blocks = pixels(srn_root / "cars_train/a/rgb/000000.png").double().reshape(3, 2, 3, 2, 3).mean(dim=(1, 3))
    levels = (image.double().movedim(0, -1) + 1) * 127.5
    assert (levels - blocks).abs().max() <= 0.5 + 1e-4


def test_pictures_that_are_not_square_are_resized_each_way_and_still_project_rightly(tmp_path, plant_object):
    for split in ("train", "val"):
        plant_object(tmp_path / f"x_{split}/wide", num_views=2, size=(8, 12))
    folder = tmp_path / "x_train/wide"
    (folder / "intrinsics").mkdir()
    fx, fy, cx, cy = 14.0, 9.0, 7.0, 3.0  # pixels of 12 x 8
    (folder / "intrinsics/000000.txt").write_text(f"{fx} 0 {cx} 0 {fy} {cy} 0 0 1")
    # A bright pixel where a known point of the world is seen.
    pose = srn_test_path(2)[0]
    x, y, z = (7.5 - cx) / fx, (5.5 - cy) / fy, 1.0
    point = pose[:3, :3] @ torch.tensor([x, y, z]) + pose[:3, 3]
    picture = np.zeros((8, 12, 3), dtype=np.uint8)
    picture[5, 7] = 255
    Image.fromarray(picture).save(folder / "rgb/000000.png")
    for size in (4, 5, 24):
        image, camera = read_first(tmp_path, image_size=size)
        light = (image[0] + 1) / 2
        centres = (torch.arange(size) + 0.5) / size
        u, v, _ = camera.project(point[None])[0].tolist()
        # The light's centre moves by less than half a pixel of the smaller picture; its amount is kept.
        assert (light.sum(0) * centres).sum() / light.sum() == pytest.approx(u, abs=0.5 / size)
        assert (light.sum(1) * centres).sum() / light.sum() == pytest.approx(v, abs=0.5 / size)
        assert light.mean().item() == pytest.approx(1 / 96, abs=1 / 255)


def test_the_cache_gives_the_same_pictures_and_keeps_its_bound(srn_root):
    # A picture of 500 x 500 takes 0.75 MB: one of them fits into a megabyte.
    cached, fresh = (open_split(config(srn_root, image_size=500, cache_mb=mb), "train") for mb in (1, 0))
    for _ in range(2):
        assert torch.equal(cached.read(0, [0, 1])[0], fresh.read(0, [0, 1])[0])
    for view in (0, 1):
        (srn_root / f"cars_train/a/rgb/00000{view}.png").unlink()
    cached.read(0, [0])
    for objects, view in ((cached, 1), (fresh, 0)):
        with pytest.raises(ValueError, match=f"00000{view}.png: there is no such file"):
            objects.read(0, [view])


def test_a_list_of_views_restricts_the_objects_that_it_names(srn_root):
    (srn_root / "views.json").write_text(json.dumps({"a": [3, 1], "ccc": [0]}))
    objects = open_split(config(srn_root, views=str(srn_root / "views.json")), "train")
    assert [objects.num_views(index) for index in (0, 1)] == [2, 3]
    images, cameras = objects.read(0, [0])
    assert torch.equal(images[0], from_uint8(pixels(srn_root / "cars_train/a/rgb/000003.png")))
    torch.testing.assert_close(cameras.cam_to_world[0], srn_test_path(4)[3])


def test_depth_is_in_scene_units_and_alpha_a_share(tmp_path, plant_object):
    folder = plant_object(tmp_path / "cars_train" / "a", surfaces=True)
    plant_object(tmp_path / "cars_val" / "b")
    found = open_split(config(tmp_path), "train").read_geometry(0, [3, 1])
    for row, view in enumerate((3, 1)):
        for kind, values, unit in (("depth", found.depth, 10_000), ("alpha", found.alpha, 255)):
            stored = np.array(Image.open(folder / kind / f"00000{view}.png")).astype(np.float64) / unit
            np.testing.assert_allclose(values[row].numpy(), stored, atol=1e-6)


def test_where_pixels_are_joined_depth_is_that_of_what_is_met(tmp_path, plant_object):
    folder = plant_object(tmp_path / "cars_train" / "a", surfaces=True)
    plant_object(tmp_path / "cars_val" / "b")
    path = folder / "depth" / "000000.png"
    values = np.array(Image.open(path))
    values[:2, :2], values[:2, 2:4] = [[0, 20_000], [0, 10_000]], 0
    Image.fromarray(values).save(path)
    found = open_split(config(tmp_path, image_size=3), "train").read_geometry(0, [0])
    assert found.depth.shape == found.alpha.shape == (1, 3, 3)
    assert found.depth[0, 0, 0].item() == pytest.approx(1.5, abs=1e-5)
    assert found.depth[0, 0, 1] == 0


def test_a_depth_picture_of_several_channels_is_refused(tmp_path, plant_object):
    folder = plant_object(tmp_path / "cars_train" / "a", surfaces=True)
    plant_object(tmp_path / "cars_val" / "b")
    Image.new("RGB", (6, 6)).save(folder / "depth" / "000000.png")
    with pytest.raises(
        ValueError, match=r"depth/000000\.png: is an image of mode RGB instead of 16-bit grey"
    ):
        open_split(config(tmp_path), "train").read_geometry(0, [0])


@pytest.mark.parametrize(
    ("kind", "picture", "complaint"),
    [
        ("depth", Image.new("L", (6, 6)), "mode L instead of 16-bit grey"),
        ("alpha", Image.new("I;16", (6, 6)), "mode I;16 instead of 8-bit grey"),
        ("alpha", Image.new("1", (6, 6)), "mode 1 instead of 8-bit grey"),
        ("depth", Image.new("I;16", (9, 3)), "differs in size from its image"),
    ],
)
def test_depth_and_alpha_that_are_not_what_they_should_be_are_refused(
    tmp_path, plant_object, kind, picture, complaint
):
    folder = plant_object(tmp_path / "cars_train" / "a", surfaces=True)
    plant_object(tmp_path / "cars_val" / "b")
    picture.save(folder / kind / "000000.png")
    with pytest.raises(ValueError, match=rf"\A\S*{kind}/000000\.png: .*{complaint}[^\n]*\Z"):
        open_split(config(tmp_path), "train").read_geometry(0, [0])
    (folder / kind / "000000.png").unlink()
    with pytest.raises(ValueError, match=rf"{kind}/000000\.png: missing"):
        open_split(config(tmp_path), "train").read_geometry(0, [0])


def test_pictures_and_geometry_share_the_cache_s_bound(tmp_path, plant_object):
    for name in ("cars_train/a", "cars_val/b"):
        plant_object(tmp_path / name, num_views=9, size=(256, 256), surfaces=True)
    objects = open_split(config(tmp_path, image_size=256, cache_mb=2), "train")
    for view in range(9):
        objects.read(0, [view])
        objects.read_geometry(0, [view])
    kept = [picture.nbytes for picture in objects._pictures.values()]
    kept += [part.depth.nbytes + part.alpha.nbytes for part in objects._geometries.values()]
    assert 1.5 * 2**20 < sum(kept) <= 2 * 2**20


def test_without_alpha_what_has_a_depth_is_covered_and_depth_may_have_its_own_step(tmp_path, plant_object):
    folder = plant_object(tmp_path / "cars_train" / "a", surfaces=True)
    plant_object(tmp_path / "cars_val" / "b")
    shutil.rmtree(folder / "alpha")
    path = folder / "depth" / "000000.png"
    values = np.array(Image.open(path))
    values[:2, :2] = [[0, 20_000], [0, 10_000]]
    Image.fromarray(values).save(path)
    found = open_split(config(tmp_path, image_size=3, depth_scale=0.5), "train").read_geometry(0, [0])
    assert found.alpha[0, 0, 0].item() == pytest.approx(0.5)
    assert found.depth[0, 0, 0].item() == pytest.approx(0.75, abs=1e-5)
