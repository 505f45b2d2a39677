"""Alpha channels that are no masks, and objects that are half transparent."""

from pathlib import Path

import numpy as np
import pytest

from data.photos.framing import FILL, frame_photo
from tests.made_photos import GREEN, box_of, draw, opacity_of, save


def test_an_object_on_white_ground_is_found_whatever_its_alpha_channel(tmp_path: Path):
    box = (40, 50, 80, 110)
    pixels = draw(120, 160, box)
    plain = frame_photo(save(tmp_path / "plain.png", pixels)).picture
    opacities = {name: np.full((120, 160), 255, np.uint8) for name in ("pixel", "corners", "rim", "nearly")}
    opacities["pixel"][0, 0] = 0
    for corner in (np.s_[:8, :8], np.s_[-8:, :8], np.s_[:8, -8:], np.s_[-8:, -8:]):
        opacities["corners"][corner] = 0
    opacities["rim"][:] = 0
    opacities["rim"][1:-1, 1:-1] = 255
    opacities["nearly"][:] = 254
    for name, opacity in opacities.items():
        framed = frame_photo(save(tmp_path / f"{name}.png", np.dstack([pixels, opacity])))
        assert framed.notice is None, name
        assert framed.picture.shape == plain.shape, name
        assert (framed.picture.int() - plain.int()).abs().max() <= 1, name
        assert box_of(framed.picture) == box_of(plain), name


def test_a_few_transparent_pixels_do_not_silence_the_notice_of_another_ground(tmp_path: Path):
    pixels = np.dstack([draw(120, 160, (40, 50, 80, 110), ground=GREEN), np.full((120, 160), 255, np.uint8)])
    pixels[5, 7, 3] = 0
    framed = frame_photo(save(tmp_path / "photo.png", pixels))
    assert "its background is neither white nor transparent" in framed.notice
    assert framed.picture.shape == (160, 160, 3)


@pytest.mark.parametrize("level", [60, 100, 127, 128, 200])
@pytest.mark.parametrize("kind", ["alpha", "mask"])
def test_what_is_half_transparent_lies_in_the_frame_and_is_noticed(tmp_path: Path, kind: str, level: int):
    box = (40, 50, 80, 110)
    pixels, opacity = draw(120, 160, box), opacity_of(120, 160, box)
    opacity[40:80, 50:80] = level
    mask = save(tmp_path / "mask.png", opacity) if kind == "mask" else None
    photo = pixels if kind == "mask" else np.dstack([pixels, opacity])
    framed = frame_photo(save(tmp_path / "photo.png", photo), mask)
    assert len(framed.picture) == round(60 / FILL)
    seen = (framed.picture < 250).any(dim=-1)
    assert int(seen.any(dim=1).sum()) == 40
    assert int(seen.any(dim=0).sum()) == 60  # all of it
    assert not seen[:, 0].any()
    assert not seen[:, -1].any()
    assert framed.notice.startswith(f"{tmp_path / 'photo.png'}: 50% of the object is half transparent")
    assert "\n" not in framed.notice


def test_soft_outlines_and_faint_haze_are_no_half_transparent_objects(tmp_path: Path):
    box = (40, 50, 80, 110)
    pixels, opacity = draw(120, 160, box), opacity_of(120, 160, box)
    opacity[opacity == 0] = 10  # what a background remover leaves, and nobody sees
    opacity[39:81, 49], opacity[39:81, 110], opacity[39, 49:111], opacity[80, 49:111] = 4 * (128,)
    framed = frame_photo(save(tmp_path / "photo.png", np.dstack([pixels, opacity])))
    assert framed.notice is None
    assert len(framed.picture) == round(62 / FILL)
