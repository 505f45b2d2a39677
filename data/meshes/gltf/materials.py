"""Materials of a glTF file: matte colour, texture, and texture mapping.

Gloss is ignored. The emission of a black surface becomes its colour.
"""

import io
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float
from numpy import ndarray
from PIL import Image
from trimesh.visual.material import PBRMaterial

from data.files import first_line
from data.meshes.gltf.document import Document, entry, floats, number, whole
from data.meshes.textures import REPEATED, Wrap, Wraps

GLOSSY = "KHR_materials_pbrSpecularGlossiness"  # archived, but still common
STRENGTH = "KHR_materials_emissive_strength"
TRANSFORM = "KHR_texture_transform"
BASIS = "KHR_texture_basisu"
SOURCES = ("EXT_texture_webp", "EXT_texture_avif", "MSFT_texture_dds")  # if Pillow reads them
WRAPS: dict[int, Wrap] = {10497: "repeat", 33071: "clamp", 33648: "mirror"}
BASIS_REMEDY = "convert it with: npx @gltf-transform/cli ktxdecompress IN.glb OUT.glb"


class GltfMaterial(PBRMaterial):
    """A material with the wrap modes of its texture."""

    wraps: Wraps = REPEATED


@dataclass(frozen=True)
class Paint:
    """A material and how it is applied."""

    material: GltfMaterial
    coordinates: int = 0  # index of the texture coordinate set
    uv_transform: Float[ndarray, "3 3"] | None = None  # of columns (u, v, 1); v points down
    tinted: bool = True  # whether vertex colours apply


@dataclass(frozen=True)
class _Texture:
    image: Image.Image
    wraps: Wraps
    coordinates: int
    transform: Float[ndarray, "3 3"] | None


class Materials:
    """The materials of a document, each read once. `notes` collects what is missing."""

    def __init__(self, document: Document, notes: list[str]):
        self._document, self._notes = document, notes
        self._paints: dict[int, Paint] = {}
        self._images: dict[int, Image.Image | str] = {}  # or the reason why it is missing

    def paint(self, index: Any) -> Paint:
        """Return a material by its index."""
        material = self._document.entry("materials", index)
        if index not in self._paints:
            self._paints[index] = self._read(material, index)
        return self._paints[index]

    def _read(self, material: dict[str, Any], index: int) -> Paint:
        # Base colour.
        where = f"materials[{index}]"
        name = material["name"] if isinstance(material.get("name"), str) else where
        label = f"material {name}" if name != where else where
        extensions, base = entry(material, "extensions"), entry(material, "pbrMetallicRoughness")
        keys = ("baseColorFactor", "baseColorTexture")
        if isinstance(extensions.get(GLOSSY), dict):
            # Without gloss, the diffuse colour describes the material completely.
            base, keys = extensions[GLOSSY], ("diffuseFactor", "diffuseTexture")
        factor = floats(base, keys[0], where, (1.0, 1.0, 1.0, 1.0))
        texture, tinted = self._texture(base, keys[1], label), True

        # Emission adds to reflection, which one texture can only represent if neither has a texture or
        # nothing is reflected.
        emitted = floats(material, "emissiveFactor", where, (0.0, 0.0, 0.0))
        emitted *= number(entry(extensions, STRENGTH), "emissiveStrength", where, 1.0)
        if emitted.any():
            if not factor[:3].any() or (texture is not None and _is_black(texture.image)):
                texture, tinted = self._texture(material, "emissiveTexture", label), False
                factor[:3] = emitted
            elif texture is None and "emissiveTexture" not in material:
                factor[:3] += emitted
            else:
                self._notes.append(f"the emission of {label} is ignored")

        painted = GltfMaterial(
            name=name,
            baseColorFactor=np.clip(factor, 0, 1),
            baseColorTexture=None if texture is None else texture.image,
            alphaMode=material["alphaMode"] if isinstance(material.get("alphaMode"), str) else None,
            alphaCutoff=number(material, "alphaCutoff", where, 0.5),
        )
        if texture is None:
            return Paint(painted, tinted=tinted)
        painted.wraps = texture.wraps
        return Paint(painted, texture.coordinates, texture.transform, tinted)

    def _texture(self, parent: dict[str, Any], key: str, label: str) -> _Texture | None:
        """Return the texture of a material; None, with a note, if it is missing."""
        if not isinstance(parent.get(key), dict):
            return None
        reference = parent[key]
        texture = self._document.entry("textures", reference.get("index"))
        image = self._first_image(texture)
        if isinstance(image, str):
            self._notes.append(f"the texture of {label} is missing ({image})")
            return None
        transform, coordinates = entry(entry(reference, "extensions"), TRANSFORM), reference
        if "texCoord" in transform:
            coordinates = transform
        return _Texture(
            image,
            self._wraps(texture),
            whole(coordinates, "texCoord", key, default=0),
            _uv_transform(transform, label) if transform else None,
        )

    def _first_image(self, texture: dict[str, Any]) -> Image.Image | str:
        """Return the first of a texture's images that can be opened, or why there is none."""
        extensions = entry(texture, "extensions")
        sources = [entry(extensions, name).get("source") for name in SOURCES] + [texture.get("source")]
        problems = []
        for source in sources:
            if source is not None:
                image = self._image(source)
                if not isinstance(image, str):
                    return image
                problems.append(image)
        if BASIS in extensions:
            problems.insert(0, f"{BASIS} is not supported; {BASIS_REMEDY}")
        return problems[0] if problems else "it has no image"

    def _image(self, index: Any) -> Image.Image | str:
        image = self._document.entry("images", index)
        if index not in self._images:
            try:
                uri = image.get("uri")
                if isinstance(uri, str):
                    content = self._document.bytes_at(uri)
                else:
                    content = self._document.view(image.get("bufferView"))[0]
                self._images[index] = _opened(bytes(content))
            except FileNotFoundError as error:
                self._images[index] = f"there is no file {error}"
            except Exception as error:  # Pillow raises many types; tolerate bad images
                self._images[index] = f"images[{index}] cannot be read: {first_line(error)[:80]}"
        return self._images[index]

    def _wraps(self, texture: dict[str, Any]) -> Wraps:
        sampler = self._document.entry("samplers", texture["sampler"]) if "sampler" in texture else {}
        modes = (sampler.get("wrapS"), sampler.get("wrapT"))
        along_u, along_v = (
            WRAPS.get(mode, "repeat") if isinstance(mode, int) else "repeat" for mode in modes
        )
        return along_u, along_v


def _opened(content: bytes) -> Image.Image:
    if content[1:7] == b"KTX 20":
        raise ValueError(f"KTX2 is not supported; {BASIS_REMEDY}")
    try:
        return Image.open(io.BytesIO(content))
    except Image.UnidentifiedImageError:
        raise ValueError("its format is unknown") from None


def _is_black(image: Image.Image) -> bool:
    try:
        return not image.convert("RGB").getbbox()
    except (OSError, SyntaxError, ValueError, EOFError):  # noted when its pixels are read
        return False


def _uv_transform(transform: dict[str, Any], where: str) -> Float[ndarray, "3 3"]:
    """Scale, rotate counter-clockwise (with v pointing down), then translate (KHR_texture_transform)."""
    offset = floats(transform, "offset", where, (0.0, 0.0))
    scale = floats(transform, "scale", where, (1.0, 1.0))
    angle = number(transform, "rotation", where, 0.0)
    cos, sin = np.cos(angle), np.sin(angle)
    return np.array([[cos, sin, offset[0]], [-sin, cos, offset[1]], [0, 0, 1]]) * [*scale, 1]
