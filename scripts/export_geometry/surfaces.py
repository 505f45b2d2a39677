"""Coloured surfaces and point clouds, and their files. The world's z axis is up.

By the glTF standard, a GLB file is y-up with its front towards z, and its colours are linear: our (x, y, z)
is written as (-y, z, -x), so that programs show it upright and from the front. PLY files keep our axes, and
their colours are sRGB bytes, as usual. Axes: n point, f face.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import trimesh
from jaxtyping import Float, Int, UInt8
from numpy import ndarray

from data.files import write_whole
from data.meshes.axes import file_to_world
from data.meshes.mesh import Mesh

TO_GLB = file_to_world("y", "z").T  # times a column vector in our axes


@dataclass(frozen=True)
class PointCloud:
    """Points in scene units with sRGB bytes."""

    points: Float[ndarray, "n 3"]
    colours: UInt8[ndarray, "n 3"]


@dataclass(frozen=True)
class Surface:
    """Triangles, counter-clockwise as seen from outside; colours are sRGB bytes."""

    vertices: Float[ndarray, "n 3"]
    faces: Int[ndarray, "f 3"]
    colours: UInt8[ndarray, "n 3"]

    def as_mesh(self) -> Mesh:
        """The surface for the mesh renderer."""
        white = np.full((len(self.faces), 3), 255, np.uint8)
        return Mesh(self.vertices, self.faces, white, self.colours[self.faces])


def nearest(
    points: Float[ndarray, "n 3"], others: Float[ndarray, "m 3"], num: int
) -> tuple[Float[ndarray, "n num"], Int[ndarray, "n num"]]:
    """Distances and indices of the `num` nearest of the others, nearest first.

    Raises ValueError if scipy is missing.
    """
    try:
        from scipy.spatial import cKDTree
    except ImportError as error:
        raise ValueError("nearest points need scipy; pip install -r requirements-geometry.txt") from error
    distances, index = cKDTree(others).query(points, k=list(range(1, num + 1)))
    return distances, index


def largest_piece(
    vertices: Float[ndarray, "n 3"], faces: Int[ndarray, "f 3"]
) -> tuple[Float[ndarray, "k 3"], Int[ndarray, "g 3"]]:
    """The connected component with the largest bounding box."""
    pieces = trimesh.Trimesh(vertices, faces, process=False).split(only_watertight=False)
    largest = max(pieces, key=lambda piece: float(np.prod(piece.extents)))
    return np.asarray(largest.vertices, float), np.asarray(largest.faces, np.int64)


def smoothed(
    vertices: Float[ndarray, "n 3"], faces: Int[ndarray, "f 3"], rounds: int
) -> Float[ndarray, "n 3"]:
    """Taubin smoothing (1995), which does not shrink the surface."""
    mesh = trimesh.Trimesh(vertices, faces, process=False)
    return np.asarray(trimesh.smoothing.filter_taubin(mesh, iterations=2 * rounds).vertices, float)


def points_on(surface: Surface, num: int, random: np.random.Generator) -> PointCloud:
    """Points distributed over a surface by area, with its colours."""
    place, share = places_on(surface.vertices, surface.faces, num, random)
    corners, colours = surface.vertices[surface.faces[place]], surface.colours[surface.faces[place]]
    mixed = np.round((colours * share[..., None]).sum(1)).astype(np.uint8)
    return PointCloud((corners * share[..., None]).sum(1), mixed)


def places_on(
    vertices: Float[ndarray, "n 3"], faces: Int[ndarray, "f 3"], num: int, random: np.random.Generator
) -> tuple[Int[ndarray, "k"], Float[ndarray, "k 3"]]:
    """Random points on triangles by area: the face and the barycentric coordinates of each."""
    corners = vertices[faces]
    across = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    reach = np.cumsum(np.linalg.norm(across, axis=1))
    face = np.searchsorted(reach, random.random(num) * reach[-1], side="right")
    first, second = np.sqrt(random.random(num)), random.random(num)
    share = np.stack([1 - first, first * (1 - second), first * second], axis=1)
    return np.minimum(face, len(faces) - 1), share


def write_ply(path: Path, cloud: PointCloud) -> None:
    """Write a point cloud as binary PLY."""
    header = (
        "ply\nformat binary_little_endian 1.0\ncomment z is up; colours are sRGB\n"
        f"element vertex {len(cloud.points)}\n"
        "property float x\nproperty float y\nproperty float z\n"
        "property uchar red\nproperty uchar green\nproperty uchar blue\nend_header\n"
    )
    rows = np.zeros(len(cloud.points), dtype=[("place", "<f4", 3), ("colour", "u1", 3)])
    rows["place"], rows["colour"] = cloud.points, cloud.colours
    write_whole(path, lambda partial: partial.write_bytes(header.encode("ascii") + rows.tobytes()))


def write_glb(path: Path, surface: Surface) -> None:
    """Write a surface as binary glTF, without a material, because trimesh would then ignore the colours."""
    mesh = trimesh.Trimesh(
        surface.vertices @ TO_GLB.T,
        surface.faces,
        vertex_colors=to_linear(surface.colours),
        process=False,
    )
    content = trimesh.exchange.gltf.export_glb(trimesh.Scene({"surface": mesh}), include_normals=True)
    write_whole(path, lambda partial: partial.write_bytes(content))


def to_linear(colours: UInt8[ndarray, "n 3"]) -> UInt8[ndarray, "n 3"]:
    """Convert sRGB bytes to linear bytes."""
    value = np.arange(256) / 255
    curve = np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4)
    return np.round(255 * curve).astype(np.uint8)[colours]
