"""The lower body of procedural cars, lofted along its length from a side profile.

Lengths are metres. x runs from the nose (0) to the tail, y is 0 in the middle, z is 0 on the road.
"""

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from data.meshes.mesh import Mesh, join_meshes
from data.meshes.primitives import Colour, box, fan_mesh, grid_mesh
from data.shapes.styles import CarPlan, Paint

ARCH_RATIO = 1.14  # wheel arch radius over wheel radius
UNDERSIDE: Colour = (34, 34, 36)

Metres = ndarray | float  # any shape; arguments are broadcast


class Body:
    """The surface of the lower body as functions of position."""

    def __init__(self, plan: CarPlan):
        self.plan = plan
        share, height = np.array(plan.profile).T
        self._positions = np.linspace(0, plan.length, 401)
        polyline = np.interp(self._positions, share * plan.length, height)
        self._heights = _smooth(polyline, max(1, round(400 * plan.smoothing)))

    def half_width(self, x: Metres) -> Metres:
        """Greatest |y| at x: the outline seen from above, with rounded corners."""
        plan = self.plan
        front, rear = np.clip(x / 0.65, 0, 1), np.clip((plan.length - x) / 0.55, 0, 1)
        nose = plan.ends[0] + (1 - plan.ends[0]) * np.sqrt(1 - (1 - front) ** 2)
        tail = plan.ends[1] + (1 - plan.ends[1]) * np.sqrt(1 - (1 - rear) ** 2)
        return plan.width / 2 * nose * tail

    def top(self, x: Metres) -> Metres:
        """Height on the centre line."""
        return np.interp(x, self._positions, self._heights)

    def bottom(self, x: Metres) -> Metres:
        """Height of the lower edge of the sides: the sills, cut by the wheel arches, rising at both ends."""
        plan = self.plan
        to_end = np.clip(np.minimum(x, plan.length - x) / 0.5, 0, 1)
        edge = plan.clearance + 0.07 * (1 - to_end) ** 2
        radius = plan.wheel_radius * ARCH_RATIO
        for axle in plan.axles:
            arch = plan.wheel_radius + np.sqrt(np.maximum(radius**2 - (x - axle) ** 2, 0))
            edge = np.where(np.abs(x - axle) <= radius, np.maximum(edge, arch), edge)
        return edge

    def side(self, x: Metres, z: Metres) -> Metres:
        """|y| of the surface at length x and height z."""
        waist, top = self.waist(x), self.top(x)
        above = np.clip((z - waist) / (top - waist), 0, 1)
        below = np.clip((waist - z) / (waist - self.plan.clearance), 0, 1)
        power = self.plan.squareness
        return self.half_width(x) * (1 - above**power) ** (1 / power) * (1 - 0.05 * below**2)

    def deck(self, x: Metres, y: Metres) -> Metres:
        """Height of the surface at length x and offset y from the centre line."""
        waist, power = self.waist(x), self.plan.squareness
        across = np.clip(np.abs(y) / self.half_width(x), 0, 1)
        return waist + (self.top(x) - waist) * (1 - across**power) ** (1 / power)

    def outline(self, reach: Metres, z: Metres, *, lift: float = 0.0, rear: bool = False) -> ndarray:
        """Points [..., 3] at height z, `reach` metres along the outline from the middle of nose or tail.

        Negative `reach` goes to the left side. The points lie `lift` metres outside the surface.
        """
        steps = 1.2 * np.linspace(0, 1, 97) ** 2  # metres from the end; denser at the sharp corner
        x, z = self.plan.length - steps if rear else steps, np.asarray(z, float)[..., None]
        inside = z < self.top(x)
        path_y = np.where(inside, self.side(x, z), 0)
        path_x = np.maximum(steps, steps[inside.argmax(-1)][..., None])
        path_x = np.concatenate([path_x[..., :1], path_x], axis=-1)
        path_y = np.concatenate([np.zeros_like(z), path_y], axis=-1)  # starts on the centre line

        leap_x, leap_y = np.diff(path_x), np.diff(path_y)
        leap = np.hypot(leap_x, leap_y)
        walked = np.cumsum(leap, axis=-1)
        last = np.minimum((walked < np.abs(reach)[..., None]).sum(-1, keepdims=True), leap.shape[-1] - 1)
        path_x, path_y, leap_x, leap_y, leap, walked = (
            np.take_along_axis(values, last, axis=-1)[..., 0]
            for values in (path_x, path_y, leap_x, leap_y, np.maximum(leap, 1e-9), walked)
        )
        share = 1 - (walked - np.abs(reach)) / leap
        from_end = path_x + share * leap_x - lift * leap_y / leap
        y = np.copysign(path_y + share * leap_y + lift * leap_x / leap, reach)
        return np.stack([self.plan.length - from_end if rear else from_end, y, z[..., 0]], axis=-1)

    def waist(self, x: Metres) -> Metres:
        """Height at which the sides are widest."""
        return self.plan.clearance + 0.55 * (self.top(x) - self.plan.clearance)


def body_mesh(body: Body, paint: Paint) -> Mesh:
    """The closed lower body with wheel arches, and dark blocks between the wheels."""
    plan = body.plan
    x = _stations(plan)
    half = _half_sections(body, x)
    ring = np.concatenate([half, half[:, -2::-1] * [1, -1, 1]], axis=1)

    colours = np.empty((len(x) - 1, half.shape[1] - 1, 3), np.uint8)
    colours[:] = paint.body
    colours[:, 0], colours[:, 1], colours[:, 2] = UNDERSIDE, paint.trim, paint.lower
    if plan.well is not None:
        middle = (x[:-1] + x[1:]) / 2 / plan.length
        colours[(middle > plan.well.front) & (middle < plan.well.rear), -3:] = UNDERSIDE
    surface = grid_mesh(ring, np.concatenate([colours, colours[:, ::-1]], axis=1))

    ends = [fan_mesh(ring[0], paint.body), fan_mesh(ring[-1], paint.body)]
    radius, floor = plan.wheel_radius, plan.clearance
    size = (plan.length - 0.9, plan.width * 0.6, radius * 1.2)
    blocks = [box((plan.length / 2, 0, floor + size[2] / 2), size, UNDERSIDE)]
    for axle in plan.axles:  # up to the arches, so that one cannot see through the car
        height = 2.05 * radius - floor
        blocks.append(box((axle, 0, floor + height / 2), (1.3 * radius, size[1], height), UNDERSIDE))
    return join_meshes([surface, *ends, *blocks])


def _smooth(heights: Float[ndarray, "k"], reach: int) -> Float[ndarray, "k"]:
    """Smooth a polyline to a quadratic spline by two box filters."""
    kernel = np.ones(reach) / reach
    for _ in range(2):
        padded = np.pad(heights, (reach // 2, reach - 1 - reach // 2), mode="reflect", reflect_type="odd")
        heights = np.convolve(padded, kernel, mode="valid")
    return heights


def _stations(plan: CarPlan) -> Float[ndarray, "k"]:
    """Positions of the cross sections: dense at the round ends, along the arches and at steps."""
    bend = 1 - np.cos(np.linspace(0, np.pi / 2, 9))
    radius = plan.wheel_radius * ARCH_RATIO
    arch = np.concatenate([radius * np.cos(np.linspace(0, np.pi, 13)), [-radius - 1e-4, radius + 1e-4]])
    parts = [np.linspace(0, plan.length, 25), bend * 0.65, plan.length - bend * 0.55]
    parts += [axle + arch for axle in plan.axles]
    if plan.well is not None:
        edges = np.array([plan.well.front, plan.well.rear]) * plan.length
        parts.append(np.concatenate([edges - 0.02, edges + 0.02]))
    return np.unique(np.clip(np.concatenate(parts), 0, plan.length))


def _half_sections(body: Body, x: Float[ndarray, "k"]) -> Float[ndarray, "k m 3"]:
    """Right half (y >= 0) of each cross section, from the middle of the floor to the middle of the top."""
    plan, edge = body.plan, body.bottom(x)
    waist = body.waist(x)
    levels = [plan.clearance + share * (waist - plan.clearance) for share in (0, 0.16, 0.5, 1)]
    columns = [(np.zeros_like(x), edge)]
    for z in levels:
        z = np.maximum(z, edge)
        columns.append((body.side(x, z), z))
    for share in (0.995, 0.975, 0.94, 0.88):
        y = share * body.half_width(x)
        z = np.maximum(body.deck(x, y), edge)
        columns.append((np.where(z > edge, y, body.side(x, z)), z))
    inside = np.zeros_like(x)
    if plan.well is not None:
        inside[(x > plan.well.front * plan.length) & (x < plan.well.rear * plan.length)] = plan.well.depth
    for share, sunk in ((0.82, 0), (0.80, 1), (0.4, 1), (0, 1)):
        y = share * body.half_width(x)
        columns.append((y, np.maximum(body.deck(x, y) - sunk * inside, edge + 0.01)))
    y, z = np.array(columns).transpose(1, 2, 0)
    return np.stack([np.broadcast_to(x[:, None], y.shape), y, z], axis=-1)
