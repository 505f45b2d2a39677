"""Mesh files of many formats, whole and broken: shapes, colours, sources."""

import json
import tracemalloc
import zipfile
from pathlib import Path

import numpy as np
import pytest
import trimesh
from PIL import Image
from trimesh.visual import ColorVisuals, TextureVisuals
from trimesh.visual.material import PBRMaterial, SimpleMaterial

from data.mesh_options import AXES
from data.meshes import sources as mesh_sources
from data.meshes.axes import customary_front, file_to_world, upright
from data.meshes.bounded_reads import read_member
from data.meshes.loading import LoadedMesh, load_mesh
from data.meshes.mesh import Mesh, normalised
from data.meshes.sources import MeshSource, find_meshes
from tests.gltf_files import glb

FORMATS = ("glb", "gltf", "obj", "ply", "stl", "off", "dae")
UV = np.array([[0.0, 0], [1, 0], [1, 1], [0, 1]])
QUAD = {"vertices": [[0.0, 0, 0], [2, 0, 0], [2, 1, 0], [0, 1, 0]], "faces": [[0, 1, 2], [0, 2, 3]]}
PICTURE = np.random.default_rng(0).integers(0, 256, (3, 5, 3)).astype(np.uint8)
OBJ = """mtllib a.mtl
v 0 0 0
v 2 0 0
v 2 1 0
v 0 1 0
v 0 0 3
vt 0 0
vt 1 0
vt 1 1
vt 0 1
usemtl painted
f 1/1 2/2 3/3 4/4
usemtl blue
f 1/1 2/2 5/3
"""


def wedge() -> trimesh.Trimesh:
    """A solid without any symmetry."""
    vertices = np.array([[0, 0, 0], [3, 0, 0], [0, 2, 0], [0, 0, 1], [1.5, 0.5, 0.25]], float)
    return trimesh.Trimesh(vertices, [[0, 2, 1], [0, 1, 3], [0, 3, 2], [1, 4, 3], [2, 4, 1], [3, 4, 2]])


def load(path: Path) -> LoadedMesh:
    (source,) = find_meshes(path)
    return load_mesh(source)


def save(mesh, path: Path) -> Path:
    if path.suffix == ".dae":
        pytest.importorskip("collada", reason="reading DAE files needs pycollada")
    if path.suffix == ".gltf":
        scene = mesh if isinstance(mesh, trimesh.Scene) else trimesh.Scene(mesh)
        for name, content in trimesh.exchange.gltf.export_gltf(scene).items():
            (path.parent / (path.name if name == "model.gltf" else name)).write_bytes(content)
    else:
        mesh.export(path)
    return path


def triangles(mesh: Mesh) -> np.ndarray:
    """Corners of the triangles, in an order that depends on nothing but where they are."""
    corners = np.round(mesh.vertices[mesh.faces], 5) + 0.0
    corners = np.array([sorted(triangle.tolist()) for triangle in corners])
    return corners[np.lexsort(corners.reshape(len(corners), -1).T[::-1])]


def srgb(light: float) -> int:
    return round(255 * (12.92 * light if light <= 0.0031308 else 1.055 * light ** (1 / 2.4) - 0.055))


@pytest.mark.parametrize("suffix", FORMATS)
def test_every_format_gives_the_same_triangles(suffix, tmp_path):
    loaded = load(save(wedge(), tmp_path / f"wedge.{suffix}"))
    expected = Mesh(wedge().vertices, wedge().faces, loaded.mesh.face_colours)
    np.testing.assert_allclose(triangles(loaded.mesh), triangles(expected), atol=1e-5)
    assert loaded.up == ("z" if suffix == "stl" else "y")
    assert loaded.notes == ()


@pytest.mark.parametrize("suffix", ["gltf", "obj", "ply"])
def test_vertex_colours_stay_with_their_corners(suffix, tmp_path):
    colours = np.array([[255, 0, 0], [0, 255, 0], [0, 0, 255], [255, 255, 0], [0, 255, 255]], np.uint8)
    mesh = wedge()
    mesh.visual = ColorVisuals(mesh, vertex_colors=colours)
    loaded = load(save(mesh, tmp_path / f"wedge.{suffix}")).mesh
    places = loaded.vertices[loaded.faces].reshape(-1, 3)
    which = np.abs(places[:, None] - wedge().vertices).sum(2).argmin(1)
    np.testing.assert_array_equal(loaded.corner_colours.reshape(-1, 3), colours[which])
    assert (loaded.face_colours == 255).all()


def test_face_colours_stay_with_their_faces(tmp_path):
    colours = np.arange(18, dtype=np.uint8).reshape(6, 3) * 12
    mesh = wedge()
    mesh.visual = ColorVisuals(mesh, face_colors=colours)
    loaded = load(save(mesh, tmp_path / "wedge.ply")).mesh
    np.testing.assert_array_equal(loaded.face_colours, colours)
    np.testing.assert_allclose(loaded.vertices[loaded.faces], wedge().triangles, atol=1e-5)


def test_vertex_colours_of_gltf_are_linear(tmp_path):
    mesh = wedge()
    mesh.visual = ColorVisuals(mesh, vertex_colors=np.full((5, 3), 128, np.uint8))
    loaded = load(save(mesh, tmp_path / "wedge.glb")).mesh
    assert (loaded.corner_colours == srgb(128 / 255)).all()


@pytest.mark.parametrize("suffix", ["glb", "obj"])
def test_a_texture_comes_with_its_coordinates(suffix, tmp_path):
    material = PBRMaterial(baseColorTexture=Image.fromarray(PICTURE))
    if suffix == "obj":
        material = SimpleMaterial(image=Image.fromarray(PICTURE))
    quad = trimesh.Trimesh(**QUAD, visual=TextureVisuals(uv=UV, material=material))
    loaded = load(save(quad, tmp_path / f"quad.{suffix}")).mesh
    (texture,) = loaded.skin.textures
    np.testing.assert_array_equal(texture[..., :3], PICTURE)
    assert (texture[..., 3] == 255).all()
    assert (loaded.skin.texture_of == 0).all()
    assert (loaded.face_colours == 255).all()
    places = loaded.vertices[loaded.faces][..., :2] / [2, 1]  # u runs along x and v along y
    np.testing.assert_allclose(loaded.skin.uv, places, atol=1e-6)


def test_the_factor_of_a_gltf_material_is_linear_and_multiplies_the_texture(tmp_path):
    material = PBRMaterial(baseColorFactor=[51, 255, 0, 255], baseColorTexture=Image.fromarray(PICTURE))
    quad = trimesh.Trimesh(**QUAD, visual=TextureVisuals(uv=UV, material=material))
    loaded = load(save(quad, tmp_path / "quad.glb")).mesh
    assert loaded.face_colours[0].tolist() == [srgb(0.2), 255, 0]
    assert loaded.skin is not None


@pytest.mark.parametrize(("mode", "hole"), [("OPAQUE", False), ("MASK", True), ("BLEND", False)])
def test_holes_are_cut_as_the_material_says_and_glass_is_opaque(mode, hole, tmp_path):
    texels = np.full((2, 2, 4), 255, np.uint8)
    texels[0, 0, 3] = 110  # more than next to nothing, less than half
    material = PBRMaterial(baseColorTexture=Image.fromarray(texels), alphaMode=mode)
    quad = trimesh.Trimesh(**QUAD, visual=TextureVisuals(uv=UV, material=material))
    (texture,) = load(save(quad, tmp_path / "quad.glb")).mesh.skin.textures
    assert texture[..., 3].tolist() == [[0 if hole else 255, 255], [255, 255]]


def test_materials_of_an_mtl_file_reach_their_faces(tmp_path):
    # As in the wild: options before the name, backslashes, wrong case, a folder on another's disk.
    (tmp_path / "Textures").mkdir()
    Image.fromarray(PICTURE).save(tmp_path / "Textures" / "wood 1.PNG")
    (tmp_path / "a.mtl").write_text(
        "newmtl painted\nKd 0.1 0.5 0.1\nmap_Kd textures\\Wood 1.png\n\nnewmtl blue\nKd 0 0 1\nd 0.2\n"
    )
    (tmp_path / "a.obj").write_text(OBJ)
    loaded = load(tmp_path / "a.obj")
    mesh = loaded.mesh
    assert loaded.notes == ()
    textured = mesh.skin.texture_of >= 0
    assert textured.sum() == 2
    assert (mesh.face_colours[textured] == 255).all()  # a texture replaces Kd, as programs mean it
    assert mesh.face_colours[~textured].tolist() == [[0, 0, 255]]  # transparent, but drawn opaque
    np.testing.assert_array_equal(mesh.skin.textures[0][..., :3], PICTURE)

    for line in (r"map_Kd -s 2 2 1 C:\Users\me\wood.png", "map_Kd wood.png"):
        Image.fromarray(PICTURE).save(tmp_path / "wood.png")
        (tmp_path / "a.mtl").write_text(f"newmtl painted\n{line}\n")
        assert load(tmp_path / "a.obj").mesh.skin is not None


@pytest.mark.parametrize(
    ("options", "scale", "offset", "wrap"),
    [
        ("", (1, 1), (0, 0), "repeat"),
        ("-s 2 3 1 -o 0.25 -0.5", (2, 3), (0.25, -0.5), "repeat"),
        ("-clamp on -s .5 ", (0.5, 1), (0, 0), "clamp"),
        ("-blendu off -mm 0 1 -clamp off -o 1e-1", (1, 1), (0.1, 0), "repeat"),
    ],
)
def test_options_of_an_mtl_texture_say_how_it_lies(options, scale, offset, wrap, tmp_path):
    Image.fromarray(PICTURE).save(tmp_path / "wood.png")
    (tmp_path / "a.mtl").write_text(f"newmtl painted\nmap_Kd {options} wood.png\n")
    (tmp_path / "a.obj").write_text(OBJ)
    skin = load(tmp_path / "a.obj").mesh.skin
    textured = skin.uv[skin.texture_of == 0]
    np.testing.assert_allclose(textured[0], UV[[0, 1, 2]] * scale + offset, atol=1e-6)
    assert skin.wraps[0] == (wrap, wrap)


def test_two_textures_of_one_mesh_go_on_each_in_its_own_way(tmp_path):
    Image.fromarray(PICTURE).save(tmp_path / "wood.png")
    lines = ["newmtl painted", "map_Kd -clamp on wood.png", "newmtl blue", "map_Kd -s 2 2 wood.png", ""]
    (tmp_path / "a.mtl").write_text("\n".join(lines))
    (tmp_path / "a.obj").write_text(OBJ)
    skin = load(tmp_path / "a.obj").mesh.skin
    faces = {skin.wraps[number][0]: skin.uv[skin.texture_of == number] for number in (0, 1)}
    assert {wrap: uv.max() for wrap, uv in faces.items()} == {"clamp": 1, "repeat": 2}


def test_a_missing_or_damaged_texture_is_noted_and_the_colour_stays(tmp_path):
    (tmp_path / "a.obj").write_text(OBJ)
    (tmp_path / "a.mtl").write_text("newmtl painted\nKd 1 0 0\nmap_Kd lost.png\n")
    loaded = load(tmp_path / "a.obj")
    assert loaded.notes == ("lost.png is missing",)
    assert [255, 0, 0] in loaded.mesh.face_colours.tolist()
    Image.fromarray(np.zeros((64, 64, 3), np.uint8)).save(tmp_path / "whole.png")
    (tmp_path / "lost.png").write_bytes((tmp_path / "whole.png").read_bytes()[:70])
    loaded = load(tmp_path / "a.obj")
    assert "cannot be read" in loaded.notes[0]
    assert [255, 0, 0] in loaded.mesh.face_colours.tolist()


def test_textures_are_read_below_the_input_and_nowhere_else(tmp_path):
    models = tmp_path / "set" / "models"
    models.mkdir(parents=True)
    (models / "a.obj").write_text(OBJ)
    (models / "a.mtl").write_text("newmtl painted\nmap_Kd ../images/wood.png\n")
    (tmp_path / "set" / "images").mkdir()
    Image.fromarray(PICTURE).save(tmp_path / "set" / "images" / "wood.png")
    assert load(tmp_path / "set").mesh.skin is not None
    assert load(models).notes == ("../images/wood.png is missing",)


def test_coordinates_without_a_texture_are_light_grey(tmp_path):
    (tmp_path / "a.obj").write_text(OBJ.replace("mtllib a.mtl\n", ""))
    mesh = load(tmp_path / "a.obj").mesh
    assert mesh.skin is None
    assert (mesh.face_colours == 184).all()


def test_scenes_are_flattened_with_their_transforms(tmp_path):
    turned = trimesh.transformations.rotation_matrix(0.4, [1, 2, 3], [0.5, 0, 0])
    turned[:3, :3] *= 1.7
    scene = trimesh.Scene()
    scene.add_geometry(wedge(), node_name="one", geom_name="wedge")
    scene.add_geometry(wedge(), node_name="two", geom_name="other", transform=turned)
    mesh = load(save(scene, tmp_path / "scene.glb")).mesh
    moved = wedge().apply_transform(turned)
    both = np.concatenate([wedge().triangles, moved.triangles])
    expected = Mesh(both.reshape(-1, 3), np.arange(36).reshape(12, 3), np.zeros((12, 3), np.uint8))
    np.testing.assert_allclose(triangles(mesh), triangles(expected), atol=2e-5)


@pytest.mark.parametrize("suffix", ["glb", "gltf"])
def test_glossy_materials_show_their_diffuse_colour_and_files_their_authors(suffix, tmp_path):
    quad = trimesh.Trimesh(**QUAD, visual=TextureVisuals(uv=UV, image=Image.fromarray(PICTURE)))
    document = json.loads(save(quad, tmp_path / "quad.gltf").read_bytes())
    glossy = {"diffuseTexture": {"index": 0}, "diffuseFactor": [0.2, 1, 1, 1], "specularFactor": [1, 1, 1]}
    document["materials"] = [{"extensions": {"KHR_materials_pbrSpecularGlossiness": glossy}}]
    document["asset"] |= {"extras": {"author": "A. Uthor", "license": "CC0"}, "copyright": "somebody"}
    if suffix == "gltf":
        (tmp_path / "quad.gltf").write_text(json.dumps(document))
        loaded = load(tmp_path / "quad.gltf")
    else:
        quad.export(tmp_path / "plain.glb")
        plain = (tmp_path / "plain.glb").read_bytes()
        size = int.from_bytes(plain[12:16], "little")
        changed = json.loads(plain[20 : 20 + size])
        changed |= {"materials": document["materials"], "asset": document["asset"]}
        (tmp_path / "quad.glb").write_bytes(glb(changed, plain[28 + size :]))
        loaded = load(tmp_path / "quad.glb")
    np.testing.assert_array_equal(loaded.mesh.skin.textures[0][..., :3], PICTURE)
    assert loaded.mesh.face_colours[0].tolist() == [srgb(0.2), 255, 255]
    assert loaded.credits == {"creator": "A. Uthor", "licence": "CC0"}


BROKEN = {
    "text.glb": (b"no mesh at all", "cannot be read"),
    "empty.obj": (b"", "no triangles"),
    "points.obj": (b"v 0 0 0\nv 1 0 0\nv 0 1 0\n", "no triangles"),
    "flat.obj": (b"v 0 0 0\nv 1 1 1\nv 2 2 2\nf 1 2 3\n", "all of its 1 triangles are degenerate"),
    "nan.obj": (b"v nan 0 0\nv 1 0 0\nv 0 1 0\nf 1 2 3\n", "all of its 1 triangles are degenerate"),
    "beyond.obj": (b"v 0 0 0\nv 1 0 0\nv 0 1 0\nf 1 2 9\n", "cannot be read"),
    "short.stl": (b"\0" * 80 + b"\x09\0\0\0" + b"\0" * 30, "no triangles"),
    "huge.off": (b"OFF\n353535235358 12 0\n1 2 3\n", "cannot be read"),
    "half.ply": (b"ply\nformat binary_little_endian 1.0\nelement vertex 9\n", "cannot be read"),
    "broken.zip": (b"PK\x03\x04 and no more", "cannot be read"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_file_is_refused_in_one_line_with_its_name(name, tmp_path):
    content, reason = BROKEN[name]
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=reason) as error:
        load(tmp_path / name)
    assert str(error.value).startswith(str(tmp_path / name))
    assert "\n" not in str(error.value)


def test_what_is_not_finite_or_not_used_does_not_count(tmp_path):
    (tmp_path / "a.obj").write_text(
        "v 99 99 99\nv 0 0 0\nv 1 0 0\nv 0 1 0\nv inf 0 0\nf 2 3 4\nf 3 4 5\nf 2 2 3\n"
    )
    mesh = load(tmp_path / "a.obj").mesh
    assert len(mesh.faces) == 1
    assert mesh.vertices.max() == 1


@pytest.mark.parametrize(
    ("up", "front"), [(up, front) for up in AXES for front in AXES if up[-1] != front[-1]]
)
def test_up_becomes_z_and_front_minus_x_without_mirroring(up, front):
    turn = file_to_world(up, front)
    sign = {axis: -1 if axis.startswith("-") else 1 for axis in AXES}
    unit = {axis: sign[axis] * np.eye(3)["xyz".index(axis[-1])] for axis in AXES}
    np.testing.assert_allclose(turn @ unit[up], [0, 0, 1])
    np.testing.assert_allclose(turn @ unit[front], [-1, 0, 0])
    assert np.linalg.det(turn) == pytest.approx(1)


def test_the_customary_axes_turn_a_gltf_car_as_expected_by_hand():
    # In the file: 4 long along z with the nose at +z, 1.5 high along y, its left (+x) side at x = 0.9.
    nose, roof, left = [0.0, 0.2, 2.0], [0.0, 1.5, 0.0], [0.9, 0.5, 0.0]
    mesh = Mesh(np.array([nose, roof, left]), np.array([[0, 1, 2]]), np.zeros((1, 3), np.uint8))
    turned = upright(mesh, "y", customary_front("y")).vertices
    np.testing.assert_allclose(turned, [[-2, 0, 0.2], [0, 0, 1.5], [0, -0.9, 0.5]], atol=1e-12)
    same = upright(mesh, "z", customary_front("z")).vertices  # as Blender has it: nose at -y, left at +x
    np.testing.assert_allclose(same[2], [0.5, -0.9, 0], atol=1e-12)
    with pytest.raises(ValueError, match="perpendicular"):
        file_to_world("y", "-y")


def test_a_dae_file_says_itself_which_axis_is_up(tmp_path):
    path = save(wedge(), tmp_path / "wedge.dae")
    path.write_bytes(path.read_bytes().replace(b"Y_UP", b"Z_UP"))
    assert load(path).up == "z"


def test_normalised_meshes_have_a_unit_diagonal_about_the_origin():
    mesh = normalised(Mesh(wedge().vertices * 7 + 5, np.asarray(wedge().faces), np.zeros((6, 3), np.uint8)))
    low, high = mesh.vertices.min(0), mesh.vertices.max(0)
    np.testing.assert_allclose(low, -high, atol=1e-12)
    np.testing.assert_allclose(high - low, np.array([3, 2, 1]) / np.sqrt(14), atol=1e-12)


CATALOGUE = """\
# a comment
id=library
license=CC-BY 3.0
name#1=Caf\\u00e9 chair
model#1=/lib/one/one.obj
category#1=Seats
creator#1=Ann
modelRotation#1=1 0 0 0 0 1 0 -1 0
name#2=A very \\
   long name
model#2=/lib/two/two.obj
category#2=Cars
creator#2=Bob
"""


@pytest.fixture
def library(tmp_path) -> Path:
    Image.fromarray(PICTURE).save(tmp_path / "t.png")
    path = tmp_path / "library.sh3f"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("PluginFurnitureCatalog.properties", CATALOGUE.encode("latin-1"))
        for name in ("one", "two", "unlisted"):
            archive.writestr(f"lib/{name}/{name}.obj", OBJ)
            archive.writestr(f"lib/{name}/a.mtl", "newmtl painted\nmap_Kd ../T.png\n")
        archive.write(tmp_path / "t.png", "lib/t.png")
    return path


def test_a_catalogue_tells_which_models_there_are_and_whose(library):
    one, two = find_meshes(library)
    assert (one.name, one.title, one.category, one.creator) == ("one", "Caf\xe9 chair", "Seats", "Ann")
    assert (two.title, two.licence, two.rotation) == ("A very long name", "CC-BY 3.0", None)
    loaded, plain = load_mesh(one).mesh, load_mesh(two).mesh
    assert loaded.skin is not None
    # (x, y, z) -> (x, z, -y), row by row
    np.testing.assert_allclose(loaded.vertices, plain.vertices[:, [0, 2, 1]] * [1, 1, -1])
    assert [source.name for source in find_meshes(library, only="^cars$|nothing")] == ["two"]
    with pytest.raises(ValueError, match="none of its 2 meshes matches"):
        find_meshes(library, only="boats")


def test_names_are_as_short_as_tells_the_files_apart(tmp_path, library):
    for place in ("a/models", "b/models", "c d"):
        (tmp_path / place).mkdir(parents=True)
    for path in ("a/models/model.obj", "b/models/model.obj", "c d/own.obj", "c d/own.ply", "c d/pose.obj"):
        (tmp_path / path).write_text(OBJ)
    (tmp_path / ".hidden").mkdir()
    (tmp_path / ".hidden" / "x.obj").write_text(OBJ)
    names = [source.name for source in find_meshes(tmp_path, without=tmp_path / "out")]
    assert names == ["a_models_model", "b_models_model", "c_d_own", "c_d_own_2", "pose_", "one", "two"]
    common = [source.name for source in find_meshes(tmp_path, only="models/")]
    assert common == ["a_models_model", "b_models_model"]


def test_places_without_meshes_are_refused(tmp_path):
    (tmp_path / "a.blend").write_bytes(b"")
    for place in (tmp_path, tmp_path / "a.blend", tmp_path / "none"):
        with pytest.raises(ValueError, match=str(place)):
            find_meshes(place)
    assert MeshSource("a", tmp_path / "a.GLB", tmp_path).suffix == ".glb"


def sh3f(path: Path, catalogue: str, *, damaged: bool = False) -> Path:
    """A library of one model; `damaged`: the compressed catalogue begins with nonsense."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("PluginFurnitureCatalog.properties", catalogue)
        archive.writestr("one.obj", OBJ)
    if damaged:
        content = bytearray(path.read_bytes())
        start = content.find(b"properties") + len("properties")
        content[start : start + 8] = b"\xff" * 8
        path.write_bytes(content)
    return path


def test_a_bad_archive_is_a_problem_of_its_own(tmp_path, monkeypatch):
    monkeypatch.setattr(mesh_sources, "CATALOGUE_BYTES", 2**20)
    sh3f(tmp_path / "a.sh3f", "model#1=/one.obj\nmodelRotation#1=1 0 0 x 0 1 0 0 1\n")
    sh3f(tmp_path / "b.sh3f", "model#1=/one.obj\n" * 50, damaged=True)
    sh3f(tmp_path / "c.sh3f", "a" * 2**20)
    sh3f(tmp_path / "d.sh3f", "model#1=/one.obj\n")
    *bad, good = find_meshes(tmp_path)
    reasons = ("modelRotation#1 is '1 0 0 x 0 1 0 0 1'; write nine", "error: Error -3", "larger than 1 MiB")
    for source, name, reason in zip(bad, "abc", reasons, strict=True):
        with pytest.raises(ValueError, match=rf"/{name}\.sh3f: .*{reason}"):
            load_mesh(source)
    assert len(load_mesh(good).mesh.faces) == 3


def test_a_member_that_lies_about_its_size_is_not_unpacked(tmp_path):
    size = 40 * 2**20
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.obj", bytes(size))
    lie = (tmp_path / "a.zip").read_bytes().replace(size.to_bytes(4, "little"), (99).to_bytes(4, "little"))
    (tmp_path / "a.zip").write_bytes(lie)
    tracemalloc.start()
    with pytest.raises(ValueError, match=r"a\.zip:a\.obj: cannot be read"):
        load(tmp_path / "a.zip")
    assert tracemalloc.get_traced_memory()[1] < size / 4
    tracemalloc.stop()
    with zipfile.ZipFile(tmp_path / "b.zip", "w") as archive:
        archive.writestr("b", bytes(2**20))
        assert len(read_member(archive, "b", limit=2**20 + 1)) == 2**20
        with pytest.raises(ValueError, match="b is larger than 1 MiB"):
            read_member(archive, "b", limit=2**20)


def test_meshes_in_linked_folders_are_found_once(tmp_path):
    for name in ("set/own", "elsewhere/deep"):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / f"{Path(name).name}.obj").write_text(OBJ)
    (tmp_path / "set" / "linked").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "set" / "own" / "up").symlink_to(tmp_path / "set")
    (tmp_path / "elsewhere" / "again").symlink_to(tmp_path / "elsewhere" / "deep")
    assert sorted(source.name for source in find_meshes(tmp_path / "set")) == ["deep", "own"]


def test_a_zipped_dae_file_says_itself_which_axis_is_up(tmp_path):
    path = save(wedge(), tmp_path / "wedge.dae")
    for axis in "YZ":
        with zipfile.ZipFile(tmp_path / "wedge.zae", "w") as archive:
            archive.writestr("manifest.xml", "<up_axis>X_UP</up_axis>")
            archive.writestr("Wedge.DAE", path.read_bytes().replace(b"Y_UP", f"{axis}_UP".encode()))
        assert load(tmp_path / "wedge.zae").up == axis.lower()
