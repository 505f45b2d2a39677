"""Procedural cars, the embedded default data set: `car(object_id)` is the same mesh on every machine.

A finished car has a bounding box of unit diagonal centred on the origin (as in ShapeNet). z points up, the
length lies along x with the front towards -x, and the width along y, so the driver's left hand is towards -y.
Each car carries a marking on one side only, so that a mirrored car is another car.
"""

from dataclasses import replace

import numpy as np
from numpy.random import Generator

from data.meshes.mesh import Mesh, join_meshes, normalised
from data.meshes.primitives import Colour, box, mirrored
from data.shapes.body import Body, body_mesh
from data.shapes.cabin import cabin_mesh, roof_height
from data.shapes.faces import front_face, rear_face
from data.shapes.parts import (
    BLACK,
    arch_trim,
    deck_patch,
    fenders,
    mirrors,
    roof_rack,
    seams,
    seats,
    side_disc,
    side_patch,
    spoiler,
    wheel,
    wheels,
)
from data.shapes.styles import STYLES, CarPlan, Paint

BODY_COLOURS: tuple[Colour, ...] = (
    (200, 24, 30), (140, 16, 28), (232, 92, 20), (244, 186, 20), (246, 222, 90), (24, 120, 56),
    (12, 70, 50), (120, 180, 60), (20, 150, 150), (30, 90, 200), (20, 46, 126), (110, 170, 230),
    (90, 50, 140), (230, 130, 170), (120, 72, 40), (206, 184, 146), (236, 236, 232), (222, 218, 204),
    (186, 190, 196), (128, 132, 140), (78, 82, 90), (52, 54, 60), (38, 38, 44), (150, 160, 130),
    (100, 146, 176), (246, 120, 90),
)  # fmt: skip
TAXI_COLOURS: tuple[Colour, ...] = ((246, 196, 20), (244, 226, 170), (30, 32, 36), (40, 150, 80))
ACCENTS: tuple[Colour, ...] = (
    (240, 240, 236), (244, 196, 30), (220, 40, 40), (30, 100, 210), (30, 34, 40), (40, 170, 90),
)  # fmt: skip
TRIMS: tuple[Colour, ...] = ((36, 36, 38), (60, 60, 64), (150, 152, 156))
SEATS: tuple[Colour, ...] = ((150, 80, 40), (60, 60, 66), (200, 180, 150), (140, 30, 30))
RIMS: tuple[Colour, ...] = ((206, 208, 212), (176, 180, 186), (140, 144, 150), (226, 226, 222))
DARK_GLASS: Colour = (40, 58, 82)
LIGHT_GLASS: Colour = (78, 104, 134)  # so that windows stand out in dark bodies

FENDER_REACH = 0.14  # metres
TALL = ("suv", "offroad", "pickup", "minibus", "delivery")  # dark bumpers, tall grilles and tail lamps


def car_style(object_id: int) -> str:
    """Return the name of the body style of `car(object_id)`."""
    return _pick(np.random.default_rng(object_id), tuple(STYLES))


def body_colour(object_id: int) -> Colour:
    """Return the colour of BODY_COLOURS or TAXI_COLOURS that `car(object_id)` is a shade of."""
    random = np.random.default_rng(object_id)
    style = _pick(random, tuple(STYLES))
    _varied(STYLES[style], random)  # draws what comes before the colour
    return _draw_body_colour(style, random)


def car(object_id: int, *, style: str | None = None) -> Mesh:
    """Return procedural car number `object_id`, normalised; `style` overrides its body style.

    Raises ValueError for a negative id or an unknown style.
    """
    if object_id < 0:
        raise ValueError(f"object_id is {object_id}; give 0 or more")
    if style is not None and style not in STYLES:
        raise ValueError(f"unknown car style {style!r}; known are {', '.join(STYLES)}")
    random = np.random.default_rng(object_id)
    own_style = _pick(random, tuple(STYLES))
    style = style or own_style
    plan = _varied(STYLES[style], random)
    paint = _paint(style, random)
    body = Body(plan)
    reach = FENDER_REACH if style == "classic" else 0.0
    num_spokes = _pick(random, (0, 5, 5, 6, 7, 8))
    parts = [body_mesh(body, paint), wheels(body, paint.rim, num_spokes=num_spokes, reach=reach)]
    if plan.cabin is not None:
        parts.append(cabin_mesh(body, plan.cabin, paint))
    parts += _faces(style, body, paint, random)
    parts += _equipment(style, body, paint, random)
    parts += _markings(style, body, paint, random)
    return normalised(join_meshes(parts))


def _pick(random: Generator, choices: tuple):
    return choices[int(random.random() * len(choices))]


def _varied(plan: CarPlan, random: Generator) -> CarPlan:
    """Vary the style's measures by a few percent."""
    long, wide, high, wheel_size = random.uniform(0.95, 1.05, 4).tolist()
    cabin = plan.cabin
    if cabin is not None:
        shift = random.uniform(-0.012, 0.012, 2).tolist()
        cabin = replace(cabin, roof_front=cabin.roof_front + shift[0], roof_rear=cabin.roof_rear + shift[1])
    return replace(
        plan,
        length=plan.length * long,
        width=plan.width * wide,
        height=plan.height * high,
        axles=(plan.axles[0] * long, plan.axles[1] * long),
        wheel_radius=plan.wheel_radius * min(high, wheel_size),
        profile=tuple((share, height * high) for share, height in plan.profile),
        cabin=cabin,
    )


def _paint(style: str, random: Generator) -> Paint:
    """Choose the colours of one car; one in three is two-tone."""
    colour = _shade(_draw_body_colour(style, random), random)
    second = _pick(random, BODY_COLOURS)
    two_tone = random.random()
    accents = [accent for accent in ACCENTS if np.abs(np.subtract(accent, colour)).sum() > 200]
    glass = LIGHT_GLASS if np.dot(colour, (0.3, 0.6, 0.1)) < 75 else DARK_GLASS
    tint = random.uniform(0.8, 1.2)
    return Paint(
        body=colour,
        lower=second if two_tone < 0.12 else colour,
        roof=second if 0.12 < two_tone < 0.35 else colour,
        glass=tuple(int(channel * tint) for channel in glass),
        trim=_pick(random, TRIMS),
        seats=_pick(random, SEATS),
        rim=_pick(random, RIMS),
        accent=_pick(random, tuple(accents)),
    )


def _draw_body_colour(style: str, random: Generator) -> Colour:
    return _pick(random, TAXI_COLOURS if style == "taxi" else BODY_COLOURS)


def _shade(colour: Colour, random: Generator) -> Colour:
    brightness = random.uniform(0.85, 1.08)
    return tuple(int(min(242, channel * brightness)) for channel in colour)


def _faces(style: str, body: Body, paint: Paint, random: Generator) -> list[Mesh]:
    tall, chance = style in TALL, random.random(4).tolist()
    lamps = {"classic": "wing", "offroad": "round"}.get(
        style, "round" if style == "city" and chance[0] < 0.5 else "slim"
    )
    grille = "tall" if tall or chance[1] < 0.2 else "wide"
    if style in ("classic", "sports"):
        grille = "none"
    dark_bumper = tall or chance[2] < 0.25
    tall_lamps = tall or style in ("hatchback", "wagon")
    return [
        front_face(body, paint, lamps=lamps, grille=grille, dark_bumper=dark_bumper),
        rear_face(body, paint, tall_lamps=tall_lamps, wide_lamps=chance[3] < 0.4, dark_bumper=dark_bumper),
    ]


def _equipment(style: str, body: Body, paint: Paint, random: Generator) -> list[Mesh]:
    """Return doors, mirrors, rack, seats, spare wheel, spoiler, taxi sign: by style, some at random."""
    plan, cabin = body.plan, body.plan.cabin
    chance = random.random(3).tolist()
    front = cabin.base_front if cabin is not None else plan.well.front - 0.02
    pillars = cabin.pillars if cabin is not None else (plan.well.rear - 0.03,)
    doors = (front + 0.03, *(pillar for pillar in pillars if pillar * plan.length < plan.axles[1]))
    parts = [seams(body, doors, paint.trim)]
    parts.append(mirrors(body, (front + 0.055) * plan.length, paint.body if chance[0] < 0.6 else BLACK))
    if style == "offroad" or (style in TALL and chance[1] < 0.6):
        parts.append(arch_trim(body, BLACK, width=0.07))
    if style in ("wagon", "suv", "offroad", "minibus") and chance[2] < 0.5:
        parts.append(roof_rack(body, cabin, paint.trim, bars=_pick(random, (0, 2, 3))))
    if style == "convertible":
        parts.append(seats(body, paint))
    if style == "offroad":
        centre = (plan.length + 0.20, 0.12, 0.55 * plan.height)
        parts.append(wheel(centre, plan.wheel_radius * 0.95, paint.rim, num_spokes=5, axis="x"))
    if style in ("sports", "coupe") and chance[2] < 0.5:
        parts.append(spoiler(body, paint, height=0.2))
    if style == "taxi":
        x = (cabin.roof_front + 0.42 * (cabin.roof_rear - cabin.roof_front)) * plan.length
        parts.append(
            box(
                (x, 0, roof_height(body, cabin, x, 0.0) + 0.07), (0.24, 0.7, 0.18), (246, 236, 150), taper=0.8
            )
        )
    if style == "classic":
        parts.append(fenders(body, paint.lower, reach=FENDER_REACH))
    return parts


def _markings(style: str, body: Body, paint: Paint, random: Generator) -> list[Mesh]:
    """Return random stripes, a fuel cap, and always one large marking on one side only."""
    # The marking on one side.
    plan = body.plan
    start, stop = plan.axles[0] + 0.55, plan.axles[1] - 0.55
    low, belt = plan.clearance + 0.16, body.top(start) - 0.12
    kind, right, stripes = _pick(random, ("door", "disc", "stripe")), random.random() < 0.5, random.random()
    middle = (start + stop) / 2
    if kind == "door":
        marking = side_patch(
            body, ((start + 0.1, low), (middle, low), (middle, belt), (start + 0.1, belt)), paint.accent
        )
    elif kind == "disc":
        radius = 0.5 * (belt - low)
        disc = side_disc(body, (middle - 0.25, (low + belt) / 2), radius, paint.accent)
        digit = side_disc(body, (middle - 0.25, (low + belt) / 2), radius * 0.4, BLACK, lift=0.02)
        marking = join_meshes([disc, digit])
    else:
        z = low + 0.5 * (belt - low)
        marking = side_patch(body, ((start, z), (stop, z), (stop, z + 0.18), (start, z + 0.18)), paint.accent)
    parts = [marking if right else mirrored(marking)]

    # Fuel cap and stripes.
    parts.append(side_disc(body, (plan.axles[1] + 0.1, belt - 0.02), 0.075, BLACK))
    if stripes < 0.15:
        x = (0.12 * plan.length, 0.24 * plan.length)
        offset = 0.0 if stripes < 0.08 else 0.18 * plan.width
        for y in (offset - 0.16, offset + 0.16):
            parts.append(
                deck_patch(
                    body,
                    ((x[0], y - 0.09), (x[1], y - 0.09), (x[1], y + 0.09), (x[0], y + 0.09)),
                    paint.accent,
                )
            )
    return parts
