"""Triangle meshes to pictures by exact ray casting: colour, coverage and z-depth, in plain numpy.

Axes: n vertex, f face, v view, r ray, h and w the picture. Cameras are OpenCV (x right, y down, z forward),
camera-to-world; intrinsics are divided by the image size, so they do not depend on the resolution.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int, UInt8
from numpy import ndarray

BACKGROUND = 255  # white; shaded surfaces are never brighter than their own colour

# Unit directions towards two soft lights, with their shares; what is left of 1 is ambient light.
_LIGHTS = ((np.array([-0.30, -0.45, 0.84]), 0.30), (np.array([0.75, 0.60, 0.28]), 0.16))


@dataclass(frozen=True)
class Mesh:
    """Triangles, each of one colour. Lengths are scene units; colours are sRGB bytes."""

    vertices: Float[ndarray, "n 3"]
    faces: Int[ndarray, "f 3"]
    face_colours: UInt8[ndarray, "f 3"]


@dataclass(frozen=True)
class MeshViews:
    """Pictures of one mesh.

    `rgb` lies on white. `alpha` is 255 times the covered share of a pixel. `depth` is the z-depth at the
    centre of a pixel in scene units, and 0 where the ray through the centre meets nothing.
    """

    rgb: UInt8[ndarray, "v h w 3"]
    alpha: UInt8[ndarray, "v h w"]
    depth: Float[ndarray, "v h w"]


def join_meshes(meshes: Sequence[Mesh]) -> Mesh:
    """One mesh that holds all faces of `meshes`, in their order."""
    starts = np.cumsum([0] + [len(mesh.vertices) for mesh in meshes])
    return Mesh(
        vertices=np.concatenate([mesh.vertices for mesh in meshes]),
        faces=np.concatenate([mesh.faces + start for mesh, start in zip(meshes, starts[:-1], strict=True)]),
        face_colours=np.concatenate([mesh.face_colours for mesh in meshes]),
    )


def look_at_origin(position: Float[ndarray, "3"]) -> Float[ndarray, "4 4"]:
    """Camera-to-world matrix (OpenCV axes) of an upright camera at `position` that looks at the origin.

    World z points up. Raises ValueError for a position on the z axis, where upright has no meaning.
    """
    if np.hypot(position[0], position[1]) < 1e-9:
        raise ValueError(f"a camera at {position} looks straight along z; move it off the z axis")
    forward = -position / np.linalg.norm(position)
    right = np.cross(forward, [0.0, 0.0, 1.0])
    right /= np.linalg.norm(right)
    cam_to_world = np.eye(4)
    cam_to_world[:3] = np.stack([right, np.cross(forward, right), forward, position], axis=1)
    return cam_to_world


def render_meshes(
    mesh: Mesh,
    cam_to_world: Float[ndarray, "v 4 4"],
    *,
    intrinsics: Float[ndarray, "3 3"],
    height: int,
    width: int,
    samples: int = 2,
) -> MeshViews:
    """Pictures of `mesh` from each camera, `samples` x `samples` colour rays a pixel.

    Both sides of a triangle are visible and lit alike, so the winding of the faces does not matter.
    Raises ValueError for a mesh without faces or a picture without pixels.
    """
    if len(mesh.faces) == 0 or min(height, width, samples) < 1:
        raise ValueError(f"nothing to render: {len(mesh.faces)} faces, {height}x{width} pixels, {samples=}")
    caster = _Caster(mesh)
    views = [_render_view(caster, pose, intrinsics, (height, width), samples) for pose in cam_to_world]
    return MeshViews(*(np.stack(channel) for channel in zip(*views, strict=True)))


class _Caster:
    """What a mesh needs once for all its views: ray-casting scene, planes, both sides' colours."""

    def __init__(self, mesh: Mesh):
        import trimesh
        from trimesh.ray.ray_pyembree import RayMeshIntersector

        self.vertices, self.faces = mesh.vertices, mesh.faces
        self.scene = RayMeshIntersector(trimesh.Trimesh(mesh.vertices, mesh.faces, process=False))
        corners = mesh.vertices[mesh.faces]
        self.anchors = corners[:, 0]
        normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
        self.normals = normals / np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-20)
        self.front_colours = mesh.face_colours * shading(self.normals)[:, None]
        self.back_colours = mesh.face_colours * shading(-self.normals)[:, None]

    def first_hits(self, origin: Float[ndarray, "3"], directions: Float[ndarray, "r 3"]) -> Int[ndarray, "r"]:
        """Index of the first face along each ray, -1 where there is none."""
        return self.scene.intersects_first(np.broadcast_to(origin, directions.shape), directions)

    def colours(self, hits: Int[ndarray, "r"], directions: Float[ndarray, "r 3"]) -> Float[ndarray, "r 3"]:
        """Shaded colour, 0 to 255, of the side of the faces that the rays see."""
        seen_from_behind = (self.normals[hits] * directions).sum(1, keepdims=True) > 0
        return np.where(seen_from_behind, self.back_colours[hits], self.front_colours[hits])


def shading(normals: Float[ndarray, "f 3"]) -> Float[ndarray, "f"]:
    """Share of its colour that a matt surface shows, 0.54 to 1: ambient and two soft lights."""
    ambient = 1 - sum(share for _, share in _LIGHTS)
    wrapped = ((0.5 + 0.5 * normals @ (light / np.linalg.norm(light))) * share for light, share in _LIGHTS)
    return ambient + sum(wrapped)


def _render_view(caster: _Caster, pose, intrinsics, size: tuple[int, int], samples: int):
    """(rgb, alpha, depth) of one view; rays are cast only inside the projected bounding box."""
    height, width = size
    rgb = np.full((height, width, 3), BACKGROUND, np.uint8)
    alpha, depth = np.zeros((height, width), np.uint8), np.zeros((height, width), np.float32)
    vertex_depth, (top, bottom, left, right) = _bounding_box(caster.vertices, pose, intrinsics, size)
    if bottom <= top or right <= left:
        return rgb, alpha, depth
    window = np.s_[top:bottom, left:right]

    steps = (np.arange(samples) + 0.5) / samples
    offsets = [(across, down) for down in steps for across in steps]
    rows, columns = np.mgrid[window]
    colour_sum, hit_sum = np.zeros((*rows.shape, 3)), np.zeros(rows.shape)
    for across, down in offsets:
        directions = _ray_directions(columns + across, rows + down, pose, intrinsics, size)
        hits = caster.first_hits(pose[:3, 3], directions)
        valid = (hits >= 0).reshape(rows.shape)
        colour_sum[valid] += caster.colours(hits[hits >= 0], directions[hits >= 0])
        hit_sum += valid
    share = hit_sum / len(offsets)
    mixed = colour_sum / len(offsets) + BACKGROUND * (1 - share)[..., None]
    rgb[window], alpha[window] = np.round(mixed), np.round(255 * share)

    directions = _ray_directions(columns + 0.5, rows + 0.5, pose, intrinsics, size)
    hits = caster.first_hits(pose[:3, 3], directions)
    valid = (hits >= 0).reshape(rows.shape)
    directions, hits = directions[hits >= 0], hits[hits >= 0]
    depth[window][valid] = _plane_depth(caster, hits, directions, pose[:3, 3], vertex_depth)
    return rgb, alpha, depth


def _bounding_box(vertices, pose, intrinsics, size: tuple[int, int]):
    """Depth of every vertex, and the pixels (top, bottom, left, right) that can see any of them."""
    height, width = size
    in_camera = (vertices - pose[:3, 3]) @ pose[:3, :3]
    if in_camera[:, 2].min() < 1e-6:  # the mesh reaches behind the camera: its projection has no bounds
        return in_camera[:, 2], (0, height, 0, width) if in_camera[:, 2].max() > 0 else (0, 0, 0, 0)
    projected = in_camera @ intrinsics.T
    points = projected[:, :2] / projected[:, 2:] * [width, height]
    left, top = np.clip(np.floor(points.min(0)), 0, [width, height]).astype(int)
    right, bottom = np.clip(np.ceil(points.max(0)), 0, [width, height]).astype(int)
    return in_camera[:, 2], (top, bottom, left, right)


def _ray_directions(x, y, pose, intrinsics, size: tuple[int, int]) -> Float[ndarray, "r 3"]:
    """World directions, one unit deep, through pixel positions (0.5: centre of the first pixel)."""
    height, width = size
    pixels = np.stack([x.ravel() / width, y.ravel() / height, np.ones(x.size)], axis=1)
    return pixels @ np.linalg.inv(intrinsics).T @ pose[:3, :3].T


def _plane_depth(caster: _Caster, hits, directions, origin, vertex_depth) -> Float[ndarray, "r"]:
    """z-depth where rays meet the planes of the faces they hit, in double precision.

    A face seen edge-on has no stable crossing, so the depth stays between those of its own corners.
    """
    normals = caster.normals[hits]
    slope = (normals * directions).sum(1)
    slope = np.where(np.abs(slope) < 1e-12, 1e-12, slope)
    corner_depths = vertex_depth[caster.faces[hits]]
    crossing = ((caster.anchors[hits] - origin) * normals).sum(1) / slope
    return np.clip(crossing, corner_depths.min(1), corner_depths.max(1))
