"""What glTF files say in other ways than by plain triangles of floats: each way against the plain one."""

import base64
import io
import json
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from data.meshes.loading import LoadedMesh, load_mesh
from data.meshes.sources import find_meshes
from data.meshes.textures import SkinReader
from tests.gltf_files import BOX, BOX_FACES, Builder

UV = np.array([[0.1, 0.1], [0.9, 0.1], [0.9, 0.7], [0.1, 0.7]], np.float32)  # v runs down
QUAD = np.array([[0, 0, 0], [2, 0, 0], [2, 1, 0], [0, 1, 0]], np.float32)
QUAD_FACES = np.array([[0, 1, 2], [0, 2, 3]], np.uint16)
HALF_RED = np.zeros((4, 4, 3), np.uint8) + np.where(np.arange(4) < 2, 1, 0)[:, None] * [255, 0, 0]
HALF_RED = (HALF_RED + np.where(np.arange(4) < 2, 0, 1)[:, None] * [0, 0, 255]).astype(np.uint8)


def load(path: Path) -> LoadedMesh:
    (source,) = find_meshes(path)
    return load_mesh(source)


def corners(loaded: LoadedMesh) -> np.ndarray:
    """Corners of the triangles, whatever their order."""
    rows = np.round(loaded.mesh.vertices[loaded.mesh.faces], 4) + 0.0
    rows = np.array([sorted(triangle.tolist()) for triangle in rows])
    return rows[np.lexsort(rows.reshape(len(rows), -1).T[::-1])]


def box(loaded: LoadedMesh) -> list[list[float]]:
    vertices = loaded.mesh.vertices
    return np.round([vertices.min(0), vertices.max(0)], 4).tolist()


def png(pixels: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def textured(texture: dict | None = None, reference: dict | None = None, **attributes) -> Builder:
    """A quad with a picture, red on the left and blue on the right."""
    made = Builder()
    made.json["images"] = [{"bufferView": made.view(png(HALF_RED)), "mimeType": "image/png"}]
    made.json["textures"] = [{"source": 0} if texture is None else texture]
    base = {"baseColorTexture": {"index": 0} | (reference or {})}
    made.json["materials"] = [{"pbrMetallicRoughness": base}]
    made.primitive(QUAD, QUAD_FACES, material=0, **{"TEXCOORD_0": UV} | attributes)
    return made


# Arrays


@pytest.mark.parametrize("kind", ["i1", "i2", "u1", "u2"])
def test_normalised_positions_are_shares_of_one(kind, tmp_path):
    most = np.iinfo(kind).max
    stored = np.round(BOX / 3 * most).astype(kind)
    made = Builder()
    made.json["extensionsRequired"] = ["KHR_mesh_quantization"]
    made.primitive(made.accessor(stored, normalized=True))
    made.json["nodes"][0]["scale"] = [3, 3, 3]
    plain = Builder()
    plain.primitive(stored / np.float32(most) * 3)
    loaded = load(made.write(tmp_path / "a.glb"))
    np.testing.assert_allclose(corners(loaded), corners(load(plain.write(tmp_path / "b.glb"))), atol=2e-4)
    assert loaded.notes == ()


@pytest.mark.parametrize("kind", ["u1", "u2"])
def test_normalised_texture_coordinates_are_shares_of_one(kind, tmp_path):
    most = np.iinfo(kind).max
    made = textured()
    attributes = made.json["meshes"][0]["primitives"][0]["attributes"]
    attributes["TEXCOORD_0"] = made.accessor(np.round(UV * most).astype(kind), normalized=True)
    skin = load(made.write(tmp_path / "a.glb")).mesh.skin
    expected = load(textured().write(tmp_path / "b.glb")).mesh.skin
    np.testing.assert_allclose(skin.uv, expected.uv, atol=0.5 / most + 1e-6)
    np.testing.assert_allclose(skin.uv[0], [[0.1, 0.9], [0.9, 0.9], [0.9, 0.3]], atol=0.5 / most + 1e-6)


def test_the_least_of_a_signed_normalised_integer_is_minus_one(tmp_path):
    made = Builder()
    stored = np.array([[-128, 0, 0], [127, 0, 0], [0, 127, 0]], np.int8)
    made.primitive(made.accessor(stored, normalized=True), None)
    assert box(load(made.write(tmp_path / "a.glb"))) == [[-1, 0, 0], [1, 1, 0]]


@pytest.mark.parametrize(("kind", "normalized"), [("u1", True), ("u2", True), ("u2", False), ("f4", False)])
def test_vertex_colours_of_any_number_type_are_the_same(kind, normalized, tmp_path):
    most = 1 if kind == "f4" else np.iinfo(kind).max
    made, light = Builder(), np.tile([0, 1.0, 0.2, 1.0], (8, 1))
    colours = made.accessor(np.asarray(light * most).astype(kind), normalized=normalized)
    made.primitive(COLOR_0=colours)
    loaded = load(made.write(tmp_path / "a.glb"))
    assert loaded.mesh.corner_colours[0, 0].tolist() == [0, 255, 124]  # 0.2 of the light, in sRGB


@pytest.mark.parametrize("base", [True, False])
def test_sparse_values_take_the_place_of_others(base, tmp_path):
    made, rows = Builder(), np.flatnonzero(BOX[:, 1] > 0)
    moved = BOX.copy()
    moved[rows, 1] = 5
    rows, new = (rows, moved[rows]) if base else (np.arange(8), moved)
    sparse = {"count": len(rows), "indices": {"componentType": 5121}, "values": {}}
    sparse["indices"]["bufferView"] = made.view(rows.astype(np.uint8).tobytes())
    sparse["values"]["bufferView"] = made.view(new.astype(np.float32).tobytes())
    more = {} if base else {"bufferView": None}
    positions = made.accessor(BOX, sparse=sparse, min=[0, 0, 0], max=[1, 5, 3], **more)
    made.primitive(positions)
    loaded = load(made.write(tmp_path / "a.glb"))
    assert box(loaded) == [[0, 0, 0], [1, 5, 3]]
    assert loaded.notes == ()


def test_interleaved_arrays_are_read_by_their_stride(tmp_path):
    made = Builder()
    rows = np.concatenate([BOX, np.full((8, 2), 9, np.float32)], axis=1)
    view = made.view(b"abcd" + rows.tobytes(), byteStride=20)
    made.json["accessors"].append({"componentType": 5126, "type": "VEC3", "count": 8, "bufferView": view,
                                   "byteOffset": 4})  # fmt: skip
    made.primitive(0)
    assert box(load(made.write(tmp_path / "a.glb"))) == [[0, 0, 0], [1, 2, 3]]


def test_positions_that_lie_elsewhere_than_promised_are_noted(tmp_path):
    made = Builder()
    made.primitive(made.accessor(BOX, max=[1, 7, 3]))
    (note,) = load(made.write(tmp_path / "a.glb")).notes
    assert "(0, 0, 0) to (1, 2, 3)" in note
    assert "declares (0, 0, 0) to (1, 7, 3)" in note


@pytest.mark.parametrize("way", ["data", "percent", "file"])
def test_buffers_may_lie_anywhere(way, tmp_path):
    made = Builder()
    made.primitive()
    content = made.binary
    uri = {
        "data": "data:application/octet-stream;base64," + base64.b64encode(content).decode(),
        "percent": "data:," + "".join(f"%{byte:02x}" for byte in content),
        "file": "my%20data.bin",
    }[way]
    (tmp_path / "my data.bin").write_bytes(content)
    document = made.json | {"buffers": [{"byteLength": len(content), "uri": uri}]}
    (tmp_path / "a.gltf").write_text(json.dumps(document))
    assert box(load(tmp_path / "a.gltf")) == [[0, 0, 0], [1, 2, 3]]
    (tmp_path / "my data.bin").unlink()
    if way == "file":
        with pytest.raises(
            ValueError, match=r"its data, my%20data.bin, are missing; put that file beside it"
        ):
            load(tmp_path / "a.gltf")


# Triangles


@pytest.mark.parametrize("indexed", [True, False])
@pytest.mark.parametrize("mode", ["strip", "fan"])
def test_strips_and_fans_are_triangles(mode, indexed, tmp_path):
    points = np.array([[0, 0, 0], [2, 0, 0], [3, 2, 1], [1, 4, 0], [-1, 2, 5]], np.float32)
    order = np.array([1, 0, 4, 2, 3], np.uint8)
    triangles = {"strip": [[0, 1, 2], [2, 1, 3], [2, 3, 4]], "fan": [[0, 1, 2], [0, 2, 3], [0, 3, 4]]}[mode]
    made, plain = Builder(), Builder()
    made.primitive(points, order if indexed else None, mode={"strip": 5, "fan": 6}[mode])
    plain.primitive(points, (order if indexed else np.arange(5, dtype=np.uint8))[triangles])
    made, plain = load(made.write(tmp_path / "a.glb")), load(plain.write(tmp_path / "b.glb"))
    np.testing.assert_array_equal(corners(made), corners(plain))
    np.testing.assert_array_equal(made.mesh.faces, plain.mesh.faces)  # which way they face, too


def test_the_largest_index_begins_a_new_strip(tmp_path):
    made = Builder()
    made.primitive(BOX, np.array([0, 1, 2, 255, 4, 5, 6, 7], np.uint8), mode=5)
    assert len(load(made.write(tmp_path / "a.glb")).mesh.faces) == 1 + 2


def test_points_and_lines_are_noted_and_what_makes_no_whole_triangle_too(tmp_path):
    made = Builder()
    made.primitive(BOX, BOX_FACES.ravel()[:-1])
    for mode in (0, 1, 2, 3):
        made.primitive(mode=mode)
    loaded = load(made.write(tmp_path / "a.glb"))
    assert len(loaded.mesh.faces) == 11
    assert loaded.notes == (
        "2 vertices that form no complete triangle are ignored",
        "points or lines are ignored",
    )


# Nodes


def test_instances_are_all_drawn_where_they_stand(tmp_path):
    made = Builder()
    made.primitive()
    half = np.sqrt(0.5)
    attributes = {
        "TRANSLATION": made.accessor(np.array([[0, 0, 0], [10, 0, 0], [0, 20, 0]], np.float32)),
        "ROTATION": made.accessor(np.array([[0, 0, 0, 1], [0, 0, half, half], [0, 0, 0, 1]], np.float32)),
        "SCALE": made.accessor(np.array([[1, 1, 1], [1, 2, 1], [1, 1, 4]], np.float32)),
    }
    made.json["nodes"][0] |= {"extensions": {"EXT_mesh_gpu_instancing": {"attributes": attributes}}}
    made.json["nodes"][0]["translation"] = [100, 0, 0]
    made.json["extensionsRequired"] = ["EXT_mesh_gpu_instancing"]
    loaded = load(made.write(tmp_path / "a.glb"))
    # A quarter turn about z takes (x, 2 y) to (-2 y, x): from 10 - 4 to 10 along x, 0 to 1 along y.
    first, second, third = loaded.mesh.vertices.reshape(3, 8, 3)
    np.testing.assert_allclose([first.min(0), first.max(0)], [[100, 0, 0], [101, 2, 3]], atol=1e-5)
    np.testing.assert_allclose([second.min(0), second.max(0)], [[106, 0, 0], [110, 1, 3]], atol=1e-5)
    np.testing.assert_allclose([third.min(0), third.max(0)], [[100, 20, 0], [101, 22, 12]], atol=1e-5)
    assert len(loaded.mesh.faces) == 36


@pytest.mark.parametrize("bound", [True, False])
def test_skinned_vertices_stand_where_their_joints_hold_them(bound, tmp_path):
    made = Builder()
    top = BOX[:, 1] > 0
    weights = np.where(top[:, None], [0.25, 0.75, 0, 0], [1.0, 0, 0, 0]).astype(np.float32)
    joints = np.tile(np.array([0, 1, 0, 0], np.uint8), (8, 1))
    made.primitive(JOINTS_0=joints, WEIGHTS_0=weights * 2)  # weights are shares of their sum
    skin = {"joints": [1, 2]}
    if bound:  # the second joint was bound at (0, 1, 0), and matrices are stored by columns
        bind = np.tile(np.eye(4, dtype=np.float32), (2, 1, 1))
        bind[1, 1, 3] = -1
        skin["inverseBindMatrices"] = made.accessor(bind.transpose(0, 2, 1))
    made.json["skins"] = [skin]
    made.json["nodes"] = [
        {"mesh": 0, "skin": 0, "translation": [50, 50, 50]},  # of no effect where there is a skin
        {"children": [2], "scale": [2, 2, 2]},
        {"translation": [0, 4, 0]},
    ]
    made.json["scenes"] = [{"nodes": [0, 1]}]
    # The top's y: 2 by the first joint becomes 4, by the second 2 (2 + 4), less 2 for the bind pose.
    height = 0.25 * 4 + 0.75 * (12 - 2 * bound)
    assert box(load(made.write(tmp_path / "a.glb"))) == [[0, 0, 0], [2, height, 6]]


def test_morph_targets_count_by_their_default_weights(tmp_path):
    made = Builder()
    up, out = np.zeros_like(BOX), np.zeros_like(BOX)
    up[BOX[:, 1] > 0, 1], out[BOX[:, 0] > 0, 0] = 4, 10
    targets = [{"POSITION": made.accessor(up)}, {"POSITION": made.accessor(out)}]
    made.primitive(targets=targets)
    assert box(load(made.write(tmp_path / "none.glb")))[1] == [1, 2, 3]
    made.json["meshes"][0]["weights"] = [0.5, 0]
    assert box(load(made.write(tmp_path / "mesh.glb")))[1] == [1, 4, 3]
    made.json["nodes"][0]["weights"] = [0, 0.2]
    assert box(load(made.write(tmp_path / "node.glb")))[1] == [3, 2, 3]


def test_a_file_without_scenes_shows_all_and_one_without_a_choice_the_first(tmp_path):
    made = Builder()
    made.primitive()
    made.json["nodes"] = [{"children": [1]}, {"mesh": 0, "translation": [0, 5, 0]}]
    expected = [[0, 5, 0], [1, 7, 3]]
    del made.json["scene"]
    assert box(load(made.write(tmp_path / "first.glb"))) == expected
    del made.json["scenes"]
    assert box(load(made.write(tmp_path / "none.glb"))) == expected


def test_hidden_nodes_are_not_drawn(tmp_path):
    made = Builder()
    made.primitive()
    hidden = {"extensions": {"KHR_node_visibility": {"visible": False}}, "children": [2]}
    made.json["nodes"] = [{"mesh": 0}, hidden, {"mesh": 0, "translation": [0, 5, 0]}]
    made.json["scenes"] = [{"nodes": [0, 1]}]
    assert box(load(made.write(tmp_path / "a.glb"))) == [[0, 0, 0], [1, 2, 3]]


def test_a_node_with_two_parents_is_drawn_once_and_noted(tmp_path):
    made = Builder()
    made.primitive()
    made.json["nodes"] = [{"children": [2]}, {"children": [2], "translation": [9, 9, 9]}, {"mesh": 0}]
    made.json["scenes"] = [{"nodes": [0, 1]}]
    loaded = load(made.write(tmp_path / "a.glb"))
    assert box(loaded) == [[0, 0, 0], [1, 2, 3]]
    assert loaded.notes == ("nodes[2] has several parents; only the first is used",)


# Materials


def test_a_black_surface_has_the_colour_that_it_emits(tmp_path):
    made = Builder()
    made.json["materials"] = [
        {"pbrMetallicRoughness": {"baseColorFactor": [0, 0, 0, 1]}, "emissiveFactor": [0, 0.2, 0],
         "extensions": {"KHR_materials_emissive_strength": {"emissiveStrength": 5}}},
        {"pbrMetallicRoughness": {"baseColorFactor": [1, 0, 0, 1]}, "emissiveFactor": [0, 1, 0]},
    ]  # fmt: skip
    made.primitive(material=0, COLOR_0=np.zeros((8, 3), np.float32))  # tints what is reflected alone
    made.primitive(material=1)
    colours = load(made.write(tmp_path / "a.glb")).mesh.face_colours
    assert colours[[0, 12]].tolist() == [[0, 255, 0], [255, 255, 0]]


@pytest.mark.parametrize("black", ["factor", "texture"])
def test_a_picture_that_a_black_surface_emits_is_its_texture(black, tmp_path):
    made = textured()
    made.json["images"].append({"bufferView": made.view(png(np.zeros((2, 2, 3), np.uint8)))})
    made.json["textures"].append({"source": 1})
    base = {"baseColorFactor": [0, 0, 0, 1]} if black == "factor" else {"baseColorTexture": {"index": 1}}
    emits = {"emissiveFactor": [1, 1, 1], "emissiveTexture": {"index": 0}}
    made.json["materials"] = [{"pbrMetallicRoughness": base} | emits, {"name": "lamp", **emits}]
    made.json["materials"][1]["pbrMetallicRoughness"] = {"baseColorTexture": {"index": 0}}
    loaded = load(made.write(tmp_path / "a.glb"))
    np.testing.assert_array_equal(loaded.mesh.skin.textures[0][..., :3], HALF_RED)
    assert (loaded.mesh.face_colours == 255).all()
    made.json["meshes"][0]["primitives"][0]["material"] = 1
    assert load(made.write(tmp_path / "b.glb")).notes == ("the emission of material lamp is ignored",)


def test_a_texture_of_an_unknown_kind_gives_way_to_another_or_is_noted(tmp_path):
    basis = {"extensions": {"KHR_texture_basisu": {"source": 1}}}
    for name, texture in (("none", basis), ("other", basis | {"source": 0}), ("ktx", {"source": 1})):
        made = textured(texture)
        made.json["images"].append(
            {"bufferView": made.view(b"\xabKTX 20\xbb\r\n\x1a\n"), "mimeType": "image/ktx2"}
        )
        made.json["extensionsRequired"] = ["KHR_texture_basisu"]
        loaded = load(made.write(tmp_path / f"{name}.glb"))
        assert (loaded.mesh.skin is not None) == (name == "other")
        assert ("the texture of materials[0] is missing" in "".join(loaded.notes)) == (name != "other")
        assert ("ktxdecompress" in "".join(loaded.notes)) == (name != "other")


@pytest.mark.parametrize("damage", ["bytes", "file"])
def test_a_damaged_or_absent_texture_is_noted(damage, tmp_path):
    made = textured()
    made.json["images"] = [
        {"bufferView": made.view(b"no picture")} if damage == "bytes" else {"uri": "a.png"}
    ]
    loaded = load(made.write(tmp_path / "a.glb"))
    assert loaded.mesh.skin is None
    assert "the texture of materials[0] is missing" in loaded.notes[0]
    assert loaded.notes[1:] == (("a.png is missing",) if damage == "file" else ())


@pytest.mark.parametrize(("mode", "pattern"), [(10497, "RRBBRRBB"), (33648, "RRBBBBRR"), (33071, "RRBBBBBB")])
@pytest.mark.parametrize("axis", [0, 1])
def test_textures_go_on_beyond_their_edges_as_their_sampler_says(mode, pattern, axis, tmp_path):
    pixels = HALF_RED if axis == 0 else HALF_RED.transpose(1, 0, 2)
    made = textured({"source": 0, "sampler": 0})
    made.json["samplers"] = [{("wrapS", "wrapT")[axis]: mode}]
    made.json["images"] = [{"bufferView": made.view(png(np.ascontiguousarray(pixels)))}]
    attributes = made.json["meshes"][0]["primitives"][0]["attributes"]
    attributes["TEXCOORD_0"] = made.accessor(QUAD[:, :2] * np.float32([1, 2]))
    mesh = load(made.write(tmp_path / "a.glb")).mesh
    reader = SkinReader(mesh.skin, mesh.vertices[mesh.faces], spacing=1e-9)
    shares = (np.arange(8) + 0.5) / 8  # of the way from 0 to 2 along the axis
    # The corners of the first face are (0, 0), (2, 0) and (2, 2) in (u, v).
    inside = np.stack([shares, np.zeros(8)], 1) if axis == 0 else np.stack([1 - shares, shares], 1)
    seen = reader.read(np.zeros(8, int), inside)[:, :3]
    assert "".join("RB"[int(np.argmax(colour) == 2)] for colour in seen) == pattern


def test_texture_coordinates_are_transformed_as_the_extension_says(tmp_path):
    transform = {"offset": [0.5, 0.25], "rotation": 0.3, "scale": [2, 3], "texCoord": 1}
    second = UV[::-1].copy()
    made = textured(None, {"extensions": {"KHR_texture_transform": transform}}, TEXCOORD_1=second)
    loaded = load(made.write(tmp_path / "a.glb"))
    u, v = second[0] * [2, 3]
    expected = [np.cos(0.3) * u + np.sin(0.3) * v + 0.5, -np.sin(0.3) * u + np.cos(0.3) * v + 0.25]
    np.testing.assert_allclose(loaded.mesh.skin.uv[0, 0], [expected[0], 1 - expected[1]], atol=1e-6)
    assert loaded.notes == ()
    made = textured(None, {"texCoord": 3})
    (note,) = load(made.write(tmp_path / "b.glb")).notes
    assert "has no texture coordinates 3" in note


# Extensions


@pytest.mark.parametrize("name", ["EXT_meshopt_compression", "KHR_meshopt_compression", "ACME_unheard_of"])
def test_what_a_file_needs_and_is_not_read_is_refused_by_name(name, tmp_path):
    made = Builder()
    made.primitive()
    made.json["extensionsRequired"] = ["KHR_materials_unlit", "KHR_lights_punctual", name]
    remedy = "gltf-transform" if "meshopt" in name else "export it without"
    with pytest.raises(
        ValueError, match=f"needs the glTF extension {name}, which is not supported; .*{remedy}"
    ):
        load(made.write(tmp_path / "a.glb"))


def test_what_a_file_merely_uses_is_noted_unless_it_does_not_matter(tmp_path):
    made = Builder()
    made.primitive()
    made.json["extensionsUsed"] = ["KHR_materials_sheen", "ACME_unheard_of", "KHR_materials_unlit"]
    assert load(made.write(tmp_path / "a.glb")).notes == ("the glTF extension ACME_unheard_of is ignored",)


def test_a_compressed_view_without_a_plain_copy_is_refused_by_name(tmp_path):
    made = Builder()
    made.primitive()
    compressed = {"extensions": {"EXT_meshopt_compression": {"buffer": 0, "byteLength": 9, "count": 8}}}
    made.json["bufferViews"][0] |= compressed
    assert box(load(made.write(tmp_path / "copy.glb"))) == [[0, 0, 0], [1, 2, 3]]
    made.json["bufferViews"][0]["byteOffset"] = 9999
    with pytest.raises(ValueError, match=r"compressed \(EXT_meshopt_compression\)"):
        load(made.write(tmp_path / "none.glb"))


def draco(content: bytes, numbers: dict[str, int]) -> Builder:
    """A box whose only data are compressed."""
    made = Builder()
    data = made.view(content)
    made.json["accessors"] = [
        {"componentType": 5126, "type": "VEC3", "count": 8, "min": [0, 0, 0], "max": [1, 2, 3]},
        {"componentType": 5123, "type": "SCALAR", "count": 36},
    ]
    extension = {"KHR_draco_mesh_compression": {"bufferView": data, "attributes": numbers}}
    made.primitive(0, None, extensions=extension)["indices"] = 1
    made.json["extensionsRequired"] = list(extension)
    return made


def test_draco_is_decoded_if_its_package_is_there_and_named_if_not(tmp_path, monkeypatch):
    dracopy = pytest.importorskip("DracoPy", reason="decoding Draco needs DracoPy")
    content = dracopy.encode(BOX, BOX_FACES.astype(np.uint32), quantization_bits=16)
    loaded = load(draco(content, {"POSITION": 0}).write(tmp_path / "a.glb"))
    plain = Builder()
    plain.primitive()
    np.testing.assert_allclose(corners(loaded), corners(load(plain.write(tmp_path / "b.glb"))), atol=1e-3)
    assert loaded.notes == ()
    with pytest.raises(ValueError, match="KHR_draco_mesh_compression data cannot be decoded"):
        load(draco(b"no draco data", {"POSITION": 0}).write(tmp_path / "c.glb"))
    monkeypatch.setitem(sys.modules, "DracoPy", None)
    with pytest.raises(ValueError, match=r"KHR_draco_mesh_compression\); pip install DracoPy"):
        load(tmp_path / "a.glb")
