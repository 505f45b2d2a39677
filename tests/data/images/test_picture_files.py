"""Decoding of picture files: huge ones shrink or are refused, broken EXIF entries do no harm."""

import struct
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from data.images import picture_files
from data.images.files import picture_size, read_channel, read_picture
from data.images.masks import read_mask, read_opacity
from data.images.picture_files import shrink_factor
from data.meshes.loading import load_mesh
from data.meshes.sources import find_meshes
from data.photos.framing import FILL, frame_photo, read_upright

HEIGHT, WIDTH = 37, 51  # of pictures that are huge where the limit is 500 pixels


@pytest.fixture
def _small_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(picture_files, "LARGE", 500)


def smooth(channels: int = 3) -> np.ndarray:
    """A picture in which neighbours are alike, so that JPEG keeps it."""
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    planes = [4 * x, 6 * y, 2 * (x + y), 255 - 3 * x][:channels]
    return np.clip(np.stack(planes, axis=-1), 0, 255).astype(np.uint8)


def means(values: np.ndarray, factor: int) -> np.ndarray:
    """Means of blocks, of which those at the edges have fewer pixels."""
    rows = [values[i : i + factor].mean(axis=0) for i in range(0, len(values), factor)]
    columns = [np.stack(rows)[:, i : i + factor].mean(axis=1) for i in range(0, values.shape[1], factor)]
    return np.stack(columns, axis=1)


def refuses(message: str):
    return pytest.raises(ValueError, match=r"\A[^\n]*" + message + r"[^\n]*\Z")


def claiming(path: Path, width: int, height: int) -> Path:
    """A PNG whose header says that it is huge; there are hardly any pixels."""

    def chunk(name: bytes, content: bytes) -> bytes:
        return (
            struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))
        )

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b""))
    return path


@pytest.mark.parametrize(("megapixels", "factor"), [(1, 1), (32, 1), (32.1, 2), (108, 2), (128, 2), (200, 4)])
def test_pictures_are_halved_until_they_are_no_longer_large(megapixels: float, factor: int):
    assert shrink_factor(1000, round(1000 * megapixels)) == factor


@pytest.mark.usefixtures("_small_limits")
@pytest.mark.parametrize("kind", ["png", "tif", "jpg", "CMYK", "RGBA", "I;16", "L", "1", "P"])
def test_huge_pictures_become_the_means_of_their_blocks(tmp_path: Path, kind: str):
    pixels, tolerance, path = smooth(), 1.0, tmp_path / f"a.{kind if kind in ('tif', 'jpg') else 'png'}"
    options = {"quality": 100, "subsampling": 0} if kind == "jpg" else {}
    if kind == "I;16":
        image = Image.fromarray(pixels[..., 0].astype(np.uint16) * 257)
    elif kind == "CMYK":
        path, image = tmp_path / "a.tif", Image.fromarray(pixels).convert("CMYK")
    else:
        image = Image.fromarray(pixels).convert(kind if kind not in ("png", "tif", "jpg") else "RGB")
    image.save(path, **options)
    full = image.convert("RGB") if kind != "I;16" else Image.fromarray(pixels[..., 0]).convert("RGB")
    read = read_picture(path).numpy()
    expected = means(np.asarray(full).astype(float), 2)
    assert read.shape == expected.shape == (19, 26, 3)
    # The JPEG decoder shrinks blocks of 8 pixels by their frequencies, which is no plain mean.
    assert np.abs(read - expected).max() <= (8 if kind == "jpg" else tolerance)
    assert picture_size(path) == (HEIGHT, WIDTH)  # by its header: cameras are told in these pixels


@pytest.mark.usefixtures("_small_limits")
def test_hidden_colours_of_transparent_pixels_do_not_bleed(tmp_path: Path):
    pixels = np.zeros((40, 40, 4), np.uint8)  # transparent black
    pixels[10:31, 10:31] = (250, 250, 250, 255)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    assert read_picture(tmp_path / "a.png").min() >= 249
    opacity = read_opacity(tmp_path / "a.png").numpy()
    assert (
        np.abs(opacity - means(pixels[..., 3].astype(float), opacity.shape[0] and 40 // len(opacity))).max()
        <= 1
    )


@pytest.mark.usefixtures("_small_limits")
@pytest.mark.parametrize("suffix", ["jpg", "png"])
def test_a_huge_photo_and_its_mask_shrink_alike(tmp_path: Path, suffix: str):
    pixels = np.full((HEIGHT, WIDTH, 3), (10, 120, 40), np.uint8)
    pixels[8:28, 12:42] = (200, 60, 20)
    mask = np.zeros((HEIGHT, WIDTH), np.uint8)
    mask[8:28, 12:42] = 255
    photo, mask_file = tmp_path / f"a.{suffix}", tmp_path / "m.png"
    Image.fromarray(pixels).save(photo)
    Image.fromarray(mask).save(mask_file)
    assert read_mask(mask_file).shape == read_upright(photo)[0].shape[:2] == (19, 26)
    framed = frame_photo(photo, mask_file)
    assert len(framed.picture) == round(15 / FILL)


def test_a_huge_jpeg_is_read_small_and_without_warnings(tmp_path: Path):
    Image.new("L", (9500, 9500), 90).save(tmp_path / "a.jpg", quality=10)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        picture = read_picture(tmp_path / "a.jpg")
        assert picture_size(tmp_path / "a.jpg") == (9500, 9500)
    assert picture.shape == (4750, 4750, 3)
    assert (picture[::500, ::500].int() - 90).abs().max() <= 3


@pytest.mark.parametrize("size", [(20_000, 13_000), (60_000, 60_000)])
def test_pictures_beyond_all_limits_are_refused_in_one_line(tmp_path: Path, size: tuple[int, int]):
    path = claiming(tmp_path / "a.png", *size)
    readers = (
        read_picture,
        read_opacity,
        read_mask,
        picture_size,
        frame_photo,
        lambda p: read_channel(p, bits=8),
    )
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for read in readers:
            with refuses(rf"a\.png: {size[0]} x {size[1]} is larger than 250 megapixels; shrink it") as error:
                read(path)
            assert str(error.value).startswith(str(path))


def test_a_huge_texture_is_left_out_with_a_note(tmp_path: Path):
    claiming(tmp_path / "skin.png", 60_000, 60_000)
    (tmp_path / "a.mtl").write_text("newmtl m\nmap_Kd skin.png\n")
    corners = "v 0 0 0\nv 1 0 0\nv 0 1 0\nvt 0 0\nvt 1 0\nvt 0 1\n"
    (tmp_path / "a.obj").write_text(f"mtllib a.mtl\nusemtl m\n{corners}f 1/1 2/2 3/3\n")
    loaded = load_mesh(find_meshes(tmp_path)[0])
    assert loaded.mesh.skin is None
    assert any("larger than 250 megapixels" in note for note in loaded.notes)


@pytest.mark.parametrize("exif", [b"", b"Exif\0\0", b"Exif\0\0II*\0\xff\xff\xff\xff", b"no exif at all"])
def test_a_broken_exif_entry_is_no_reason_to_refuse_a_photo(tmp_path: Path, exif: bytes):
    pixels = torch.from_numpy(smooth())
    Image.fromarray(smooth()).save(tmp_path / "a.png", exif=exif)
    assert torch.equal(read_upright(tmp_path / "a.png")[0], pixels)


def test_a_tiff_is_turned_upright_once(tmp_path: Path):
    exif = Image.Exif()
    exif[0x0112] = 6
    upright = smooth()
    Image.fromarray(np.ascontiguousarray(upright.swapaxes(0, 1)[::-1])).save(tmp_path / "a.tif", exif=exif)
    assert np.array_equal(read_upright(tmp_path / "a.tif")[0].numpy(), upright)
