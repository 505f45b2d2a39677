"""glTF files that are damaged, or made to do harm: one clear line, and little memory."""

import json
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from data.meshes.loading import load_mesh
from data.meshes.sources import find_meshes
from tests.gltf_files import BOX, Builder, glb


def load(path: Path):
    (source,) = find_meshes(path)
    return load_mesh(source)


def box() -> Builder:
    made = Builder()
    made.primitive()
    return made


def with_change(place: str, value) -> Builder:
    """A box of which one entry, such as accessors/0/count, is another."""
    made = box()
    *path, last = place.split("/")
    entry = made.json
    for key in path:
        entry = entry[int(key)] if isinstance(entry, list) else entry[key]
    entry[int(last) if isinstance(entry, list) else last] = value
    return made


def instanced(count: int, nodes: int = 1) -> Builder:
    made = box()
    made.json["accessors"].append({"componentType": 5126, "type": "VEC3", "count": count})
    instancing = {"EXT_mesh_gpu_instancing": {"attributes": {"TRANSLATION": 2}}}
    made.json["nodes"] = [{"mesh": 0, "extensions": instancing} for _ in range(nodes)]
    made.json["scenes"] = [{"nodes": list(range(nodes))}]
    return made


def doubled(levels: int) -> Builder:
    """Nodes that each refer to the next twice."""
    made = box()
    made.json["nodes"] = [{"children": [i + 1, i + 1]} for i in range(levels)] + [{"mesh": 0}]
    return made


HOSTILE = {
    "a view that is not there": (with_change("accessors/0/bufferView", 77), r"bufferViews\[77\]"),
    "a view of another kind": (with_change("accessors/0/bufferView", "0"), r"bufferViews\['0'\]"),
    "a negative index": (with_change("nodes/0/mesh", -1), r"meshes\[-1\], which does not exist"),
    "a negative offset": (with_change("bufferViews/0/byteOffset", -4), "byteOffset is -4"),
    "an offset beyond": (with_change("accessors/0/byteOffset", 10**9), "ends at byte"),
    "a view beyond": (with_change("bufferViews/0/byteLength", 10**12), "ends at byte"),
    "a huge count": (with_change("accessors/0/count", 10**12), "ends at byte"),
    "no count": (with_change("accessors/0/count", 0), "count is 0"),
    "half a count": (with_change("accessors/0/count", 7.5), "count is 7.5"),
    "a stride of none": (with_change("bufferViews/0/byteStride", 0), "byteStride is 0"),
    "a number type of none": (with_change("accessors/0/componentType", 7), "componentType is 7"),
    "a wrong type": (with_change("accessors/0/type", "VEC2"), "is of type VEC2; VEC3 is required"),
    "a scale of words": (with_change("nodes/0/scale", ["a", 1, 1]), "scale is"),
    "two numbers": (with_change("nodes/0/translation", [1, 2]), "3 numbers are required"),
    "nan": (with_change("nodes/0/translation", [1, 2, float("nan")]), "3 numbers are required"),
    "a matrix of three": (with_change("nodes/0/matrix", [1, 2, 3]), "16 numbers are required"),
    "a node below itself": (with_change("nodes/0/children", [0]), "nodes form a cycle"),
    "a scene of none": (with_change("scene", 3), r"scenes\[3\], which does not exist"),
    "nodes of words": (with_change("nodes/0/children", "all"), "a list is required"),
    "a skin of none": (with_change("nodes/0/skin", 0), r"skins\[0\], which does not exist"),
    "a material of none": (with_change("meshes/0/primitives/0/material", 4), r"materials\[4\]"),
    "weights of words": (with_change("meshes/0/weights", ["x"]), "weights is"),
    "millions of instances": (instanced(2**22), "4194304 instances"),
    "too many triangles": (instanced(2**16, nodes=11), "instances have more than"),
    "a future version": (with_change("asset/version", "3.0"), "it is glTF 3.0"),
}  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
def test_harmful_files_are_refused_in_one_line_with_little_memory(name, tmp_path):
    made, reason = HOSTILE[name]
    path = made.write(tmp_path / "a.glb")
    tracemalloc.start()
    with pytest.raises(ValueError, match=reason) as error:
        load(path)
    assert tracemalloc.get_traced_memory()[1] < 200e6
    tracemalloc.stop()
    assert str(error.value).startswith(f"{path}: cannot be read (")
    assert "\n" not in str(error.value)


def test_values_that_a_file_has_no_bytes_for_are_limited(tmp_path):
    made = box()
    for change in ({"count": 10**10}, {"count": 10**10, "sparse": {"count": 10**10}}):
        made.json["accessors"][0] = {"componentType": 5126, "type": "VEC3", **change}
        with pytest.raises(ValueError, match="is 10000000000 zeros without data"):
            load(made.write(tmp_path / "a.glb"))


def test_a_sparse_value_beyond_its_array_is_refused(tmp_path):
    made = Builder()
    place = {"bufferView": made.view(b"\x08"), "componentType": 5121}
    values = {"bufferView": made.view(bytes(12))}
    made.primitive(made.accessor(BOX, sparse={"count": 1, "indices": place, "values": values}))
    with pytest.raises(ValueError, match=r"accessors\[0\].sparse changes element 8 of 8"):
        load(made.write(tmp_path / "a.glb"))


def test_a_corner_or_a_joint_that_does_not_exist_is_refused(tmp_path):
    made = Builder()
    made.primitive(BOX, np.array([0, 1, 8], np.uint8))
    with pytest.raises(ValueError, match="has a triangle with vertex 8 of 8"):
        load(made.write(tmp_path / "a.glb"))
    made = Builder()
    made.primitive(JOINTS_0=np.ones((8, 4), np.uint8), WEIGHTS_0=np.ones((8, 4), np.float32))
    made.json["skins"] = [{"joints": [0]}]
    made.json["nodes"][0]["skin"] = 0
    with pytest.raises(ValueError, match="has a vertex at joint 1 of 1"):
        load(made.write(tmp_path / "b.glb"))


def test_nodes_that_multiply_are_drawn_once_and_long_chains_to_their_end(tmp_path):
    assert len(load(doubled(64).write(tmp_path / "a.glb")).mesh.faces) == 12
    made = box()
    made.json["nodes"] = [{"children": [i + 1], "translation": [0, 1, 0]} for i in range(1500)] + [
        {"mesh": 0}
    ]
    assert load(made.write(tmp_path / "b.glb")).mesh.vertices[:, 1].max() == 1502


def test_corners_at_no_finite_place_are_left_out_and_counted(tmp_path):
    positions = BOX.copy()
    positions[7] = np.inf
    made = Builder()
    made.primitive(positions)
    loaded = load(made.write(tmp_path / "a.glb"))
    assert len(loaded.mesh.faces) == 12 - 6
    assert loaded.notes == ("6 of its 12 triangles have a corner that is not finite",)


@pytest.mark.parametrize("size", [0, 4, 11, 19, 40, 300, -1])
def test_a_file_that_is_cut_short_is_refused_in_one_line(size, tmp_path):
    content = box().content()
    (tmp_path / "a.glb").write_bytes(content[:size])
    with pytest.raises(ValueError, match="cannot be read") as error:
        load(tmp_path / "a.glb")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("text", ["[]", "null", "3", '{"asset": 5}', '{"nodes": {"0": 1}}', "[" * 100_000])
def test_json_of_another_kind_is_refused_in_one_line(text, tmp_path):
    (tmp_path / "a.gltf").write_text(text)
    with pytest.raises(ValueError, match=r"cannot be read|contains no triangles") as error:
        load(tmp_path / "a.gltf")
    assert "\n" not in str(error.value)


def test_random_damage_never_ends_in_anything_but_a_mesh_or_one_line(tmp_path):
    rng = np.random.default_rng(0)
    made = box()
    text = json.dumps(made.json | {"buffers": [{"byteLength": len(made.binary)}]})
    for _ in range(150):
        changed = list(text)
        for place in rng.integers(0, len(text), 3):
            changed[place] = rng.choice(list('0123456789-,:"[]{}e'))
        try:
            content = glb(json.loads("".join(changed)), made.binary)
        except ValueError:
            continue
        (tmp_path / "a.glb").write_bytes(content)
        try:
            load(tmp_path / "a.glb")
        except ValueError as error:
            assert "\n" not in str(error)  # noqa: PT017
