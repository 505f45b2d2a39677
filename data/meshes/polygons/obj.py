"""Triangulate polygons in OBJ files. Corners keep their references (vertex/texture/normal)."""

import re

import numpy as np

from data.meshes.polygons.triangulate import cut_polygons

MORE_THAN_TRIANGLES = re.compile(rb"^[ \t]*f(?:[ \t]+[^\s#]+){4,}", re.MULTILINE)
BACKWARDS = re.compile(rb"^[ \t]*f[^\n]*[\s/]-\d", re.MULTILINE)
SURFACES = re.compile(rb"^[ \t]*surf[ \t]", re.MULTILINE)


def plain_obj(content: bytes, notes: list[str]) -> bytes:
    """Return the file with its polygons triangulated; unchanged if there are none.

    Relative references become absolute. Raises ValueError for a corner that does not exist.
    """
    if num_surfaces := len(SURFACES.findall(content)):
        notes.append(f"{num_surfaces} free-form surfaces are ignored")
    joined = re.sub(rb"\\\r?\n", b" ", content)  # a trailing backslash continues a line
    if not MORE_THAN_TRIANGLES.search(joined) and not BACKWARDS.search(joined):
        return content

    # Positions, and the corners of each face line, with absolute references.
    lines = joined.replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n")
    counts = {b"v": 0, b"vt": 0, b"vn": 0}
    positions: list[list[bytes]] = []
    faces: list[tuple[int, list[bytes]]] = []  # line number, corners
    for number, line in enumerate(lines):
        words = line.split()
        if not words:
            continue
        if words[0] == b"f":
            tokens = line.partition(b"#")[0].split()[1:]
            faces.append((number, [_absolute(t, counts) for t in tokens] if b"-" in line else tokens))
        elif words[0] in counts:
            counts[words[0]] += 1
            if words[0] == b"v":
                positions.append(words[1:4])

    # Each face line becomes the lines of its triangles.
    sizes = np.array([len(corners) for _, corners in faces])
    flat = [corner for _, corners in faces for corner in corners]
    vertices = np.array([int(corner.partition(b"/")[0]) for corner in flat], np.int64) - 1
    triangles, face_of = cut_polygons(np.array(positions, float).reshape(-1, 3), vertices, sizes, notes)
    written: list[list[bytes]] = [[] for _ in faces]
    for corners, face in zip(triangles.tolist(), face_of.tolist(), strict=True):
        written[face].append(b"f " + b" ".join(flat[corner] for corner in corners))
    for (number, _), new in zip(faces, written, strict=True):
        lines[number] = b"\n".join(new)
    return b"\n".join(lines)


def _absolute(corner: bytes, counts: dict[bytes, int]) -> bytes:
    """Make a corner's references absolute; -1 is the last one above its line."""
    parts = corner.split(b"/")
    kinds = (b"v", b"vt", b"vn")
    numbers = [
        b"%d" % (counts[kind] + 1 + int(part)) if part.startswith(b"-") else part
        for kind, part in zip(kinds, parts, strict=False)
    ]
    return b"/".join(numbers)
