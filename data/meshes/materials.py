"""Extract the colours of a trimesh mesh: materials, textures, vertex and face colours.

Axes: f face. Materials without colour are light grey.
"""

from typing import Any

import numpy as np
import trimesh
from jaxtyping import UInt8
from numpy import ndarray
from trimesh.visual.material import empty_material

from data.images.colour_profiles import profile_problem
from data.images.picture_files import READ_ERRORS, require_size, shrunk, standard
from data.meshes.mesh import Mesh
from data.meshes.mtl_options import MapOptions, read_options
from data.meshes.textures import REPEATED, Skin

GREY = (184, 184, 184)
WHITE = (255, 255, 255)
UNSAID = (102, 102, 102)  # trimesh's default colour
HOLE = 0.25  # opacity below which a texel is a hole
LEAST_SOLID = 0.02  # fraction of a texture
Colour = tuple[int, int, int]
# By the id of trimesh's image and the opacity below which it has holes.
Textures = dict[tuple[int, float], tuple[Any, UInt8[ndarray, "_ _ 4"] | None]]


def painted(geometry: trimesh.Trimesh, textures: Textures, notes: list[str], *, linear: bool) -> Mesh:
    """Convert a mesh with its colours; `textures` is a cache, `notes` collects what cannot be read.

    With `linear` (glTF), factors and vertex colours, but not textures, are linear, and the textures' colour
    profiles are ignored. The factors are converted to sRGB before multiplying, which is exact except for
    sRGB's linear segment near black.
    """
    vertices, faces = np.asarray(geometry.vertices, float), np.asarray(geometry.faces, np.int64)
    if faces.min() < 0 or faces.max() >= len(vertices):
        raise ValueError("a triangle has a corner that does not exist")
    visual = geometry.visual
    if visual.kind == "texture":
        mesh = _with_material(vertices, faces, visual, textures, notes, profiles=not linear)
    else:
        colours = np.tile(np.array(GREY, np.uint8), (len(faces), 1))
        if visual.kind == "face":
            colours = _bytes(visual.face_colors)
        mesh = Mesh(vertices, faces, colours)
        if visual.kind == "vertex":
            white = np.full((len(faces), 3), 255, np.uint8)
            mesh = Mesh(vertices, faces, white, corner_colours=_bytes(visual.vertex_colors)[faces])
    return _to_srgb(mesh) if linear and visual.kind is not None else mesh


def _with_material(
    vertices, faces, visual: Any, textures: Textures, notes: list[str], *, profiles: bool
) -> Mesh:
    materials = getattr(visual.material, "materials", None) or [visual.material]
    material_of = np.zeros(len(faces), int)
    if len(materials) > 1 and visual.face_materials is not None:
        material_of = np.asarray(visual.face_materials, int)
    pictures = [_picture(material, textures, notes, profiles=profiles) for material in materials]
    factors = [_factor(material, picture) for material, picture in zip(materials, pictures, strict=True)]
    colours = np.array(factors, np.uint8)[material_of]

    shared = visual.vertex_attributes.get("color")
    per_corner = None if shared is None or len(shared) != len(vertices) else _bytes(np.asarray(shared))[faces]
    uv = None if visual.uv is None else np.asarray(visual.uv, float)
    skin = None
    if uv is not None and len(uv) == len(vertices) and any(picture is not None for picture in pictures):
        place = np.cumsum([picture is not None for picture in pictures]) - 1
        number = np.array([-1 if p is None else k for p, k in zip(pictures, place, strict=True)])
        present = tuple(picture for picture in pictures if picture is not None)
        uv_of = np.nan_to_num(uv[:, :2], posinf=0, neginf=0)[faces]
        options = [_options(material) for material in materials]
        wraps = tuple(o.wraps for o, picture in zip(options, pictures, strict=True) if picture is not None)
        scales, offsets = np.array([(o.scale, o.offset) for o in options])[material_of].transpose(1, 0, 2)
        uv_of = uv_of * scales[:, None] + offsets[:, None]
        skin = Skin(present, number[material_of], uv_of, wraps)
    return Mesh(vertices, faces, colours, per_corner, skin)


def _picture(
    material: Any, textures: Textures, notes: list[str], *, profiles: bool
) -> UInt8[ndarray, "_ _ 4"] | None:
    """Return the base colour texture in sRGB, with holes where it is nearly transparent.

    `profiles`: whether colour profiles apply. glTF 2.0 (3.8.3) requires that they are ignored.
    """
    image = getattr(material, "baseColorTexture", None) or getattr(material, "image", None)
    if image is None or _is_stand_in(image):
        return None
    least = _least_opacity(material)
    if (id(image), least) not in textures:
        try:
            require_size(image)
            mode, profile = image.mode, image.info.get("icc_profile") if profiles else None
            texels = np.array(standard(shrunk(image), profiles=profiles).convert("RGBA"))
            if problem := profile_problem(profile, mode):
                notes.append(f"the colour profile of a texture of {material.name} is ignored ({problem})")
        except READ_ERRORS as error:
            texels = None
            notes.append(f"a texture of {material.name} cannot be read ({error})")
        if texels is not None:
            solid = texels[..., 3] >= 255 * least
            # Almost nothing would be left: more likely, the fourth channel is not opacity.
            texels[..., 3] = np.where(solid | (solid.mean() < LEAST_SOLID), 255, 0)
        textures[id(image), least] = (image, texels)  # keeps the image alive, so that its id stays unique
    return textures[id(image), least][1]


def _options(material: Any) -> MapOptions:
    """Return the texture mapping of a material, from an MTL file or a glTF sampler."""
    reference = getattr(getattr(material, "image", None), "info", {}).get("file_path")
    return read_options(reference) if reference else MapOptions(wraps=getattr(material, "wraps", REPEATED))


def _is_stand_in(image: Any) -> bool:
    """Whether an image is trimesh's placeholder for a missing texture."""
    grey = empty_material().image
    return image.size == grey.size and image.tobytes() == grey.tobytes()


def _least_opacity(material: Any) -> float:
    """Return the opacity, 0 to 1, below which there is a hole. Tinted glass is rendered opaque."""
    if not hasattr(material, "alphaMode"):
        return HOLE
    cutoff = 0.5 if material.alphaCutoff is None else float(material.alphaCutoff)
    return {"MASK": min(cutoff, 1.0), "BLEND": HOLE}.get(material.alphaMode, 0.0)


def _factor(material: Any, picture: UInt8[ndarray, "_ _ 4"] | None) -> Colour:
    """Return the material's colour, in the colour space of its file.

    If an MTL material has a texture, its Kd is not a factor: most programs write there the colour without the
    texture, or an arbitrary grey.
    """
    if hasattr(material, "baseColorFactor"):
        return WHITE if material.baseColorFactor is None else _triple(_bytes(material.baseColorFactor))
    if picture is not None:
        return WHITE
    stored = material.kwargs.get("kd", material.diffuse)
    colour = _triple(_bytes(np.resize(np.asarray(stored), 3)))
    return GREY if "kd" not in material.kwargs and colour == UNSAID else colour


def _bytes(colours: ndarray) -> UInt8[ndarray, "*n 3"]:
    """Convert colours of any number type to RGB bytes, without alpha."""
    colours = np.asarray(colours)[..., :3]
    if colours.dtype == np.uint8:
        return colours
    unit = {"u": np.iinfo(colours.dtype).max if colours.dtype.kind == "u" else 255, "i": 255}
    scaled = np.nan_to_num(colours.astype(float)) * (255 / unit.get(colours.dtype.kind, 1))
    return np.round(np.clip(scaled, 0, 255)).astype(np.uint8)


def _triple(colour: ndarray) -> Colour:
    red, green, blue = (int(channel) for channel in colour)
    return red, green, blue


def _to_srgb(mesh: Mesh) -> Mesh:
    light = np.arange(256) / 255
    curve = np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)
    table = np.round(255 * curve).astype(np.uint8)
    corners = None if mesh.corner_colours is None else table[mesh.corner_colours]
    return Mesh(mesh.vertices, mesh.faces, table[mesh.face_colours], corners, mesh.skin)
