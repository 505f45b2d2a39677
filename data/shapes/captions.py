"""Captions of the procedural cars, from what the generator drew and where the camera stands."""

import math

from jaxtyping import Float
from numpy import ndarray

from data.meshes.primitives import Colour
from data.shapes.cars import body_colour, car_style

COLOUR_WORDS: dict[Colour, str] = {
    (200, 24, 30): "red", (140, 16, 28): "red", (232, 92, 20): "orange", (246, 120, 90): "orange",
    (244, 186, 20): "yellow", (246, 222, 90): "yellow", (246, 196, 20): "yellow",
    (24, 120, 56): "green", (12, 70, 50): "green", (120, 180, 60): "green", (40, 150, 80): "green",
    (150, 160, 130): "green", (20, 150, 150): "turquoise", (30, 90, 200): "blue", (20, 46, 126): "blue",
    (110, 170, 230): "blue", (100, 146, 176): "blue", (90, 50, 140): "purple", (230, 130, 170): "pink",
    (120, 72, 40): "brown", (206, 184, 146): "beige", (244, 226, 170): "beige",
    (236, 236, 232): "white", (222, 218, 204): "white", (186, 190, 196): "silver",
    (128, 132, 140): "gray", (78, 82, 90): "gray",
    (52, 54, 60): "black", (38, 38, 44): "black", (30, 32, 36): "black",
}  # fmt: skip
STYLE_WORDS: dict[str, str] = {  # those that differ from the style's name
    "sports": "sports car", "offroad": "jeep", "delivery": "delivery van", "city": "city car",
    "classic": "classic car",
}  # fmt: skip
AZIMUTH_WORDS = ("front", "front left", "left", "rear left", "rear", "rear right", "right", "front right")
ELEVATION_WORDS = ("low", "medium", "high")
ELEVATION_LIMITS_DEG = (15.0, 37.0)  # equally frequent words for cameras of the region "band"


def car_caption(object_id: int, cam_to_world: Float[ndarray, "4 4"]) -> str:
    """Return the caption of `car(object_id)` seen by a camera that looks at the origin."""
    colour, style = COLOUR_WORDS[body_colour(object_id)], car_style(object_id)
    return caption(
        colour, STYLE_WORDS.get(style, style), azimuth_word(cam_to_world), elevation_word(cam_to_world)
    )


def caption(colour: str, style: str, azimuth: str, elevation: str) -> str:
    """Return the caption of these words."""
    return f"an object: a {colour} {style}, {azimuth} view, {elevation} camera"


def azimuth_word(cam_to_world: Float[ndarray, "4 4"]) -> str:
    """Return the side of the car that the camera sees; left is the driver's left hand."""
    x, y, _ = cam_to_world[:3, 3]
    from_front = math.atan2(-y, -x)  # the front is towards -x, the left towards -y
    return AZIMUTH_WORDS[round(from_front / (math.pi / 4)) % 8]


def elevation_word(cam_to_world: Float[ndarray, "4 4"]) -> str:
    """Return the word for the camera's elevation above the horizontal plane through the origin."""
    x, y, z = cam_to_world[:3, 3]
    elevation_deg = math.degrees(math.atan2(z, math.hypot(x, y)))
    return ELEVATION_WORDS[sum(elevation_deg >= limit for limit in ELEVATION_LIMITS_DEG)]
