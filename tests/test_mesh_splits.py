"""Variants stay together, shares are met, and the seed decides."""

from collections import Counter

import numpy as np
import pytest

from data.mesh_splits import assign_splits, geometry_key, group_variants
from data.meshes import Mesh, normalised


def solid(seed: int, num: int = 9) -> Mesh:
    random = np.random.default_rng(seed)
    faces = np.stack([random.permutation(num)[:3] for _ in range(12)])
    return normalised(Mesh(random.normal(size=(num, 3)), faces, np.zeros((12, 3), np.uint8)))


def test_colour_order_repetition_and_size_do_not_change_a_shapes_key():
    mesh, order = solid(1), np.random.default_rng(2).permutation(9)
    other_order = Mesh(
        mesh.vertices[order], np.argsort(order)[mesh.faces][::-1], np.full((12, 3), 77, np.uint8)
    )
    repeated = Mesh(mesh.vertices[mesh.faces].reshape(-1, 3), np.arange(36).reshape(-1, 3), mesh.face_colours)
    larger = normalised(Mesh(3 * mesh.vertices + [1, 2, 3], mesh.faces, mesh.face_colours))
    used = normalised(
        Mesh(mesh.vertices[np.unique(mesh.faces)], np.zeros((1, 3), int), mesh.face_colours[:1])
    )
    assert geometry_key(mesh) == geometry_key(other_order) == geometry_key(larger)
    assert geometry_key(repeated) == geometry_key(used)
    moved = mesh.vertices.copy()
    moved[4, 1] += 0.01
    assert geometry_key(mesh) != geometry_key(Mesh(moved, mesh.faces, mesh.face_colours))


def test_groups_follow_shapes_and_names_and_both_together():
    geometry = {"car_a": "1", "car_b": "2", "bus": "2", "van": "3", "tram": "4", "cab_a": "4"}
    assert group_variants(geometry) == [("bus", "car_b"), ("cab_a", "tram"), ("car_a",), ("van",)]
    # car_a and car_b by name, bus and car_b by shape: all three; the cab shares no first group with them
    assert group_variants(geometry, r"^(\w+)_[ab]$") == [
        ("bus", "car_a", "car_b"),
        ("cab_a", "tram"),
        ("van",),
    ]
    assert group_variants(geometry, r"^ca") == [("bus", "cab_a", "car_a", "car_b", "tram"), ("van",)]


@pytest.mark.parametrize("seed", range(8))
def test_no_group_is_ever_divided_and_shares_are_met(seed):
    random = np.random.default_rng(seed)
    geometry = {f"object{i}": str(random.integers(40)) for i in range(90)}
    groups = group_variants(geometry, "([0-9])$" if seed == 7 else None)
    splits = assign_splits(groups, val=0.1, test=0.2, seed=seed)
    assert splits.keys() == geometry.keys()
    assert all(len({splits[name] for name in group}) == 1 for group in groups)
    counts = Counter(splits.values())
    if seed == 7:
        assert min(counts.values()) >= 9  # ten groups or fewer, of nine objects or more
    else:
        assert (counts["val"], counts["test"]) == (9, 18)


def test_the_seed_alone_decides():
    groups = [(f"object{i}",) for i in range(30)]
    first = assign_splits(groups, val=0.2, test=0.2, seed=1)
    assert first == assign_splits(groups[::-1], val=0.2, test=0.2, seed=1)
    assert first != assign_splits(groups, val=0.2, test=0.2, seed=2)


@pytest.mark.parametrize(
    ("sizes", "expected"),
    [
        ((5,), {"train": 5}),
        ((1, 1), {"train": 1, "test": 1}),
        ((1, 1, 1), {"train": 1, "val": 1, "test": 1}),
        ((4, 3, 5), {"test": 3, "val": 4, "train": 5}),
        ((), {}),
    ],
)
def test_few_groups_are_shared_out_with_training_first(sizes, expected):
    groups = [tuple(f"{i}.{k}" for k in range(size)) for i, size in enumerate(sizes)]
    assert Counter(assign_splits(groups, val=0.1, test=0.1, seed=0).values()) == expected
    assert set(assign_splits(groups, val=0, test=0, seed=0).values()) <= {"train"}
