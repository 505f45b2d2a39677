"""Triangulate polygons and strips in PLY files. Axes: r row of an element.

Triangles inherit colours and other properties of their polygon; texture coordinates are per corner.
"""

import re
import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy import ndarray

from data.meshes.polygons.triangulate import cut_polygons, cut_strips

TYPES = {
    "char": "i1", "int8": "i1", "uchar": "u1", "uint8": "u1", "short": "i2", "int16": "i2", "ushort": "u2",
    "uint16": "u2", "int": "i4", "int32": "i4", "uint": "u4", "uint32": "u4", "float": "f4",
    "float32": "f4", "double": "f8", "float64": "f8",
}  # fmt: skip
NAMES = {"i1": "char", "u1": "uchar", "i2": "short", "u2": "ushort", "i4": "int", "u4": "uint", "f4": "float",
         "f8": "double"}  # fmt: skip
INDICES = ("vertex_indices", "vertex_index")
CORNER_LISTS = ("texcoord",)  # u and v of each corner


@dataclass
class _Lists:
    """Variable-length lists, one per row, concatenated."""

    values: ndarray
    sizes: ndarray


@dataclass
class _Element:
    name: str
    count: int
    properties: list[tuple[str, str, str | None]] = field(
        default_factory=list
    )  # name, type, type of the length
    data: dict[str, Any] = field(default_factory=dict)

    @property
    def lists(self) -> list[str]:
        return [name for name, _, length in self.properties if length]


def plain_ply(content: bytes, notes: list[str]) -> bytes:
    """Return the file with its polygons and strips triangulated; unchanged if all faces are triangles.

    Raises ValueError for a file that ends too early or refers to vertices that do not exist.
    """
    found = re.match(rb"ply\s.*?\bend_header[ \t]*\r?\n", content, re.DOTALL)
    if not found:
        return content
    head = found[0].decode("latin-1").splitlines()
    elements = {element.name: element for element in _elements(head)}
    faces, strips = elements.get("face"), elements.get("tristrips")
    if "vertex" not in elements or not any(e and e.count and e.lists for e in (faces, strips)):
        return content
    form = next((line.split()[1] for line in head if line.startswith("format ")), "")
    read = (
        _text_reader(content[found.end() :])
        if form == "ascii"
        else _binary_reader(content, found.end(), form)
    )
    for element in elements.values():
        read(element)

    vertices = np.stack([elements["vertex"].data[axis] for axis in "xyz"], axis=1).astype(float)
    corners = faces.data[_index_list(faces)] if faces and faces.count and faces.lists else None
    if not (strips and strips.count) and (corners is None or (corners.sizes == 3).all()):
        return content
    cut, columns = _cut_faces(vertices, faces, corners, notes)
    if strips and strips.count:
        cut, columns = _with_strips(cut, columns, strips, len(vertices))
    comments = [line for line in head if line.startswith(("comment", "obj_info"))]
    return _written(elements["vertex"], cut, columns, comments)


def _cut_faces(
    vertices: ndarray, faces: _Element | None, corners: _Lists | None, notes: list[str]
) -> tuple[ndarray, dict[str, ndarray]]:
    """Return triangles, and their other properties by name."""
    if corners is None:
        return np.zeros((0, 3), np.int64), {}
    triangles, face_of = cut_polygons(vertices, corners.values, corners.sizes, notes)
    columns = {}
    for name, values in faces.data.items():
        if not isinstance(values, _Lists):
            columns[name] = values[face_of]
        elif name in CORNER_LISTS and (values.sizes == 2 * corners.sizes).all():
            columns[name] = values.values.reshape(-1, 2)[triangles].reshape(-1, 6)
    return np.asarray(corners.values, np.int64)[triangles], columns


def _with_strips(
    triangles: ndarray, columns: dict[str, ndarray], strips: _Element, num_vertices: int
) -> tuple[ndarray, dict[str, ndarray]]:
    """Add the triangles of strips, with white or zero for properties that only faces have."""
    lists = strips.data[_index_list(strips)]
    ends = np.cumsum(lists.sizes)[:-1]
    rows = np.split(np.asarray(lists.values, np.int64), ends)
    runs = [run[run >= 0] for row in rows for run in np.split(row, np.flatnonzero(row < 0))]
    more = cut_strips([run for run in runs if len(run) >= 3])
    if len(more) and more.max() >= num_vertices:
        raise ValueError("a strip has a corner that does not exist")
    filled = {}
    for name, values in columns.items():
        fill = 255 if values.dtype == np.uint8 else 0
        new = np.full((len(more), *values.shape[1:]), fill, values.dtype)
        filled[name] = np.concatenate([values, new])
    return np.concatenate([triangles, more]), filled


def _elements(head: list[str]) -> list[_Element]:
    elements: list[_Element] = []
    for words in (line.split() for line in head):
        if words[:1] == ["element"] and len(words) == 3 and words[2].isdigit():
            elements.append(_Element(words[1], int(words[2])))
        elif words[:2] == ["property", "list"] and len(words) == 5 and elements:
            elements[-1].properties.append((words[4], _type(words[3]), _type(words[2])))
        elif words[:1] == ["property"] and len(words) == 3 and elements:
            elements[-1].properties.append((words[2], _type(words[1]), None))
        elif words[:1] in (["element"], ["property"]):
            raise ValueError(f"its header has the line '{' '.join(words)[:60]}', which is invalid")
    return elements


def _type(name: str) -> str:
    if name not in TYPES:
        raise ValueError(f"its header has the type '{name[:20]}', which does not exist")
    return TYPES[name]


def _index_list(element: _Element) -> str:
    return next((name for name in element.lists if name in INDICES), element.lists[0])


def _text_reader(body: bytes) -> Callable[[_Element], None]:
    words, place = body.split(), 0

    def read(element: _Element) -> None:
        nonlocal place
        least = element.count * max(len(element.properties), 1)
        if place + least > len(words):
            raise ValueError(f"it ends within its {element.count} {element.name} elements")
        if not element.lists:
            table = np.array(words[place : place + least], float).reshape(element.count, -1)
            place += least
            for column, (name, kind, _) in enumerate(element.properties):
                element.data[name] = table[:, column].astype(kind)
            return
        rows: dict[str, list] = {name: [] for name, _, _ in element.properties}
        for _ in range(element.count):
            for name, _, length in element.properties:
                size = int(words[place]) if length else 1
                start = place + bool(length)
                if size < 0 or start + size > len(words):
                    raise ValueError(f"it ends within its {element.count} {element.name} elements")
                rows[name].append(words[start : start + size])
                place = start + size
        _fill(element, rows)

    return read


def _binary_reader(content: bytes, start: int, form: str) -> Callable[[_Element], None]:
    order, place = ">" if "big" in form else "<", start

    def read(element: _Element) -> None:
        nonlocal place
        place = _read_table(element, content, place, order) or _read_rows(element, content, place, order)

    return read


def _read_table(element: _Element, content: bytes, place: int, order: str) -> int | None:
    """Read an element whose lists have the lengths of the first row; None if they differ."""
    fields, at = [], place
    for name, kind, length in element.properties:
        if length:
            if at + np.dtype(length).itemsize > len(content):
                return None
            size = int(np.frombuffer(content, order + length, 1, at)[0])
            if not 0 <= size <= len(content):
                return None
            fields += [(f"{name} length", order + length), (name, order + kind, (size,))]
        else:
            fields.append((name, order + kind))
        at = place + np.dtype(fields).itemsize
    dtype = np.dtype(fields)
    if place + element.count * dtype.itemsize > len(content):
        return None
    table = np.frombuffer(content, dtype, element.count, place)
    for name in element.lists:
        if (table[f"{name} length"] != dtype[name].shape[0]).any():
            return None
    for name, _, length in element.properties:
        values = table[name]
        sizes = np.full(element.count, values.shape[1] if length else 1)
        element.data[name] = _Lists(values.reshape(-1), sizes) if length else values
    return place + element.count * dtype.itemsize


def _read_rows(element: _Element, content: bytes, place: int, order: str) -> int:
    """Read an element row by row. Returns where it ends."""
    codes = {"i1": "b", "u1": "B", "i2": "h", "u2": "H", "i4": "i", "u4": "I", "f4": "f", "f8": "d"}
    rows: dict[str, list] = {name: [] for name, _, _ in element.properties}
    try:
        for _ in range(element.count):
            for name, kind, length in element.properties:
                size = 1
                if length:
                    (size,) = struct.unpack_from(order + codes[length], content, place)
                    place += int(length[1])
                size_in_bytes = int(size) * int(kind[1])
                if size < 0 or place + size_in_bytes > len(content):
                    raise struct.error
                rows[name].append(struct.unpack_from(f"{order}{int(size)}{codes[kind]}", content, place))
                place += size_in_bytes
    except struct.error:
        raise ValueError(f"it ends within its {element.count} {element.name} elements") from None
    _fill(element, rows)
    return place


def _fill(element: _Element, rows: dict[str, list]) -> None:
    for name, kind, length in element.properties:
        values = np.array([value for row in rows[name] for value in row], float).astype(kind)
        sizes = np.array([len(row) for row in rows[name]], np.int64)
        element.data[name] = _Lists(values, sizes) if length else values


def _written(vertex: _Element, triangles: ndarray, columns: dict[str, ndarray], comments: list[str]) -> bytes:
    """Write a binary file of vertices and triangles."""
    scalars = [(name, kind) for name, kind, length in vertex.properties if not length]
    head = ["ply", "format binary_little_endian 1.0", *comments, f"element vertex {vertex.count}"]
    head += [f"property {NAMES[kind]} {name}" for name, kind in scalars]
    points = np.zeros(vertex.count, [(name, f"<{kind}") for name, kind in scalars])
    for name, _ in scalars:
        points[name] = vertex.data[name]

    head += [f"element face {len(triangles)}", "property list uchar int vertex_indices"]
    fields: list[tuple] = [("length", "u1"), ("corners", "<i4", (3,))]
    for name, values in columns.items():
        kind = values.dtype.str[1:]
        if values.ndim > 1:
            head.append(f"property list uchar {NAMES[kind]} {name}")
            fields += [(f"{name} length", "u1"), (name, f"<{kind}", values.shape[1:])]
        else:
            head.append(f"property {NAMES[kind]} {name}")
            fields.append((name, f"<{kind}"))
    faces = np.zeros(len(triangles), fields)
    faces["length"], faces["corners"] = 3, triangles
    for name, values in columns.items():
        faces[name] = values
        if values.ndim > 1:
            faces[f"{name} length"] = values.shape[1]
    return "\n".join([*head, "end_header", ""]).encode("latin-1") + points.tobytes() + faces.tobytes()
