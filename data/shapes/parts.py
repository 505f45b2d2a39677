"""Parts of procedural cars: wheels, arches, doors, mirrors, racks and seats.

Lengths are metres, axes as in data/shapes/body.py. Thin parts are draped over the body,
`LIFT` above its surface.
"""

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from data.meshes.mesh import Mesh, join_meshes
from data.meshes.primitives import Colour, both_sides, box, ellipsoid, grid_mesh, lathe
from data.shapes.body import ARCH_RATIO, Body
from data.shapes.cabin import roof_height
from data.shapes.styles import Cabin, Paint

LIFT = 0.012
TYRE: Colour = (30, 30, 32)
LAMP: Colour = (240, 240, 226)
INDICATOR: Colour = (240, 150, 40)
TAIL_LAMP: Colour = (196, 20, 28)
BLACK: Colour = (26, 26, 28)

Corners = tuple[tuple[float, float], ...]  # four corners of a patch, in order around it


def wheels(body: Body, rim: Colour, *, num_spokes: int, reach: float = 0.0) -> Mesh:
    """Four tyres with light, spoked rims, `reach` metres further out than the body's sides."""
    plan = body.plan
    meshes = []
    for axle in plan.axles:
        outer = body.half_width(axle) - 0.015 + reach
        meshes.append(wheel((axle, outer, plan.wheel_radius), plan.wheel_radius, rim, num_spokes=num_spokes))
    return both_sides(join_meshes(meshes))


def wheel(centre, radius: float, rim: Colour, *, num_spokes: int, axis: str = "y") -> Mesh:
    """One wheel; `centre` is the middle of its outer face, which points along the positive axis."""
    profile = [(-0.22, 0.6), (-0.22, 0.92), (-0.19, 1.0), (-0.03, 1.0), (0, 0.94), (0, 0.70)]
    profile += [(-0.012, 0.68), (-0.03, 0.60), (-0.035, 0.24), (-0.01, 0.20), (-0.005, 0.0)]
    segments = 24 if num_spokes in (0, 6) else 2 * num_spokes
    colours = np.empty((len(profile) - 1, segments, 3), np.uint8)
    colours[:5], colours[5:] = TYRE, rim
    if num_spokes:
        gaps = np.arange(segments) * 2 * num_spokes // segments % 2 == 1
        colours[7, gaps] = (np.array(rim) * 0.3).astype(np.uint8)
    return lathe(
        [(along, share * radius) for along, share in profile], centre, colours, axis=axis, segments=segments
    )


def end_patch(
    body: Body, corners: Corners, colour: Colour, *, rear: bool = False, lift: float = LIFT
) -> Mesh:
    """Patch draped over the nose or the tail; corners are (metres along the outline from its middle, z)."""
    reach, z = _bilinear(corners, 15, 5)
    return grid_mesh(body.outline(reach, z, lift=lift, rear=rear), colour)


def side_patch(body: Body, corners: Corners, colour: Colour, *, lift: float = LIFT) -> Mesh:
    """Patch draped over the side where y is positive; corners are (x, z). It never covers a wheel arch."""
    return _on_side(body, *_bilinear(corners, 13, 9), colour, lift)


def side_disc(
    body: Body, centre: tuple[float, float], radius: float, colour: Colour, *, lift: float = LIFT
) -> Mesh:
    """Disc draped over the side where y is positive; the centre is (x, z)."""
    share, angle = np.linspace(0, 1, 4)[:, None], np.linspace(0, 2 * np.pi, 17)[None]
    x, z = centre[0] + radius * share * np.cos(angle), centre[1] + radius * share * np.sin(angle)
    return _on_side(body, x, z, colour, lift)


def deck_patch(body: Body, corners: Corners, colour: Colour) -> Mesh:
    """Patch draped over the bonnet or the boot; corners are (x, y)."""
    x, y = _bilinear(corners, 13, 4)
    return grid_mesh(np.stack([x, y, body.deck(x, y) + LIFT], axis=-1), colour)


def arch_trim(body: Body, colour: Colour, *, width: float) -> Mesh:
    """Bands around the wheel arches, both sides."""
    plan, radius = body.plan, body.plan.wheel_radius
    share, angle = np.linspace(0, 1, 3)[:, None], np.linspace(0, np.pi, 15)[None]
    reach = radius * ARCH_RATIO + width * share
    bands = []
    for axle in plan.axles:
        x, z = axle + reach * np.cos(angle), radius + reach * np.sin(angle)
        bands.append(_on_side(body, x, z, colour, LIFT * 1.5))
    return both_sides(join_meshes(bands))


def fenders(body: Body, colour: Colour, *, reach: float) -> Mesh:
    """Round wings over the wheels that stand out `reach` metres from the sides, both sides."""
    plan, radius = body.plan, body.plan.wheel_radius
    section = [
        (1.12, -0.3),
        (1.12, reach),
        (1.24, reach + 0.03),
        (1.38, reach),
        (1.50, reach - 0.08),
        (1.54, -0.3),
    ]
    share, offset = np.array(section).T[..., None]
    angle = np.linspace(-0.05, 1.05, 21)[None] * np.pi
    colours = np.empty((len(section) - 1, 20, 3), np.uint8)
    colours[:], colours[0] = colour, BLACK
    parts = []
    for axle in plan.axles:
        x = axle - radius * (share + 0.5 * (share - 1.12)) * np.cos(angle)
        z = radius + radius * share * np.sin(angle)
        y = body.half_width(axle) + offset + 0 * angle
        parts.append(grid_mesh(np.stack([x, y, z], axis=-1), colours))
    return both_sides(join_meshes(parts))


def seams(body: Body, doors: tuple[float, ...], trim: Colour) -> Mesh:
    """Dark lines of the doors at the given shares of the length, with handles, both sides."""
    plan = body.plan
    colour = tuple(channel // 3 for channel in trim)
    parts = []
    for i, door in enumerate(doors):
        x = door * plan.length
        belt = body.top(x) - 0.06
        low = max(plan.clearance + 0.08, body.bottom(x) + 0.02)
        parts.append(
            side_patch(
                body, ((x - 0.008, low), (x + 0.008, low), (x + 0.008, belt), (x - 0.008, belt)), colour
            )
        )
        if i:
            parts.append(
                box(
                    (x - 0.16, body.side(x, belt - 0.1), belt - 0.1),
                    (0.17, 0.05, 0.03),
                    trim,
                )
            )
    return both_sides(join_meshes(parts))


def mirrors(body: Body, x: float, colour: Colour) -> Mesh:
    """Wing mirrors at length x, both sides."""
    y, z = body.half_width(x), body.top(x) + 0.06
    arm = box((x, y - 0.04, z - 0.05), (0.05, 0.22, 0.03), BLACK)
    return both_sides(
        join_meshes([arm, ellipsoid((x, y + 0.08, z), (0.07, 0.11, 0.075), colour, segments=8)])
    )


def roof_rack(body: Body, cabin: Cabin, colour: Colour, *, bars: int) -> Mesh:
    """Two rails along the roof and `bars` bars across it."""
    plan = body.plan
    start, stop = (cabin.roof_front + 0.03) * plan.length, (cabin.roof_rear - 0.03) * plan.length
    y, middle = 0.40 * plan.width * cabin.roof_width, (start + stop) / 2
    z = roof_height(body, cabin, middle, y)
    rails = [box((middle, y, z + 0.06), (stop - start, 0.05, 0.04), colour)]
    rails += [box((x, y, z), (0.10, 0.05, 0.14), colour) for x in (start + 0.05, middle, stop - 0.05)]
    across = np.linspace(start, stop, bars + 2)[1:-1]
    ladder = [box((x, 0, z + 0.09), (0.06, 2 * y, 0.04), colour) for x in across]
    return join_meshes([both_sides(join_meshes(rails)), *ladder])


def spoiler(body: Body, paint: Paint, *, height: float) -> Mesh:
    """Wing across the boot on two struts."""
    plan = body.plan
    x = plan.length - 0.22
    z = body.top(x)
    wing = box((x, 0, z + height), (0.3, plan.width * 0.84, 0.04), paint.accent)
    strut = box((x, plan.width * 0.26, z + height / 2), (0.14, 0.05, height), paint.trim)
    return join_meshes([wing, both_sides(strut)])


def seats(body: Body, paint: Paint) -> Mesh:
    """Two rows of seats in the well of a convertible, its windscreen, and the folded hood behind them."""
    plan, well = body.plan, body.plan.well
    floor = body.top(well.front * plan.length) - well.depth
    parts = []
    for share in (0.52, 0.88):
        x = (well.front + (well.rear - well.front) * share) * plan.length
        parts.append(box((x - 0.2, plan.width * 0.2, floor + 0.12), (0.5, 0.5, 0.24), paint.seats))
        parts.append(box((x, plan.width * 0.2, floor + 0.32), (0.16, 0.5, 0.6), paint.seats, taper=0.85))
        parts.append(box((x + 0.01, plan.width * 0.2, floor + 0.68), (0.1, 0.24, 0.14), paint.seats))
    hood_x = (well.rear + 0.02) * plan.length
    hood = ellipsoid((hood_x, 0, floor + well.depth), (0.22, plan.width * 0.42, 0.13), paint.trim)
    return join_meshes([both_sides(join_meshes(parts)), hood, _open_windscreen(body, paint)])


def _open_windscreen(body: Body, paint: Paint) -> Mesh:
    plan = body.plan
    foot = plan.well.front * plan.length - 0.22
    across = np.array([-1, -0.94, -0.5, 0, 0.5, 0.94, 1])
    level = np.array([0, 0.08, 0.92, 1])[:, None]
    y = across * plan.width * (0.43 - 0.06 * level)
    base = body.deck(foot, y[:1]) - 0.03
    x = foot + 0.5 * level - 0.1 * (1 - across**2)
    z = base + (plan.height - base) * level
    colours = np.empty((3, 6, 3), np.uint8)
    colours[:] = paint.body
    colours[1, 1:-1] = paint.glass
    screen = np.stack(np.broadcast_arrays(x, y, z), axis=-1)
    back = grid_mesh(screen[:, ::-1] + [0.03, 0, 0], colours)
    return join_meshes([grid_mesh(screen, colours), back])


def _on_side(body: Body, x: ndarray, z: ndarray, colour: Colour, lift: float) -> Mesh:
    z = np.maximum(z, body.bottom(x) + 0.004)
    return grid_mesh(np.stack([x, body.side(x, z) + lift, z], axis=-1), colour)


def _bilinear(corners: Corners, columns: int, rows: int) -> tuple[Float[ndarray, "rows columns"], ...]:
    """The two coordinates of a grid of points between four corners."""
    a, b, c, d = (np.array(corner, float)[:, None, None] for corner in corners)
    along, up = np.linspace(0, 1, columns)[None], np.linspace(0, 1, rows)[:, None]
    first, second = (a + (b - a) * along) * (1 - up) + (d + (c - d) * along) * up
    return first, second
