"""Triangulate polygons, strips and fans in COLLADA files. Corners keep all their indices."""

import re
from xml.etree import ElementTree

import numpy as np
from numpy import ndarray

from data.meshes.polygons.triangulate import cut_polygons, cut_rings, cut_strips

KINDS = ("polylist", "polygons", "tristrips", "trifans")
PRESENT = re.compile(rb"<(?:\w+:)?(?:polylist|polygons|tristrips|trifans)\b")


def plain_dae(content: bytes, notes: list[str]) -> bytes:
    """Return the file with only triangles; unchanged if it has no others, or is not XML.

    Raises ValueError for a corner that does not exist.
    """
    if not PRESENT.search(content):
        return content
    try:
        root = ElementTree.fromstring(content)
    except ElementTree.ParseError:  # the reader reports or tolerates it
        return content
    space = root.tag.partition("}")[0] + "}" if root.tag.startswith("{") else ""
    if space:
        ElementTree.register_namespace("", space[1:-1])
    for mesh in root.iter(f"{space}mesh"):
        points = _points(mesh, space)
        for primitive in [child for child in mesh if child.tag in {space + kind for kind in KINDS}]:
            _cut(primitive, space, points, notes)
    return ElementTree.tostring(root, encoding="utf-8", xml_declaration=True)


def _points(mesh: ElementTree.Element, space: str) -> dict[str, ndarray]:
    """Return the positions [n, 3] of each <vertices> element of a mesh, by its id."""
    found = {}
    for vertices in mesh.iter(f"{space}vertices"):
        inputs = {child.get("semantic"): child.get("source", "") for child in vertices.iter(f"{space}input")}
        for source in mesh.iter(f"{space}source"):
            array, accessor = source.find(f"{space}float_array"), source.find(f".//{space}accessor")
            if f"#{source.get('id')}" == inputs.get("POSITION") and array is not None:
                stride = int(accessor.get("stride", 3)) if accessor is not None else 3
                numbers = np.array((array.text or "").split(), float)
                if stride >= 3:
                    found[f"#{vertices.get('id')}"] = numbers[: len(numbers) // stride * stride].reshape(
                        -1, stride
                    )[:, :3]
    return found


def _cut(primitive: ElementTree.Element, space: str, points: dict[str, ndarray], notes: list[str]) -> None:
    """Convert a primitive to <triangles>, in place."""
    # The primitive's corners, one row of indices each.
    inputs = primitive.findall(f"{space}input")
    offsets = [int(child.get("offset", 0)) for child in inputs]
    vertex = next((child for child in inputs if child.get("semantic") == "VERTEX"), None)
    if vertex is None or vertex.get("source") not in points:
        return
    width, place = max(offsets) + 1, int(vertex.get("offset", 0))
    kind = primitive.tag.removeprefix(space)
    rows = [_indices(each, width) for each in primitive.findall(f"{space}p")]
    holed = [[_indices(ring, width) for ring in each] for each in primitive.findall(f"{space}ph")]
    corners = np.concatenate([np.zeros((0, width), np.int64), *rows])
    positions = points[vertex.get("source")]

    # Triangles as corner indices.
    starts = np.cumsum([0] + [len(row) for row in rows])
    if kind == "tristrips":
        runs = [np.arange(start, start + len(row)) for start, row in zip(starts, rows, strict=False)]
        triangles = cut_strips([run for run in runs if len(run) >= 3])
    elif kind == "trifans":
        runs = [np.arange(start, start + len(row)) for start, row in zip(starts, rows, strict=False)]
        fans = [np.stack([np.full(len(r) - 2, r[0]), r[1:-1], r[2:]], axis=1) for r in runs if len(r) >= 3]
        triangles = np.concatenate([np.zeros((0, 3), np.int64), *fans])
    else:
        counts = primitive.find(f"{space}vcount")
        text = (counts.text or "").split() if counts is not None else [len(row) for row in rows]
        sizes = np.array(text, np.int64)
        if len(sizes) and (sizes.min() < 0 or sizes.sum() > len(corners)):
            raise ValueError("a polygon has fewer corners than its file says")
        corners = corners[: sizes.sum()]
        triangles, _ = cut_polygons(positions, corners[:, place], sizes, notes)

    # Polygons with holes have separate rings.
    chosen = [corners[triangles].reshape(-1, width)]
    for rings in holed:
        triangles = cut_rings(positions, [ring[:, place] for ring in rings], notes)
        chosen.append(np.concatenate(rings)[triangles].reshape(-1, width))

    # Replace the polygons by triangles.
    for child in list(primitive):
        if child.tag in (f"{space}p", f"{space}ph", f"{space}vcount"):
            primitive.remove(child)
    primitive.tag = f"{space}triangles"
    corners = np.concatenate(chosen)
    primitive.set("count", str(len(corners) // 3))
    written = ElementTree.SubElement(primitive, f"{space}p")
    written.text = " ".join(map(str, corners.reshape(-1).tolist()))


def _indices(element: ElementTree.Element, width: int) -> ndarray:
    """Return the indices [c, width] of a <p> or <h> element, one row per corner."""
    numbers = np.array((element.text or "").split(), np.int64)
    return numbers[: len(numbers) // width * width].reshape(-1, width)
