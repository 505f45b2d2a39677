"""Triangle meshes as arrays."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, Float, Int, UInt8
from numpy import ndarray

from data.meshes.textures import REPEATED, Skin


@dataclass(frozen=True)
class Mesh:
    """A triangle mesh. Lengths are scene units; colours are sRGB bytes.

    The colour at a point is the product of the face colour, the interpolated corner colours and the texture,
    as far as they exist, each scaled to 0 to 1.
    """

    vertices: Float[ndarray, "n 3"]
    faces: Int[ndarray, "f 3"]
    face_colours: UInt8[ndarray, "f 3"]
    corner_colours: UInt8[ndarray, "f 3 3"] | None = None  # face, corner, channel
    skin: Skin | None = None


def join_meshes(meshes: Sequence[Mesh]) -> Mesh:
    """Join meshes into one, with faces in order."""
    starts = np.cumsum([0] + [len(mesh.vertices) for mesh in meshes])
    return Mesh(
        vertices=np.concatenate([mesh.vertices for mesh in meshes]),
        faces=np.concatenate([mesh.faces + start for mesh, start in zip(meshes, starts[:-1], strict=True)]),
        face_colours=np.concatenate([mesh.face_colours for mesh in meshes]),
        corner_colours=_join_corner_colours(meshes),
        skin=_join_skins(meshes),
    )


def take_faces(mesh: Mesh, chosen: Bool[ndarray, "f"]) -> Mesh:
    """Select faces, and the vertices they use."""
    used = np.zeros(len(mesh.vertices), bool)
    used[mesh.faces[chosen]] = True
    skin = mesh.skin
    return Mesh(
        vertices=mesh.vertices[used],
        faces=(np.cumsum(used) - 1)[mesh.faces[chosen]],
        face_colours=mesh.face_colours[chosen],
        corner_colours=None if mesh.corner_colours is None else mesh.corner_colours[chosen],
        skin=None if skin is None else replace(skin, texture_of=skin.texture_of[chosen], uv=skin.uv[chosen]),
    )


def normalised(mesh: Mesh) -> Mesh:
    """Centre a mesh on the origin with a bounding box of unit diagonal, as in ShapeNet."""
    low, high = mesh.vertices.min(0), mesh.vertices.max(0)
    return replace(mesh, vertices=(mesh.vertices - (low + high) / 2) / np.linalg.norm(high - low))


def _join_corner_colours(meshes: Sequence[Mesh]) -> UInt8[ndarray, "f 3 3"] | None:
    """Join corner colours, white for meshes without; None if no mesh has any."""
    if all(mesh.corner_colours is None for mesh in meshes):
        return None
    white = [np.full((len(mesh.faces), 3, 3), 255, np.uint8) for mesh in meshes]
    pairs = zip(meshes, white, strict=True)
    return np.concatenate(
        [plain if mesh.corner_colours is None else mesh.corner_colours for mesh, plain in pairs]
    )


def _join_skins(meshes: Sequence[Mesh]) -> Skin | None:
    """Join textures; None if no mesh has any."""
    if all(mesh.skin is None for mesh in meshes):
        return None
    textures, texture_of, uv, wraps = [], [], [], []
    for mesh in meshes:
        skin = mesh.skin or Skin((), np.full(len(mesh.faces), -1), np.zeros((len(mesh.faces), 3, 2)))
        texture_of.append(np.where(skin.texture_of < 0, -1, skin.texture_of + len(textures)))
        textures += skin.textures
        wraps += [skin.wraps[i] if i < len(skin.wraps) else REPEATED for i in range(len(skin.textures))]
        uv.append(skin.uv)
    return Skin(tuple(textures), np.concatenate(texture_of), np.concatenate(uv), tuple(wraps))
