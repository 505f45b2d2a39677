"""data/cameras/keyframes.py: smooth camera paths through keyframes."""

import math

import pytest
import torch
from torch import Tensor

from data.cameras.keyframes import CameraPath, along, catmull_rom, looked_at
from data.cameras.pinhole import opencv_to_opengl, pinhole
from data.cameras.poses import circle, look_at, orbit
from tests.scenes import cameras


def keyframes(num: int = 5, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Poses anywhere that look anywhere near the origin, rolled, each with its own lens."""
    generator = torch.Generator().manual_seed(seed)
    draw = torch.randn(num, 3, 3, generator=generator).double()
    eyes = 1.5 * torch.nn.functional.normalize(draw[:, 0], dim=-1) + 0.1 * draw[:, 1]
    poses = torch.stack([look_at(eye, 0.2 * aim) for eye, aim in zip(eyes, draw[:, 2], strict=True)])
    roll = torch.linspace(-1, 1, num).double()
    turn = torch.eye(4).double().repeat(num, 1, 1)
    turn[:, 0, 0] = turn[:, 1, 1] = roll.cos()
    turn[:, 1, 0], turn[:, 0, 1] = roll.sin(), -roll.sin()
    return poses @ turn, cameras(num, seed=seed).intrinsics.double()


def places_of_knots(poses: Tensor, intrinsics: Tensor, *, loop: bool) -> tuple[Tensor, Tensor]:
    """Very many views of a path, and which of them come nearest to the keyframes."""
    fine, lenses = along(poses, intrinsics, 20_001, loop=loop)
    distance = (fine[:, None] - poses[None]).flatten(2).norm(dim=-1)
    distance = distance + (lenses[:, None] - intrinsics[None]).flatten(2).norm(dim=-1)
    return distance.amin(dim=0), distance.argmin(dim=0)


@pytest.mark.parametrize("loop", [False, True])
def test_a_path_passes_through_its_keyframes_in_order(loop: bool):
    nearest, places = places_of_knots(*keyframes(), loop=loop)
    assert nearest.max() < 2e-3  # two views of 20001 are that far apart
    assert (places.diff() > 0).all()
    assert places[0] == 0
    assert (places[-1] == 20_000) != loop


def test_the_ends_of_an_open_path_and_the_beginning_of_a_loop_are_keyframes():
    poses, intrinsics = keyframes()
    path, lenses = along(poses, intrinsics, 7)
    torch.testing.assert_close(path[[0, -1]], poses[[0, -1]])
    torch.testing.assert_close(lenses[[0, -1]], intrinsics[[0, -1]])
    looped, _ = along(poses, intrinsics, 7, loop=True)
    torch.testing.assert_close(looped[0], poses[0])
    assert (looped[-1] - poses[0]).norm() > 0.1  # the next view would be the first one


def test_every_view_is_a_rigid_pose():
    path, _ = along(*keyframes(), 50, loop=True)
    rotation = path[:, :3, :3]
    torch.testing.assert_close(rotation @ rotation.mT, torch.eye(3).double().expand(50, 3, 3))
    torch.testing.assert_close(torch.linalg.det(rotation), torch.ones(50).double())


def turned_and_scaled(poses: Tensor, angle: float, factor: float) -> Tensor:
    turn = torch.eye(4).double()
    turn[0, 0] = turn[1, 1] = math.cos(angle)
    turn[1, 0], turn[0, 1] = math.sin(angle), -math.sin(angle)
    moved = turn @ poses
    moved[:, :3, 3] *= factor
    return moved


@pytest.mark.parametrize("loop", [False, True])
def test_turning_the_world_round_its_up_axis_turns_the_path(loop: bool):
    poses, intrinsics = keyframes()
    path, _ = along(poses, intrinsics, 11, loop=loop)
    moved, _ = along(turned_and_scaled(poses, 2.5, 1.0), intrinsics, 11, loop=loop)
    torch.testing.assert_close(moved, turned_and_scaled(path, 2.5, 1.0))


def test_a_larger_world_has_a_larger_path_of_the_same_shape():
    poses = orbit(*torch.tensor([[0.1, 0.9, 1.4, 2.9], [0.3, -0.2, 0.7, 0.1]]).double(), 1.3)
    lens = pinhole().double().expand(4, 3, 3)
    path, _ = along(poses, lens, 11)
    larger, _ = along(turned_and_scaled(poses, 0.0, 3.0), lens, 11)
    torch.testing.assert_close(larger, turned_and_scaled(path, 0.0, 3.0))


def test_keyframes_in_reverse_give_the_views_in_reverse():
    poses, intrinsics = keyframes()
    path, lenses = along(poses, intrinsics, 9)
    back, back_lenses = along(poses.flip(0), intrinsics.flip(0), 9)
    torch.testing.assert_close(back.flip(0), path)
    torch.testing.assert_close(back_lenses.flip(0), lenses)


def test_a_mirrored_world_has_the_mirrored_path():
    """Of the plane of x and z: azimuths and rolls change their sign."""
    poses, intrinsics = keyframes()
    intrinsics[:, 0, 2] = 0.5  # the mirror would move the principal point
    mirror = torch.tensor([1.0, -1.0, 1.0, 1.0]).double()
    right = torch.tensor([-1.0, 1.0, 1.0, 1.0]).double()

    def mirrored(cam_to_world: Tensor) -> Tensor:
        return mirror[:, None] * cam_to_world * right

    path, _ = along(poses, intrinsics, 9, loop=True)
    torch.testing.assert_close(along(mirrored(poses), intrinsics, 9, loop=True)[0], mirrored(path))


@pytest.mark.parametrize("num", [4, 5, 12])
def test_keyframes_on_a_circle_give_the_circle(num: int):
    """Four views of a turntable as a loop: level, in the middle, at one distance, and evenly spaced."""
    first = orbit(torch.tensor(0.3).double(), torch.tensor(0.4).double(), 1.3)
    corners = circle(first, 4)
    path, _ = along(corners, pinhole().double().expand(4, 3, 3), num, loop=True)
    torch.testing.assert_close(path, circle(first, num))


def test_level_keyframes_round_the_object_keep_it_in_the_middle_and_the_horizon_level():
    generator = torch.Generator().manual_seed(4)
    azimuth = torch.rand(6, generator=generator).double().cumsum(0)
    elevation = torch.rand(6, generator=generator).double() - 0.3
    poses = orbit(azimuth, elevation, 1.7)
    path, _ = along(poses, pinhole().double().expand(6, 3, 3), 40)
    torch.testing.assert_close(path[:, 2, 0], torch.zeros(40).double(), atol=1e-12, rtol=0)  # right
    assert (path[:, 2, 1] < 0).all()  # down points down
    torch.testing.assert_close(path[:, :3, 3].norm(dim=-1), torch.full((40,), 1.7).double())
    torch.testing.assert_close(looked_at(path), torch.zeros(40, 3).double(), atol=1e-12, rtol=0)


def test_a_path_crosses_the_back_of_the_azimuth_the_shorter_way():
    azimuth = torch.tensor([3.0, -3.0]).double()  # 0.28 apart
    poses = orbit(azimuth, torch.zeros(2).double(), 1.0)
    path, _ = along(poses, pinhole().double().expand(2, 3, 3), 3)
    torch.testing.assert_close(path[1, :3, 3], torch.tensor([-1.0, 0.0, 0.0]).double(), atol=1e-9, rtol=0)


def test_keyframes_straight_above_the_object_are_ordinary_ones():
    elevation = torch.tensor([1.2, math.pi / 2, 1.1]).double()
    poses = orbit(torch.full((3,), 0.7).double(), elevation, 1.3)
    path, _ = along(poses, pinhole().double().expand(3, 3, 3), 41)
    assert places_of_knots(poses, pinhole().double().expand(3, 3, 3), loop=False)[0].max() < 2e-3
    assert path.diff(dim=0).abs().amax() < 0.05  # nowhere does the picture spin


@pytest.mark.parametrize("elevation_deg", [-89, -60, 0, 25, 60, 80, 88, 89.9, 90])
def test_a_way_round_near_the_pole_does_not_whirl(elevation_deg: float):
    """Up, half round and down again: the azimuth stays near those of the keyframes, at a nearly even pace."""
    angles = torch.tensor([[0, 20], [0, elevation_deg], [170, elevation_deg], [170, 20]]).double()
    poses = orbit(*angles.deg2rad().T, 1.3)
    path, _ = along(poses, pinhole().double().expand(4, 3, 3), 400)
    right = path[:, :3, 0]  # level, so it tells the azimuth even straight above
    turns = torch.atan2(-right[:, 0], right[:, 1]).diff()
    azimuth = ((turns + math.pi) % (2 * math.pi) - math.pi).cumsum(0).rad2deg()
    assert azimuth.min() > -20
    assert azimuth.max() < 190
    moved = path.diff(dim=0)
    pace = moved[:, :3, :3].flatten(1).norm(dim=-1) + moved[:, :3, 3].norm(dim=-1)
    assert pace.max() < 3 * pace.mean()


def test_keyframes_straight_above_that_differ_in_azimuth_are_not_the_same():
    poses = orbit(torch.tensor([0.2, 1.4]).double(), torch.full((2,), math.pi / 2).double(), 1.3)
    path, _ = along(poses, pinhole().double().expand(2, 3, 3), 3)
    torch.testing.assert_close(path[[0, -1]], poses, atol=1e-6, rtol=0)
    between = orbit(torch.tensor(0.8).double(), torch.tensor(math.pi / 2).double(), 1.3)
    torch.testing.assert_close(path[1], between, atol=1e-6, rtol=0)


def test_evenly_spaced_knots_give_the_textbook_formula():
    """Catmull and Rom's matrix, for one stretch between its neighbours."""
    values = torch.randn(4, 3, generator=torch.Generator().manual_seed(1)).double()
    lengths = torch.full((3,), 0.7).double()
    t = torch.linspace(0, 0.999, 6).double()
    found = catmull_rom(values[0], values.diff(dim=0), lengths, 0.7 * (1 + t))
    matrix = 0.5 * torch.tensor([[0, 2, 0, 0], [-1, 0, 1, 0], [2, -5, 4, -1], [-1, 3, -3, 1]]).double()
    powers = torch.stack([t**0, t, t**2, t**3], dim=-1)
    torch.testing.assert_close(found, powers @ matrix @ values)


def test_inner_stretches_of_a_parabola_are_drawn_exactly_whatever_the_knots():
    knots = torch.tensor([0.0, 0.3, 1.1, 1.2, 2.0]).double()
    curve = (knots**2 - 3 * knots)[:, None]
    places = torch.linspace(0.3, 1.19, 9).double()
    found = catmull_rom(curve[0], curve.diff(dim=0), knots.diff(), places)
    torch.testing.assert_close(found, (places**2 - 3 * places)[:, None])


@pytest.mark.parametrize("loop", [False, True])
def test_the_curve_has_no_corners(loop: bool):
    """One-sided differences at the knots agree; at the seam of a loop, too."""
    steps = torch.randn(5, 2, generator=torch.Generator().manual_seed(2)).double()
    lengths = torch.tensor([0.5, 1.0, 0.2, 0.9, 0.4]).double()
    if loop:
        steps[-1] = -steps[:-1].sum(dim=0)
    knots, small = lengths.cumsum(0)[:-1], 1e-6
    first = torch.zeros(2).double()

    def value(places: Tensor) -> Tensor:
        return catmull_rom(first, steps, lengths, places, loop=loop)

    before, after = value(knots) - value(knots - small), value(knots + small) - value(knots)
    torch.testing.assert_close(before / small, after / small, atol=1e-4, rtol=1e-4)
    if loop:
        total = float(lengths.sum())
        seam = (
            value(torch.tensor([total - small, total, 0.0, small], dtype=torch.float64)).diff(dim=0) / small
        )
        torch.testing.assert_close(seam[0], seam[2], atol=1e-3, rtol=1e-3)
        torch.testing.assert_close(seam[1], torch.zeros(2).double(), atol=1e-6, rtol=0)


def test_a_camera_that_looks_away_from_the_object_is_passed_through_as_well():
    poses = look_at(
        torch.tensor([[1.0, 0.2, 0.3], [0.1, 1.2, 0.5]]), torch.tensor([[3.0, 1.0, 0.0], [0.2, 0, 0]])
    )
    path, _ = along(poses, pinhole().expand(2, 3, 3), 5)
    torch.testing.assert_close(path[[0, -1]], poses)


def test_one_keyframe_gives_its_own_view_alone():
    poses, intrinsics = keyframes(1)
    for loop in (False, True):
        path, lenses = along(poses, intrinsics, 3, loop=loop)
        torch.testing.assert_close(path, poses.expand(3, 4, 4))
        torch.testing.assert_close(lenses, intrinsics.expand(3, 3, 3))


def test_keyframes_that_do_not_move_are_refused():
    poses, intrinsics = keyframes(3)
    again = [0, 1, 1, 2]
    with pytest.raises(ValueError, match="keyframes 1 and 2 are the same"):
        along(poses[again], intrinsics[again], 5)
    again = [0, 1, 2, 0]
    assert len(along(poses[again], intrinsics[again], 5)[0]) == 5
    with pytest.raises(ValueError, match="keyframes 3 and 0 are the same"):
        along(poses[again], intrinsics[again], 5, loop=True)


def test_cameras_taken_as_they_are_stay_so_and_fewer_are_spread_evenly():
    poses, intrinsics = (tensor.float() for tensor in keyframes(5))
    path = CameraPath(poses, intrinsics, 5, smooth=False)
    found = path.cameras(object_radius=0.4)
    assert torch.equal(found.cam_to_world, poses)
    assert torch.equal(found.intrinsics, intrinsics)
    torch.testing.assert_close(found.far - found.near, torch.full((5,), 0.8))
    assert torch.equal(path.cameras(3).cam_to_world, poses[[0, 2, 4]])
    with pytest.raises(ValueError, match="6 views requested, but the path has 5 cameras"):
        path.cameras(6)


def test_the_number_of_views_may_be_another_than_the_paths_own():
    poses, intrinsics = (tensor.float() for tensor in keyframes(3))
    path = CameraPath(poses, intrinsics, 4)
    assert (len(path.cameras().near), len(path.cameras(9).near), len(path.cameras(1).near)) == (4, 9, 1)
    # A path does not depend on the axes that cameras are written down in.
    assert not torch.equal(opencv_to_opengl(poses), poses)
