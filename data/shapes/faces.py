"""Front and rear faces of procedural cars: lamps, grille, bumpers and number plates.

Lengths are metres, axes as in data/shapes/body.py.
"""

from typing import Literal

import numpy as np
from numpy import ndarray

from data.meshes.mesh import Mesh, join_meshes
from data.meshes.primitives import Colour, both_sides, box, ellipsoid
from data.shapes.body import Body
from data.shapes.parts import BLACK, INDICATOR, LAMP, TAIL_LAMP, Corners, end_patch
from data.shapes.styles import Paint

FRONT_PLATE: Colour = (236, 236, 232)
REAR_PLATE: Colour = (240, 206, 70)
CHROME: Colour = (196, 198, 202)
LAMP_RING: Colour = (110, 112, 116)

Lamps = Literal["slim", "round", "wing"]  # "wing" lamps are round and sit on the fenders
Grille = Literal["wide", "tall", "none"]


def front_face(body: Body, paint: Paint, *, lamps: Lamps, grille: Grille, dark_bumper: bool) -> Mesh:
    """Head lamps with indicators, grille, bumper lip and a white number plate."""
    half, top = body.plan.width / 2, body.top(0.12) - 0.06
    low = body.plan.clearance
    lamp_height = 0.28 * (top - low)
    indicator = _rectangle(0.70 * half, 0.92 * half, low + 0.12, low + 0.18)
    parts = [both_sides(end_patch(body, indicator, INDICATOR, lift=0.02))]
    if lamps == "slim":
        outer = body.plan.ends[0] * half + 0.26
        parts.append(_lamp(body, 0.45 * half, outer, top - lamp_height, top, LAMP, rear=False))
    elif lamps == "round":
        parts.append(_round_lamp(body.outline(0.66 * half, top - 0.10)))
    else:
        radius, front_axle = body.plan.wheel_radius, body.plan.axles[0]
        parts.append(_round_lamp(np.array([front_axle - 1.4 * radius, half - 0.02, 1.95 * radius])))

    if grille != "none":
        bottom = low + 0.20 if grille == "tall" else top - 0.9 * lamp_height
        outer, inner = 0.40 * half, 0.37 * half
        parts.append(end_patch(body, _rectangle(-outer, outer, bottom - 0.03, top), CHROME, lift=0.014))
        parts.append(end_patch(body, _rectangle(-inner, inner, bottom, top - 0.03), BLACK, lift=0.020))
    parts.append(
        _bumper(body, BLACK if dark_bumper else paint.trim, 0.24 if dark_bumper else 0.11, rear=False)
    )
    parts.append(_plate(body, FRONT_PLATE, low + (0.17 if grille == "none" else 0.22), rear=False))
    return join_meshes(parts)


def rear_face(body: Body, paint: Paint, *, tall_lamps: bool, wide_lamps: bool, dark_bumper: bool) -> Mesh:
    """Tail lamps with reversing lights, bumper, exhaust and a yellow number plate."""
    plan = body.plan
    half, top = plan.width / 2, body.top(plan.length - 0.12) - 0.07
    low = plan.clearance
    height = (0.58 if tall_lamps else 0.28) * (top - low)
    cap = plan.ends[1] * half
    inner = cap - 0.10 if tall_lamps else (0.25 if wide_lamps else 0.50) * half
    lamps = _lamp(body, inner, cap + 0.16, top - height, top, TAIL_LAMP, rear=True)
    middle = top - 0.72 * height
    lights = end_patch(
        body, _rectangle(inner + 0.02, cap, middle - 0.03, middle + 0.03), LAMP, rear=True, lift=0.026
    )
    bumper = _bumper(body, BLACK if dark_bumper else paint.trim, 0.24 if dark_bumper else 0.13, rear=True)
    plate = _plate(body, REAR_PLATE, top - 0.5 * (top - low), rear=True)
    exhaust = box((plan.length - 0.04, 0.55 * half, low + 0.05), (0.14, 0.1, 0.06), CHROME)
    return join_meshes([lamps, both_sides(lights), bumper, plate, exhaust])


def _rectangle(left: float, right: float, bottom: float, top: float) -> Corners:
    return (left, bottom), (right, bottom), (right, top), (left, top)


def _lamp(
    body: Body, inner: float, outer: float, bottom: float, top: float, colour: Colour, *, rear: bool
) -> Mesh:
    """Lamps that wrap around the corners of the body, narrower towards the sides, in a dark surround."""
    rim = 0.018
    slant = 0.25 * (top - bottom)
    corners = (inner, bottom), (outer, bottom + slant), (outer, top), (inner, top - 0.3 * slant)
    signs = ((-1, -1), (1, -1), (1, 1), (-1, 1))
    pairs = zip(corners, signs, strict=True)
    surround = tuple((reach + rim * across, z + rim * up) for (reach, z), (across, up) in pairs)
    parts = [
        end_patch(body, surround, BLACK, rear=rear),
        end_patch(body, corners, colour, rear=rear, lift=0.02),
    ]
    return both_sides(join_meshes(parts))


def _round_lamp(centre: ndarray) -> Mesh:
    glass = ellipsoid(centre - [0.02, 0, 0], (0.08, 0.115, 0.115), LAMP)
    ring = ellipsoid(centre, (0.07, 0.145, 0.145), LAMP_RING)
    return both_sides(join_meshes([glass, ring]))


def _bumper(body: Body, colour: Colour, height: float, *, rear: bool) -> Mesh:
    reach, low = body.plan.width / 2 + 0.12, body.plan.clearance
    return end_patch(body, _rectangle(-reach, reach, low + 0.02, low + height), colour, rear=rear, lift=0.016)


def _plate(body: Body, colour: Colour, z: float, *, rear: bool) -> Mesh:
    frame = end_patch(body, _rectangle(-0.29, 0.29, z - 0.085, z + 0.085), BLACK, rear=rear, lift=0.024)
    plate = end_patch(body, _rectangle(-0.26, 0.26, z - 0.06, z + 0.06), colour, rear=rear, lift=0.030)
    return join_meshes([frame, plate])
