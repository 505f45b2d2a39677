"""A picture of photos of an object, its true mesh, exported mesh and point cloud, from several sides."""

from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, UInt8
from numpy import ndarray
from PIL import Image, ImageDraw

from data.cameras.poses import circle
from data.images.files import write_png
from data.images.pixels import resize_bicubic, to_uint8
from data.meshes.lighting import three_suns
from data.meshes.mesh import Mesh
from data.meshes.ray_casting import render_views
from data.scenes.batch import Views
from scripts.export_geometry.surfaces import PointCloud, Surface

SIDE = 160  # pixels of an image
ZOOM = 1.25  # so that an object fills it
SIDES = 5  # images of each, around the object
LABEL = 16  # pixels
DOT = 0.007  # scene units, half the width of a point
MOST_DOTS = 20_000  # enough to be opaque; many more are slow
GREY = (205, 205, 205)


def write_picture(path: Path, blocks: list[UInt8[ndarray, "h w 3"]]) -> str:
    """Write the blocks of objects (from `drawn`) below each other; returns a message for the user."""
    write_png(path, torch.from_numpy(np.concatenate(blocks)))
    return f"{path}"


def drawn(source: Views, truth: Mesh | None, surface: Surface, cloud: PointCloud) -> UInt8[ndarray, "h w 3"]:
    """The block of an object: its photos, next to rows of images from the photo's camera and all around."""
    camera = source.cameras[0, 0]
    poses = circle(camera.cam_to_world, SIDES).double().numpy()
    intrinsics = camera.intrinsics.double().numpy() * [[ZOOM, 1, 1], [1, ZOOM, 1], [1, 1, 1]]
    shape = Mesh(surface.vertices, surface.faces, np.full((len(surface.faces), 3), GREY, np.uint8))
    rows = {
        "truth": (truth, None),
        "mesh": (surface.as_mesh(), _even),
        "shape": (shape, three_suns),
        "points": (_dots(cloud), _even),
    }
    pictures = [
        _row(name, mesh, lighting, poses, intrinsics)
        for name, (mesh, lighting) in rows.items()
        if mesh is not None
    ]
    block = np.concatenate(pictures)
    return np.concatenate([_photos(source, len(block)), block], axis=1)


def _row(name, mesh, lighting, poses, intrinsics) -> UInt8[ndarray, "h w 3"]:
    options = {"intrinsics": intrinsics, "height": SIDE, "width": SIDE, "samples": 3}
    if lighting is not None:
        options["lighting"] = lighting
    pictures = [view.rgb for view in render_views(mesh, poses, **options)]
    return _labelled(np.concatenate(pictures, axis=1), name)


def _photos(source: Views, height: int) -> UInt8[ndarray, "h w 3"]:
    """The centres of the source photos, as many as fit."""
    side, rest = round(SIDE * ZOOM), (round(SIDE * ZOOM) - SIDE) // 2
    middle = np.s_[rest : rest + SIDE, rest : rest + SIDE]
    photos = [resize_bicubic(photo, side, side).numpy()[middle] for photo in to_uint8(source.images[0])]
    tiles = [_labelled(photo, "photo") for photo in photos]
    tiles = tiles[: height // len(tiles[0])]
    white = np.full((height - sum(map(len, tiles)), SIDE, 3), 255, np.uint8)
    return np.concatenate([*tiles, white])


def _labelled(picture: UInt8[ndarray, "h w 3"], text: str) -> UInt8[ndarray, "k w 3"]:
    page = Image.fromarray(np.pad(picture, ((LABEL, 0), (0, 0), (0, 0)), constant_values=255))
    ImageDraw.Draw(page).text((3, 2), text, fill="black")
    return np.array(page)


def _dots(cloud: PointCloud) -> Mesh:
    """Points, or a random subset, as octahedra."""
    chosen = np.random.default_rng(0).permutation(len(cloud.points))[:MOST_DOTS]
    points, colours = cloud.points[chosen], cloud.colours[chosen]
    corners = np.concatenate([np.eye(3), -np.eye(3)])
    sides = np.array([(x, y, z) for x in (0, 3) for y in (1, 4) for z in (2, 5)])
    vertices = (points[:, None] + DOT * corners).reshape(-1, 3)
    faces = (6 * np.arange(len(points))[:, None, None] + sides).reshape(-1, 3)
    return Mesh(vertices, faces, np.repeat(colours, len(sides), axis=0))


def _even(normals: Float[ndarray, "f 3"]) -> Float[ndarray, "f"]:
    """Uniform light that keeps the colours: those of a model already include the light of its photos."""
    return np.ones(len(normals))
