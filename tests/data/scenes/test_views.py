"""Objects, conditioning views and trajectories by what a user asks for."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from data.cameras.pinhole import cameras_from_poses, pinhole
from data.cameras.poses import SRN_RADIUS, look_at, spiral, srn_test_path
from data.cameras.trajectories import PATHS, trajectory
from data.config import DataConfig
from data.formats.registry import open_split
from data.images.pixels import to_uint8
from data.scenes.objects import Objects
from data.scenes.views import choose_objects, data_job, other_views
from scripts.sampling.request import parse_views


@pytest.fixture
def objects(srn_root: Path) -> Objects:
    """a with 4 views and bb with 3."""
    return open_split(DataConfig(root=str(srn_root), image_size=6), "train")


def test_objects_are_the_first_ones_or_those_named_in_that_order(objects: Objects):
    assert choose_objects(objects) == [0]
    assert choose_objects(objects, num=2) == [0, 1]
    assert choose_objects(objects, names=["bb", "a"]) == [1, 0]


@pytest.mark.parametrize(
    ("asked", "problem"),
    [({"num": 3}, "3 objects .* has 2"), ({"names": ["b"]}, "bb"), ({"names": ["a", "a"]}, "twice")],
)
def test_objects_that_do_not_exist_are_an_error(objects: Objects, asked: dict, problem: str):
    with pytest.raises(ValueError, match=problem):
        choose_objects(objects, **asked)


@pytest.mark.parametrize("words", [["64", "104"], ["64,104"], ["64,", "104"], ["64 , 104"]])
def test_views_may_be_separated_by_spaces_and_commas(words: list[str]):
    assert parse_views(words) == [64, 104]


@pytest.mark.parametrize("words", [["-1"], ["1.5"], ["x"], [","], ["2", "2"], ["²"], ["1 2"]])
def test_what_is_no_list_of_views_is_an_error(words: list[str]):
    with pytest.raises(ValueError, match="view"):
        parse_views(words)


def test_other_views_are_spread_evenly_and_leave_out_the_conditioning_ones(objects: Objects):
    assert other_views(objects, 0, [1]) == [0, 2, 3]
    assert other_views(objects, 0, [0], num=1) == [2]
    with pytest.raises(ValueError, match=r"a: 3 target views .* has 2"):
        other_views(objects, 0, [1, 3], num=3)
    with pytest.raises(ValueError, match=r"bb: 1 target views .* has 0"):
        other_views(objects, 1, [0, 1, 2])


@pytest.mark.parametrize(("num_views", "customary"), [(64, 0), (65, 64)])
def test_the_customary_conditioning_view_is_64_where_there_is_one(
    tmp_path: Path, plant_object: Callable[..., Path], num_views: int, customary: int
):
    plant_object(tmp_path / "cars_val/long", num_views=num_views)
    objects = open_split(DataConfig(root=str(tmp_path), image_size=6), "val")
    job = data_job(objects, 0, views=None, path="circle", num=3, object_radius=None)
    pose = srn_test_path(num_views)[customary]
    torch.testing.assert_close(job.source.cameras.cam_to_world[0, 0], pose, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(job.cameras.cam_to_world[0, 0], pose, atol=1e-5, rtol=1e-5)
    assert (job.name, tuple(job.cameras.shape)) == ("long", (1, 3))


def test_a_job_knows_the_true_images_of_cameras_that_the_data_have(objects: Objects):
    others = data_job(objects, 0, views=[1], path="data", num=None, object_radius=None)
    for number, view in enumerate((0, 2, 3)):
        assert torch.equal(others.truth(number), to_uint8(objects.read(0, [view])[0][0]))
    circle = data_job(objects, 0, views=[2], path="circle", num=3, object_radius=None)
    assert torch.equal(circle.truth(0), to_uint8(objects.read(0, [2])[0][0]))
    assert circle.truth(1) is None


@pytest.mark.parametrize("name", PATHS)
def test_a_trajectory_keeps_intrinsics_and_distance_of_its_reference(name: str):
    eye = torch.tensor([1.2, -0.7, 1.9])
    intrinsics = torch.tensor([[1.4, 0.0, 0.52], [0.0, 1.1, 0.47], [0.0, 0.0, 1.0]])
    reference = cameras_from_poses(look_at(eye, torch.zeros(3))[None], intrinsics, object_radius=0.6)[0]
    path = trajectory(name, reference, 7, object_radius=0.6)
    distance = eye.norm().expand(7)
    torch.testing.assert_close(path.positions.norm(dim=1), distance)
    torch.testing.assert_close(path.intrinsics, intrinsics.expand(7, 3, 3))
    torch.testing.assert_close(path.near, distance - 0.6)
    # All of them look at the object.
    torch.testing.assert_close(path.project(torch.zeros(7, 1, 3))[:, 0, 2], distance)
    assert torch.equal(trajectory(name, reference, 7).cam_to_world, path.cam_to_world)


def test_trajectories_have_their_customary_lengths():
    reference = cameras_from_poses(srn_test_path()[64:65], pinhole())[0]
    lengths = {name: len(trajectory(name, reference).near) for name in PATHS}
    assert lengths == {"spiral": 40, "circle": 40, "turntable": 40, "srn_test": 251}
    spiral_path = trajectory("spiral", reference).cam_to_world
    torch.testing.assert_close(spiral_path, spiral(40, SRN_RADIUS), atol=1e-6, rtol=1e-6)
