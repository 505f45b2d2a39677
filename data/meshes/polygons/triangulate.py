"""Triangulate polygons, also non-convex ones.

Axes: n vertex, c corner of any polygon, p polygon, t triangle. A polygon is triangulated in the plane
perpendicular to Newell's normal, the sum of the cross products of consecutive corners (Sutherland et al., "A
characterization of ten hidden-surface algorithms", 1974): as a fan if that covers exactly the polygon, else
by ear clipping (mapbox_earcut).
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float, Int
from numpy import ndarray

CROSSED = 1e-6  # relative area difference between a polygon and its triangles


def cut_polygons(
    vertices: Float[ndarray, "n 3"],
    corners: Int[ndarray, " c"],
    sizes: Int[ndarray, " p"],
    notes: list[str],
) -> tuple[Int[ndarray, "t 3"], Int[ndarray, " t"]]:
    """Return triangles as corner (not vertex) indices, and the polygon of each, in order.

    `corners` are the concatenated vertex indices of all polygons, `sizes` the number in each. Fewer than
    three make no triangle. `notes` collects the number of self-intersecting polygons. Raises ValueError for a
    corner without a vertex.
    """
    corners, sizes = np.asarray(corners, np.int64), np.asarray(sizes, np.int64)
    if len(corners) and (corners.min() < 0 or corners.max() >= len(vertices)):
        raise ValueError("a polygon has a corner that does not exist")
    starts = np.cumsum(sizes) - sizes
    triangles = [np.zeros((0, 3), np.int64)]
    polygon_of = [np.zeros(0, np.int64)]
    num_crossed = 0
    for size in np.unique(sizes[sizes >= 3]).tolist():
        chosen = np.flatnonzero(sizes == size)
        places = starts[chosen, None] + np.arange(size)
        points = vertices[corners[places]]
        fan = np.stack([np.zeros(size - 2, int), np.arange(1, size - 1), np.arange(2, size)], axis=1)
        good = np.ones(len(chosen), bool) if size == 3 else _fans_fit(points)
        triangles.append(places[good][:, fan].reshape(-1, 3))
        polygon_of.append(np.repeat(chosen[good], size - 2))
        for row in np.flatnonzero(~good):
            cut, crossed = _cut_by_ears(points[row])
            num_crossed += crossed
            triangles.append(places[row][cut])
            polygon_of.append(np.full(len(cut), chosen[row]))
    if num_crossed:
        notes.append(f"self-intersecting polygons: {num_crossed}; they may not look as intended")
    order = np.argsort(np.concatenate(polygon_of), kind="stable")
    return np.concatenate(triangles)[order], np.concatenate(polygon_of)[order]


def cut_rings(
    vertices: Float[ndarray, "n 3"], rings: Sequence[ndarray], notes: list[str]
) -> Int[ndarray, "t 3"]:
    """Return the triangles of one polygon with holes, as corner indices.

    `rings` are the vertices of its outline and of each hole; corners are numbered consecutively. Raises
    ValueError for a corner without a vertex.
    """
    corners = np.concatenate(rings).astype(np.int64)
    if len(corners) and (corners.min() < 0 or corners.max() >= len(vertices)):
        raise ValueError("a polygon has a corner that does not exist")
    if len(rings[0]) < 3 or not np.isfinite(vertices[corners]).all():
        return np.zeros((0, 3), np.int64)
    triangles, crossed = _cut_by_ears(vertices[corners], np.cumsum([len(ring) for ring in rings]))
    if crossed:
        notes.append("the holes of a polygon cross its outline; it may not look as intended")
    return triangles


def cut_strips(strips: Sequence[ndarray]) -> Int[ndarray, "t 3"]:
    """Return the triangles of vertex strips, flipping every other one so that all face the same way."""
    triangles = [np.zeros((0, 3), np.int64)]
    for strip in strips:
        faces = np.stack([strip[:-2], strip[1:-1], strip[2:]], axis=1)
        faces[1::2] = faces[1::2, [1, 0, 2]]
        triangles.append(faces)
    return np.concatenate(triangles)


def _normals(points: Float[ndarray, "p k 3"]) -> Float[ndarray, "p 3"]:
    """Return Newell's normals, with length twice the area."""
    offsets = points - points[:, :1]
    return np.cross(offsets, np.roll(offsets, -1, axis=1)).sum(1)


def _fans_fit(points: Float[ndarray, "p k 3"]) -> Bool[ndarray, " p"]:
    """Whether a fan from the first corner covers a polygon: none of its triangles is flipped."""
    offsets = points[:, 1:] - points[:, :1]
    turned = np.cross(offsets[:, :-1], offsets[:, 1:])
    normals = _normals(points)
    areas = (turned * normals[:, None]).sum(-1)
    scale = (normals**2).sum(-1)
    # Tolerate rounding errors of collinear corners.
    fit = (areas >= -1e-9 * scale[:, None]).all(1)
    # For zero area or corners that are not finite, either way is fine.
    flat = ~(np.abs(turned).max((1, 2)) > 0) | ~np.isfinite(points).all((1, 2))
    return (fit & (scale > 0)) | flat


def _cut_by_ears(
    points: Float[ndarray, "k 3"], ends: Int[ndarray, " r"] | None = None
) -> tuple[Int[ndarray, "t 3"], bool]:
    """Triangulate one polygon with its orientation; also return whether it intersects itself.

    `ends` are the cumulative numbers of corners of the outline and each hole; None without holes.
    """
    import mapbox_earcut

    ends = np.array([len(points)]) if ends is None else ends
    flat = _in_plane(points, outline=int(ends[0]))
    triangles = (
        mapbox_earcut.triangulate_float64(flat, ends.astype(np.uint32)).reshape(-1, 3).astype(np.int64)
    )
    areas = _areas(flat[triangles])
    outline, *holes = [_areas(ring[None])[0] for ring in np.split(flat, ends[:-1])]
    turned = areas * (1 if outline >= 0 else -1) < 0
    triangles[turned] = triangles[turned][:, ::-1]
    covered, enclosed = np.abs(areas).sum(), abs(outline) - np.abs(holes).sum()
    return triangles, bool(abs(covered - enclosed) > CROSSED * max(covered, abs(outline)))


def _in_plane(points: Float[ndarray, "k 3"], outline: int) -> Float[ndarray, "k 2"]:
    """Project to the plane of a polygon, scaled to about 1; to the best-fit plane if it has no normal.

    `outline` is the number of corners of its outline.
    """
    offsets = points - points.mean(0)
    offsets /= max(np.abs(offsets).max(), 1e-300)
    normal = _normals(offsets[None, :outline])[0]
    if np.linalg.norm(normal) < 1e-9:  # as for a figure eight
        normal = np.linalg.svd(offsets)[2][2]
    axis = np.eye(3)[np.abs(normal).argmin()]
    first = np.cross(normal, axis)
    first /= np.linalg.norm(first)
    second = np.cross(normal, first)
    return np.ascontiguousarray(offsets @ np.stack([first, second / np.linalg.norm(second)], axis=1))


def _areas(points: Float[ndarray, "p k 2"]) -> Float[ndarray, " p"]:
    """Return signed areas, by the shoelace formula."""
    x, y = points[..., 0], points[..., 1]
    return (x * np.roll(y, -1, axis=1) - np.roll(x, -1, axis=1) * y).sum(1) / 2
