"""A glTF 2.0 file: its JSON, separate or in a binary file (GLB), and its buffers.

Nothing in the file is trusted: an invalid index, offset or size raises ValueError naming the location.
"""

import base64
import json
import struct
from functools import cached_property
from typing import Any
from urllib.parse import unquote_to_bytes

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from data.meshes.assets import FolderAssets
from data.meshes.gltf.compression import decode_view

JSON_CHUNK, BINARY_CHUNK = b"JSON", b"BIN\0"


class Document:
    """The JSON of a glTF file, with access to its buffers."""

    def __init__(self, content: bytes, assets: FolderAssets):
        text, self._chunk = _split(content)
        self.json = _parse(text)
        self._assets, self._buffers, self._views = assets, {}, {}

    def entry(self, kind: str, index: Any) -> dict[str, Any]:
        """Return one entry of a top-level list such as `accessors`."""
        entries = self.json.get(kind)
        count = len(entries) if isinstance(entries, list) else 0
        if not _is_whole(index) or not 0 <= index < count or not isinstance(entries[int(index)], dict):
            raise ValueError(f"it refers to {kind}[{_short(index)}], which does not exist ({count} {kind})")
        return entries[int(index)]

    def bytes_at(self, uri: str) -> bytes:
        """Return the content of a data URI or a neighbouring file. Raises FileNotFoundError."""
        if not uri.startswith("data:"):
            return self._assets.get(uri)
        head, comma, data = uri.partition(",")
        if not comma:
            raise ValueError("it has a data URI without data")
        return (
            base64.b64decode(unquote_to_bytes(data)) if head.endswith(";base64") else unquote_to_bytes(data)
        )

    def view(self, index: Any) -> tuple[bytes | memoryview, int | None]:
        """Return the bytes of a buffer view and its stride, None if it is tightly packed."""
        view, where = self.entry("bufferViews", index), f"bufferViews[{index}]"
        stride = whole(view, "byteStride", where, least=1) if "byteStride" in view else None
        if index not in self._views:
            self._views[index] = decode_view(view, where, self._slice) or self._slice(view, where)
        return self._views[index], stride

    @cached_property
    def num_triangles_stored(self) -> int:
        """An upper bound on the triangles the file has data for, as each index belongs to at most three."""
        accessors = entries(self.json.get("accessors"))
        counts = (accessor.get("count") for accessor in accessors if "bufferView" in accessor)
        return int(sum(count for count in counts if _is_whole(count)))

    def _slice(self, view: dict[str, Any], where: str) -> memoryview:
        data = self._buffer(view.get("buffer"))
        start, size = whole(view, "byteOffset", where, default=0), whole(view, "byteLength", where)
        if start + size > len(data):
            raise ValueError(f"{where} ends at byte {start + size} of a buffer of {len(data)} bytes")
        return memoryview(data)[start : start + size]

    def _buffer(self, index: Any) -> bytes:
        buffer = self.entry("buffers", index)
        if index not in self._buffers:
            uri = buffer.get("uri")
            if isinstance(uri, str):
                try:
                    self._buffers[index] = self.bytes_at(uri)
                except FileNotFoundError:
                    raise ValueError(f"its data, {uri[:80]}, are missing; put that file beside it") from None
            elif self._chunk is not None:
                self._buffers[index] = self._chunk
            else:
                raise ValueError(f"buffers[{index}] has no data")
        return self._buffers[index]


def whole(parent: dict[str, Any], key: str, where: str, *, default: int | None = None, least: int = 0) -> int:
    """Return an integer of at least `least`."""
    value = parent.get(key, default)
    if not _is_whole(value) or value < least:
        raise ValueError(f"{where}: {key} is {_short(value)}; a whole number from {least} is required")
    return int(value)


def floats(parent: dict[str, Any], key: str, where: str, default: tuple[float, ...]) -> Float[ndarray, " n"]:
    """Return finite numbers, as many as the default has."""
    value = parent.get(key, default)
    try:
        numbers = np.array(value, float)
    except (TypeError, ValueError, OverflowError):
        numbers = np.zeros(0)
    if numbers.shape != (len(default),) or not np.isfinite(numbers).all():
        raise ValueError(f"{where}: {key} is {_short(value)}; {len(default)} numbers are required")
    return numbers


def number(parent: dict[str, Any], key: str, where: str, default: float) -> float:
    """Return a finite number."""
    return float(floats({key: [parent.get(key, default)]}, key, where, (default,))[0])


def entry(parent: dict[str, Any], key: str) -> dict[str, Any]:
    """Return a child object, empty if there is none."""
    value = parent.get(key)
    return value if isinstance(value, dict) else {}


def entries(value: Any) -> list[dict[str, Any]]:
    """Return the objects in a list, empty if it is not a list."""
    return [child for child in value if isinstance(child, dict)] if isinstance(value, list) else []


def _split(content: bytes) -> tuple[bytes, bytes | None]:
    """Split a file into its JSON text and binary chunk."""
    if content[:4] != b"glTF":
        return content, None
    if len(content) < 20 or struct.unpack("<I", content[4:8])[0] != 2:
        raise ValueError("it is a GLB file, but not version 2; export it as glTF 2.0")
    chunks, start = {}, 12
    while start + 8 <= len(content):
        size, kind = struct.unpack("<I4s", content[start : start + 8])
        if start + 8 + size > len(content):
            raise ValueError(f"it is truncated: a chunk ends at byte {start + 8 + size} of {len(content)}")
        chunks.setdefault(kind, content[start + 8 : start + 8 + size])
        start += 8 + size
    if JSON_CHUNK not in chunks:
        raise ValueError("it is a GLB file without JSON")
    return chunks[JSON_CHUNK], chunks.get(BINARY_CHUNK)


def _parse(text: bytes) -> dict[str, Any]:
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"it is not a glTF file: {error}") from None
    if not isinstance(document, dict):
        raise ValueError("it is not a glTF file: its JSON is not an object")
    version = str(entry(document, "asset").get("version", "2.0"))
    if not version.startswith("2"):
        raise ValueError(f"it is glTF {version[:20]}; export it as glTF 2.0")
    return document


def _is_whole(value: Any) -> bool:
    if isinstance(value, float):
        return value.is_integer()
    return isinstance(value, int) and not isinstance(value, bool)


def _short(value: Any) -> str:
    return repr(value)[:60]
