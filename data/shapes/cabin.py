"""The cabin of procedural cars: windscreen, side windows, pillars and roof, lofted upwards from the body.

Lengths are metres, axes as in data/shapes/body.py.
"""

from itertools import pairwise

import numpy as np
from numpy import ndarray

from data.meshes.mesh import Mesh, join_meshes
from data.meshes.primitives import grid_mesh
from data.shapes.body import Body, Metres
from data.shapes.styles import Cabin, Paint

CABIN_LEVELS = np.array(
    [0, 0.06, 0.12, 0.3, 0.5, 0.7, 0.87, 0.94, 1]
)  # from the belt line to the roof's edge
GLASS_LEVELS = (0.12, 0.87)


def cabin_mesh(body: Body, cabin: Cabin, paint: Paint) -> Mesh:
    """Windows, pillars and roof."""
    walls, glazed = _cabin_walls(body, cabin)
    middle = (CABIN_LEVELS[:-1] + CABIN_LEVELS[1:]) / 2
    window_rows = (middle > GLASS_LEVELS[0]) & (middle < GLASS_LEVELS[1])
    colours = np.empty((len(middle), len(glazed), 3), np.uint8)
    colours[:] = paint.body
    colours[middle > GLASS_LEVELS[1]] = paint.roof
    # Glass reflects the sky: it is lighter towards the roof.
    sky = np.linspace(0.8, 1.25, len(middle))[:, None, None] * np.array(paint.glass)
    colours = np.where((window_rows[:, None] & glazed)[..., None], sky.astype(np.uint8), colours)

    rim = walls[-1]
    centre = np.array([(rim[:, 0].min() + rim[:, 0].max()) / 2, 0])
    rings = [centre + (rim[:, :2] - centre) * share for share in (1, 0.94, 0.75, 0.5, 0.25, 0)]
    roof = np.stack([np.column_stack([ring, roof_height(body, cabin, *ring.T)]) for ring in rings])
    return join_meshes([grid_mesh(walls, colours), grid_mesh(roof, paint.roof)])


def roof_height(body: Body, cabin: Cabin, x: Metres, y: Metres) -> Metres:
    """Height of the roof: cambered along the car, rounded towards its sides. Metres."""
    front, rear = cabin.roof_front * body.plan.length, cabin.roof_rear * body.plan.length
    peak = front + 0.4 * (rear - front)
    before, behind = (np.clip((peak - x) / (peak - front), 0, 1), np.clip((x - peak) / (rear - peak), 0, 1))
    camber = cabin.roof_camber[0] * before**2 + cabin.roof_camber[1] * behind**2
    across = np.clip(np.abs(y) / _roof_half_width(body, cabin, x), 0, 1)
    return body.plan.height - camber - 0.07 * across**4


def _cabin_walls(body: Body, cabin: Cabin):
    """Grid of points around the cabin (level, column, xyz), and which of its columns are windows."""
    level = CABIN_LEVELS[:, None]
    length = body.plan.length
    front = length * (cabin.base_front + (cabin.roof_front - cabin.base_front) * level**1.15)
    rear = length * (cabin.base_rear + (cabin.roof_rear - cabin.base_rear) * level**1.15)

    # Sides: pillars and windows from front to rear.
    first, last = front + 0.08, rear - cabin.rear_pillar
    pillars = [
        np.clip(pillar * length + half, first, last) for pillar in cabin.pillars for half in (-0.04, 0.04)
    ]
    edges = [front, first, *pillars, last, rear]
    side_x, side_glass = [edges[0]], []
    for i, (start, stop) in enumerate(pairwise(edges)):
        window = i % 2 == 1
        for share in (1 / 3, 2 / 3, 1) if window else (1,):
            side_x.append(start + (stop - start) * share)
            side_glass.append(window and i // 2 < cabin.num_windows)
    side_x = np.concatenate(side_x, axis=1)
    side_y = _cabin_half_width(body, cabin, side_x, level)

    # Windscreen and rear window.
    across = np.array([1, 0.9, 0.6, 0.3, 0, -0.3, -0.6, -0.9, -1])
    ends_glass = [abs(left + right) / 2 < 0.85 for left, right in pairwise(across)]
    bulge = (1 - across**2) * (1 - 0.5 * level)
    front_x, front_y = front - cabin.bow * bulge, side_y[:, :1] * across
    rear_x, rear_y = rear + 0.4 * cabin.bow * bulge, side_y[:, -1:] * across

    # All around: windscreen from left to right, right side, rear window from right to left, left side.
    x = np.concatenate([front_x[:, ::-1], side_x[:, 1:], rear_x[:, 1:], side_x[:, -2::-1]], axis=1)
    y = np.concatenate([front_y[:, ::-1], side_y[:, 1:], rear_y[:, 1:], -side_y[:, -2::-1]], axis=1)
    glazed = [*ends_glass, *side_glass, *(g and cabin.rear_window for g in ends_glass), *side_glass[::-1]]
    base = body.deck(np.clip(x[:1], 0, length), y[:1]) - 0.04
    z = base + (roof_height(body, cabin, x[-1:], y[-1:]) - base) * level
    return np.stack([x, y, z], axis=-1), np.array(glazed)


def _cabin_half_width(body: Body, cabin: Cabin, x: Metres, level: ndarray) -> ndarray:
    base = 0.93 * body.half_width(np.clip(x, 0, body.plan.length))
    return base + (_roof_half_width(body, cabin, x) - base) * level + 0.03 * 4 * level * (1 - level)


def _roof_half_width(body: Body, cabin: Cabin, x: Metres) -> Metres:
    middle = (cabin.roof_front + cabin.roof_rear) / 2 * body.plan.length
    return cabin.roof_width * body.plan.width / 2 * (1 - 0.05 * ((x - middle) / body.plan.length * 2) ** 2)
