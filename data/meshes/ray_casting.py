"""Render triangle meshes by exact ray casting: colour, coverage and z-depth.

Axes: n vertex, f face, v view, r ray, h and w the image. Cameras are OpenCV (x right, y down, z forward),
camera-to-world; intrinsics are normalised by the image size.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int, UInt8
from numpy import ndarray

from data.formats.rendered_view import MeshView
from data.meshes.lighting import soft_lights
from data.meshes.mesh import Mesh
from data.meshes.textures import SkinReader

BACKGROUND = 255  # white; shading never brightens surfaces
MOST_LAYERS = 24  # largest number of surfaces a ray can pass through holes
STEP = 2e-5  # offset of the continued ray behind a hole, in diagonals of the mesh


@dataclass(frozen=True)
class MeshViews:
    """Rendered images of one mesh.

    `rgb` is on white. `alpha` is 255 times the pixel coverage. `depth` is the z-depth at the pixel centre in
    scene units, 0 for background.
    """

    rgb: UInt8[ndarray, "v h w 3"]
    alpha: UInt8[ndarray, "v h w"]
    depth: Float[ndarray, "v h w"]


def look_at_origin(position: Float[ndarray, "3"]) -> Float[ndarray, "4 4"]:
    """Return the camera-to-world matrix (OpenCV axes) of an upright camera looking at the origin.

    World z is up. Raises ValueError for a position on the z axis, where upright is undefined.
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
    lighting: Callable[[ndarray], ndarray] = soft_lights,
) -> MeshViews:
    """Render all views at once; see `render_views`."""
    size = {"height": height, "width": width, "samples": samples}
    views = list(render_views(mesh, cam_to_world, intrinsics=intrinsics, lighting=lighting, **size))
    kinds = ("rgb", "alpha", "depth")
    return MeshViews(*(np.stack([getattr(view, kind) for view in views]) for kind in kinds))


def render_views(
    mesh: Mesh,
    cam_to_world: Float[ndarray, "v 4 4"],
    *,
    intrinsics: Float[ndarray, "3 3"],
    height: int,
    width: int,
    samples: int = 2,
    lighting: Callable[[ndarray], ndarray] = soft_lights,
) -> Iterator[MeshView]:
    """Yield images of `mesh` from each camera, with `samples` x `samples` colour rays per pixel.

    `lighting` gives the brightness of surfaces by their unit normals [f, 3]. Both sides of a triangle are
    visible and lit alike, so the winding of the faces does not matter. Textures are averaged over the
    footprint of a sample at the cameras' mean distance. Raises ValueError for a mesh without faces or an
    image without pixels.
    """
    if len(mesh.faces) == 0 or min(height, width, samples) < 1:
        raise ValueError(f"nothing to render: {len(mesh.faces)} faces, {height}x{width} pixels, {samples=}")
    focal = max(intrinsics[0, 0] * width, intrinsics[1, 1] * height)
    middle = (mesh.vertices.min(0) + mesh.vertices.max(0)) / 2
    distance = np.linalg.norm(cam_to_world[:, :3, 3] - middle, axis=1).mean() if len(cam_to_world) else 1.0
    caster = _Caster(mesh, lighting, spacing=float(distance / (focal * samples)))
    return (_render_view(caster, pose, intrinsics, (height, width), samples) for pose in cam_to_world)


class _Caster:
    """Precomputed data of a mesh for all views: ray-casting scene, planes, brightness of both sides, skin."""

    def __init__(self, mesh: Mesh, lighting: Callable[[ndarray], ndarray], *, spacing: float):
        import trimesh
        from trimesh.ray.ray_pyembree import RayMeshIntersector

        self.vertices, self.faces = mesh.vertices, mesh.faces
        self.scene = RayMeshIntersector(trimesh.Trimesh(mesh.vertices, mesh.faces, process=False))
        corners = mesh.vertices[mesh.faces]
        self.anchors = corners[:, 0]
        first, second = corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]
        normals = np.cross(first, second)
        self.normals = normals / np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-20)
        self.front, self.back = lighting(self.normals), lighting(-self.normals)
        self.face_colours, self.corner_colours = mesh.face_colours, mesh.corner_colours
        self.skin = None if mesh.skin is None else SkinReader(mesh.skin, corners, spacing=spacing)
        self.step = STEP * np.linalg.norm(np.ptp(mesh.vertices, axis=0))
        # A barycentric coordinate is the dot product of the offset from the anchor with one of these.
        squared = np.maximum((normals**2).sum(1, keepdims=True), 1e-40)
        self.duals = (
            np.stack([np.cross(second, normals), np.cross(normals, first)], axis=1) / squared[:, None]
        )

    def first_hits(
        self,
        origin: Float[ndarray, "3"],
        directions: Float[ndarray, "r 3"],
        least_opacity: Float[ndarray, "r"],
    ) -> Int[ndarray, "r"]:
        """Return the index of the first face along each ray with enough opacity (0 to 1), or -1."""
        hits = self.scene.intersects_first(np.broadcast_to(origin, directions.shape), directions)
        if self.skin is None or not self.skin.holed.any():
            return hits
        waiting = np.arange(len(hits))
        for _ in range(MOST_LAYERS):
            waiting = waiting[(hits[waiting] >= 0) & self.skin.holed[hits[waiting]]]
            ahead, faces = directions[waiting], hits[waiting]
            depth = self.depth(faces, ahead, origin)
            opacity = self.skin.read(faces, self._inside(faces, ahead, depth, origin))[:, 3] / 255
            through = opacity < least_opacity[waiting]
            waiting, ahead, depth = waiting[through], ahead[through], depth[through]
            if len(waiting) == 0:
                break
            hits[waiting] = self.scene.intersects_first(origin + ahead * (depth + self.step)[:, None], ahead)
        return hits

    def depth(
        self, hits: Int[ndarray, "r"], directions: Float[ndarray, "r 3"], origin: Float[ndarray, "3"]
    ) -> Float[ndarray, "r"]:
        """Return the depth at which rays (of unit depth) intersect the planes of their faces, as doubles."""
        normals = self.normals[hits]
        slope = (normals * directions).sum(1)
        slope = np.where(np.abs(slope) < 1e-12, 1e-12, slope)
        return ((self.anchors[hits] - origin) * normals).sum(1) / slope

    def colours(
        self, hits: Int[ndarray, "r"], directions: Float[ndarray, "r 3"], origin: Float[ndarray, "3"]
    ) -> Float[ndarray, "r 3"]:
        """Return the shaded colour, 0 to 255, of the visible side of the faces."""
        seen_from_behind = (self.normals[hits] * directions).sum(1) > 0
        brightness = np.where(seen_from_behind, self.back[hits], self.front[hits])
        colours = self.face_colours[hits] * brightness[:, None]
        if self.corner_colours is None and self.skin is None:
            return colours
        inside = self._inside(hits, directions, self.depth(hits, directions, origin), origin)
        if self.corner_colours is not None:
            shares = np.concatenate([1 - inside.sum(1, keepdims=True), inside], axis=1)
            colours *= (self.corner_colours[hits] * np.clip(shares, 0, 1)[..., None]).sum(1) / 255
        if self.skin is not None:
            colours *= self.skin.read(hits, inside)[:, :3] / 255
        return np.minimum(colours, BACKGROUND)

    def _inside(self, hits, directions, depth, origin) -> Float[ndarray, "r 2"]:
        """Return the barycentric coordinates of the second and third corner at the intersections."""
        offset = directions * depth[:, None] + origin - self.anchors[hits]
        return np.clip((self.duals[hits] * offset[:, None]).sum(2), 0, 1)


def _render_view(caster: _Caster, pose, intrinsics, size: tuple[int, int], samples: int) -> MeshView:
    """Render one view; rays are cast only inside the projected bounding box."""
    height, width = size
    rgb = np.full((height, width, 3), BACKGROUND, np.uint8)
    alpha, depth = np.zeros((height, width), np.uint8), np.zeros((height, width), np.float32)
    vertex_depth, (top, bottom, left, right) = project_box(caster.vertices, pose, intrinsics, size)
    if bottom <= top or right <= left:
        return MeshView(rgb, alpha, depth)
    window = np.s_[top:bottom, left:right]

    steps = (np.arange(samples) + 0.5) / samples
    # The centre ray, for depth, comes last: one call for all rays is fastest.
    places = np.array([(across, down) for down in steps for across in steps] + [(0.5, 0.5)])[..., None, None]
    rows, columns = np.mgrid[window]
    directions = ray_directions(columns + places[:, 0], rows + places[:, 1], pose, intrinsics, size)
    # Dithered thresholds: the fraction of samples that hit a texture equals its opacity.
    least_opacity = np.array([*(np.arange(samples**2) + 0.5) / samples**2, 0.5])
    hits = caster.first_hits(pose[:3, 3], directions, np.repeat(least_opacity, rows.size))
    hits, directions = hits.reshape(len(places), *rows.shape), directions.reshape(len(places), *rows.shape, 3)

    sampled, met = hits[:-1], hits[:-1] >= 0
    colours = np.zeros((*met.shape, 3))
    colours[met] = caster.colours(sampled[met], directions[:-1][met], pose[:3, 3])
    share = met.sum(0) / len(met)
    mixed = colours.sum(0) / len(met) + BACKGROUND * (1 - share)[..., None]
    rgb[window], alpha[window] = np.round(mixed), np.round(255 * share)

    hits, directions, met = hits[-1], directions[-1], hits[-1] >= 0
    corner_depths = vertex_depth[caster.faces[hits[met]]]
    crossing = caster.depth(hits[met], directions[met], pose[:3, 3])
    # Intersections with faces seen edge-on are unstable, so clamp the depth to that of the corners.
    depth[window][met] = np.clip(crossing, corner_depths.min(1), corner_depths.max(1))
    return MeshView(rgb, alpha, depth)


def project_box(
    vertices: Float[ndarray, "n 3"],
    pose: Float[ndarray, "4 4"],
    intrinsics: Float[ndarray, "3 3"],
    size: tuple[int, int],
) -> tuple[Float[ndarray, "n"], tuple[int, int, int, int]]:
    """Return the depth of every vertex, and the pixel bounds (top, bottom, left, right) of the mesh."""
    height, width = size
    in_camera = (vertices - pose[:3, 3]) @ pose[:3, :3]
    if in_camera[:, 2].min() < 1e-6:  # the mesh extends behind the camera: its projection is unbounded
        return in_camera[:, 2], (0, height, 0, width) if in_camera[:, 2].max() > 0 else (0, 0, 0, 0)
    projected = in_camera @ intrinsics.T
    points = projected[:, :2] / projected[:, 2:] * [width, height]
    left, top = np.clip(np.floor(points.min(0)), 0, [width, height]).astype(int).tolist()
    right, bottom = np.clip(np.ceil(points.max(0)), 0, [width, height]).astype(int).tolist()
    return in_camera[:, 2], (top, bottom, left, right)


def ray_directions(
    x: Float[ndarray, "*places"],
    y: Float[ndarray, "*places"],
    pose: Float[ndarray, "4 4"],
    intrinsics: Float[ndarray, "3 3"],
    size: tuple[int, int],
) -> Float[ndarray, "r 3"]:
    """Return world directions of unit depth through pixel positions (0.5: centre of the first pixel)."""
    height, width = size
    pixels = np.stack([x.ravel() / width, y.ravel() / height, np.ones(x.size)], axis=1)
    return pixels @ np.linalg.inv(intrinsics).T @ pose[:3, :3].T
