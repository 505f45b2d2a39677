"""The sequence of scenes: pure, shuffled, shared out among ranks; and what is held out."""

import math
from collections import Counter
from fractions import Fraction

import pytest
import torch
from torch.utils.data._utils.pin_memory import pin_memory

from data.config import DataConfig
from data.formats.registry import open_split
from data.scenes.loader import SceneLoader, held_out, held_out_choice, scene_seed
from data.scenes.objects import Objects


@pytest.fixture
def root(tmp_path, plant_object):
    """Five training objects of 6, 7, 8, 9 and 10 views, one other of 67."""
    for number in range(5):
        plant_object(tmp_path / "cars_train" / f"car{number}", num_views=6 + number)
    plant_object(tmp_path / "cars_val" / "other", num_views=67, size=(2, 2))
    return tmp_path


def open_both(root, **changes) -> tuple[Objects, DataConfig]:
    config = DataConfig(**{"root": str(root), "image_size": 6, "sources": (1, 3), "targets": 2, **changes})
    return open_split(config, "train"), config


def make_loader(root, *, seed=5, batch=4, rank=0, world=1, total=None, **changes) -> SceneLoader:
    objects, config = open_both(root, **changes)
    return SceneLoader(objects, config, seed=seed, batch=batch, rank=rank, world=world, total=total)


def tensors(batch) -> list[torch.Tensor]:
    found = []
    batch.apply(lambda tensor: found.append(tensor) or tensor)
    return found


def assert_same(first, second):
    assert first.scene_ids == second.scene_ids
    for one, other in zip(tensors(first), tensors(second), strict=True):
        assert torch.equal(one, other)


def test_a_step_is_the_same_whenever_and_by_whomever_it_is_loaded(root):
    loader = make_loader(root)
    for step in range(3):
        loader.load(step)
    assert_same(loader.load(7), make_loader(root).load(7))


def test_loading_draws_nothing_from_the_global_generator(root):
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    next(make_loader(root).batches(2))
    assert torch.equal(torch.rand(3), expected)


def test_two_ranks_with_half_the_batch_see_what_one_sees(root):
    whole = make_loader(root, batch=4)
    halves = [make_loader(root, batch=2, rank=rank, world=2) for rank in (0, 1)]
    for step in (0, 1, 6):
        parts = [half.load(step) for half in halves]
        joined = [torch.cat(pair) for pair in zip(*map(tensors, parts), strict=True)]
        together = whole.load(step)
        assert together.scene_ids == parts[0].scene_ids + parts[1].scene_ids
        for one, other in zip(tensors(together), joined, strict=True):
            assert torch.equal(one, other)


FEWEST, MOST = {"start": 1, "end": 3, "begin": 0.25, "until": 0.75}, {"start": 2, "end": 4}


def test_the_number_of_sources_follows_the_scenes_place_in_the_run(root):
    loader = make_loader(root, batch=4, total=100, sources=(FEWEST, MOST))
    counts = [len(loader.choose(number).source) for number in range(500)]
    for number, count in enumerate(counts):
        progress = min(Fraction(1), Fraction(number, 400))
        fewest = 1 + 2 * min(1, max(0, 2 * progress - Fraction(1, 2)))
        half = Fraction(1, 2)
        assert math.ceil(fewest - half) <= count <= math.ceil(2 + 2 * progress - half)
    for part, expected in ((counts[:100], {1, 2}), (counts[320:349], {3, 4}), (counts[400:], {3, 4})):
        assert set(part) == expected
    assert loader.load(0).source.images.shape[1] == loader.load(99).source.images.shape[1] == 4
    assert make_loader(root, total=100, sources=({"start": 2, "end": 1}, 2)).load(0).source.valid.all()


def test_scheduled_sources_are_the_same_for_two_ranks_two_passes_and_after_a_pause(root):
    changes = {"sources": (FEWEST, MOST)}
    whole = make_loader(root, batch=4, total=10, **changes)
    halves = [make_loader(root, batch=2, rank=rank, world=2, total=10, **changes) for rank in (0, 1)]
    passes = make_loader(root, batch=2, total=20, **changes)
    for step in (0, 4, 9):
        together = whole.load(step)
        for parts in (
            [half.load(step) for half in halves],
            [passes.load(2 * step + part) for part in (0, 1)],
        ):
            joined = [torch.cat(pair) for pair in zip(*map(tensors, parts), strict=True)]
            assert together.scene_ids == parts[0].scene_ids + parts[1].scene_ids
            for one, other in zip(tensors(together), joined, strict=True):
                assert torch.equal(one, other)
    assert_same(next(make_loader(root, batch=4, total=10, **changes).batches(7)), whole.load(7))


def test_without_ramps_the_length_of_the_run_changes_nothing(root):
    assert_same(make_loader(root, total=9).load(7), make_loader(root).load(7))
    plain, flat = (1, 3), ({"start": 1, "end": 1}, {"start": 3, "end": 3})
    assert_same(make_loader(root, sources=flat, total=9).load(7), make_loader(root, sources=plain).load(7))


def test_an_object_must_have_the_views_for_the_end_of_a_ramp(root):
    with pytest.raises(ValueError, match=r"\Acar0: has 6 views, but 5 source and 2 target views[^\n]*\Z"):
        make_loader(root, sources=({"start": 1, "end": 5}, 5), total=9)


def test_every_epoch_holds_every_object_once_in_another_order(root):
    loader = make_loader(root)
    orders = [tuple(loader.choose(5 * epoch + i).object_index for i in range(5)) for epoch in range(6)]
    assert all(sorted(order) == [0, 1, 2, 3, 4] for order in orders)
    assert len(set(orders)) > 1


def test_another_seed_gives_another_sequence(root):
    one, other = make_loader(root, seed=1), make_loader(root, seed=2)
    assert [one.choose(i) for i in range(20)] != [other.choose(i) for i in range(20)]
    assert not set(one.load(0).seeds.tolist()) & set(other.load(0).seeds.tolist())


def test_no_view_is_both_source_and_target_and_none_appears_twice(root):
    loader = make_loader(root)
    for number in range(200):
        choice = loader.choose(number)
        views = choice.source + choice.target
        assert len(set(views)) == len(views)
        assert len(choice.target) == 2
        assert max(views) < loader.objects.num_views(choice.object_index)


def test_the_number_of_sources_and_every_view_are_drawn_evenly(root):
    loader = make_loader(root)
    choices = [loader.choose(number) for number in range(3000)]
    for count in Counter(len(choice.source) for choice in choices).values():
        assert count == pytest.approx(1000, abs=130)  # five standard deviations
    targets = Counter(view for choice in choices if choice.object_index == 0 for view in choice.target)
    assert len(targets) == 6
    assert all(count == pytest.approx(200, abs=70) for count in targets.values())


def test_near_sources_are_among_the_views_nearest_to_the_target_and_change_nothing_else(root):
    plain, near = make_loader(root), make_loader(root, near_source_prob=1.0)
    for number in range(200):
        usual, choice = plain.choose(number), near.choose(number)
        index, targets = choice.object_index, choice.target
        assert (usual.object_index, usual.target, usual.seed) == (index, targets, choice.seed)
        assert usual.source[:-1] == choice.source[:-1]
        assert len(set(choice.source)) == len(choice.source) == len(usual.source)
        where = near.objects.raw.cameras(index)[0][:, :3, 3].double()
        angles = [torch.acos(torch.cosine_similarity(where[targets[0]], place, dim=0)) for place in where]
        others = [view for view in range(len(where)) if view not in targets]
        nearest = sorted(others, key=lambda view: angles[view].item())[:3]
        assert set(nearest) & set(choice.source)
    assert sum(plain.choose(number) != near.choose(number) for number in range(200)) > 50


def test_as_many_scenes_have_a_near_source_as_are_asked_for(root):
    settings = {"sources": (1, 1), "targets": 1}
    plain = make_loader(root, **settings)
    always = make_loader(root, **settings, near_source_prob=1.0)
    some = make_loader(root, **settings, near_source_prob=0.4)
    changed = [number for number in range(2000) if plain.choose(number) != always.choose(number)]
    share = sum(plain.choose(number) != some.choose(number) for number in changed) / len(changed)
    assert share == pytest.approx(0.4, abs=0.07)  # five standard deviations


def test_fewer_sources_are_drawn_where_the_targets_need_the_views(root):
    loader = make_loader(root, sources=(1, 9), targets=4)
    counts = {len(loader.choose(n).source) for n in range(300) if loader.choose(n).object_index == 0}
    assert counts == {1, 2}
    assert loader.load(0).source.images.shape[1] == 9


def test_padding_repeats_the_first_source_and_is_marked(root):
    loader = make_loader(root)
    batch = loader.load(3)
    assert batch.source.images.shape == (4, 3, 3, 6, 6)
    assert batch.target.valid.all()
    for i in range(4):
        choice = loader.choose(12 + i)
        count = len(choice.source)
        assert batch.source.valid[i].tolist() == [True] * count + [False] * (3 - count)
        images, cameras = loader.objects.read(choice.object_index, choice.source)
        assert torch.equal(batch.source.images[i, :count], images)
        assert torch.equal(batch.source.cameras.near[i, :count], cameras.near)
        for padding in batch.source.images[i, count:]:
            assert torch.equal(padding, images[0])
        target, _ = loader.objects.read(choice.object_index, choice.target)
        assert torch.equal(batch.target.images[i], target)
    assert not batch.source.valid.all()


def test_it_is_known_on_the_cpu_which_sources_are_no_padding(root):
    batch = make_loader(root).load(3)
    flat = batch.source.valid.flatten().tolist()
    assert batch.source_indices.tolist() == [place for place, valid in enumerate(flat) if valid]
    moved = batch.apply(lambda tensor: tensor.to("meta"))
    assert moved.source.valid.is_meta
    assert not moved.source_indices.is_meta
    assert not moved.seeds.is_meta


def test_torch_s_loader_pins_whole_batches_and_hands_on_errors(root, monkeypatch):
    pinned = []
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda tensor: pinned.append(tensor) or tensor.clone())
    batch = make_loader(root).load(3)
    copied = pin_memory(batch)
    assert len(pinned) == len(tensors(batch)) == 12
    assert_same(copied, batch)
    error = ValueError("a file cannot be used")
    assert pin_memory(error) is error


def test_seeds_are_those_of_the_scenes_and_of_63_bits(root):
    batch = make_loader(root).load(3)
    assert batch.seeds.tolist() == [scene_seed(5, 12 + i) for i in range(4)]
    seeds = [scene_seed(0, number) for number in range(1000)]
    assert len(set(seeds)) == 1000
    assert 2**61 < max(seeds) < 2**63


def test_batches_go_on_from_their_start_in_order_with_and_without_workers(root):
    expected = make_loader(root)
    for workers in (0, 2):
        stream = make_loader(root, workers=workers).batches(3)
        for step in range(3, 8):
            assert_same(next(stream), expected.load(step))


@pytest.mark.parametrize("workers", [0, 1])
def test_a_broken_file_arrives_as_one_line_also_from_a_worker(root, workers):
    for path in (root / "cars_train").glob("*/rgb/*.png"):
        path.write_bytes(b"")
    with pytest.raises(ValueError, match=r"\A[^\n]*png: not a readable image[^\n]*\Z"):
        next(make_loader(root, workers=workers).batches(0))


def test_an_object_with_too_few_views_is_named_before_training(root):
    with pytest.raises(ValueError, match=r"\Acar0: has 6 views, but 3 source and 4 target views[^\n]*\Z"):
        make_loader(root, sources=(3, 5), targets=4)


def test_the_held_out_source_is_view_64_where_there_is_one(root):
    objects, config = open_both(root)
    choice = held_out_choice(objects, 2, num_targets=3)
    assert (choice.source, choice.target) == ((0,), (2, 4, 6))
    many = held_out_choice(open_split(config, "val"), 0)
    assert many.source == (64,)
    assert many.target == tuple(view for view in range(67) if view != 64)


def test_views_come_with_depth_and_alpha_where_these_are_asked_for(tmp_path, plant_object):
    plant_object(tmp_path / "cars_train" / "a", num_views=6, surfaces=True)
    plant_object(tmp_path / "cars_val" / "b")
    loader = make_loader(tmp_path, batch=2)
    assert loader.load(3).target.geometry is None
    loader.requires = frozenset({"cameras", "geometry"})
    batch, choices = loader.load(3), [loader.choose(6), loader.choose(7)]
    for scene, choice in enumerate(choices):
        expected = loader.objects.read_geometry(0, choice.target)
        assert torch.equal(batch.target.geometry.depth[scene], expected.depth)
        assert torch.equal(batch.target.geometry.alpha[scene], expected.alpha)
        padded = [*choice.source, *[choice.source[0]] * (3 - len(choice.source))]
        assert torch.equal(batch.source.geometry.alpha[scene], loader.objects.read_geometry(0, padded).alpha)


def test_an_object_without_depth_is_named_where_depth_is_asked_for(root):
    loader = make_loader(root)
    loader.requires = frozenset({"cameras", "geometry"})
    with pytest.raises(ValueError, match=r"cars_train/car\d: has no depth images, which model"):
        loader.load(0)


def test_held_out_scenes_are_the_first_objects_and_always_the_same(root):
    objects, _ = open_both(root)
    batch = held_out(objects, 3, num_targets=2)
    assert batch.scene_ids == ("car0", "car1", "car2")
    assert batch.source.images.shape == (3, 1, 3, 6, 6)
    assert batch.target.images.shape == (3, 2, 3, 6, 6)
    assert_same(batch, held_out(objects, 3, num_targets=2))
    assert len(held_out(objects, 100).scene_ids) == 5


@pytest.mark.parametrize("num_targets", [0, 6])
def test_more_held_out_views_than_an_object_has_are_refused(root, num_targets):
    objects, _ = open_both(root)
    with pytest.raises(ValueError, match=r"\Acar0: has 6 views, but 1 source and \d target views[^\n]*\Z"):
        held_out_choice(objects, 0, num_targets=num_targets)
