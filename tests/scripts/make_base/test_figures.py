"""The measures of a base, on images whose answers are known."""

import math

import pytest
import torch

pytest.importorskip("diffusers")

from data.shapes.captions import AZIMUTH_WORDS, caption
from scripts.make_base.cars import CaptionedImages
from scripts.make_base.figures import SAMPLED, _changed, _sample_figures, car_colour, psnr_db, words_of


def block(colour: tuple[float, float, float], width: int) -> torch.Tensor:
    """A block of one colour on white."""
    image = torch.ones(3, 32, 32)
    image[:, 8:20, 2 : 2 + width] = torch.tensor(colour)[:, None, None]
    return image


COLOURS = {"red": (0.7, -0.9, -0.9), "blue": (-0.9, -0.8, 0.6), "yellow": (0.8, 0.6, -0.9),
           "green": (-0.9, 0.1, -0.6), "white": (0.8, 0.8, 0.8), "black": (-0.8, -0.8, -0.8)}  # fmt: skip
ROWS = [
    torch.stack([block(COLOURS[colour], 3 + 3 * column) for column in range(len(AZIMUTH_WORDS))])
    for colour, _ in SAMPLED
]


def labelled() -> CaptionedImages:
    captions = [caption(*subject, azimuth, "low") for subject in SAMPLED for azimuth in AZIMUTH_WORDS]
    pixels = ((torch.cat(ROWS) + 1) * 127.5).round().to(torch.uint8)
    return CaptionedImages(pixels.permute(0, 2, 3, 1), captions)


def test_psnr_of_a_constant_error():
    truth = torch.zeros(2, 3, 5, 7)
    offsets = torch.tensor([0.2, 1.0])[:, None, None, None]
    expected = [20 * math.log10(2 / 0.2), 20 * math.log10(2 / 1.0)]
    assert psnr_db(truth + offsets, truth).tolist() == pytest.approx(expected, abs=1e-4)


def test_the_colour_of_a_car_leaves_out_the_background():
    seen = car_colour(torch.stack([block(COLOURS["red"], 5), block(COLOURS["blue"], 20)]))
    torch.testing.assert_close(seen, torch.tensor([COLOURS["red"], COLOURS["blue"]]))


def test_samples_of_their_captions_are_right():
    figures = _sample_figures(ROWS, labelled())
    assert (figures["number"], figures["right_colour"], figures["right_azimuth"]) == (48, 1.0, 1.0)


def test_samples_of_other_captions_are_wrong():
    shifted = [row.roll(1, 0) for row in (*ROWS[1:], ROWS[0])]
    figures = _sample_figures(shifted, labelled())
    assert (figures["right_colour"], figures["right_azimuth"]) == (0.0, 0.0)


@pytest.mark.parametrize("kind", ["colour", "style", "azimuth", "elevation"])
def test_one_attribute_is_exchanged(kind):
    captions = [
        caption("red", "sedan", "front", "low"),
        caption("red", "sedan", "front", "low"),
        caption("blue", "sports car", "rear left", "high"),
    ]
    own, other = words_of(captions[0]), words_of(captions[2])
    assert words_of(_changed(captions, 0, kind)) == own | {kind: other[kind]}
    assert _changed(captions, 0, "empty") == ""
    assert _changed(captions, 0, "right") == captions[0]
