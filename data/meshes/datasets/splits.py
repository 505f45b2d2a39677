"""Split objects into training and held-out sets without separating variants of an object.

Variants are objects of the same shape in different colours, formats or precisions, found by measures of their
surfaces, and objects whose names match a pattern.
"""

import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from data.meshes.mesh import Mesh
from data.splits import Split

TOLERANCE = 1e-3  # relative; differences between formats and precisions are far smaller
LEAST = 1e-4  # scene units; lengths that differ by less are equal
Measures = tuple[float, ...]


def measure_shape(mesh: Mesh) -> Measures:
    """Return lengths (scene units) that identify the shape of a normalised mesh.

    They depend only on the surface, not on colours or triangulation: square root of the area, sorted radii of
    gyration about the principal axes, distance of the centre of area from that of the bounding box, sorted
    sides of that box.
    """
    corners = mesh.vertices[mesh.faces]
    edges = corners[:, 1:] - corners[:, :1]
    areas = np.linalg.norm(np.cross(edges[:, 0], edges[:, 1]), axis=1) / 2
    shares = areas / max(areas.sum(), 1e-300)
    centre = (shares[:, None] * corners.mean(1)).sum(0)
    # Mean of x x^T over a triangle with corners a, b, c and their sum s: (a a^T + b b^T + c c^T + s s^T) / 12
    around = corners - centre
    around = np.concatenate([around, around.sum(1, keepdims=True)], axis=1)
    moments = np.einsum("f,fki,fkj->ij", shares, around, around) / 12
    radii = np.sqrt(np.maximum(np.linalg.eigvalsh(moments), 0))
    used = corners.reshape(-1, 3)
    sides = np.sort(np.ptp(used, axis=0))
    offset = np.linalg.norm(centre - (used.min(0) + used.max(0)) / 2)
    return tuple(float(length) for length in (np.sqrt(areas.sum()), *radii, offset, *sides))


def group_variants(shapes: Mapping[str, Measures], pattern: str | None = None) -> list[tuple[str, ...]]:
    """Group the names of objects that are variants, sorted; `shapes` has the measures of each.

    `pattern` is a regular expression: names with the same match (of its first group if it has one) also
    belong together. Raises ValueError if it is invalid.
    """
    finder = re.compile(pattern) if pattern else None
    first_with: dict[str, str] = {}
    leader = {name: name for name in shapes}

    def led(name: str) -> str:
        while leader[name] != name:
            leader[name] = name = leader[leader[name]]
        return name

    def join(name: str, other: str) -> None:
        first, second = sorted((led(name), led(other)))
        leader[second] = first

    for name, other in _alike(shapes):
        join(name, other)
    for name in sorted(shapes):
        if finder and (match := finder.search(name)):
            label = match[1] if finder.groups and match[1] is not None else match[0]
            join(name, first_with.setdefault(label, name))
    members: dict[str, list[str]] = {}
    for name in sorted(shapes):
        members.setdefault(led(name), []).append(name)
    return [tuple(group) for group in members.values()]


def _alike(shapes: Mapping[str, Measures]) -> Iterator[tuple[str, str]]:
    """Yield pairs of names whose measures agree, sorted by the first measure for speed."""
    names = sorted(shapes, key=lambda name: shapes[name])
    table = np.array([shapes[name] for name in names])
    for i, measures in enumerate(table):
        allowed = np.maximum(LEAST, TOLERANCE * measures)
        end = np.searchsorted(table[:, 0], measures[0] + allowed[0], side="right")
        agree = (np.abs(table[i + 1 : end] - measures) <= allowed).all(1)
        yield from ((names[i], names[i + 1 + int(k)]) for k in np.flatnonzero(agree))


def assign_splits(
    groups: Sequence[tuple[str, ...]],
    *,
    val: float | int,
    test: float | int,
    seed: int,
    placed: Mapping[str, Split] | None = None,
) -> dict[str, Split]:
    """Assign a split to each name; `val` and `test` are fractions of all objects, 0 to 1.

    Objects in `placed` keep their split, and the rest of their groups follow. Every split with a nonzero
    fraction gets at least one group, as long as one remains for training: test first.
    """
    placed = placed or {}
    chosen: dict[str, Split] = {}
    for group in groups:
        if known := [placed[name] for name in group if name in placed]:
            chosen.update({name: placed.get(name, known[0]) for name in group})
    new = [group for group in groups if group[0] not in chosen]
    shuffled = sorted(new, key=lambda group: hashlib.sha256(f"{seed} {group[0]}".encode()).digest())
    total, spare = sum(map(len, groups)), 0 if "train" in chosen.values() else 1
    shares: tuple[tuple[Split, float | int], ...] = (("test", test), ("val", val))
    for split, share in shares:
        taken = list(chosen.values()).count(split)
        for group in list(shuffled):
            enough = taken + len(group) > max(1, round(share * total))
            if share > 0 and len(shuffled) > spare and not enough:
                chosen.update(dict.fromkeys(group, split))
                shuffled.remove(group)
                taken += len(group)
        if share > 0 and not taken and len(shuffled) > spare:  # every group is larger than the fraction
            smallest = min(shuffled, key=len)
            chosen.update(dict.fromkeys(smallest, split))
            shuffled.remove(smallest)
    return chosen | {name: "train" for group in shuffled for name in group}
