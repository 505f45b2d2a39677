"""Meshes of simple shapes: grids, boxes, ellipsoids and surfaces of revolution. Lengths are scene units.

A surface has one colour, or an array that broadcasts to (rows, columns, 3): one per cell.
"""

import numpy as np
from jaxtyping import Float, UInt8
from numpy import ndarray

from data.meshes.mesh import Mesh, join_meshes

Colour = tuple[int, int, int]  # bytes
CellColours = Colour | UInt8[ndarray, "*cells 3"]
Number = float | int
Triple = tuple[Number, Number, Number] | Float[ndarray, "3"]


def grid_mesh(points: Float[ndarray, "rows columns 3"], colour: CellColours) -> Mesh:
    """Return a surface through a grid of points: two triangles per cell."""
    rows, columns = points.shape[:2]
    index = np.arange(rows * columns).reshape(rows, columns)
    near, right, down, far = index[:-1, :-1], index[:-1, 1:], index[1:, :-1], index[1:, 1:]
    faces = np.stack([np.stack([near, right, far], -1), np.stack([near, far, down], -1)], axis=2)
    colours = np.broadcast_to(np.asarray(colour, np.uint8), (rows - 1, columns - 1, 3))
    return Mesh(points.reshape(-1, 3), faces.reshape(-1, 3), np.repeat(colours.reshape(-1, 3), 2, axis=0))


def mirrored(mesh: Mesh) -> Mesh:
    """Reflect a mesh in the plane y = 0."""
    return Mesh(mesh.vertices * [1.0, -1.0, 1.0], mesh.faces, mesh.face_colours)


def both_sides(mesh: Mesh) -> Mesh:
    """Return the mesh together with its reflection in the plane y = 0."""
    return join_meshes([mesh, mirrored(mesh)])


def fan_mesh(outline: Float[ndarray, "k 3"], colour: CellColours) -> Mesh:
    """Return a flat convex face, as triangles around its centre."""
    centre = np.broadcast_to(outline.mean(0), outline.shape)
    return grid_mesh(np.stack([centre, outline]), colour)


def box(centre: Triple, size: Triple, colour: CellColours, *, taper: float = 1.0) -> Mesh:
    """Return an axis-aligned box; its top is `taper` times as long and wide as its bottom."""
    signs = np.array([(-1, -1), (1, -1), (1, 1), (-1, 1), (-1, -1)]) / 2
    half_height = np.asarray(size)[2] / 2
    bottom = np.column_stack([signs * np.asarray(size)[:2], np.full(5, -half_height)])
    top = bottom * [taper, taper, -1]
    side = grid_mesh(np.stack([bottom, top]) + centre, colour)
    return join_meshes([side, fan_mesh(bottom + centre, colour), fan_mesh(top + centre, colour)])


def ellipsoid(centre: Triple, radii: Triple, colour: CellColours, *, segments: int = 12) -> Mesh:
    """Return an axis-aligned ellipsoid."""
    latitude = np.linspace(-np.pi / 2, np.pi / 2, segments // 2 + 1)[:, None]
    longitude = np.linspace(0, 2 * np.pi, segments + 1)[None]
    unit = [np.cos(latitude) * np.cos(longitude), np.cos(latitude) * np.sin(longitude)]
    points = np.stack([*unit, np.broadcast_to(np.sin(latitude), unit[0].shape)], axis=-1)
    return grid_mesh(points * radii + centre, colour)


def lathe(
    profile: list[tuple[Number, Number]],
    centre: Triple,
    colour: CellColours,
    *,
    axis: str = "y",
    segments: int = 24,
) -> Mesh:
    """Return a surface of revolution about "x", "y" or "z"; `profile` lists (position along it, radius)."""
    along, radius = np.asarray(profile, float).T[..., None]
    angle = np.linspace(0, 2 * np.pi, segments + 1)[None]
    points = np.stack([along + 0 * angle, radius * np.cos(angle), radius * np.sin(angle)], axis=-1)
    return grid_mesh(np.roll(points, "xyz".index(axis), axis=-1) + centre, colour)
