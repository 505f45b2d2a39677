"""Views in batches and one by one, by a model that writes down what it is shown, and by the real one."""

import weakref
from collections import Counter
from collections.abc import Iterator
from dataclasses import fields

import pytest
import torch
from torch import Tensor

from data.cameras.pinhole import Cameras, cameras_from_poses, pinhole
from data.cameras.poses import spiral, turntable
from data.images.pixels import from_uint8, to_uint8
from data.scenes.batch import SceneBatch, Views, all_valid, concatenate
from diffusion.samplers import SampleOptions
from models.base import NVSModel, Prediction
from models.sampling.autoregressive import batches, sample_autoregressive, sample_in_batches, sample_jointly
from models.sampling.conditioning import POLICIES, make_policy, views_to_look_at
from tests.tiny_run import tiny_config, tiny_model

OPTIONS = SampleOptions(sampler="euler", steps=2)


class Diary(NVSModel):
    """Draws each view in the grey level of its seed, and writes down the levels that it looked at."""

    def __init__(self) -> None:
        super().__init__()
        self.looked_at: list[list[list[int]]] = []  # per view, scene and source
        self.num_encoded = 0
        self.num_drawn: list[int] = []
        self.begun: list[Tensor | None] = []

    def loss(self, batch: SceneBatch, *, progress: float) -> dict[str, Tensor]:
        return {}

    def parts(self) -> dict[str, torch.nn.Module]:
        return {}

    def encode(self, source: Views) -> Views:
        self.num_encoded += source.images.shape[1]
        return source

    def draw(self, scene, cameras, seeds, options, *, init_images=None, callback=None) -> Prediction:
        levels = to_uint8(scene.images)[:, :, 0, 0, 0].int()
        levels -= 256 * (levels > 240)  # source views
        self.looked_at.append([row[valid].tolist() for row, valid in zip(levels, scene.valid, strict=True)])
        self.num_drawn.append(seeds.shape[1])
        self.begun.append(init_images)
        images = grey(seeds)[:, :, None, None, None].expand(-1, -1, 3, 4, 4).contiguous()
        return Prediction(images, images, images[:, :, :1], images[:, :, :1])


def grey(level: Tensor | int) -> Tensor:
    """That level of 8 bits as a value of an image, not quite exact."""
    return (torch.as_tensor(level) + 0.3) / 127.5 - 1


def poses_to_cameras(poses: Tensor, num_scenes: int) -> Cameras:
    return cameras_from_poses(poses, pinhole()).apply(lambda tensor: torch.stack([tensor] * num_scenes))


def source_views(num_scenes: int, num: int, size: int = 4) -> Views:
    """Noise, but the first pixel says which: levels 255, 254, ..., which the diary notes as -1, -2, ..."""
    images = torch.rand(num_scenes, num, 3, size, size, generator=torch.Generator().manual_seed(1))
    images[:, :, 0, 0, 0] = grey(255 - torch.arange(num))
    return all_valid(images, poses_to_cameras(turntable(num), num_scenes))


def own_seeds(num_scenes: int, num: int) -> Tensor:
    """Different for every scene and view, below 240."""
    return 100 * torch.arange(num_scenes)[:, None] + torch.arange(num) + 1


def joined(predictions: Iterator[Prediction]) -> Prediction:
    return concatenate(list(predictions), axis=1)


def test_a_view_looks_at_the_source_at_four_earlier_views_and_at_the_last_one():
    model, seeds = Diary(), own_seeds(2, 9)
    cameras = poses_to_cameras(spiral(9), 2)
    list(sample_autoregressive(model, source_views(2, 3), cameras, seeds, OPTIONS))
    for view, scenes in enumerate(model.looked_at):
        for scene, colours in enumerate(scenes):
            assert colours[:3] == [-1, -2, -3]
            generated = (torch.tensor(colours[3:]) - 1 - 100 * scene).tolist()
            assert len(generated) == len(set(generated)) == min(view, 5)
            assert generated == views_to_look_at(int(seeds[scene, view]), view, earlier=4)


def test_padding_among_the_sources_is_not_looked_at():
    model, source = Diary(), source_views(2, 3)
    valid = torch.tensor([[True, False, False], [True, True, True]])
    padded = Views(source.images, source.cameras, valid)
    list(sample_autoregressive(model, padded, poses_to_cameras(spiral(2), 2), own_seeds(2, 2), OPTIONS))
    assert model.looked_at[1] == [[-1, 1], [-1, -2, -3, 101]]


@pytest.mark.parametrize("num_generated", [0, 1, 2, 5])
def test_all_generated_views_are_looked_at_while_they_are_few(num_generated: int):
    for seed in range(20):
        assert views_to_look_at(seed, num_generated, earlier=4) == list(range(num_generated))


def test_earlier_views_are_drawn_evenly_and_by_seed_alone():
    chosen = [views_to_look_at(seed, 12, earlier=4) for seed in range(1000)]
    assert all(views == sorted(set(views)) and len(views) == 5 and views[-1] == 11 for views in chosen)
    counts = Counter(view for views in chosen for view in views[:-1])
    expected = 1000 * 4 / 11
    # A binomial count; five standard deviations.
    allowed = 5 * (1000 * (4 / 11) * (7 / 11)) ** 0.5
    assert set(counts) == set(range(11))
    assert all(abs(count - expected) < allowed for count in counts.values())
    assert views_to_look_at(3, 12, earlier=0) == [11]


def test_every_view_is_encoded_once_where_there_is_room_and_the_result_never_depends_on_it():
    cameras, seeds = poses_to_cameras(spiral(9), 2), own_seeds(2, 9)
    roomy, cramped = Diary(), Diary()
    views = joined(sample_autoregressive(roomy, source_views(2, 3), cameras, seeds, OPTIONS))
    again = joined(sample_autoregressive(cramped, source_views(2, 3), cameras, seeds, OPTIONS, cached=1))
    assert roomy.num_encoded == 3 + 8  # the last view is looked at by nobody
    assert cramped.num_encoded > roomy.num_encoded
    assert roomy.looked_at == cramped.looked_at
    assert torch.equal(views.images, again.images)


def test_batches_have_the_size_asked_for_and_the_source_is_encoded_once():
    model = Diary()
    cameras, seeds = poses_to_cameras(spiral(7), 2), own_seeds(2, 7)
    views = joined(sample_in_batches(model, source_views(2, 3), cameras, seeds, OPTIONS, batch=3))
    assert model.num_drawn == [3, 3, 1]
    assert model.num_encoded == 3
    torch.testing.assert_close(views.images[:, :, 0, 0, 0], grey(seeds))


@pytest.fixture(scope="module")
def genvs(tmp_path_factory) -> NVSModel:
    folder = tmp_path_factory.mktemp("genvs")
    return tiny_model(tiny_config(folder, folder)).requires_grad_(False)


def test_the_same_views_come_from_batches_of_any_size(genvs: NVSModel):
    source, cameras, seeds = source_views(2, 2, 32), poses_to_cameras(spiral(5), 2), own_seeds(2, 5)
    whole = genvs.sample(source, cameras, seeds, OPTIONS)
    for batch in (1, 2, 9):
        parts = joined(sample_in_batches(genvs, source, cameras, seeds, OPTIONS, batch=batch))
        for field in fields(Prediction):
            ours, theirs = getattr(parts, field.name), getattr(whole, field.name)
            torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=1e-4, msg=field.name)
    assert (whole.images[:, 0] - whole.images[:, 1]).abs().mean() > 0.01


def test_one_after_another_is_sampling_with_the_views_so_far_among_the_sources(genvs: NVSModel):
    source, cameras, seeds = source_views(2, 2, 32), poses_to_cameras(spiral(4), 2), own_seeds(2, 4)
    ours = joined(sample_autoregressive(genvs, source, cameras, seeds, OPTIONS))
    known = source
    for view in range(4):  # so few that each looks at all before it
        now = cameras[:, view : view + 1]
        theirs = genvs.sample(known, now, seeds[:, view : view + 1], OPTIONS)
        torch.testing.assert_close(ours.images[:, view], theirs.images[:, 0], atol=1e-3, rtol=1e-3)
        seen = from_uint8(to_uint8(theirs.images))
        known = concatenate([known, all_valid(seen, now)], axis=1)
    independent = genvs.sample(source, cameras, seeds, OPTIONS)
    assert (ours.images[:, 3] - independent.images[:, 3]).abs().max() > 1e-2


def test_encodings_of_single_views_joined_are_the_encoding_of_all(genvs: NVSModel):
    source = source_views(2, 3, 32)
    source = Views(source.images, source.cameras, torch.tensor([[True, False, True], [True, True, True]]))
    whole = genvs.encode(source)
    singles = [genvs.encode(source.apply(lambda tensor, s=s: tensor[:, s : s + 1])) for s in range(3)]
    parts = concatenate(singles, axis=1)
    torch.testing.assert_close(parts.features, whole.features, atol=1e-5, rtol=1e-4)
    assert torch.equal(parts.valid, whole.valid)
    assert torch.equal(parts.cameras.cam_to_world, whole.cameras.cam_to_world)


def test_joining_puts_every_tensor_behind_the_same_one():
    first, second = source_views(2, 3), source_views(2, 1)
    both = concatenate([first, second], axis=1)
    assert torch.equal(both.images, torch.cat([first.images, second.images], dim=1))
    assert torch.equal(both.cameras.far, torch.cat([first.cameras.far, second.cameras.far], dim=1))
    assert both.valid.shape == (2, 4)


def test_views_are_drawn_in_the_order_asked_for_and_look_at_what_was_drawn_before():
    model, seeds = Diary(), own_seeds(1, 5)
    order = [3, 0, 4, 2, 1]
    views = sample_autoregressive(
        model,
        source_views(1, 1),
        poses_to_cameras(spiral(5), 1),
        seeds,
        OPTIONS,
        policy=make_policy("all"),
        order=order,
    )
    drawn = to_uint8(joined(views).images)[0, :, 0, 0, 0].int() - 1
    assert drawn.tolist() == order
    assert [row[0][1:] for row in model.looked_at] == [[v + 1 for v in order[:i]] for i in range(5)]


def test_a_long_trajectory_keeps_no_more_encodings_and_pictures_alive_than_it_was_allowed():
    """251 views; every encoding and every picture is counted while it lives."""
    living, most = weakref.WeakSet(), 0

    class Counted(Diary):
        def encode(self, source: Views) -> Views:
            nonlocal most
            images = source.images.clone()
            living.add(images)
            most = max(most, len(living))
            return Views(images, source.cameras, source.valid)

    num = 251
    files = {}
    cameras, seeds = poses_to_cameras(spiral(num), 1), torch.arange(num)[None] % 200 + 1
    given = (Counted(), source_views(1, 1), cameras, seeds, OPTIONS)
    predictions = sample_autoregressive(*given, recall=lambda view: files[view], cached=6)
    for view, prediction in enumerate(predictions):
        files[view] = to_uint8(prediction.images[:, 0])
    assert view == num - 1
    assert 6 < most <= 6 + 1 + 1 + 1  # the cached ones, the source's, a new one and one about to be dropped


@pytest.mark.parametrize("name", POLICIES)
@pytest.mark.parametrize("order", [None, [2, 1, 3, 0, 5, 4]])
def test_an_interrupted_trajectory_goes_on_to_the_same_views_to_the_last_bit(genvs, name: str, order):
    num, files = 6, {}
    source, cameras, seeds = source_views(1, 1, 32), poses_to_cameras(spiral(num), 1), own_seeds(1, num)
    given = (genvs, source, cameras, seeds, OPTIONS)
    choices = {"policy": make_policy(name), "order": order}
    path = list(range(num)) if order is None else order
    whole = list(sample_autoregressive(*given, **choices))
    for view, prediction in zip(path[:4], whole, strict=False):
        files[view] = to_uint8(prediction.images[:, 0])
    rest = sample_autoregressive(*given, **choices, done=set(files), recall=lambda view: files[view])
    for view, prediction, uninterrupted in zip(path[4:], rest, whole[4:], strict=True):
        assert torch.equal(prediction.images, uninterrupted.images)
        files[view] = to_uint8(prediction.images[:, 0])


def test_batches_that_are_there_are_not_drawn_and_those_begun_are_drawn_whole():
    assert batches(7, 3) == [[0, 1, 2], [3, 4, 5], [6]]
    assert batches(7, 3, {0, 1, 2, 4}) == [[3, 4, 5], [6]]
    model = Diary()
    given = (model, source_views(1, 1), poses_to_cameras(spiral(7), 1), own_seeds(1, 7), OPTIONS)
    views = joined(sample_in_batches(*given, batch=3, done={0, 1, 2, 4}))
    assert to_uint8(views.images)[0, :, 0, 0, 0].tolist() == [4, 5, 6, 7]


def test_joint_views_begin_as_drafts_and_look_at_neighbours_on_both_sides():
    model, num = Diary(), 6
    drafts = {view: to_uint8(grey(torch.full((1, 3, 4, 4), 100 + view))) for view in range(num)}
    finals = {}
    given = (model, source_views(1, 1), poses_to_cameras(turntable(num), 1), own_seeds(1, num), OPTIONS)
    files = {"drafts": drafts.__getitem__, "finals": finals.__getitem__}
    for view, prediction in enumerate(sample_jointly(*given, **files, window=3, sigma=0.5)):
        finals[view] = torch.full((1, 4, 4, 3), 50 + view, dtype=torch.uint8)
        assert to_uint8(model.begun[-1]).unique().tolist() == [100 + view]
        assert prediction.images.shape == (1, 1, 3, 4, 4)
    near = [(5, 1), (0, 2), (1, 3), (2, 4), (3, 5), (0, 4)]
    for view, (scenes, neighbours) in enumerate(zip(model.looked_at, near, strict=True)):
        expected = [(50 if other < view else 100) + other for other in sorted(neighbours)]
        assert scenes == [[-1, *expected]]


def test_joint_views_stay_near_their_drafts_where_there_is_little_noise_and_can_be_interrupted(genvs):
    num = 4
    source, cameras, seeds = source_views(1, 1, 32), poses_to_cameras(spiral(num), 1), own_seeds(1, num)
    given = (genvs, source, cameras, seeds, SampleOptions(sampler="euler", steps=6))
    drafts = [to_uint8(p.images[:, 0]) for p in sample_autoregressive(*given)]
    change = {}
    for sigma in (0.02, 2.0):
        finals = {}
        ways = {"drafts": drafts.__getitem__, "finals": finals.__getitem__, "window": 3, "sigma": sigma}
        for view, prediction in enumerate(sample_jointly(*given, **ways)):
            finals[view] = to_uint8(prediction.images[:, 0])
        change[sigma] = sum((finals[v].int() - drafts[v].int()).abs().float().mean() for v in range(num))
        again = next(iter(sample_jointly(*given, **ways, done={0, 1, 2})))
        assert torch.equal(to_uint8(again.images[:, 0]), finals[3])
    assert change[0.02] < change[2.0] / 4
