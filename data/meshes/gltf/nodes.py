"""The nodes of a glTF scene with their transforms and instances (EXT_mesh_gpu_instancing).

Matrices act on column vectors; a node's `world` maps its own axes to the scene's. Axes: k instance, j joint.
"""

from itertools import chain
from typing import Any

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from data.meshes.gltf.accessors import read_accessor
from data.meshes.gltf.document import Document, entry, floats

INSTANCING = "EXT_mesh_gpu_instancing"
VISIBILITY = "KHR_node_visibility"
MOST_INSTANCES = 2**17  # per node
VEC3, VEC4 = ("VEC3",), ("VEC4",)


class Nodes:
    """The node tree of a document. Raises ValueError for cycles."""

    def __init__(self, document: Document, notes: list[str]):
        self._document = document
        nodes = document.json.get("nodes")
        count = len(nodes) if isinstance(nodes, list) else 0
        self._children = [
            self._indices(document.entry("nodes", i), "children", "nodes") for i in range(count)
        ]
        _require_no_cycle(self._children)
        self._local = _locals([document.entry("nodes", i) for i in range(count)])
        self._roots = self._scene_roots()
        self._parent: dict[int, int] = {}
        for node, children in enumerate(self._children):
            for child in children:
                if self._parent.setdefault(child, node) != node:
                    notes.append(f"nodes[{child}] has several parents; only the first is used")
        for root in self._roots:
            self._parent.pop(root, None)
        self._world: dict[int, Float[ndarray, "4 4"]] = {}

    def drawn(self) -> list[int]:
        """Return the nodes of the scene that have a mesh, each once, parents first."""
        found, waiting, seen = [], self._roots[::-1], set()
        while waiting:
            index = waiting.pop()
            node = self._document.entry("nodes", index)
            if index in seen or entry(entry(node, "extensions"), VISIBILITY).get("visible") is False:
                continue
            seen.add(index)
            if "mesh" in node:
                found.append(index)
            waiting += [child for child in self._children[index][::-1] if self._parent.get(child) == index]
        return found

    def world(self, index: int) -> Float[ndarray, "4 4"]:
        """Return the matrix from a node's axes to the scene's."""
        path = []
        while index is not None and index not in self._world:
            path.append(index)
            index = self._parent.get(index)
        above = np.eye(4) if index is None else self._world[index]
        for node in reversed(path):
            above = above @ self._local[node]
            self._world[node] = above
        return above

    def instances(self, index: int) -> Float[ndarray, "k 4 4"]:
        """Return the matrices of a node's mesh: the node's own, or one per instance."""
        node = self._document.entry("nodes", index)
        instancing = entry(node, "extensions").get(INSTANCING)
        attributes = entry(instancing, "attributes") if isinstance(instancing, dict) else {}
        read = {
            key: np.asarray(read_accessor(self._document, attributes[key], kinds), float)
            for key, kinds in (("TRANSLATION", VEC3), ("ROTATION", VEC4), ("SCALE", VEC3))
            if key in attributes
        }
        if not read:
            return self.world(index)[None]
        counts = {len(values) for values in read.values()}
        if len(counts) > 1:
            raise ValueError(
                f"nodes[{index}]: its instances have {sorted(counts)} transforms; the counts must be equal"
            )
        (count,) = counts
        if count > MOST_INSTANCES:
            raise ValueError(f"nodes[{index}] has {count} instances; the limit is {MOST_INSTANCES}")
        moves = read.get("TRANSLATION", np.zeros((count, 3)))
        turns = read.get("ROTATION", np.tile([0.0, 0, 0, 1], (count, 1)))
        return self.world(index) @ _transforms(moves, turns, read.get("SCALE", np.ones((count, 3))))

    def joint_matrices(self, skin_index: Any) -> Float[ndarray, "j 4 4"]:
        """Return, for each joint of a skin, the matrix from the mesh's rest pose to the scene.

        It is the joint's world matrix times its inverse bind matrix.
        """
        skin = self._document.entry("skins", skin_index)
        joints = self._indices(skin, "joints", "nodes")
        posed = np.array([self.world(joint) for joint in joints]).reshape(-1, 4, 4)
        if "inverseBindMatrices" not in skin:
            return posed
        bind = read_accessor(self._document, skin["inverseBindMatrices"], ("MAT4",))
        if len(bind) < len(joints):
            raise ValueError(f"skins[{skin_index}] has {len(joints)} joints, but {len(bind)} bind matrices")
        return posed @ bind[: len(joints)].reshape(-1, 4, 4).transpose(0, 2, 1)

    def _scene_roots(self) -> list[int]:
        """Return the roots of the default scene, else of the first, else all nodes without parent."""
        document = self._document
        if document.json.get("scenes"):
            scene = document.entry("scenes", document.json.get("scene", 0))
            return self._indices(scene, "nodes", "nodes")
        children = {child for children in self._children for child in children}
        return [index for index in range(len(self._children)) if index not in children]

    def _indices(self, parent: dict[str, Any], key: str, kind: str) -> list[int]:
        indices = parent.get(key, [])
        if not isinstance(indices, list):
            raise ValueError(f"its {key} are {str(indices)[:40]}; a list is required")
        for index in indices:
            self._document.entry(kind, index)
        return [int(index) for index in indices]


def _require_no_cycle(children: list[list[int]]) -> None:
    """Remove nodes without parents repeatedly: what remains is in or below a cycle."""
    above = np.bincount(np.array([*chain(*children)], int), minlength=len(children))
    free = [index for index in range(len(children)) if above[index] == 0]
    taken = 0
    while free:
        taken += 1
        for child in children[free.pop()]:
            above[child] -= 1
            if above[child] == 0:
                free.append(child)
    if taken < len(children):
        raise ValueError(f"its nodes form a cycle: nodes[{int(np.argmax(above > 0))}] is below itself")


def _locals(nodes: list[dict[str, Any]]) -> Float[ndarray, "k 4 4"]:
    """Return the matrices from each node's axes to its parent's."""
    moves, scales = np.zeros((len(nodes), 3)), np.ones((len(nodes), 3))
    turns = np.tile([0.0, 0, 0, 1], (len(nodes), 1))
    rows = {"translation": moves, "rotation": turns, "scale": scales}
    for index, node in enumerate(nodes):
        for key, values in rows.items():
            if key in node:
                values[index] = floats(node, key, f"nodes[{index}]", tuple(values[index].tolist()))
    matrices = _transforms(moves, turns, scales)
    for index, node in enumerate(nodes):
        if "matrix" in node:
            matrix = floats(node, "matrix", f"nodes[{index}]", tuple(np.eye(4).ravel()))
            matrices[index] = matrix.reshape(4, 4).T
    return matrices


def _transforms(
    moves: Float[ndarray, "k 3"], turns: Float[ndarray, "k 4"], scales: Float[ndarray, "k 3"]
) -> Float[ndarray, "k 4 4"]:
    """Scale, rotate by unit quaternions (x, y, z, w), then translate. A zero quaternion is the identity."""
    lengths = np.linalg.norm(turns, axis=1, keepdims=True)
    turns = np.where(lengths > 1e-12, turns / np.maximum(lengths, 1e-12), [0.0, 0, 0, 1])
    x, y, z, w = turns.T
    matrices = np.tile(np.eye(4), (len(turns), 1, 1))
    rows = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
        [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
        [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
    ]
    matrices[:, :3, :3] = np.moveaxis(np.array(rows), 2, 0) * scales[:, None]
    matrices[:, :3, 3] = moves
    return matrices
