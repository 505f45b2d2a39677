"""Which way is up in a world, told by its cameras; scenes whose up is any axis are read with z up."""

import math
from pathlib import Path

import pytest
import torch

from data.cameras.poses import orbit
from data.cameras.world_up import find_up, is_z_up, name_of, turn_upright
from data.formats.registry import open_raw
from tests.scene_files import NUM, plant_scene, poses, refuses, train_cameras

AXES = {"x": (0, 1.0), "-x": (0, -1.0), "y": (1, 1.0), "-y": (1, -1.0), "-z": (2, -1.0)}


def rotation(axis: torch.Tensor, angle: float) -> torch.Tensor:
    """Rodrigues' formula."""
    x, y, z = (axis / axis.norm()).tolist()
    cross = torch.tensor([[0, -z, y], [z, 0, -x], [-y, x, 0]], dtype=torch.float64)
    return torch.linalg.matrix_exp(angle * cross)


def moved(turn: torch.Tensor, cameras: torch.Tensor) -> torch.Tensor:
    turned = cameras.double().clone()
    turned[:, :3] = turn.double() @ turned[:, :3]
    return turned


def up_to(name: str) -> torch.Tensor:
    """A rotation that brings z to an axis, with a turn about it that is none of the axes'."""
    place, sign = AXES[name]
    axis = torch.zeros(3, dtype=torch.float64)
    axis[place] = sign
    z = torch.tensor([0.0, 0.0, 1.0], dtype=torch.float64)
    across = torch.linalg.cross(z, axis) if place < 2 else torch.tensor([1.0, 0, 0], dtype=torch.float64)
    return rotation(axis, 0.7) @ rotation(across, math.pi / 2 if place < 2 else math.pi)


@pytest.mark.parametrize("name", AXES)
def test_the_axis_that_is_up_is_found_exactly_also_by_unsteady_hands(name: str):
    generator = torch.Generator().manual_seed(0)
    for roll in (0.0, 0.06):
        rolls = roll * torch.randn(NUM, generator=generator)
        cameras = moved(up_to(name), poses())
        for view in range(NUM):
            forward = torch.tensor([0.0, 0, 1], dtype=torch.float64)
            cameras[view, :3, :3] = cameras[view, :3, :3] @ rotation(forward, float(rolls[view]))
        up = find_up(cameras)
        assert name_of(up) == name
        assert up.abs().sort().values.tolist() == [0, 0, 1]
        assert not is_z_up(cameras)
        assert is_z_up(turn_upright(cameras, up))


def test_a_direction_that_is_no_axis_is_found():
    turn = rotation(torch.tensor([1.0, 2.0, -0.5]), 0.8)
    up = find_up(moved(turn, poses()))
    torch.testing.assert_close(up, turn[:, 2], atol=1e-5, rtol=0)
    assert name_of(up) == "({:.2f}, {:.2f}, {:.2f})".format(*turn[:, 2].tolist())


def test_z_stays_where_cameras_are_level_about_it():
    assert name_of(find_up(poses())) == "z"
    # From above, on one side: the mean of the upward axes lies nearer to y.
    azimuth = -math.pi / 2 + 0.1 * torch.arange(-3, 4)
    above = orbit(azimuth, torch.full_like(azimuth, 1.3), 1.3)
    assert (-above[:, :3, 1]).mean(dim=0).abs().argmax() == 1
    assert name_of(find_up(above)) == "z"
    # One meridian: level about x's perpendiculars, of which z is one.
    elevation = torch.linspace(0.1, 1.2, 7)
    assert name_of(find_up(orbit(torch.full_like(elevation, 0.4), elevation, 1.3))) == "z"


def test_cameras_that_are_rolled_in_all_ways_tell_nothing():
    cameras = poses().double()
    for view in range(NUM):
        forward = torch.tensor([0.0, 0, 1], dtype=torch.float64)
        cameras[view, :3, :3] = cameras[view, :3, :3] @ rotation(forward, 2.1 * view)
    assert find_up(cameras) is None
    assert not is_z_up(cameras)
    assert find_up(torch.full((5, 4, 4), torch.nan)) is None
    assert is_z_up(torch.full((5, 4, 4), torch.nan))
    assert find_up(poses(2)) is None
    assert is_z_up(poses(2))


def test_turning_is_by_the_smallest_angle():
    up = torch.tensor([0.6, 0.0, 0.8], dtype=torch.float64)
    turned = turn_upright(torch.eye(4, dtype=torch.float64)[None], up)[0, :3, :3]
    torch.testing.assert_close(turned @ up, torch.tensor([0, 0, 1.0], dtype=torch.float64))
    assert math.acos((turned.trace() - 1) / 2) == pytest.approx(math.acos(0.8))
    torch.testing.assert_close(torch.linalg.det(turned), torch.tensor(1.0, dtype=torch.float64))


@pytest.mark.parametrize("name", ["y", "-y", "x", "-z"])
def test_a_scene_in_a_world_of_another_axis_is_read_with_z_up(tmp_path: Path, name: str):
    turn = up_to(name)
    folder = plant_scene(tmp_path / "a", turn=turn)
    found, expected = (
        train_cameras(folder)[0].double(),
        train_cameras(plant_scene(tmp_path / "b"))[0].double(),
    )
    # Up to a turn about z, which no file tells.
    about = found[0, :3, :3] @ expected[0, :3, :3].T
    torch.testing.assert_close(about[2], torch.tensor([0, 0, 1.0], dtype=torch.float64), atol=1e-5, rtol=0)
    torch.testing.assert_close(found, moved(about, expected), atol=1e-5, rtol=0)
    notice = f"its cameras are level about {name}, so the world was rotated to make that z, up"
    assert open_raw(folder, "val").notices(0) == (f"{folder / 'transforms.json'}: {notice}",)
    assert open_raw(tmp_path / "b", "val").notices(0) == ()


def test_a_world_with_y_up_becomes_that_of_the_same_cameras_with_z_up(tmp_path: Path):
    y_up = torch.tensor([[1.0, 0, 0], [0, 0, 1], [0, -1, 0]])  # z to y, x stays
    found = train_cameras(plant_scene(tmp_path / "a", turn=y_up))
    torch.testing.assert_close(found, train_cameras(plant_scene(tmp_path / "b")), atol=1e-6, rtol=0)


def test_the_key_up_decides(tmp_path: Path):
    turn = rotation(torch.tensor([1.0, 2.0, -0.5]), 0.8)
    folder = plant_scene(tmp_path / "a", turn=turn, up=(3 * turn[:, 2]).tolist())
    cameras = train_cameras(folder)[0]
    assert cameras[:, 2, 0].abs().max() < 1e-5
    assert "its key `up` is (0." in open_raw(folder, "train").notices(0)[0]
    plain = plant_scene(tmp_path / "b", up=[0, 0, 1])
    assert open_raw(plain, "train").notices(0) == ()
    for up in ("y", [0, 0, 0], [1, 2]):
        with refuses("`up` is .*three numbers are needed"):
            open_raw(plant_scene(tmp_path / f"c{up}", up=up), "train").num_views(0)


def test_a_world_that_does_not_tell_is_left_as_it_is_which_is_said(tmp_path: Path):
    cameras = poses()[:2]
    tilted = rotation(torch.tensor([1.0, 0.4, 0.0]), 1.2)
    folder = plant_scene(tmp_path / "a", 2, turn=tilted)
    raw = open_raw(folder, "train")
    torch.testing.assert_close(raw.cameras(0)[0], moved(tilted, cameras)[1:].float(), atol=1e-5, rtol=0)
    assert "z is assumed to be up, so rotate the world if it is not" in raw.notices(0)[0]
