"""Triangulate polygons in OFF files."""

import re

import numpy as np

from data.meshes.polygons.triangulate import cut_polygons


def plain_off(content: bytes, notes: list[str]) -> bytes:
    """Return the file with its polygons triangulated; unchanged if there are none, or if it is not OFF."""
    # Header and counts.
    lines = [line.partition(b"#")[0].strip() for line in content.splitlines()]
    lines = [line for line in lines if line]
    header = re.match(rb"(?:ST)?C?N?4?n?OFF\b|OFF(?=\d)", lines[0]) if lines else None
    if header is None:
        return content
    lines[0] = lines[0][header.end() :].strip()
    lines = lines if lines[0] else lines[1:]
    counts = lines[0].split() if lines else []
    if len(counts) < 2 or not all(count.isdigit() for count in counts[:2]):
        return content
    num_vertices, num_faces = int(counts[0]), int(counts[1])
    if num_vertices + num_faces > len(lines):  # the stated counts may be false
        return content

    # Faces, which must have the stated number of corners.
    rows = [line.split() for line in lines[1 + num_vertices : 1 + num_vertices + num_faces]]
    sizes = np.array([int(row[0]) for row in rows], np.int64)
    if (sizes < 0).any():
        raise ValueError("a face has a negative number of corners")
    if (sizes == 3).all():
        return content
    if any(len(row) <= size for row, size in zip(rows, sizes.tolist(), strict=True)):
        raise ValueError("a face has fewer corners than stated")

    # Triangulate; a face's colours are kept by its triangles.
    vertices = np.array([line.split()[:3] for line in lines[1 : 1 + num_vertices]], float).reshape(-1, 3)
    flat = [corner for row in rows for corner in row[1 : 1 + int(row[0])]]
    triangles, face_of = cut_polygons(vertices, np.array(flat, np.int64), sizes, notes)
    faces = [
        b"3 " + b" ".join([flat[corner] for corner in corners] + rows[face][1 + int(rows[face][0]) :])
        for corners, face in zip(triangles.tolist(), face_of.tolist(), strict=True)
    ]
    head = [header[0], b"%d %d 0" % (num_vertices, len(faces))]
    return b"\n".join([*head, *lines[1 : 1 + num_vertices], *faces, b""])
