"""Convert primitives of a glTF mesh to plain triangles. Axes: n vertex, f face, j joint.

Strips and fans are triangulated, morph targets are applied with their default weights, and vertices are
skinned in the default pose.
"""

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from jaxtyping import Float, Int, Num
from numpy import ndarray

from data.meshes.gltf.accessors import bounds_problem, read_accessor, read_stored, unit_range
from data.meshes.gltf.compression import DRACO, decode_draco
from data.meshes.gltf.document import Document, entries, entry
from data.meshes.polygons.triangulate import cut_strips

TRIANGLES, STRIP, FAN = 4, 5, 6
SKINNED_AT_ONCE = 2**18  # vertices


@dataclass(frozen=True)
class Surface:
    """Triangles of one material, with only the vertices they use."""

    positions: Float[ndarray, "n 3"]
    faces: Int[ndarray, "f 3"]
    uv: Float[ndarray, "n 2"] | None  # v points down, as in the file
    colours: Float[ndarray, "n c"] | None  # linear, 0 to 1, with or without alpha


def read_surface(
    document: Document,
    primitive: dict[str, Any],
    where: str,
    notes: list[str],
    *,
    weights: Float[ndarray, " t"],
    joints: Float[ndarray, "j 4 4"] | None,
    coordinates: int,
) -> Surface | None:
    """Return a primitive's triangles; None, with a note, if it is not a surface.

    `weights` are those of its morph targets, `joints` the joint matrices of its skin, `coordinates` the index
    of the texture coordinate set. Raises ValueError for inconsistent data.
    """
    mode = primitive.get("mode", TRIANGLES)
    if mode not in (TRIANGLES, STRIP, FAN) or "POSITION" not in entry(primitive, "attributes"):
        notes.append("points or lines are ignored" if mode in (0, 1, 2, 3) else f"{where} has no triangles")
        return None
    values = _Values(document, primitive, where, notes)
    stored = values.read("POSITION", ("VEC3",), stored=True)
    positions = np.asarray(values.read("POSITION", ("VEC3",)), float)
    if problem := bounds_problem(document, entry(primitive, "attributes")["POSITION"], stored):
        notes.append(problem)
    faces = (
        values.faces if values.faces is not None else _faces(document, primitive, mode, len(positions), notes)
    )
    if len(faces) and faces.max() >= len(positions):
        raise ValueError(f"{where} has a triangle with vertex {faces.max()} of {len(positions)}")

    # Several primitives often share one large array: each keeps only its own vertices.
    used = np.zeros(len(positions), bool)
    used[faces] = True
    uv = values.optional(f"TEXCOORD_{coordinates}", ("VEC2",))
    colours = values.optional("COLOR_0", ("VEC3", "VEC4"))
    colours = None if colours is None else unit_range(colours)  # integers are always normalised
    found = {"POSITION": positions, f"TEXCOORD_{coordinates}": uv, "COLOR_0": colours}
    morphed = {
        name: None if array is None else values.morphed(name, np.asarray(array, float), weights)[used]
        for name, array in found.items()
    }
    moved = morphed["POSITION"]
    if joints is not None:
        moved = _skinned(moved, [(j[used], w[used]) for j, w in values.influences()], joints, where)
    return Surface(moved, (np.cumsum(used) - 1)[faces], *[morphed[name] for name in list(found)[1:]])


class _Values:
    """The attributes of one primitive, compressed or not."""

    def __init__(self, document: Document, primitive: dict[str, Any], where: str, notes: list[str]):
        self._document, self._where, self._notes = document, where, notes
        self._attributes, self._targets = entry(primitive, "attributes"), entries(primitive.get("targets"))
        self._decoded: dict[str, ndarray] = {}
        self.faces: Int[ndarray, "f 3"] | None = None
        draco = entry(entry(primitive, "extensions"), DRACO)
        # If the extension is not required, there is an uncompressed copy.
        if draco and "bufferView" not in document.entry("accessors", self._attributes["POSITION"]):
            data, _ = document.view(draco.get("bufferView"))
            self._decoded, faces = decode_draco(bytes(data), entry(draco, "attributes"), where)
            self.faces = faces.astype(np.int64)

    def read(self, name: str, kinds: tuple[str, ...], *, stored: bool = False) -> Num[ndarray, "n c"]:
        """Return an attribute; with `stored`, normalised integers are not converted."""
        index = self._attributes[name]
        if name in self._decoded:
            scaled = self._document.entry("accessors", index).get("normalized") is True and not stored
            return unit_range(self._decoded[name]) if scaled else self._decoded[name]
        return (read_stored if stored else read_accessor)(self._document, index, kinds)

    def optional(self, name: str, kinds: tuple[str, ...]) -> Num[ndarray, "n c"] | None:
        """Return a vertex attribute, or None if it is missing or has the wrong length."""
        if name not in self._attributes:
            return None
        values, count = self.read(name, kinds), len(self.read("POSITION", ("VEC3",), stored=True))
        if len(values) == count:
            return values
        self._notes.append(f"{self._where}: {name} is ignored: {len(values)} for {count} vertices")
        return None

    def morphed(
        self, name: str, values: Float[ndarray, "n c"], weights: Float[ndarray, " t"]
    ) -> Float[ndarray, "n c"]:
        """Return an attribute with its morph targets added."""
        for target, weight in zip(self._targets, weights, strict=False):
            if weight and name in target:
                kinds = ("VEC2", "VEC3", "VEC4")
                added = np.asarray(read_accessor(self._document, target[name], kinds), float)
                if added.shape != values.shape:
                    raise ValueError(f"{self._where}: a morph target of {name} does not fit its vertices")
                values = values + weight * added
        return values

    def influences(self) -> list[tuple[Int[ndarray, "n 4"], Float[ndarray, "n 4"]]]:
        """Return joints and weights of each vertex, four per set."""
        sets = []
        while f"JOINTS_{len(sets)}" in self._attributes:
            number = len(sets)
            joints = self.optional(f"JOINTS_{number}", ("VEC4",))
            weights = self.optional(f"WEIGHTS_{number}", ("VEC4",))
            if joints is None or weights is None or joints.dtype.kind == "f":
                raise ValueError(
                    f"{self._where}: its joints and weights (set {number}) have different lengths"
                )
            sets.append((joints.astype(np.int64), np.asarray(unit_range(weights), float)))
        return sets


def _faces(
    document: Document, primitive: dict[str, Any], mode: int, num_vertices: int, notes: list[str]
) -> Int[ndarray, "f 3"]:
    if "indices" not in primitive:
        return _triangles(np.arange(num_vertices), mode, notes)
    indices = read_accessor(document, primitive["indices"], ("SCALAR",))[:, 0]
    if indices.dtype.kind != "u":
        raise ValueError(f"accessors[{primitive['indices']}] has {indices.dtype}, which are not indices")
    # The largest value of the type restarts a strip or fan (primitive restart).
    ends = np.flatnonzero(indices == np.iinfo(indices.dtype).max) if mode != TRIANGLES else []
    indices = indices.astype(np.int64)
    runs = [indices[start + 1 : end] for start, end in pairwise([-1, *ends, len(indices)])]
    return np.concatenate([_triangles(run, mode, notes) for run in runs])


def _triangles(order: Int[ndarray, " i"], mode: int, notes: list[str]) -> Int[ndarray, "f 3"]:
    if mode == TRIANGLES:
        if len(order) % 3:
            notes.append(f"{len(order) % 3} vertices that form no complete triangle are ignored")
        return order[: len(order) // 3 * 3].reshape(-1, 3)
    if len(order) < 3:
        return np.zeros((0, 3), np.int64)
    if mode == FAN:
        return np.stack([np.full(len(order) - 2, order[0]), order[1:-1], order[2:]], axis=1)
    return cut_strips([order])


def _skinned(
    positions: Float[ndarray, "n 3"],
    influences: list[tuple[Int[ndarray, "n 4"], Float[ndarray, "n 4"]]],
    joints: Float[ndarray, "j 4 4"],
    where: str,
) -> Float[ndarray, "n 3"]:
    """Linear blend skinning: transform each vertex by the weighted mean of its joints' matrices."""
    if not influences:
        raise ValueError(f"{where} has a skin, but no joints")
    indices, weights = (np.concatenate(arrays, axis=1) for arrays in zip(*influences, strict=True))
    if len(indices) and indices.max() >= len(joints):
        raise ValueError(f"{where} has a vertex at joint {indices.max()} of {len(joints)}")
    total = weights.sum(1, keepdims=True)
    first = np.eye(1, weights.shape[1])  # for zero total weight, as three.js does
    weights = np.where(total > 0, weights / np.where(total > 0, total, 1), first)
    moved = np.empty_like(positions)
    for start in range(0, len(positions), SKINNED_AT_ONCE):
        part = slice(start, start + SKINNED_AT_ONCE)
        blended = np.zeros((len(positions[part]), 3, 4))
        for column in range(weights.shape[1]):
            blended += weights[part, column, None, None] * joints[indices[part, column], :3]
        moved[part] = np.einsum("nij,nj->ni", blended[..., :3], positions[part]) + blended[..., 3]
    return moved
