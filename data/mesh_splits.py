"""Which objects are learned from and which are held out, such that no object's variant is on another side.

Variants are objects of one shape in other colours, found by their geometry, and objects whose names say that
they belong together.
"""

import hashlib
import re
from collections.abc import Mapping, Sequence

import numpy as np

from data.meshes import Mesh
from data.srn_layout import Split

GRID = 1e-4  # scene units; vertices of one shape agree to that


def geometry_key(mesh: Mesh) -> str:
    """Fingerprint of a normalised mesh that colours, order and repetition of vertices do not change."""
    places = np.unique(np.round(mesh.vertices / GRID).astype(np.int32), axis=0)  # sorted, too
    return hashlib.sha256(places.tobytes()).hexdigest()[:16]


def group_variants(geometry: Mapping[str, str], pattern: str | None = None) -> list[tuple[str, ...]]:
    """Names of objects in groups, sorted; `geometry` has the geometry key of each name.

    `pattern` is a regular expression: names in which it finds the same (its first group, or where it has none
    all that it matches) belong together, too. Raises ValueError for one that is none.
    """
    finder = re.compile(pattern) if pattern else None
    first_with: dict[tuple[str, str], str] = {}
    leader = {name: name for name in geometry}

    def led(name: str) -> str:
        while leader[name] != name:
            name = leader[name]
        return name

    for name in sorted(geometry):
        labels = [("geometry", geometry[name])]
        if finder and (match := finder.search(name)):
            labels.append(("name", match[1] if finder.groups and match[1] is not None else match[0]))
        for label in labels:
            one, other = sorted((led(name), led(first_with.setdefault(label, name))))
            leader[other] = one
    members: dict[str, list[str]] = {}
    for name in sorted(geometry):
        members.setdefault(led(name), []).append(name)
    return [tuple(group) for group in members.values()]


def assign_splits(
    groups: Sequence[tuple[str, ...]], *, val: float | int, test: float | int, seed: int
) -> dict[str, Split]:
    """The split of each name; `val` and `test` are shares of all objects, 0 to 1.

    A split with a share is given a group at least, as far as there are groups beside one for training: test
    first.
    """
    shuffled = sorted(groups, key=lambda group: hashlib.sha256(f"{seed} {group[0]}".encode()).digest())
    total, chosen = sum(map(len, groups)), {}
    shares: tuple[tuple[Split, float | int], ...] = (("test", test), ("val", val))
    for split, share in shares:
        taken = 0
        for group in list(shuffled):
            if share > 0 and len(shuffled) > 1 and taken + len(group) <= max(1, round(share * total)):
                chosen.update(dict.fromkeys(group, split))
                shuffled.remove(group)
                taken += len(group)
        if share > 0 and not taken and len(shuffled) > 1:  # every group is larger than the share
            smallest = min(shuffled, key=len)
            chosen.update(dict.fromkeys(smallest, split))
            shuffled.remove(smallest)
    return chosen | {name: "train" for group in shuffled for name in group}
