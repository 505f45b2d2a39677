"""Small glTF files, made by hand."""

import json
import struct
from pathlib import Path
from typing import Any

import numpy as np

COMPONENTS = {"i1": 5120, "u1": 5121, "i2": 5122, "u2": 5123, "u4": 5125, "f4": 5126}
TYPES = {1: "SCALAR", 2: "VEC2", 3: "VEC3", 4: "VEC4", 16: "MAT4"}
BOX = np.array([[x, y, z] for x in (0, 1) for y in (0, 2) for z in (0, 3)], np.float32)
BOX_FACES = np.array([
    [0, 1, 3], [0, 3, 2], [4, 6, 7], [4, 7, 5], [0, 4, 5], [0, 5, 1],
    [2, 3, 7], [2, 7, 6], [0, 2, 6], [0, 6, 4], [1, 5, 7], [1, 7, 3],
], np.uint16)  # fmt: skip


def glb(document: dict[str, Any], binary: bytes = b"") -> bytes:
    """A binary file of a document and its buffer."""
    text = json.dumps(document).encode()
    text += b" " * (-len(text) % 4)
    chunks = struct.pack("<I4s", len(text), b"JSON") + text
    if binary:
        binary += bytes(-len(binary) % 4)
        chunks += struct.pack("<I4s", len(binary), b"BIN\0") + binary
    return struct.pack("<4sII", b"glTF", 2, 12 + len(chunks)) + chunks


class Builder:
    """A document that grows: arrays become accessors, and their bytes lie in one buffer."""

    def __init__(self):
        self.binary = b""
        self.json: dict[str, Any] = {
            "asset": {"version": "2.0"}, "scene": 0, "scenes": [{"nodes": [0]}], "nodes": [{"mesh": 0}],
            "meshes": [{"primitives": []}], "accessors": [], "bufferViews": [],
        }  # fmt: skip

    def view(self, content: bytes, **more: Any) -> int:
        """Add bytes; returns the number of their buffer view."""
        self.binary += bytes(-len(self.binary) % 4)
        place = {"buffer": 0, "byteOffset": len(self.binary), "byteLength": len(content)}
        self.json["bufferViews"].append(place | more)
        self.binary += content
        return len(self.json["bufferViews"]) - 1

    def accessor(self, values: Any, **more: Any) -> int:
        """Add an array; returns the number of its accessor."""
        values = np.asarray(values)
        flat = values.reshape(len(values), -1)
        facts = {"componentType": COMPONENTS[values.dtype.str[1:]], "type": TYPES[flat.shape[1]]}
        facts |= {"count": len(values), "bufferView": self.view(flat.tobytes())}
        facts |= {"min": flat.min(0).tolist(), "max": flat.max(0).tolist()}
        self.json["accessors"].append({k: v for k, v in (facts | more).items() if v is not None})
        return len(self.json["accessors"]) - 1

    def primitive(self, positions: Any = BOX, indices: Any = BOX_FACES, **more: Any) -> dict[str, Any]:
        """Add a primitive to the first mesh. Attributes are given by their names, arrays or accessors."""
        attributes = {"POSITION": positions} | {
            k: more.pop(k) for k in list(more) if k.isupper() or "_0" in k
        }
        as_accessor = {k: v if isinstance(v, int) else self.accessor(v) for k, v in attributes.items()}
        made = {"attributes": as_accessor} | more
        if indices is not None:
            made["indices"] = self.accessor(np.ravel(indices))
        self.json["meshes"][0]["primitives"].append(made)
        return made

    def content(self) -> bytes:
        """The file."""
        return glb(self.json | {"buffers": [{"byteLength": len(self.binary)}]}, self.binary)

    def write(self, path: Path) -> Path:
        """Write the file; returns its path."""
        path.write_bytes(self.content())
        return path
