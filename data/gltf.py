"""What trimesh's glTF loader leaves out and the pictures need: old materials' diffuse colours, authors.

glTF 2.0 is JSON, alone or as the first chunk of a binary file (GLB).
"""

import json
import struct
from typing import Any

TRANSFORM = "KHR_texture_transform"
PLAIN = {"offset": [0, 0], "scale": [1, 1], "rotation": 0}  # a transform that changes nothing
GLOSSY = "KHR_materials_pbrSpecularGlossiness"  # archived, but many models on the web have it


def with_diffuse_colours(content: bytes) -> bytes:
    """The file with the diffuse colour and texture of each "specular glossiness" material as its base colour.

    For light that makes nothing shine that is all there is to such a material, whereas a faithful
    conversion would make half of it a metal's reflection. Anything else is returned as it is.
    """
    document = _document(content)
    changed = False
    for material in _entries(document.get("materials")):
        glossy = (material.get("extensions") or {}).pop(GLOSSY, None)
        if isinstance(glossy, dict):
            names = {"diffuseFactor": "baseColorFactor", "diffuseTexture": "baseColorTexture"}
            base = {names[key]: value for key, value in glossy.items() if key in names}
            material["pbrMetallicRoughness"], changed = base, True
    return _with_document(content, document) if changed else content


def credits_of(content: bytes) -> dict[str, str]:
    """Title, creator and licence, as far as the file tells them, by these names."""
    asset = _document(content).get("asset")
    asset = asset if isinstance(asset, dict) else {}
    extras = asset.get("extras") if isinstance(asset.get("extras"), dict) else {}
    said = {
        "title": extras.get("title"),
        "creator": extras.get("author") or asset.get("copyright"),
        "licence": extras.get("license"),
    }
    return {key: value for key, value in said.items() if isinstance(value, str)}


def left_out_of(content: bytes) -> list[str]:
    """What the loader ignores of how textures lie on surfaces, in a line each, for those that have it."""
    lines = []
    for material in _entries(_document(with_diffuse_colours(content)).get("materials")):
        texture = _entry(_entry(material, "pbrMetallicRoughness"), "baseColorTexture")
        transform = _entry(_entry(texture, "extensions"), TRANSFORM)
        coordinates = transform.get("texCoord", texture.get("texCoord", 0))
        if coordinates != 0:
            lines.append(f"its texture lies by texture coordinates {coordinates}, but those of 0 are used")
        if any(transform.get(key, plain) != plain for key, plain in PLAIN.items()):
            lines.append(f"its {TRANSFORM} is left out")
    return lines


def _document(content: bytes) -> dict[str, Any]:
    """The JSON, or nothing where there is none: that is for the loader to complain about."""
    text = content[20 : 20 + struct.unpack("<I", content[12:16])[0]] if _is_binary(content) else content
    try:
        document = json.loads(text)
    except ValueError:
        return {}
    return document if isinstance(document, dict) else {}


def _with_document(content: bytes, document: dict[str, Any]) -> bytes:
    text = json.dumps(document).encode()
    if not _is_binary(content):
        return text
    text += b" " * (-len(text) % 4)
    rest = content[20 + struct.unpack("<I", content[12:16])[0] :]
    size = 20 + len(text) + len(rest)
    return content[:8] + struct.pack("<II4s", size, len(text), content[16:20]) + text + rest


def _is_binary(content: bytes) -> bool:
    return content[:4] == b"glTF" and len(content) >= 20


def _entry(parent: dict[str, Any], key: str) -> dict[str, Any]:
    value = parent.get(key)
    return value if isinstance(value, dict) else {}


def _entries(value: Any) -> list[dict[str, Any]]:
    return [entry for entry in value if isinstance(entry, dict)] if isinstance(value, list) else []
