"""Convert the scene of a glTF file (.gltf, .glb) to plain triangle meshes, in the scene's axes.

Handles compression, quantisation, sparse arrays, strips and fans, morph targets, skins, instances and texture
transforms. Unsupported features raise an error if the file requires them, and a note otherwise.
"""

from dataclasses import replace
from typing import Any

import numpy as np
import trimesh
from jaxtyping import Float
from numpy import ndarray
from trimesh.visual import TextureVisuals

from data.meshes.gltf.document import Document, entries, entry, floats
from data.meshes.gltf.extensions import require_extensions
from data.meshes.gltf.materials import Materials, Paint
from data.meshes.gltf.nodes import Nodes
from data.meshes.gltf.primitives import Surface, read_surface
from data.meshes.parts import Part

MOST_REPEATED = 2**23  # triangles, if meshes are repeated: a small file can request any number


def read_parts(document: Document, notes: list[str]) -> list[Part]:
    """Return the meshes of a file and their transforms; `notes` collects what is missing.

    Raises ValueError for damaged or unsupported files.
    """
    notes += require_extensions(document)
    nodes, materials = Nodes(document, notes), Materials(document, notes)
    shared: dict[int, list[Part]] = {}  # meshes that are identical at all their nodes
    places: dict[int, list[Float[ndarray, "k 4 4"]]] = {}
    posed: list[Part] = []
    num_drawn = 0
    for index in nodes.drawn():
        node = document.entry("nodes", index)
        mesh, skin = node["mesh"], node.get("skin")
        joints = None if skin is None else nodes.joint_matrices(skin)
        own = joints is not None or "weights" in node
        where = np.eye(4)[None] if joints is not None else nodes.instances(index)
        if own:
            parts = _parts_of(document, mesh, materials, notes, node.get("weights"), joints)
            posed += [replace(part, transforms=where) for part in parts]
        else:
            if mesh not in shared:
                shared[mesh], places[mesh] = _parts_of(document, mesh, materials, notes, None, None), []
            places[mesh].append(where)
            parts = shared[mesh]
        num_drawn += len(where) * sum(len(part.geometry.faces) for part in parts)
        if num_drawn > max(MOST_REPEATED, document.num_triangles_stored):
            raise ValueError(f"its instances have more than {MOST_REPEATED} triangles; reduce them")
    placed = {mesh: np.concatenate(each) for mesh, each in places.items()}
    return posed + [
        replace(part, transforms=placed[mesh]) for mesh, parts in shared.items() for part in parts
    ]


def credits_of(document: Document) -> dict[str, str]:
    """Return title, creator and licence, as far as the file states them, by these names."""
    asset = entry(document.json, "asset")
    extras = entry(asset, "extras")
    values = {
        "title": extras.get("title"),
        "creator": extras.get("author") or asset.get("copyright"),
        "licence": extras.get("license"),
    }
    return {key: value for key, value in values.items() if isinstance(value, str)}


def _parts_of(
    document: Document,
    mesh_index: Any,
    materials: Materials,
    notes: list[str],
    node_weights: Any,
    joints: Float[ndarray, "j 4 4"] | None,
) -> list[Part]:
    """Convert a mesh, one part per surface primitive."""
    mesh = document.entry("meshes", mesh_index)
    primitives, parts = entries(mesh.get("primitives")), []
    weights = node_weights if node_weights is not None else mesh.get("weights", [])
    num_weights = len(weights) if isinstance(weights, list) else 0
    weights = floats({"weights": weights}, "weights", f"meshes[{mesh_index}]", (0.0,) * num_weights)
    for number, primitive in enumerate(primitives):
        where = f"meshes[{mesh_index}].primitives[{number}]"
        paint = materials.paint(primitive["material"]) if "material" in primitive else None
        coordinates = paint.coordinates if paint else 0
        surface = read_surface(
            document, primitive, where, notes, weights=weights, joints=joints, coordinates=coordinates
        )
        if surface is not None and len(surface.faces):
            if paint and paint.material.baseColorTexture is not None and surface.uv is None:
                notes.append(f"{where} has no texture coordinates {coordinates}, so its texture is ignored")
            parts.append(Part(_geometry(surface, paint), np.eye(4)[None]))
    return parts


def _geometry(surface: Surface, paint: Paint | None) -> trimesh.Trimesh:
    """Convert a surface to trimesh, with texture coordinates from the lower left corner."""
    colours = None
    if surface.colours is not None and (paint is None or paint.tinted):
        colours = np.round(np.clip(np.nan_to_num(surface.colours), 0, 1) * 255).astype(np.uint8)
    if paint is None:
        return trimesh.Trimesh(surface.positions, surface.faces, vertex_colors=colours, process=False)
    uv = surface.uv
    if uv is not None:
        if paint.uv_transform is not None:
            uv = uv @ paint.uv_transform[:2, :2].T + paint.uv_transform[:2, 2]
        uv = np.stack([uv[:, 0], 1 - uv[:, 1]], axis=1)
    visual = TextureVisuals(uv=uv, material=paint.material)
    if colours is not None:
        visual.vertex_attributes["color"] = colours
    return trimesh.Trimesh(surface.positions, surface.faces, visual=visual, process=False)
