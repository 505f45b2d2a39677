"""The reprojection measure on scenes that can be drawn exactly: a plane and a sphere."""

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from data.cameras.pinhole import Cameras, cameras_from_poses, pinhole
from data.cameras.poses import look_at, orbit
from models.base import surface_depth
from scripts.sampling.reprojection import LEVELS, Agreement, SeenView, pair_agreement, sequence_agreement

HEIGHT, WIDTH = 21, 31
RADIUS = 0.4


def camera_at(*eye: float, target: tuple[float, float, float] = (0.0, 0.0, 0.0)) -> Cameras:
    pose = look_at(torch.tensor(eye), torch.tensor(target))
    return cameras_from_poses(pose[None], pinhole(0.9, aspect=WIDTH / HEIGHT))[0]


def slope(points: Tensor) -> Tensor:
    """Colours [n 3] that change linearly in space."""
    return points @ torch.tensor([[0.3, -0.2, 0.1], [0.1, 0.4, -0.3], [-0.2, 0.1, 0.3]])


def waves(points: Tensor) -> Tensor:
    """Smooth colours [n 3] that no two places of the sphere have in common."""
    return 0.8 * torch.sin(points @ torch.tensor([[3.0, 1.0, -2.0], [-1.0, 2.5, 1.0], [0.5, -1.5, 3.0]]))


def plane_view(camera: Cameras, colours=slope) -> SeenView:
    """The plane x = 0, as far as it is in front of the camera."""
    rays = camera.rays(HEIGHT, WIDTH)
    distance = -rays.origins[:, 0] / rays.directions[:, 0]
    points = rays.origins + distance[:, None] * rays.directions
    depth = camera.project(points)[:, 2]
    return seen(camera, colours(points), depth)


def sphere_view(camera: Cameras, colours=waves) -> SeenView:
    """A sphere round the origin on white."""
    rays = camera.rays(HEIGHT, WIDTH)
    middle = -(rays.origins * rays.directions).sum(dim=1)
    inside = RADIUS**2 - (rays.origins**2).sum(dim=1) + middle**2
    distance = middle - inside.clamp_min(0).sqrt()
    points = rays.origins + distance[:, None] * rays.directions
    hit = inside > 0
    depth = torch.where(hit, camera.project(points)[:, 2], 0.0)
    return seen(camera, torch.where(hit[:, None], colours(points), 1.0), depth)


def seen(camera: Cameras, colours: Tensor, depth: Tensor) -> SeenView:
    shape = (HEIGHT, WIDTH)
    return SeenView(colours.T.unflatten(1, shape), depth.unflatten(0, shape), camera)


def test_two_views_of_a_plane_agree_exactly():
    # Seen askew, colours on a plane are no linear function of the pixel; straight on they are.
    straight = [plane_view(camera_at(1.3, y, z, target=(0.0, y, z))) for y, z in ((0.0, 0.0), (0.13, -0.07))]
    agreement = pair_agreement(*straight)
    assert agreement.error < 1e-3
    assert agreement.share > 0.6
    assert agreement.num_surface == 2 * HEIGHT * WIDTH
    askew = [plane_view(camera_at(1.3, y, 0.1)) for y in (0.3, 0.5)]
    assert pair_agreement(*askew).error < 0.1


def test_a_picture_shifted_by_a_pixel_errs_by_its_slope_times_a_pixel():
    camera = camera_at(1.3, 0.0, 0.0)
    view = plane_view(camera)
    shifted = replace(view, image=torch.cat([view.image[:, :, :1], view.image[:, :, :-1]], dim=2))
    # From the same camera each pixel meets itself, which now has its neighbour's colour but for one column.
    pixel = view.image[:, 0, 1] - view.image[:, 0, 0]
    expected = LEVELS * pixel.square().mean().sqrt().item()
    whole = pair_agreement(view, shifted)
    assert whole.num_compared >= 2 * (HEIGHT - 2) * (WIDTH - 2)
    assert whole.error == pytest.approx(expected, rel=0.05)
    assert pair_agreement(view, view).error < 1e-3
    assert whole.psnr == pytest.approx(-20 * math.log10(whole.error / 255))


def test_a_difference_in_colour_alone_is_the_error_in_levels():
    views = [sphere_view(camera_at(1.3, y, 0.2)) for y in (0.0, 0.1)]
    before = pair_agreement(*views)
    brighter = replace(views[1], image=views[1].image + 10 / LEVELS)
    after = pair_agreement(views[0], brighter)
    assert before.error < 1.5  # interpolation
    assert after.error == pytest.approx(10, abs=0.5)
    assert after.num_compared == before.num_compared


def test_neighbours_on_a_sphere_agree_far_better_than_pictures_that_do_not_turn():
    angles = torch.tensor([0.0, 0.15, 0.3, 0.45])
    poses = orbit(angles, torch.full((4,), 0.3))
    path = [cameras_from_poses(pose[None], pinhole(0.9, aspect=WIDTH / HEIGHT))[0] for pose in poses]
    film = [sphere_view(camera) for camera in path]
    frozen = [replace(view, image=film[0].image) for view in film]
    assert sequence_agreement(film).error < sequence_agreement(frozen).error / 5
    assert sequence_agreement(film).num_surface == 2 * sum(
        int((view.depth > 0).sum()) for view in film
    ) - sum(int((view.depth > 0).sum()) for view in (film[0], film[-1]))


def test_which_view_is_first_does_not_matter_and_sums_are_of_all_pairs():
    views = [sphere_view(camera_at(1.3, y, 0.2)) for y in (0.0, 0.2, 0.5)]
    assert pair_agreement(*views[:2]).error == pytest.approx(pair_agreement(*views[1::-1]).error)
    assert sequence_agreement(views).error == pytest.approx(sequence_agreement(views[::-1]).error)
    parts = pair_agreement(*views[:2]) + pair_agreement(*views[1:])
    assert parts == sequence_agreement(views)


def test_what_one_view_hides_is_not_compared():
    # From opposite sides of a sphere nothing is seen twice, but without a test of depth all would be.
    views = [sphere_view(camera_at(x, 0.0, 0.0)) for x in (1.3, -1.3)]
    assert pair_agreement(*views).share < 0.02
    quarter = [sphere_view(camera_at(1.3, 0.0, 0.0)), sphere_view(camera_at(0.0, 1.3, 0.0))]
    assert 0.03 < pair_agreement(*quarter).share < 0.3


def test_without_a_surface_there_is_no_figure():
    view = sphere_view(camera_at(1.3, 0.0, 0.0))
    empty = replace(view, depth=torch.zeros_like(view.depth))
    nothing = pair_agreement(empty, view)
    assert math.isnan(nothing.error)
    assert math.isnan(nothing.psnr)
    assert nothing.share == 0
    assert Agreement().share == 0


def test_surface_depth_undoes_what_the_far_plane_adds():
    camera = camera_at(1.3, 0.0, 0.0)
    opacity = torch.tensor([[[0.2, 0.5, 0.7, 1.0]]])
    depth = torch.tensor([[[1.0, 1.1, 1.2, 1.3]]])
    shown = opacity * depth + (1 - opacity) * camera.far
    torch.testing.assert_close(surface_depth(shown, opacity, camera), torch.tensor([[0.0, 1.1, 1.2, 1.3]]))
