"""Polygons of mesh files: their triangles cover what they enclose, whatever the format."""

import struct
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from data.meshes.loading import LoadedMesh, load_mesh
from data.meshes.polygons.triangulate import cut_polygons
from data.meshes.sources import find_meshes

ARCH = [(1 * np.cos(a) + 2, np.sin(a)) for a in np.linspace(np.pi, 0, 9)]
SHAPES = {  # corners in order
    "dart": [(0, 0), (4, 0), (4, 4), (2, 1), (0, 4)],
    "quad dart": [(0, 0), (4, 0), (1, 1), (0, 4)],
    "U": [(0, 0), (4, 0), (4, 4), (3, 4), (3, 1), (1, 1), (1, 4), (0, 4)],
    "L": [(1, 0), (4, 0), (4, 1), (1.5, 1), (1.5, 4), (0, 4), (0, 0)],
    "wheel arch": [(0, 0), *ARCH, (4, 0), (4, 2), (0, 2)],
    "window": [(0, 0), (4, 0), (4, 4), (0, 4), (0, 0), (1, 1), (1, 3), (3, 3), (3, 1), (1, 1)],
    "doubled corner": [(0, 0), (0, 0), (4, 0), (4, 4), (2, 1), (2, 1), (0, 4)],
    "corners on a line": [(0, 0), (1, 0), (2, 0), (4, 0), (4, 4), (2, 1), (1, 2.5), (0, 4)],
    "comb": [(0, 0), (9, 0), *[(9 - i, (3, 1)[i % 2]) for i in range(10)]],
}


def shoelace(corners) -> float:
    x, y = np.array(corners, float).T
    return abs((x * np.roll(y, -1) - np.roll(x, -1) * y).sum()) / 2


def area(loaded: LoadedMesh) -> float:
    a, b, c = loaded.mesh.vertices[loaded.mesh.faces].transpose(1, 0, 2)
    return np.linalg.norm(np.cross(b - a, c - a), axis=1).sum() / 2


def load(path: Path) -> LoadedMesh:
    (source,) = find_meshes(path)
    return load_mesh(source)


def space(corners, *, turned: bool = True, size: float = 1.0) -> np.ndarray:
    """The corners in a plane that is askew."""
    plane = np.linalg.qr(np.random.default_rng(2).normal(size=(3, 3)))[0][:2] if turned else np.eye(3)[:2]
    away = np.array([3.0, -2, 5]) if turned else np.zeros(3)
    return (np.array(corners, float) @ plane + away) * size


def as_obj(points) -> bytes:
    lines = [f"v {x} {y} {z}" for x, y, z in points]
    return "\n".join([*lines, "f " + " ".join(str(i + 1) for i in range(len(points))), ""]).encode()


def as_off(points) -> bytes:
    rows = [f"{x} {y} {z}" for x, y, z in points]
    face = f"{len(points)} " + " ".join(map(str, range(len(points)))) + " 255 0 0"
    return "\n".join(["OFF", f"{len(points)} 1 0", "# a remark", *rows, face, ""]).encode()


def ply_head(form: str, num_vertices: int, num_faces: int, *more: str) -> bytes:
    lines = ["ply", f"format {form} 1.0", "comment made by hand", f"element vertex {num_vertices}"]
    lines += [f"property float {axis}" for axis in "xyz"]
    lines += [f"element face {num_faces}", "property list uchar int vertex_indices", *more, "end_header", ""]
    return "\n".join(lines).encode()


def as_ply(points) -> bytes:
    rows = [f"{x} {y} {z}" for x, y, z in points]
    rows += [f"{len(points)} " + " ".join(map(str, range(len(points)))), ""]
    return ply_head("ascii", len(points), 1) + "\n".join(rows).encode()


def as_binary_ply(points, order: str = "<") -> bytes:
    form = "binary_little_endian" if order == "<" else "binary_big_endian"
    face = struct.pack(f"{order}B{len(points)}i", len(points), *range(len(points)))
    return ply_head(form, len(points), 1) + np.asarray(points, f"{order}f4").tobytes() + face


def as_dae(points, primitive: str = "") -> bytes:
    numbers = " ".join(f"{value:.9g}" for value in np.ravel(points))
    order = " ".join(map(str, range(len(points))))
    used = '<input semantic="VERTEX" source="#v" offset="0"/>'
    primitive = primitive or (
        f'<polylist count="1">{used}<vcount>{len(points)}</vcount><p>{order}</p></polylist>'
    )
    axes = "".join(f'<param name="{axis}" type="float"/>' for axis in "XYZ")
    return f"""<?xml version="1.0"?>
<COLLADA xmlns="http://www.collada.org/2005/11/COLLADASchema" version="1.4.1">
<asset><up_axis>Z_UP</up_axis></asset>
<library_geometries><geometry id="g"><mesh>
<source id="s"><float_array id="a" count="{3 * len(points)}">{numbers}</float_array><technique_common>
<accessor source="#a" count="{len(points)}" stride="3">{axes}</accessor></technique_common></source>
<vertices id="v"><input semantic="POSITION" source="#s"/></vertices>
{primitive.replace("USED", used)}
</mesh></geometry></library_geometries>
<library_visual_scenes><visual_scene id="x"><node><instance_geometry url="#g"/></node></visual_scene>
</library_visual_scenes><scene><instance_visual_scene url="#x"/></scene></COLLADA>""".encode()


FORMATS = {
    "obj": as_obj,
    "off": as_off,
    "ply": as_ply,
    "binary.ply": as_binary_ply,
    "big.ply": lambda points: as_binary_ply(points, ">"),
    "dae": as_dae,
}


def write(tmp_path: Path, form: str, points) -> Path:
    if form == "dae":
        pytest.importorskip("collada", reason="reading DAE files needs pycollada")
    (tmp_path / f"a.{form}").write_bytes(FORMATS[form](points))
    return tmp_path / f"a.{form}"


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("form", FORMATS)
def test_triangles_cover_what_a_polygon_encloses(shape, form, tmp_path):
    loaded = load(write(tmp_path, form, space(SHAPES[shape])))
    assert area(loaded) == pytest.approx(shoelace(SHAPES[shape]), rel=1e-4)
    assert loaded.notes == ()


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("shift", range(10))
@pytest.mark.parametrize("backwards", [False, True])
def test_neither_the_first_corner_nor_the_sense_nor_the_size_matters(shape, shift, backwards):
    corners = SHAPES[shape][shift:] + SHAPES[shape][:shift]
    corners = corners[::-1] if backwards else corners
    for size in (1e-6, 1.0, 1e6):
        points, notes = space(corners, size=size), []
        triangles, polygon_of = cut_polygons(points, np.arange(len(points)), np.array([len(points)]), notes)
        a, b, c = points[triangles].transpose(1, 0, 2)
        normals = np.cross(b - a, c - a) / 2
        expected = shoelace(corners) * size**2
        assert np.linalg.norm(normals, axis=1).sum() == pytest.approx(expected, rel=1e-6)
        assert np.linalg.norm(normals.sum(0)) == pytest.approx(expected, rel=1e-6)  # all face one way
        assert (polygon_of == 0).all()
        assert notes == []
    offsets = points - points[0]
    newell = np.cross(offsets, np.roll(offsets, -1, axis=0)).sum(0)
    assert newell @ normals.sum(0) > 0


def test_each_triangle_knows_its_polygon_and_convex_ones_are_fans():
    points = np.concatenate([space(SHAPES[name]) for name in ("U", "dart")])
    square = space([(0, 0), (1, 0), (1, 1), (0, 1)])
    points = np.concatenate([points, square])
    sizes = np.array([8, 2, 5, 4, 3, 0])
    corners = np.array([*range(8), 0, 1, *range(8, 13), *range(13, 17), 13, 14, 15])
    triangles, polygon_of = cut_polygons(points, corners, sizes, [])
    assert np.bincount(polygon_of, minlength=6).tolist() == [6, 0, 3, 2, 1, 0]
    starts = np.cumsum(sizes) - sizes
    assert (triangles >= starts[polygon_of][:, None]).all()
    assert (triangles < (starts + sizes)[polygon_of][:, None]).all()
    assert (triangles[polygon_of == 3] - starts[3]).tolist() == [[0, 1, 2], [0, 2, 3]]
    with pytest.raises(ValueError, match="a corner that does not exist"):
        cut_polygons(points, np.array([0, 1, 17]), np.array([3]), [])


def test_bent_and_empty_polygons_do_not_fail_and_crossed_ones_are_noted():
    notes: list[str] = []
    bent = np.array([[0, 0, 0], [4, 0, 0.1], [4, 4, 0], [2, 1, 0.2], [0, 4, -0.1]])
    triangles, _ = cut_polygons(bent, np.arange(5), np.array([5]), notes)
    a, b, c = bent[triangles].transpose(1, 0, 2)
    assert np.linalg.norm(np.cross(b - a, c - a), axis=1).sum() / 2 == pytest.approx(10, rel=0.02)
    for line in (np.zeros((5, 3)), np.outer(np.arange(5), [1.0, 2, 3]), np.full((5, 3), np.nan)):
        cut_polygons(line, np.arange(5), np.array([5]), notes)
    assert notes == []
    eight = np.array([[0, 0, 0], [2, 2, 0], [2, 0, 0], [0, 2, 0]], float)
    cut_polygons(eight, np.arange(4), np.array([4]), notes)
    assert notes == ["self-intersecting polygons: 1; they may not look as intended"]


# What else the files say of corners and faces


def test_corners_of_obj_files_keep_their_references(tmp_path):
    corners = SHAPES["dart"]
    Image.new("RGB", (2, 2), "red").save(tmp_path / "red.png")
    (tmp_path / "a.mtl").write_text("newmtl m\nmap_Kd red.png\n")
    text = "mtllib a.mtl\n" + "".join(f"v {x} {y} 0\nvt {x / 4} {y / 4}\n" for x, y in corners)
    # Continued lines, remarks, references that count backwards from where they stand.
    faces = "usemtl m\nf 1/1 2/2 3/3 \\\n 4/4 5/5 # a dart\nv 9 9 9\nf -6/-5 -5/-4 -4/-3 -3/-2 -2/-1\n"
    (tmp_path / "a.obj").write_text(text + faces + "v 8 8 8\nv 7 7 7\n")
    loaded = load(tmp_path / "a.obj")
    assert area(loaded) == pytest.approx(20)
    assert loaded.mesh.vertices.max() == 4
    places = loaded.mesh.vertices[loaded.mesh.faces][..., :2] / 4
    np.testing.assert_allclose(loaded.mesh.skin.uv, places, atol=1e-6)


def test_colours_and_coordinates_of_ply_faces_go_to_their_triangles(tmp_path):
    corners = SHAPES["dart"]
    Image.new("RGB", (2, 2), "red").save(tmp_path / "red.png")
    rows = [f"{x} {y} 0" for x, y in corners] + ["8 8 8", "9 8 8", "8 9 8"]
    head = ply_head("ascii", 8, 2, *[f"property uchar {c}" for c in ("red", "green", "blue")])
    faces = ["5 0 1 2 3 4 200 0 7", "3 5 6 7 0 100 0", ""]
    (tmp_path / "a.ply").write_bytes(head + "\n".join(rows + faces).encode())
    colours = load(tmp_path / "a.ply").mesh.face_colours.tolist()
    assert colours == [[200, 0, 7]] * 3 + [[0, 100, 0]]

    head = ply_head("ascii", 8, 1, "property list uchar float texcoord")
    head = head.replace(b"comment made by hand", b"comment TextureFile red.png")
    uv = " ".join(f"{x / 4} {y / 4}" for x, y in corners)
    (tmp_path / "b.ply").write_bytes(head + "\n".join([*rows, f"5 0 1 2 3 4 10 {uv}", ""]).encode())
    mesh = load(tmp_path / "b.ply").mesh
    np.testing.assert_allclose(mesh.skin.uv, mesh.vertices[mesh.faces][..., :2] / 4, atol=1e-6)


def test_binary_ply_files_may_mix_triangles_and_polygons(tmp_path):
    points = space(SHAPES["U"], turned=False)
    faces = struct.pack("<B8i", 8, *range(8)) + struct.pack("<B3i", 3, 0, 1, 2)
    content = ply_head("binary_little_endian", 8, 2) + points.astype("<f4").tobytes() + faces
    (tmp_path / "a.ply").write_bytes(content)
    assert area(load(tmp_path / "a.ply")) == pytest.approx(10 + 8)
    (tmp_path / "b.ply").write_bytes(content[:-5])
    with pytest.raises(ValueError, match="it ends within its 2 face elements"):
        load(tmp_path / "b.ply")


def test_triangle_strips_of_ply_files_are_drawn(tmp_path):
    head = b"ply\nformat ascii 1.0\nelement vertex 6\n" + b"".join(b"property float %c\n" % a for a in b"xyz")
    head += b"element tristrips 1\nproperty list int int vertex_indices\nend_header\n"
    rows = "0 0 0\n1 0 0\n0 1 0\n1 1 0\n5 5 0\n6 5 0\n"
    (tmp_path / "a.ply").write_bytes(head + f"{rows}8 0 1 2 3 -1 4 5 1\n".encode())
    mesh = load(tmp_path / "a.ply").mesh
    assert len(mesh.faces) == 3
    assert area(load(tmp_path / "a.ply")) == pytest.approx(1 + 0.5 * 5)  # base 1, from y = 5 down to 0


@pytest.mark.parametrize(
    ("primitive", "expected"),
    [
        ("<polygons count='1'>USED<p>0 1 2 3 4 5 6 7</p></polygons>", 10),
        ("<tristrips count='1'>USED<p>0 1 7 2</p></tristrips>", 16),
        ("<trifans count='1'>USED<p>0 1 2 7</p></trifans>", 16),
        ("<polygons count='2'>USED<p>0 1 3</p><ph><p>0 1 2 7</p><h>4 8 9</h></ph></polygons>", 8 + 16 - 1),
    ],
)
def test_polygons_strips_and_fans_of_dae_files_are_triangles(primitive, expected, tmp_path):
    pytest.importorskip("collada", reason="reading DAE files needs pycollada")
    points = space([*SHAPES["U"], (2, 1), (2, 3)], turned=False)
    (tmp_path / "a.dae").write_bytes(as_dae(points, primitive))
    loaded = load(tmp_path / "a.dae")
    assert area(loaded) == pytest.approx(expected)
    assert loaded.up == "z"
    assert loaded.notes == ()


def test_files_of_triangles_alone_are_read_as_they_are():
    from data.meshes.loading import CUT

    triangle = space([(0, 0), (1, 0), (0, 1)])
    for form in ("obj", "off", "ply", "binary.ply"):
        content = FORMATS[form](triangle)
        assert CUT["." + form.split(".")[-1]](content, []) is content
