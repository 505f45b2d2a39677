"""Surfaces and point clouds of what a model with volumes knows of an object.

Axes: t view, n point, k point along a side of a lattice.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from data.cameras.pinhole import Cameras, pixel_centres
from data.cameras.poses import axes
from models.volumes.volume_model import VolumeModel
from nerf.composite import BACKGROUND, field_at
from nerf.volume import FrustumVolume
from scripts.export_geometry.isosurface import isosurface
from scripts.export_geometry.shading import Lattice, shade
from scripts.export_geometry.surfaces import PointCloud, Surface, largest_piece, nearest, smoothed

SurfaceKind = Literal["shade", "density"]
# Share of the light that does not reach the surface: more than the half before flat walls; edges that leave
# less than 144 degrees open are filled (scripts/export_geometry/shading.py).
SHADE_LEVEL = 0.6
NUM_AXES = 32  # along which light comes, from both sides
CHUNK = 2**16  # points of which the field is asked at the same time
NEIGHBOURS = 8  # points of a cloud whose mean colour a vertex takes


@dataclass(frozen=True)
class SurfaceOptions:
    """What is a surface."""

    kind: SurfaceKind = "shade"
    level: float | None = None  # share of light, or density per scene unit; None: as `level_on` says
    resolution: int = 128  # points along a side of the lattice
    largest: bool = False  # only the largest of several pieces
    smoothing: int = 0  # rounds

    def level_on(self, lattice: Lattice) -> float:
        """The level: for density, that of which a step from point to point takes half the light."""
        if self.level is not None:
            return self.level
        return SHADE_LEVEL if self.kind == "shade" else float(np.log(2)) / lattice.spacing


def extract_surface(
    model: VolumeModel,
    scene: FrustumVolume,
    cloud: PointCloud,
    options: SurfaceOptions,
) -> Surface:
    """The surface of an encoded scene (a batch of one), in the colours of its point cloud.

    Raises ValueError where there is no surface.
    """
    scene = model.placed(scene)
    lattice = Lattice(working_radius(scene), options.resolution)
    values = density_on(model, scene, lattice)
    level = options.level_on(lattice)
    if options.kind == "shade":
        values = shade(values, lattice, axes(NUM_AXES).to(values))
    vertices, faces = isosurface(values.cpu().numpy(), level, low=-lattice.radius, spacing=lattice.spacing)
    if options.largest:
        vertices, faces = largest_piece(vertices, faces)
    if options.smoothing:
        vertices = smoothed(vertices, faces, options.smoothing)
    # Where a fog has its surface, its own colour means little; its rays end behind.
    _, near = nearest(vertices, cloud.points, min(NEIGHBOURS, len(cloud.points)))
    colours = cloud.colours[near].mean(axis=1).round().astype(np.uint8)
    return Surface(vertices, faces, colours)


def working_radius(scene: FrustumVolume) -> float:
    """Radius of the sphere round the origin in which the volumes of a scene lie, in scene units."""
    return float((scene.cameras.far - scene.cameras.near)[scene.valid].max() / 2)


def density_on(
    model: VolumeModel,
    scene: FrustumVolume,
    lattice: Lattice,
    *,
    chunk: int = CHUNK,
) -> Float[Tensor, "k k k"]:
    """Density, per scene unit, on a lattice of the world; 0 where no source looks, and beyond the sphere.

    `scene` is as `VolumeModel.placed` makes it. `chunk` points at a time.
    """
    found = []
    for points in lattice.points(scene.features.device, chunk):
        density, _ = field_at(scene, model.renderer.field, points[None])
        seen = (scene.inside(points[None]) & scene.valid[..., None]).any(dim=1)
        within = points.norm(dim=-1) < lattice.radius
        found.append((density * seen)[0] * within)
    return torch.cat(found).unflatten(0, (lattice.num,) * 3)


def depth_cloud(
    model: VolumeModel, scene: FrustumVolume, cameras: Cameras, *, least_opacity: float
) -> PointCloud:
    """Points where the rays of `cameras` [1, t] end on average, of those that are `least_opacity` opaque.

    In the colours that the rays bring home, without the white behind. Raises ValueError where there is none.
    """
    points, colours = [], []
    for view in range(cameras.shape[1]):
        camera = cameras[:, view : view + 1]
        rendering = model.render(scene, camera)
        opacity = rendering.opacity.flatten()
        kept = opacity >= least_opacity
        uv = pixel_centres(*rendering.depth.shape[-2:], device=opacity.device)
        depth = rendering.depth.flatten() / opacity.clamp_min(least_opacity)
        points.append(camera[0, 0].unproject(torch.cat([uv, depth[:, None]], dim=-1)[kept]))
        background = (1 - opacity[kept])[:, None] * BACKGROUND
        seen = rendering.latent[0, 0, :3].flatten(1).T[kept] - background
        colours.append((seen / opacity[kept][:, None]).clamp(0, 1))
    if not sum(map(len, points)):
        raise ValueError(f"no ray is {least_opacity:g} opaque; lower --opacity, or train the model longer")
    values = (255 * torch.cat(colours)).round().to(torch.uint8)
    return PointCloud(torch.cat(points).double().cpu().numpy(), values.cpu().numpy())
