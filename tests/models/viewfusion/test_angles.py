"""From where a target is seen: angles of NMR's views, and how the network is given them."""

import math

import pytest
import torch

from data.cameras.pinhole import Cameras, cameras_from_poses, pinhole
from data.cameras.poses import orbit
from models.viewfusion.angles import AngleConfig, angle_features, fit_angles, view_angle

TURN = 2 * math.pi


def turn(
    num: int = 24, *, offset_deg: float = 0.0, direction: int = 1, elevation_deg: float = 30.0
) -> Cameras:
    """Cameras at even steps round the object."""
    azimuths = torch.deg2rad(offset_deg + direction * 360 / num * torch.arange(num))
    elevations = torch.full_like(azimuths, math.radians(elevation_deg))
    return cameras_from_poses(orbit(azimuths, elevations, 1.3), pinhole())


@pytest.mark.parametrize(("offset_deg", "direction"), [(0.0, 1), (90.0, 1), (-37.0, -1), (180.0, -1)])
def test_views_of_a_turn_are_angles_by_their_numbers(offset_deg, direction):
    cameras = turn(offset_deg=offset_deg, direction=direction)
    config = fit_angles(AngleConfig(), [cameras, cameras])
    assert config.direction == direction
    expected = TURN / 24 * torch.arange(24)
    torch.testing.assert_close(view_angle(cameras, config), expected, atol=1e-4, rtol=0)


def test_the_first_view_is_never_taken_for_a_whole_turn():
    for offset_deg in range(-180, 180, 7):
        cameras = turn(offset_deg=float(offset_deg))
        assert float(view_angle(cameras[0], fit_angles(AngleConfig(), [cameras])).abs()) < 1e-3


def test_what_the_config_says_of_the_turn_stays():
    config = fit_angles(AngleConfig(offset_rad=1.0, direction=-1), [turn()])
    assert (config.offset_rad, config.direction) == (1.0, -1)
    half = fit_angles(AngleConfig(direction=-1), [turn(offset_deg=90.0)])
    assert half.direction == -1
    assert half.offset_rad == pytest.approx(math.pi / 2, abs=1e-4)


def test_objects_that_go_round_differently_have_azimuths_for_angles():
    config = fit_angles(AngleConfig(), [turn(), turn(offset_deg=10.0)])
    assert (config.offset_rad, config.direction) == (0.0, 1)


def test_elevations_that_differ_must_be_known_to_the_network():
    objects = [turn(elevation_deg=10.0), turn(elevation_deg=40.0)]
    with pytest.raises(ValueError, match=r"elevations from 10 to 40 degrees.*model\.angle\.elevation=true"):
        fit_angles(AngleConfig(), objects)
    fit_angles(AngleConfig(encoding="harmonics", elevation=True), objects)


def features(config: AngleConfig, azimuth_deg: float, elevation_deg: float = 30.0) -> torch.Tensor:
    cameras = turn(1, offset_deg=azimuth_deg, elevation_deg=elevation_deg)
    first = turn(1, offset_deg=20.0)[0]
    return angle_features(cameras[None], first.apply(lambda tensor: tensor[None]), config, 32)[0, 0]


def test_harmonics_are_periodic_and_the_published_embedding_is_not():
    just_before = 359.9
    harmonics, radians = AngleConfig(encoding="harmonics"), AngleConfig()
    assert (features(harmonics, just_before) - features(harmonics, 0.0)).abs().max() < 0.02
    assert (features(radians, just_before) - features(radians, 0.0)).abs().max() > 0.2


def test_harmonics_are_sines_and_cosines_of_multiples():
    azimuth, elevation = math.radians(50.0), math.radians(20.0)
    found = features(AngleConfig(encoding="harmonics", elevation=True), 50.0, 20.0)
    phases = [k * angle for angle in (azimuth, elevation) for k in range(1, 5)]
    expected = torch.tensor([*map(math.sin, phases), *map(math.cos, phases)])
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)


def test_relative_angles_are_those_from_the_target_to_the_reference():
    found = features(AngleConfig(encoding="harmonics", relative=True), 50.0)
    phases = torch.deg2rad(-30.0 * torch.arange(1, 5))
    torch.testing.assert_close(found, torch.cat([phases.sin(), phases.cos()]), atol=1e-5, rtol=0)


def test_an_elevation_needs_harmonics():
    with pytest.raises(ValueError, match="elevation needs encoding=harmonics"):
        AngleConfig(elevation=True)
