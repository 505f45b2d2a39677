"""Variants stay together, shares are met, and the seed decides."""

from collections import Counter

import numpy as np
import pytest

from data.meshes.datasets.splits import assign_splits, group_variants, measure_shape
from data.meshes.mesh import Mesh, normalised


def solid(seed: int, num: int = 9) -> Mesh:
    random = np.random.default_rng(seed)
    faces = np.stack([random.permutation(num)[:3] for _ in range(12)])
    return normalised(Mesh(random.normal(size=(num, 3)), faces, np.zeros((12, 3), np.uint8)))


def alike(first: Mesh, second: Mesh) -> bool:
    return len(group_variants({"a": measure_shape(first), "b": measure_shape(second)})) == 1


def test_colour_order_repetition_and_size_do_not_change_a_shape():
    mesh, order = solid(1), np.random.default_rng(2).permutation(9)
    other_order = Mesh(
        mesh.vertices[order], np.argsort(order)[mesh.faces][::-1], np.full((12, 3), 77, np.uint8)
    )
    repeated = Mesh(mesh.vertices[mesh.faces].reshape(-1, 3), np.arange(36).reshape(-1, 3), mesh.face_colours)
    larger = normalised(Mesh(3 * mesh.vertices + [1, 2, 3], mesh.faces, mesh.face_colours))
    assert all(alike(mesh, other) for other in (other_order, repeated, larger))
    moved = mesh.vertices.copy()
    moved[mesh.faces[0, 0], 1] += 0.02
    assert not alike(mesh, Mesh(moved, mesh.faces, mesh.face_colours))
    assert not alike(mesh, solid(2))


@pytest.mark.parametrize("seed", range(4))
def test_precision_and_how_faces_are_cut_do_not_change_a_shape(seed):
    random = np.random.default_rng(seed)
    vertices, faces = random.normal(size=(500, 3)), random.integers(0, 500, (900, 3))
    centres = vertices[faces].mean(1)
    parts = [np.column_stack([faces[:, [k, (k + 1) % 3]], 500 + np.arange(900)]) for k in range(3)]
    variants = [
        (vertices, faces),
        (vertices.astype(np.float32).astype(float) * 0.0254, faces),
        (np.round(vertices, 5), faces),
        (np.concatenate([vertices, centres]), np.concatenate(parts)),
    ]
    meshes = [normalised(Mesh(v, f, np.zeros((len(f), 3), np.uint8))) for v, f in variants]
    assert len(group_variants({str(i): measure_shape(mesh) for i, mesh in enumerate(meshes)})) == 1


def test_the_measures_of_a_box_are_those_of_the_formulas():
    import trimesh

    box = trimesh.creation.box((1, 2, 3))
    mesh = normalised(Mesh(box.vertices + 5, np.asarray(box.faces), np.zeros((12, 3), np.uint8)))
    # Mean of x^2: at the two faces across x it is a^2 / 4, on the four others a^2 / 12.
    sides = np.array([1, 2, 3]) / np.sqrt(14)
    across = np.prod(sides) / sides
    at_ends = across / across.sum()
    radii = np.sqrt(sides**2 * (at_ends / 4 + (1 - at_ends) / 12))
    expected = [np.sqrt(2 * across.sum()), *np.sort(radii), 0, *sides]
    np.testing.assert_allclose(measure_shape(mesh), expected, atol=1e-9)


def test_all_pairs_within_the_tolerance_are_found():
    table = np.random.default_rng(0).integers(0, 4, (60, 3)) * 0.01 + 0.5
    groups = group_variants({f"{i:02d}": tuple(row.tolist()) for i, row in enumerate(table)})
    assert len(groups) == len(np.unique(np.round(table, 4), axis=0))
    assert sorted(name for group in groups for name in group) == [f"{i:02d}" for i in range(60)]


def test_groups_follow_shapes_and_names_and_both_together():
    numbers = {"car_a": 1, "car_b": 2, "bus": 2.001, "van": 3, "tram": 4, "cab_a": 4}
    shapes = {name: (float(number), 1.0) for name, number in numbers.items()}
    assert group_variants(shapes) == [("bus", "car_b"), ("cab_a", "tram"), ("car_a",), ("van",)]
    # car_a and car_b by name, bus and car_b by shape: all three; the cab shares no first group with them
    assert group_variants(shapes, r"^(\w+)_[ab]$") == [
        ("bus", "car_a", "car_b"),
        ("cab_a", "tram"),
        ("van",),
    ]
    assert group_variants(shapes, r"^ca") == [("bus", "cab_a", "car_a", "car_b", "tram"), ("van",)]
    assert group_variants({}) == []


@pytest.mark.parametrize("seed", range(8))
def test_no_group_is_ever_divided_and_shares_are_met(seed):
    random = np.random.default_rng(seed)
    shapes = {f"object{i}": (1.0 + random.integers(40),) for i in range(90)}
    groups = group_variants(shapes, "([0-9])$" if seed == 7 else None)
    splits = assign_splits(groups, val=0.1, test=0.2, seed=seed)
    assert splits.keys() == shapes.keys()
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


def test_placed_objects_stay_and_their_groups_follow_them():
    groups = [(f"object{i}",) for i in range(20)]
    placed = assign_splits(groups, val=0.1, test=0.1, seed=0)
    held = next(name for name, split in placed.items() if split == "test")
    more = [(name, f"{name}_red") if name == held else (name,) for (name,) in groups]
    more += [(f"more{i}",) for i in range(20)]
    splits = assign_splits(more, val=0.1, test=0.1, seed=0, placed=placed)
    assert {name: splits[name] for name in placed} == placed
    assert splits[f"{held}_red"] == "test"
    assert Counter(splits.values()) == {"train": 33, "val": 4, "test": 4}
