"""Colour profiles: what pictures of other colour spaces look like in sRGB, against closed forms."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import trimesh
from PIL import Image, ImageCms, PngImagePlugin

from data.formats.registry import open_raw
from data.images.colour_profiles import in_srgb
from data.images.files import read_picture
from data.images.masks import read_opacity
from data.images.picture_files import profile_notice
from data.meshes.loading import load_mesh
from data.meshes.sources import find_meshes
from data.photos.framing import frame_photo, profile_notices
from scripts.check_data import main as check_data
from scripts.pack import main as pack
from tests.icc_profiles import (
    DISPLAY_P3,
    SRGB,
    cmyk_profile,
    grey_profile,
    rgb_profile,
    srgb_decoded,
    srgb_encoded,
    to_xyz,
)

STORED, SHOWN = (200, 60, 40), (217, 42, 23)  # a Display P3 colour, and LittleCMS's sRGB of it
BROKEN = {"noise": b"not a profile", "cut": rgb_profile(DISPLAY_P3)[:300], "empty table": b"\0" * 132}


def noise(*shape: int) -> np.ndarray:
    return np.random.default_rng(5).integers(0, 256, shape, dtype=np.uint8)


def closed_form(pixels: np.ndarray, primaries, gamma: float | None = None) -> np.ndarray:
    """sRGB of pixels with these primaries: both have the same white, so that no adaptation is needed."""
    linear = (pixels / 255) ** gamma if gamma else srgb_decoded(pixels)
    return srgb_encoded(linear @ (np.linalg.inv(to_xyz(SRGB)) @ to_xyz(primaries)).T)


@pytest.mark.parametrize(("suffix", "options"), [
    ("png", {}), ("tif", {}), ("webp", {"lossless": True}), ("jpg", {"quality": 100, "subsampling": 0}),
])  # fmt: skip
def test_display_p3_becomes_srgb_in_every_format(tmp_path: Path, suffix: str, options: dict):
    path = tmp_path / f"a.{suffix}"
    image = Image.new("RGB", (6, 4), STORED)
    image.save(path, icc_profile=rgb_profile(DISPLAY_P3), **options)
    difference = read_picture(path).int() - torch.tensor(SHOWN)
    assert difference.abs().max() <= (2 if suffix == "jpg" else 0)


@pytest.mark.parametrize("gamma", [None, 1.8])
def test_colours_are_those_of_the_closed_form(tmp_path: Path, gamma: float | None):
    pixels = noise(7, 9, 3)
    Image.fromarray(pixels).save(tmp_path / "a.png", icc_profile=rgb_profile(DISPLAY_P3, gamma))
    expected = closed_form(pixels, DISPLAY_P3, gamma)
    # Near black a level of gamma 1.8 is several of sRGB, and matrices of profiles have 16 bits.
    assert np.abs(read_picture(tmp_path / "a.png").numpy() - expected).max() <= 1.6


def test_an_srgb_profile_changes_no_bit(tmp_path: Path):
    pixels = noise(31, 33, 3)
    library = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    for profile in (library, rgb_profile(SRGB)):
        for mode in ("RGB", "RGBA"):
            image = Image.fromarray(pixels).convert(mode)
            assert in_srgb(image, profile) is image
        Image.fromarray(pixels).save(tmp_path / "a.png", icc_profile=profile)
        assert np.array_equal(read_picture(tmp_path / "a.png").numpy(), pixels)
        assert profile_notice(tmp_path / "a.png") is None


@pytest.mark.parametrize("mode", ["RGBA", "P", "P transparent", "RGB transparent", "L", "LA", "1"])
def test_rgb_profiles_apply_to_palettes_greys_and_transparency(tmp_path: Path, mode: str):
    profile = rgb_profile(DISPLAY_P3, 1.8)
    pixels = np.zeros((4, 6, 4), np.uint8)
    pixels[..., :3], pixels[..., 3] = STORED, 255
    pixels[1:, 2:, :3] = (20, 90, 250)
    options: dict = {}
    if mode in ("RGBA", "LA"):
        pixels[0, 0, 3] = 90
    image = Image.fromarray(pixels).convert(mode.split()[0] if mode != "1" else "L").convert(mode.split()[0])
    if mode.endswith("transparent"):
        options["transparency"] = STORED if mode.startswith("RGB") else image.getpixel((0, 0))
    image.save(tmp_path / "a.png", icc_profile=profile, **options)

    reference = Image.open(tmp_path / "a.png").convert("RGBA")
    colours, opacity = np.asarray(reference)[..., :3], np.asarray(reference)[..., 3:] / 255
    expected = closed_form(colours, DISPLAY_P3, 1.8) * opacity + 255 * (1 - opacity)
    assert np.abs(read_picture(tmp_path / "a.png").numpy() - expected).max() <= 1.6
    if reference.getextrema()[3][0] < 255:
        assert np.array_equal(read_opacity(tmp_path / "a.png").numpy(), np.asarray(reference)[..., 3])


@pytest.mark.parametrize("mode", ["L", "LA", "I;16"])
def test_grey_profiles_are_applied(tmp_path: Path, mode: str):
    grey = np.arange(256, dtype=np.uint8).reshape(8, 32)
    image = Image.fromarray(grey.astype(np.uint16) * 257 if mode == "I;16" else grey)
    if mode == "LA":
        image = image.convert("LA")
    image.save(tmp_path / "a.png", icc_profile=grey_profile(1.0))
    expected = srgb_encoded(grey / 255)  # of linear light
    read = read_picture(tmp_path / "a.png").numpy()
    assert np.abs(read - expected[..., None]).max() <= 1.1


def test_cmyk_profiles_are_applied(tmp_path: Path):
    lightness = np.linspace(100, 0, 16)  # of all mixtures, the last ink fastest
    inks = np.array(np.meshgrid(*[[0, 255]] * 4, indexing="ij")).reshape(4, 16).T.astype(np.uint8)
    image = Image.frombytes("CMYK", (16, 1), inks.tobytes())
    image.save(tmp_path / "a.tif", icc_profile=cmyk_profile(lightness))
    luminance = np.where(lightness > 8, ((lightness + 16) / 116) ** 3, lightness / 903.3)
    read = read_picture(tmp_path / "a.tif").numpy()[0].astype(float)
    assert np.abs(read - srgb_encoded(luminance)[:, None]).max() <= 2.5  # CLUTs of 8 bits
    assert (
        abs(read[1] - np.array(image.convert("RGB"))[0, 1]).max() > 100
    )  # black ink alone is black without a profile


def test_lab_pictures_are_read_without_a_profile(tmp_path: Path):
    lightness = np.arange(0, 256, 5, dtype=np.uint8)
    pixels = np.stack([lightness, np.full_like(lightness, 128), np.full_like(lightness, 128)], axis=1)[None]
    srgb, lab = ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB")
    image = ImageCms.profileToProfile(Image.fromarray(pixels[..., [0, 0, 0]]), srgb, lab, outputMode="LAB")
    image.save(tmp_path / "a.tif")
    assert np.abs(read_picture(tmp_path / "a.tif").numpy().astype(int) - pixels[..., [0, 0, 0]]).max() <= 2


@pytest.mark.parametrize("name", BROKEN)
def test_broken_profiles_are_ignored_with_a_notice(tmp_path: Path, name: str):
    pixels = np.full((30, 40, 3), 255, np.uint8)
    pixels[5:20, 5:30] = STORED
    path = tmp_path / "a.png"
    Image.fromarray(pixels).save(path, icc_profile=BROKEN[name])
    assert np.array_equal(read_picture(path).numpy(), pixels)
    notice = frame_photo(path).notice
    assert notice.startswith(f"{path}: its colour profile is ignored (")
    assert "\n" not in notice
    assert profile_notices([path]) == [notice]  # what photos with cameras are told


def test_profiles_of_other_channels_are_ignored_with_a_notice(tmp_path: Path):
    pixels = noise(4, 5, 3)
    for profile in (grey_profile(2.2), cmyk_profile(np.linspace(100, 0, 16))):
        Image.fromarray(pixels).save(tmp_path / "a.png", icc_profile=profile)
        assert np.array_equal(read_picture(tmp_path / "a.png").numpy(), pixels)
        assert "pixels, but the image is RGB" in profile_notice(tmp_path / "a.png")


def test_the_gamma_chunk_of_png_is_not_used(tmp_path: Path):
    pixels = noise(4, 5, 3)
    chunks = PngImagePlugin.PngInfo()
    chunks.add(b"gAMA", (100_000).to_bytes(4, "big"))
    Image.fromarray(pixels).save(tmp_path / "a.png", pnginfo=chunks)
    assert Image.open(tmp_path / "a.png").info["gamma"] == 1
    assert np.array_equal(read_picture(tmp_path / "a.png").numpy(), pixels)


def test_data_sets_and_their_packed_copies_are_in_srgb_and_broken_profiles_are_found(
    tmp_path: Path, plant_object: Callable[..., Path], capsys: pytest.CaptureFixture[str]
):
    for name in ("cars_train/a", "cars_val/b"):
        folder = plant_object(tmp_path / "set" / name, num_views=3)
        for picture in (folder / "rgb").iterdir():
            profile = BROKEN["cut"] if name.endswith("b") else rgb_profile(DISPLAY_P3)
            Image.new("RGB", (6, 6), STORED).save(picture, icc_profile=profile)
    assert pack([str(tmp_path / "set"), "--output", str(tmp_path / "packed"), "--workers", "1"]) == 0
    for root in ("set", "packed"):
        for split, expected in (("train", SHOWN), ("val", STORED)):
            assert (open_raw(tmp_path / root, split).picture(0, 2) == torch.tensor(expected)).all(), (
                root,
                split,
            )
    capsys.readouterr()
    check_data([str(tmp_path / "set"), "--workers", "1"])
    line = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("colour profile"))
    assert "cars_val/b" in line
    assert "is ignored (" in line


def texture_of(folder: Path) -> np.ndarray:
    loaded = load_mesh(find_meshes(folder)[0])
    return loaded.mesh.skin.textures[0][..., :3]


def test_textures_of_obj_files_become_srgb_and_those_of_gltf_stay_as_the_standard_demands(tmp_path: Path):
    image = Image.new("RGB", (4, 4), STORED)
    for suffix, expected in (("obj", SHOWN), ("glb", STORED)):
        folder = tmp_path / suffix
        folder.mkdir()
        image.save(folder / "skin.png", icc_profile=rgb_profile(DISPLAY_P3))
        if suffix == "obj":
            (folder / "a.mtl").write_text("newmtl m\nmap_Kd skin.png\n")
            corners = "v 0 0 0\nv 1 0 0\nv 0 1 0\nvt 0 0\nvt 1 0\nvt 0 1\n"
            (folder / "a.obj").write_text(f"mtllib a.mtl\nusemtl m\n{corners}f 1/1 2/2 3/3\n")
        else:
            skinned = Image.open(folder / "skin.png")
            material = trimesh.visual.material.PBRMaterial(baseColorTexture=skinned)
            visual = trimesh.visual.TextureVisuals(uv=np.eye(3)[:, :2], material=material)
            mesh = trimesh.Trimesh(np.eye(3), [[0, 1, 2]], visual=visual, process=False)
            (folder / "a.glb").write_bytes(mesh.export(file_type="glb"))
            assert b"iCCP" in (folder / "a.glb").read_bytes()
        assert (texture_of(folder) == expected).all(), suffix
