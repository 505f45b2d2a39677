"""Ray casting: every number is reached a second way."""

import numpy as np
import pytest

from data.meshes.mesh import Mesh, join_meshes
from data.meshes.primitives import box, ellipsoid
from data.meshes.ray_casting import look_at_origin, render_meshes

HEIGHT, WIDTH = 37, 53
INTRINSICS = np.array([[0.9, 0, 0.46], [0, 1.2, 0.55], [0, 0, 1]])
POSITION = np.array([0.7, -0.9, 0.6])
RED = (200, 30, 20)


def _views(mesh: Mesh, *positions, **changes):
    poses = np.stack([look_at_origin(np.asarray(position, float)) for position in positions])
    settings = {"intrinsics": INTRINSICS, "height": HEIGHT, "width": WIDTH} | changes
    return poses, render_meshes(mesh, poses, **settings)


def _directions(pose: np.ndarray) -> np.ndarray:
    """World directions through the pixel centres, one unit deep."""
    x, y = np.meshgrid((np.arange(WIDTH) + 0.5) / WIDTH, (np.arange(HEIGHT) + 0.5) / HEIGHT)
    in_camera = [(x - INTRINSICS[0, 2]) / INTRINSICS[0, 0], (y - INTRINSICS[1, 2]) / INTRINSICS[1, 1]]
    return np.stack([*in_camera, np.ones_like(x)], axis=-1) @ pose[:3, :3].T


def test_depth_of_a_box_is_the_slab_intersection():
    size = np.array([0.5, 0.3, 0.4])
    (pose,), views = _views(box((0, 0, 0), size, RED), POSITION)
    with np.errstate(divide="ignore"):
        planes = (np.stack([-size / 2, size / 2]) - POSITION)[:, None, None] / _directions(pose)
    enter, leave = planes.min(0).max(-1), planes.max(0).min(-1)
    expected = np.where(enter < leave, enter, 0)
    both = (views.depth[0] > 0) & (expected > 0)
    np.testing.assert_allclose(views.depth[0][both], expected[both], atol=1e-6)
    assert ((views.depth[0] > 0) != (expected > 0)).mean() < 2e-3  # only rays that graze an edge may differ


def test_depth_of_a_sphere_is_the_closed_form():
    (pose,), views = _views(ellipsoid((0, 0, 0), (0.3, 0.3, 0.3), RED, segments=160), POSITION)
    directions = _directions(pose)
    a, b = (directions**2).sum(-1), directions @ POSITION
    root = b**2 - a * (POSITION @ POSITION - 0.3**2)
    expected = (-b - np.sqrt(np.maximum(root, 0))) / a
    inside = root > 0.02  # away from the rim, where a polyhedron and a sphere part
    np.testing.assert_allclose(views.depth[0][inside], expected[inside], atol=5e-4)
    assert inside.sum() > 100
    assert not views.depth[0][root < 0].any()


def test_points_seen_in_one_view_lie_on_the_surface_seen_in_another():
    mesh = join_meshes([box((0, 0, 0), (0.4, 0.3, 0.2), RED), box((0.1, 0.05, 0.15), (0.1, 0.2, 0.1), RED)])
    (pose,), views = _views(mesh, POSITION)
    fine = {"height": 9 * HEIGHT, "width": 9 * WIDTH}  # intrinsics do not depend on the resolution
    (other_pose,), other_views = _views(mesh, POSITION * [1.1, 0.8, 1.2], **fine)

    seen = views.depth[0] > 0
    points = POSITION + views.depth[0][seen][:, None] * _directions(pose)[seen]
    in_camera = (points - other_pose[:3, 3]) @ other_pose[:3, :3]
    x, y, _ = (in_camera / in_camera[:, 2:] @ INTRINSICS.T).T
    other_depth = other_views.depth[0][(y * fine["height"]).astype(int), (x * fine["width"]).astype(int)]
    error = np.abs(in_camera[:, 2] - other_depth)
    assert np.median(error) < 2e-3  # half a pixel across a slanted face
    assert (error < 5e-3).mean() > 0.85  # the rest is hidden in the second view, or on a silhouette


def test_alpha_of_a_square_adds_up_to_its_projected_area():
    mesh = box((0, 0, 0), (0.31, 0.27, 1e-6), RED)
    pose = np.diag([1.0, -1, -1, 1])
    pose[2, 3] = 1.5
    views = render_meshes(mesh, pose[None], intrinsics=INTRINSICS, height=HEIGHT, width=WIDTH, samples=8)
    area = 0.31 * 0.27 / 1.5**2 * INTRINSICS[0, 0] * WIDTH * INTRINSICS[1, 1] * HEIGHT
    assert views.alpha.sum() / 255 == pytest.approx(area, rel=0.03)


def test_the_picture_is_colour_over_white():
    _, views = _views(ellipsoid((0, 0, 0), (0.3, 0.2, 0.1), (250, 250, 250)), POSITION)
    share = views.alpha[..., None] / 255
    assert (views.rgb[views.alpha == 0] == 255).all()
    assert views.rgb[views.alpha == 255].max() <= 250
    assert (views.rgb >= np.floor(255 * (1 - share) + 0.5 * 250 * share) - 1).all()
    assert set(np.unique(views.alpha)) <= {0, 64, 128, 191, 255}  # 2 x 2 rays a pixel


def test_winding_of_the_faces_changes_nothing():
    mesh = box((0, 0, 0), (0.4, 0.3, 0.2), RED)
    turned = Mesh(mesh.vertices, mesh.faces[:, ::-1], mesh.face_colours)
    np.testing.assert_array_equal(_views(mesh, POSITION)[1].rgb, _views(turned, POSITION)[1].rgb)


def test_what_is_outside_the_picture_or_behind_the_camera_is_not_drawn():
    behind = box(1.5 * POSITION, (0.1, 0.1, 0.1), RED)
    aside = box((0, 0, 9), (0.1, 0.1, 0.1), RED)
    for mesh in (behind, aside, join_meshes([behind, aside])):
        assert not _views(mesh, POSITION)[1].alpha.any()


def test_a_mesh_around_the_camera_fills_the_picture():
    views = _views(box((0, 0, 0), (4, 4, 4), RED), POSITION)[1]
    assert (views.alpha == 255).all()
    assert (views.depth > 0).all()


def test_impossible_requests_are_refused():
    mesh = box((0, 0, 0), (1, 1, 1), RED)
    with pytest.raises(ValueError, match="z axis"):
        look_at_origin(np.array([0.0, 0.0, 2.0]))
    with pytest.raises(ValueError, match="nothing to render"):
        _views(mesh, POSITION, width=0)
