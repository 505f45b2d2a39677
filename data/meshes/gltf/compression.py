"""Compressed geometry in glTF files: Draco is decoded if DracoPy is installed; meshopt is rejected."""

from collections.abc import Callable
from typing import Any

from jaxtyping import Num
from numpy import ndarray

from data.files import first_line

DRACO = "KHR_draco_mesh_compression"
MESHOPT = ("EXT_meshopt_compression", "KHR_meshopt_compression")
DECOMPRESS = "decompress it with: npx @gltf-transform/cli copy IN.glb OUT.glb"


def decode_view(
    view: dict[str, Any], where: str, slice_of: Callable[[dict[str, Any], str], memoryview]
) -> memoryview | None:
    """Return the uncompressed copy of a compressed buffer view; None if the view is not compressed.

    Raises ValueError if the file has no such copy.
    """
    extensions = view.get("extensions")
    name = next((name for name in MESHOPT if isinstance(extensions, dict) and name in extensions), None)
    if name is None:
        return None
    try:
        return slice_of(view, where)
    except ValueError:
        raise ValueError(f"it is compressed ({name}), which is not supported; {DECOMPRESS}") from None


def decode_draco(
    data: bytes, attributes: dict[str, Any], where: str
) -> tuple[dict[str, Num[ndarray, "n c"]], Num[ndarray, "f 3"]]:
    """Return the values of each attribute by its glTF name, and the triangles.

    `attributes` gives the id of each in the Draco data. Raises ValueError without DracoPy and for data that
    it cannot decode.
    """
    try:
        import DracoPy
    except ImportError:
        raise ValueError(f"it is compressed ({DRACO}); pip install DracoPy, or {DECOMPRESS}") from None
    try:
        decoded = DracoPy.decode(data)
        faces = decoded.faces
        values = {attribute["unique_id"]: attribute["data"] for attribute in decoded.attributes}
        found = {name: values[number] for name, number in attributes.items() if number in values}
    except Exception as error:  # DracoPy raises many exception types
        reason = first_line(error)
        raise ValueError(f"{where}: its {DRACO} data cannot be decoded ({reason}); {DECOMPRESS}") from None
    return {name: data.reshape(len(data), -1) for name, data in found.items()}, faces.reshape(-1, 3)
