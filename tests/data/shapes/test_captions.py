"""Captions say what the generator drew, and where the camera stands."""

import math
from collections import Counter

import numpy as np
import pytest

from data.meshes.datasets.camera_poses import random_poses
from data.meshes.ray_casting import look_at_origin
from data.shapes.captions import (
    AZIMUTH_WORDS,
    COLOUR_WORDS,
    ELEVATION_WORDS,
    STYLE_WORDS,
    azimuth_word,
    car_caption,
    elevation_word,
)
from data.shapes.cars import BODY_COLOURS, TAXI_COLOURS, body_colour, car, car_style
from data.shapes.styles import STYLES


def camera(azimuth_deg: float, elevation_deg: float) -> np.ndarray:
    """A camera so many degrees from the front of the car towards its left, at this elevation."""
    front, left = np.array([-1.0, 0, 0]), np.array([0, -1.0, 0])
    turn, rise = math.radians(azimuth_deg), math.radians(elevation_deg)
    across = math.cos(turn) * front + math.sin(turn) * left
    return look_at_origin(1.3 * (math.cos(rise) * across + math.sin(rise) * np.array([0, 0, 1.0])))


def test_every_colour_and_style_has_a_word_of_its_own_kind():
    assert set(COLOUR_WORDS) == {*BODY_COLOURS, *TAXI_COLOURS}
    assert set(STYLE_WORDS) < set(STYLES)
    words = [STYLE_WORDS.get(style, style) for style in STYLES]
    assert len(set(words)) == len(words)


@pytest.mark.parametrize("object_id", [0, 1, 5, 17, 1_000_003])
def test_the_colour_of_the_caption_is_painted_on_the_car(object_id):
    base = np.array(body_colour(object_id))
    painted = np.unique(car(object_id).face_colours, axis=0)
    shades = [np.minimum(242, base * brightness).astype(int) for brightness in np.arange(0.85, 1.08, 0.0005)]
    assert min(np.abs(painted - shade).sum(1).min() for shade in shades) <= 2


def test_a_colour_that_is_no_shade_of_the_body_is_not_on_the_car():
    missing = 0
    for object_id in range(20):
        painted = np.unique(car(object_id).face_colours, axis=0).astype(int)
        wrong = np.array((20, 150, 150)) if COLOUR_WORDS[body_colour(object_id)] != "turquoise" else None
        if wrong is not None:
            shades = [np.minimum(242, wrong * b).astype(int) for b in np.arange(0.85, 1.08, 0.0005)]
            missing += min(np.abs(painted - shade).sum(1).min() for shade in shades) > 2
    assert missing >= 15


@pytest.mark.parametrize("sector", range(8))
def test_words_of_azimuth_turn_from_the_front_over_the_left(sector):
    expected = ("front", "front left", "left", "rear left", "rear", "rear right", "right", "front right")
    for offset in (-22, 0, 22):
        assert azimuth_word(camera(45 * sector + offset, 20)) == expected[sector]


def test_words_of_elevation():
    angles = {-5: "low", 14.9: "low", 15.1: "medium", 36.9: "medium", 37.1: "high", 70: "high"}
    assert {angle: elevation_word(camera(77, angle)) for angle in angles} == angles


def test_words_of_views_are_about_equally_frequent():
    poses = random_poses(2000, "band", np.random.default_rng(3))
    azimuths = Counter(map(azimuth_word, poses))
    elevations = Counter(map(elevation_word, poses))
    assert set(azimuths) == set(AZIMUTH_WORDS)
    assert set(elevations) == set(ELEVATION_WORDS)
    assert min(azimuths.values()) > 180
    assert min(elevations.values()) > 550


def test_a_caption_names_object_view_colour_and_style():
    for object_id in range(30):
        said = car_caption(object_id, camera(90, 50))
        style = car_style(object_id)
        colour = COLOUR_WORDS[body_colour(object_id)]
        assert said == f"an object: a {colour} {STYLE_WORDS.get(style, style)}, left view, high camera"
