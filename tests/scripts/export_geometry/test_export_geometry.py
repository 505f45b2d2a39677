"""Meshes and point clouds: from densities that are known exactly to files that other programs open."""

import json
import math
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import trimesh

import sample_views
from data.cameras.pinhole import pixel_centres
from data.cameras.poses import axes, cameras_all_round, sphere_directions
from data.cameras.transforms_json import from_transforms
from data.images.files import write_png
from data.meshes.axes import customary_front, upright
from data.meshes.loading import load_mesh
from data.meshes.mesh import join_meshes
from data.meshes.primitives import ellipsoid
from data.meshes.sources import find_meshes
from data.scenes.batch import concatenate
from data.shapes.cars import car
from models.image_diffusion.model import ImageDiffusion, ImageDiffusionConfig
from models.volumes import volume_model
from nerf import composite
from nerf.field import FieldConfig, RadianceField
from nerf.volume import FrustumVolume
from scripts.export_geometry import __main__ as export_geometry
from scripts.export_geometry import extraction as geometry
from scripts.export_geometry.distance import distance, outer_points
from scripts.export_geometry.export import Exporter
from scripts.export_geometry.extraction import (
    SurfaceOptions,
    density_on,
    depth_cloud,
    extract_surface,
    working_radius,
)
from scripts.export_geometry.isosurface import isosurface
from scripts.export_geometry.picture import _dots
from scripts.export_geometry.shading import Lattice, occlusion
from scripts.export_geometry.surfaces import (
    PointCloud,
    Surface,
    largest_piece,
    places_on,
    points_on,
    smoothed,
    write_glb,
    write_ply,
)
from tests.scenes import TINY_FAMILIES, cameras, tiny_model, views
from tests.tiny_run import save_tiny_run, tiny_config

CENTRE, RADII = torch.tensor([0.06, -0.04, 0.02]), torch.tensor([0.26, 0.15, 0.1])
DENSITY = 600.0  # per scene unit, inside
OPTIONS = SurfaceOptions(resolution=41)


def egg(points: torch.Tensor) -> torch.Tensor:
    """1 on the surface of an ellipsoid off the middle, less inside."""
    return ((points - CENTRE) / RADII).norm(dim=-1)


def off_egg(points: np.ndarray) -> torch.Tensor:
    """Distance from the ellipsoid in scene units, to first order."""
    places = torch.tensor(points).float().requires_grad_()
    value = egg(places)
    (slope,) = torch.autograd.grad(value.sum(), places)
    return ((value - 1).abs() / slope.norm(dim=-1)).detach()


class EggField(RadianceField):
    """The ellipsoid, of points that are its features: red above, blue below."""

    def forward(self, features, weight):
        points = features[:, 0]
        density = DENSITY * torch.sigmoid(25 * (1 - egg(points))) * (weight.amax(dim=1) > 0)
        above = torch.sigmoid(200 * (points[..., 2:] - CENTRE[2]))
        latent = torch.cat([above, torch.zeros_like(above), 1 - above, above], dim=-1)
        return density, latent


@pytest.fixture(scope="module")
def model():
    """The tiniest model with the ellipsoid for its field."""
    model = tiny_model(renderer={"size": 24, "coarse": 160, "fine": 0, "backend": "reference"})
    model.renderer.field = EggField(FieldConfig(hidden=7), channels=3, latent_channels=4)
    return model.eval().requires_grad_(False)


@pytest.fixture(scope="module")
def scene() -> FrustumVolume:
    """A volume whose features are the places of its points in the world."""
    camera, (planes, height, width) = cameras(1, 1), (5, 12, 14)
    near, far = camera.near[0, 0], camera.far[0, 0]
    uv = pixel_centres(height, width)
    slices = [
        camera[0, 0].unproject(torch.cat([uv, depth.expand(len(uv), 1)], dim=-1))
        for depth in torch.linspace(float(near), float(far), planes)
    ]
    features = torch.stack(slices).unflatten(1, (height, width)).movedim(-1, 0)
    return FrustumVolume(features[None, None], camera, torch.ones(1, 1, dtype=torch.bool))


def cloud_of(model, scene) -> PointCloud:
    return depth_cloud(model, scene, cameras_all_round(scene.cameras[0, 0], 24), least_opacity=0.5)


def test_the_mesh_of_a_known_density_lies_on_its_surface_and_has_its_colours(model, scene):
    options = replace(OPTIONS, kind="density", level=DENSITY / 2)
    surface = extract_surface(model, scene, cloud_of(model, scene), options)
    spacing = 2 * working_radius(scene) / 40
    assert len(surface.vertices) > 500
    assert float(off_egg(surface.vertices).max()) < spacing
    mesh = trimesh.Trimesh(surface.vertices, surface.faces, process=False)
    assert mesh.is_watertight
    assert mesh.volume == pytest.approx(4 / 3 * math.pi * float(RADII.prod()), rel=0.05)  # > 0: outward
    high = surface.vertices[:, 2] > float(CENTRE[2]) + 0.05
    low = surface.vertices[:, 2] < float(CENTRE[2]) - 0.05
    assert (surface.colours[high] == [255, 0, 0]).mean() > 0.95
    assert (surface.colours[low] == [0, 0, 255]).mean() > 0.95


def test_shade_finds_the_same_surface_without_knowing_the_density(model, scene):
    surface = extract_surface(model, scene, cloud_of(model, scene), OPTIONS)
    spacing = 2 * working_radius(scene) / 40
    assert float(off_egg(surface.vertices).max()) < 1.5 * spacing


def test_rays_end_on_the_surface(model, scene):
    points = cloud_of(model, scene).points
    assert len(points) > 300
    assert float(off_egg(points).median()) < 0.015
    assert float(off_egg(points).quantile(0.9)) < 0.03


def test_shade_is_the_share_of_light_that_ends_in_a_uniform_ball():
    """In the middle, all light has passed one radius of fog; far outside, hardly any is gone."""
    lattice, thickness = Lattice(1.0, 33), 1.5
    points = torch.cat(list(lattice.points(torch.device("cpu"), 1000)))
    density = (thickness / 0.5 * (points.norm(dim=-1) < 0.5).float()).unflatten(0, (33, 33, 33))
    found = occlusion(density, lattice, axes(20))
    assert float(found[16, 16, 16]) == pytest.approx(1 - math.exp(-thickness), abs=0.02)
    assert float(found[0, 16, 16]) < 0.15
    torch.testing.assert_close(found, found.flip(0), atol=0.06, rtol=0)


@pytest.mark.parametrize("opening_deg", [60, 90, 180, 270])
def test_shade_in_the_open_air_of_an_edge_is_the_share_of_directions_that_end_in_walls(opening_deg):
    """Two walls that meet in a straight edge, which leave an angle open between them."""
    lattice = Lattice(1.0, 31)
    points = torch.cat(list(lattice.points(torch.device("cpu"), 10**6)))
    off = torch.atan2(points[:, 2], points[:, 0]).abs()  # from the middle of the opening, round the y axis
    solid = (off > math.radians(opening_deg / 2) + 1e-3) & (points.norm(dim=-1) < 1)
    found = occlusion(300.0 * solid.float().unflatten(0, (31, 31, 31)), lattice, axes(geometry.NUM_AXES))
    # Walls end with the sphere, and light comes from 64 directions.
    assert float(found[17, 15, 15]) == pytest.approx(1 - opening_deg / 360, abs=0.06)


def test_directions_share_the_sphere_in_equal_parts():
    directions = sphere_directions(200)
    torch.testing.assert_close(directions.norm(dim=-1), torch.ones(200))
    assert float(directions.mean(dim=0).abs().max()) < 0.01
    torch.testing.assert_close(directions.T @ directions / 200, torch.eye(3) / 3, atol=0.01, rtol=0)
    both = torch.cat([axes(50), -axes(50)])
    assert float((both @ both.T - 2 * torch.eye(100)).max()) < 0.999  # none twice


def test_densities_in_chunks_are_those_at_once_and_no_chunk_is_larger_than_it_may_be(
    model, scene, monkeypatch
):
    sizes, field_at = [], composite.field_at

    def counted(volume, field, points):
        sizes.append(points.shape[1])
        return field_at(volume, field, points)

    monkeypatch.setattr("scripts.export_geometry.extraction.field_at", counted)
    lattice = Lattice(0.6, 13)
    chunked, whole = density_on(model, scene, lattice, chunk=97), density_on(model, scene, lattice)
    assert max(sizes[:-1]) == 97
    assert sum(sizes[:-1]) == 13**3 == sizes[-1]
    torch.testing.assert_close(chunked, whole, atol=0, rtol=0)


def narrower(scene: FrustumVolume) -> FrustumVolume:
    """The same features, before a camera that sees a sixth of the angle."""
    narrow = scene.cameras.intrinsics * torch.tensor([[6.0, 1, 1], [1, 6, 1], [1, 1, 1]])
    return replace(scene, cameras=replace(scene.cameras, intrinsics=narrow))


def test_nothing_is_where_no_source_looks(model, scene):
    """A narrow camera: nothing beyond its frustum."""
    lattice, zoomed = Lattice(0.6, 13), narrower(scene)
    points = torch.cat(list(lattice.points(torch.device("cpu"), 10**6)))
    inside = zoomed.inside(points[None])[0, 0].unflatten(0, (13, 13, 13))
    found = density_on(model, zoomed, lattice)
    assert bool(inside.any())
    assert float(found[~inside].abs().max()) == 0
    assert float(found[inside].max()) > 0


def test_a_source_that_only_fills_the_batch_up_adds_nothing(model, scene, monkeypatch):
    """Beside a narrow camera, a wide one: its frustum counts where it is valid, and only there.

    Also with a field that continues beyond the frustums, which hides nothing by itself.
    """
    config = FieldConfig(hidden=7, outside="clamp")
    monkeypatch.setattr(model.renderer.field, "config", config)
    lattice, zoomed = Lattice(0.6, 13), narrower(scene)
    alone = density_on(model, zoomed, lattice)
    cameras_of_both = concatenate([zoomed.cameras, scene.cameras], axis=1)
    features = zoomed.features.expand(-1, 2, -1, -1, -1, -1)
    padded, both = (
        density_on(model, FrustumVolume(features, cameras_of_both, torch.tensor([[True, valid]])), lattice)
        for valid in (False, True)
    )
    torch.testing.assert_close(padded, alone, atol=0, rtol=0)
    assert int((both > 0).sum()) > int((alone > 0).sum())


def test_volumes_rendered_in_the_frame_of_a_source_keep_their_place_in_the_world():
    """The same density as in the frame itself, at the points that were moved with the cameras."""
    from data.cameras.pinhole import in_frame_of
    from nerf.composite import field_at

    model = tiny_model(frame="first_source").eval().requires_grad_(False)
    scene = model.encode(views(1, 2))
    pose = scene.cameras.cam_to_world[:, :1]
    moved = replace(scene, cameras=in_frame_of(scene.cameras, pose))
    points = 0.4 * torch.rand(1, 50, 3) - 0.2
    first = scene.cameras[:, 0]
    there = in_frame_of(scene.cameras, pose)[:, 0]
    in_frame = (
        first.to_camera(points) @ there.cam_to_world[:, :3, :3].transpose(-1, -2) + there.positions[:, None]
    )
    expected = field_at(moved, model.renderer.field, in_frame)
    found = field_at(model.placed(scene), model.renderer.field, points)
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=1e-4)


def test_a_surface_that_reaches_the_end_of_the_lattice_is_closed_there():
    values = np.ones((4, 5, 6))
    vertices, faces = isosurface(values, 0.5, low=-1.0, spacing=0.5)
    mesh = trimesh.Trimesh(vertices, faces)
    assert mesh.is_watertight
    np.testing.assert_allclose(mesh.bounds, [[-1.25, -1.25, -1.25], [0.75, 1.25, 1.75]])
    assert mesh.volume > 0


def house() -> Surface:
    """An asymmetric surface: long along x, with a chimney at its front (-x), left (-y) and top."""
    ball = trimesh.creation.icosphere(subdivisions=2)
    parts = [ball.vertices * [0.3, 0.2, 0.1], ball.vertices * [0.05, 0.05, 0.2] + [-0.2, -0.1, 0.2]]
    colours = np.repeat(np.array([(200, 90, 30), (10, 60, 240)], np.uint8), len(ball.vertices), axis=0)
    faces = np.concatenate([ball.faces, ball.faces + len(ball.vertices)])
    return Surface(np.concatenate(parts), faces, colours)


def test_a_glb_opens_upright_from_the_front_and_in_its_colours(tmp_path):
    surface = house()
    write_glb(tmp_path / "house.glb", surface)
    opened = trimesh.load_mesh(tmp_path / "house.glb", process=False)
    assert (len(opened.vertices), len(opened.faces)) == (len(surface.vertices), len(surface.faces))
    top = opened.vertices[opened.vertices[:, 1].argmax()]
    np.testing.assert_allclose(top, [0.1, 0.4, 0.2], atol=1e-3)  # y up; z to the front; so x is our -y
    loaded = load_mesh(find_meshes(tmp_path)[0])
    mesh = upright(loaded.mesh, loaded.up, customary_front(loaded.up))  # as render_meshes reads it
    np.testing.assert_allclose(mesh.vertices, surface.vertices, atol=1e-6)
    off = mesh.corner_colours.astype(int) - surface.colours[surface.faces]
    assert np.abs(off).max() <= 4  # dark colours that are proportional to light have few steps
    body = opened.vertices[: len(opened.vertices) // 2]
    assert ((opened.vertex_normals[: len(body)] * body).sum(1) > 0).all()  # outward
    light = np.where(surface.colours > 10, ((surface.colours / 255 + 0.055) / 1.055) ** 2.4, 0) * 255
    assert np.abs(opened.visual.vertex_colors[:, :3] - light).max() < 1.5  # not grey, as behind a material


def test_a_ply_opens_with_every_point_and_colour(tmp_path):
    random = np.random.default_rng(0)
    cloud = PointCloud(random.normal(size=(57, 3)), random.integers(0, 256, (57, 3), dtype=np.uint8))
    write_ply(tmp_path / "cloud.ply", cloud)
    opened = trimesh.load(tmp_path / "cloud.ply")
    np.testing.assert_allclose(opened.vertices, cloud.points, rtol=1e-6)
    assert (opened.colors[:, :3] == cloud.colours).all()


def test_points_are_spread_by_area():
    corners = np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 5], [3, 0, 5], [0, 3, 5]], float)
    surface = Surface(corners, np.array([[0, 1, 2], [3, 4, 5]]), np.full((6, 3), 7, np.uint8))
    cloud = points_on(surface, 5000, np.random.default_rng(0))
    upper = cloud.points[:, 2] > 4
    assert upper.mean() == pytest.approx(0.9, abs=0.02)
    np.testing.assert_allclose(cloud.points[upper].mean(0), [1, 1, 5], atol=0.05)
    assert (cloud.colours == 7).all()
    face, share = places_on(corners, surface.faces, 9, np.random.default_rng(0))
    np.testing.assert_allclose(share.sum(1), 1)
    assert share.min() >= 0
    assert set(face) <= {0, 1}


def test_the_largest_piece_stays_and_smoothing_keeps_the_size():
    surface = house()
    vertices, faces = largest_piece(surface.vertices, surface.faces)
    np.testing.assert_allclose(np.ptp(vertices, axis=0), [0.6, 0.4, 0.2], atol=1e-6)
    assert len(faces) == len(surface.faces) // 2
    lattice = Lattice(1.0, 21)
    distance_out = torch.cat(list(lattice.points(torch.device("cpu"), 10**6))).norm(dim=-1)
    noisy = (1 - distance_out + 0.1 * torch.rand(len(distance_out))).clamp_min(0).unflatten(0, (21, 21, 21))
    rough, faces = isosurface(noisy.numpy(), 0.4, low=-1.0, spacing=lattice.spacing)
    smooth = smoothed(rough, faces, 10)
    radius = [np.linalg.norm(part, axis=1) for part in (rough, smooth)]
    assert radius[1].std() < 0.7 * radius[0].std()
    assert radius[1].mean() == pytest.approx(radius[0].mean(), rel=0.03)


def test_chamfer_distance_of_a_shifted_copy_is_the_shift():
    plane = np.stack([*np.mgrid[0:1:11j, 0:1:13j], np.zeros((11, 13))], axis=-1).reshape(-1, 3)
    found = distance(plane + np.array([0, 0, 0.015]), plane)
    assert found.chamfer == pytest.approx(0.015)
    assert (found.closer, found.close) == (0, 1)


def test_chamfer_distance_and_f_scores_are_those_of_all_pairs():
    random = np.random.default_rng(1)
    ours, truth = 0.1 * random.random((40, 3)), 0.1 * random.random((63, 3)) + [0.01, 0, 0]
    pairs = np.linalg.norm(ours[:, None] - truth, axis=-1)
    there, back = pairs.min(1), pairs.min(0)
    found = distance(ours, truth)
    assert found.chamfer == pytest.approx((there.mean() + back.mean()) / 2)
    for score, limit in ((found.closer, 0.01), (found.close, 0.02)):
        precision, recall = (there <= limit).mean(), (back <= limit).mean()
        assert score == pytest.approx(2 * precision * recall / (precision + recall))


def test_what_cannot_be_seen_does_not_count():
    inner, outer = (ellipsoid((0, 0, 0), (size,) * 3, (9, 9, 9), segments=40) for size in (0.2, 0.5))
    both = join_meshes([inner, outer])
    points = outer_points(both.vertices, both.faces, 700, seed=0)
    assert len(points) == 700
    assert np.linalg.norm(points, axis=1).min() > 0.45
    alone = outer_points(inner.vertices, inner.faces, 700, seed=0)
    np.testing.assert_allclose(np.linalg.norm(alone, axis=1), 0.2, atol=0.01)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, plant_object) -> Path:
    """A run on noise pictures of two objects, one of them called as a procedural car is."""
    folder = tmp_path_factory.mktemp("geometry")
    for name in ("cars_train/000001_pickup", "cars_val/000200_delivery", "cars_val/nobody"):
        plant_object(folder / "set" / name, num_views=3, size=(32, 32))
    return save_tiny_run(tiny_config(folder / "set", folder))


# An untrained volume is a thin haze.
HAZE = ["--resolution", "17", "--level", "0.1", "--opacity", "0.05", "--cameras", "5"]


@pytest.fixture(autouse=True)
def small_measures(monkeypatch):
    """Enough for tests."""
    monkeypatch.setattr("scripts.export_geometry.truth.NUM_POINTS", 4000)
    monkeypatch.setattr("scripts.export_geometry.truth.SILHOUETTE", 64)
    monkeypatch.setattr("scripts.export_geometry.picture.SIDE", 32)
    monkeypatch.setattr("scripts.export_geometry.picture.SIDES", 2)
    monkeypatch.setattr("scripts.export_geometry.picture.MOST_DOTS", 100)


def export(*flags: object) -> int:
    return export_geometry.main([str(flag) for flag in flags])


def test_the_program_writes_files_figures_and_a_picture(run, tmp_path, capsys):
    from PIL import Image

    own, picture, figures = tmp_path / "own", tmp_path / "picture.png", tmp_path / "figures.json"
    flags = ["--object", "000200_delivery", "--cond-views", 0, 2, "--truth", "shapes", "--largest"]
    assert export(run, *flags, *HAZE, "--output", own, "--picture", picture, "--figures", figures) == 0
    out = capsys.readouterr().out.splitlines()
    assert out[:3] == [str(own / "mesh.glb"), str(own / "cloud.ply"), str(picture)]
    assert Image.open(picture).size == (3 * 32, 4 * (16 + 32))
    known = json.loads(figures.read_text())
    assert set(known) == {
        "mesh", "point cloud", "flat picture, right silhouette", "ellipsoid of the mean size",
        "another training object", "the truth, in other points",
    }  # fmt: skip
    # By another way: the mesh as it was written, and the truth as it is made.
    mesh = load_mesh(find_meshes(own / "mesh.glb")[0]).mesh
    mesh = upright(mesh, "y", "z")
    truth = car(200)
    sides = [outer_points(each.vertices, each.faces, 4000, seed=7) for each in (mesh, truth)]
    found = known["mesh"]["000200_delivery"]["chamfer"]
    assert found == pytest.approx(distance(*sides).chamfer, rel=0.1)
    floor = known["the truth, in other points"]["000200_delivery"]["chamfer"]
    assert 0 < floor < 0.01 < known["flat picture, right silhouette"]["000200_delivery"]["chamfer"]
    row = next(line for line in out if line.startswith("| mesh |"))
    assert row.startswith(f"| mesh | 1 | {1000 * found:.2f} |")


def test_true_meshes_may_be_files_and_several_objects_have_folders(run, tmp_path, capsys):
    meshes = tmp_path / "meshes"
    for name in ("000200_delivery", "nobody"):
        write_glb(meshes / f"{name}.glb", house())
    flags = ["--n", 2, "--truth", meshes, "--cloud", "mesh", "--points", 321, "--smooth", 2]
    assert export(run, *flags, *HAZE, "--output", tmp_path / "out") == 0
    assert "| mesh | 2 |" in capsys.readouterr().out
    for name in ("000200_delivery", "nobody"):
        assert len(trimesh.load(tmp_path / "out" / name / "cloud.ply").vertices) == 321


def test_views_drawn_one_after_the_other_become_sources_and_their_cameras_open(run, tmp_path, capsys):
    film = tmp_path / "film"
    flags = [
        "--transfer",
        run,
        "--views",
        2,
        "--trajectory",
        "turntable",
        "--autoregressive",
        "--output",
        film,
    ]
    assert sample_views.main([str(flag) for flag in flags]) == 0
    document = json.loads((film / "transforms.json").read_text())
    opened, names = from_transforms(document)
    assert opened.shape == (2,)
    for frame, name in zip(document["frames"], names, strict=True):
        assert (film / name).is_file()
        assert (film / frame["depth_file_path"]).is_file()
    for name, further in (("alone", []), ("with", ["--film", film])):
        assert export(run, *further, *HAZE, "--output", tmp_path / name) == 0
    alone, more = ((tmp_path / name / "cloud.ply").read_bytes() for name in ("alone", "with"))
    assert alone != more
    assert export(run, "--object", "nobody", "--film", film, "--output", tmp_path / "other") == 2
    assert "shows 000200_delivery; give views of nobody" in capsys.readouterr().err
    assert not list((tmp_path / "other").iterdir())


@pytest.fixture
def houses(monkeypatch):
    """The program finds the same house of whatever object, at once, unless its name is set to an error."""
    errors = {}

    def extract(self, job, source):
        if job.name in errors:
            raise errors[job.name]
        return house(), PointCloud(house().vertices, house().colours)

    monkeypatch.setattr(Exporter, "extract", extract)
    return errors


@pytest.mark.parametrize(
    ("failing", "error", "code", "said"),
    [
        ("000200_delivery", ValueError("is fog"), 2, "export_geometry: 000200_delivery: is fog"),
        (
            "nobody",
            KeyboardInterrupt(),
            130,
            "export_geometry: interrupted; existing files are complete",
        ),
    ],
)
def test_what_ends_one_object_leaves_the_measurements_of_the_others(
    run, tmp_path, capsys, houses, failing, error, code, said
):
    names = ("000200_delivery", "nobody")
    for name in names:
        write_glb(tmp_path / "meshes" / f"{name}.glb", house())
    houses[failing] = error
    picture, figures = tmp_path / "picture.png", tmp_path / "figures.json"
    flags = ["--truth", tmp_path / "meshes", "--picture", picture, "--figures", figures]
    assert export(run, "--n", 2, *flags, "--output", tmp_path / "out") == code
    (other,) = set(names) - {failing}
    assert {name for found in json.loads(figures.read_text()).values() for name in found} == {other}
    assert [path.parent.name for path in tmp_path.glob("out/*/cloud.ply")] == [other]
    assert picture.is_file()
    told = capsys.readouterr()
    assert "| mesh | 1 |" in told.out
    assert told.err.splitlines()[-1] == said


def test_an_object_is_not_compared_with_itself_as_another_training_object(run, tmp_path, capsys, houses):
    flags = ["--object", "000001_pickup", "--split", "train", "--truth", "shapes"]
    assert export(run, *flags, "--output", tmp_path) == 0
    out = capsys.readouterr().out
    assert "ellipsoid of the mean size" in out
    assert "another training object" not in out


def test_a_set_without_training_objects_is_said_to_miss_them(run, tmp_path, capsys, houses, plant_object):
    plant_object(tmp_path / "set" / "cars_val" / "000200_delivery", num_views=1, size=(32, 32))
    flags = ["--data", tmp_path / "set", "--split", "val", "--truth", "shapes"]
    assert export(run, *flags, "--output", tmp_path / "out") == 0
    told = capsys.readouterr()
    assert "no mesh of a training object is known (" in told.err
    assert "training object" not in told.out


def test_a_notice_of_a_photo_bears_the_name_of_the_program_that_gives_it(run, tmp_path, capsys, houses):
    photo = np.full((32, 32, 3), 255, np.uint8)
    photo[:6, :6] = 0  # far from the middle
    write_png(tmp_path / "p.png", torch.from_numpy(photo))
    pose = run.parent / "set" / "cars_val" / "nobody" / "pose" / "000000.txt"
    assert export(run, "--image", tmp_path / "p.png", "--camera", pose, "--output", tmp_path / "out") == 0
    err = capsys.readouterr().err
    assert "export_geometry: " + str(tmp_path / "p.png") in err
    assert "sample_views.py" not in err


def test_no_more_points_are_drawn_than_a_picture_needs():
    cloud = PointCloud(np.random.default_rng(0).normal(size=(321, 3)), np.zeros((321, 3), np.uint8))
    assert len(_dots(cloud).vertices) == 6 * 100


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ([*HAZE, "--opacity", "0.9"], "000200_delivery: no ray is 0.9 opaque; lower --opacity"),
        ([*HAZE, "--level", "0.99"], "000200_delivery: there is no surface at level 0.99"),
        ([*HAZE, "--level", "0.99"], "; lower --level below"),
        (["--level", "3"], "is a share of light"),
        (["--figures", "f.json"], "need --truth"),
        (["--image", "p.png", "--truth", "shapes"], "--truth is for objects"),
        (["--film", "f", "--n", "2"], "--film shows one object"),
        (["--film", "f"], "has no views"),
        ([*HAZE, "--n", "2", "--truth", "shapes"], "nobody: is no procedural car"),
        (["--truth", "nowhere"], "there is no such file or folder"),
        (["--object", "who"], "there is no object 'who'"),
        (["--device", "quantum"], "is not a device"),
        ([*HAZE, "--output", "/dev/null/x"], "cannot be written"),
        ([*HAZE, "--picture", "/dev/null/p.png"], "/dev/null/p.png: cannot be written"),
        ([*HAZE, "--truth", "shapes", "--figures", "."], ".: is a folder; give the name of a file"),
    ],
)
def test_a_mistake_is_one_line(run, capsys, monkeypatch, tmp_path, flags, said):
    monkeypatch.chdir(tmp_path)
    assert export(run, *flags) == 2
    lines = capsys.readouterr().err.splitlines()
    assert said in lines[-1]
    assert lines[-1].startswith("export_geometry: ")
    assert not list(tmp_path.rglob("*.glb"))


def test_a_family_without_volumes_and_missing_packages_are_one_line_each(run, capsys, monkeypatch, tmp_path):
    other = ImageDiffusion(ImageDiffusionConfig.model_validate(TINY_FAMILIES["image_diffusion"]))
    with pytest.raises(ValueError, match="runs/other: its model has no volumes"):
        volume_model.volumes_of(other, "runs/other")
    for package, said in (("skimage.measure", "need scikit-image"), ("scipy.spatial", "need scipy")):
        with monkeypatch.context() as patch:
            patch.setitem(sys.modules, package, None)
            assert export(run, *HAZE, "--output", tmp_path) == 2
        assert said in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
