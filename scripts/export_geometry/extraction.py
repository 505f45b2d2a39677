"""Extract surfaces and point clouds from volumes.

Axes: t view, n point, k point along a side of a grid.
"""

from dataclasses import dataclass

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
from scripts.export_geometry.request import SurfaceKind
from scripts.export_geometry.shading import Lattice, occlusion
from scripts.export_geometry.surfaces import PointCloud, Surface, largest_piece, nearest, smoothed

# Occluded share of the light at the surface: more than the half in front of a flat wall; concave edges of
# less than 144 degrees are filled (scripts/export_geometry/shading.py).
SHADE_LEVEL = 0.6
NUM_AXES = 32  # of the light, which comes from both ends
CHUNK = 2**16  # points per evaluation of the field
NEIGHBOURS = 8  # points of a cloud whose colours are averaged for a vertex


@dataclass(frozen=True)
class SurfaceOptions:
    """The definition of the surface."""

    kind: SurfaceKind = "shade"
    level: float | None = None  # share of light, or density per scene unit; default: see `level_on`
    resolution: int = 128  # grid points per side
    largest: bool = False  # keep only the largest of several pieces
    smoothing: int = 0  # iterations

    def level_on(self, lattice: Lattice) -> float:
        """The level; by default for density, that at which one grid step absorbs half the light."""
        if self.level is not None:
            return self.level
        return SHADE_LEVEL if self.kind == "shade" else float(np.log(2)) / lattice.spacing


def extract_surface(
    model: VolumeModel,
    scene: FrustumVolume,
    cloud: PointCloud,
    options: SurfaceOptions,
) -> Surface:
    """The surface of an encoded scene (a batch of one), coloured by its point cloud.

    Raises ValueError if there is no surface.
    """
    scene = model.placed(scene)
    lattice = Lattice(working_radius(scene), options.resolution)
    values = density_on(model, scene, lattice)
    level = options.level_on(lattice)
    if options.kind == "shade":
        values = occlusion(values, lattice, axes(NUM_AXES).to(values))
    vertices, faces = isosurface(values.cpu().numpy(), level, low=-lattice.radius, spacing=lattice.spacing)
    if options.largest:
        vertices, faces = largest_piece(vertices, faces)
    if options.smoothing:
        vertices = smoothed(vertices, faces, options.smoothing)
    # In fog, the field's colour at the surface means little, because rays end behind it.
    _, near = nearest(vertices, cloud.points, min(NEIGHBOURS, len(cloud.points)))
    colours = cloud.colours[near].mean(axis=1).round().astype(np.uint8)
    return Surface(vertices, faces, colours)


def working_radius(scene: FrustumVolume) -> float:
    """Radius of the sphere around the origin that contains the volumes of a scene, in scene units."""
    return float((scene.cameras.far - scene.cameras.near)[scene.valid].max() / 2)


def density_on(
    model: VolumeModel,
    scene: FrustumVolume,
    lattice: Lattice,
    *,
    chunk: int = CHUNK,
) -> Float[Tensor, "k k k"]:
    """Density per scene unit on a grid in world space; 0 outside all source frusta and outside the sphere.

    `scene` comes from `VolumeModel.placed`. Evaluates `chunk` points at a time.
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
    """Expected end points of the rays of `cameras` [1, t] with an opacity of at least `least_opacity`.

    Colours are those of the rays without the white background. Raises ValueError if there are no points.
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
