"""trimesh meshes with their transforms in a scene. Axes: k instance."""

from dataclasses import dataclass

import trimesh
from jaxtyping import Float
from numpy import ndarray


@dataclass(frozen=True)
class Part:
    """One mesh with one or more instances."""

    geometry: trimesh.Trimesh
    transforms: Float[ndarray, "k 4 4"]  # from its own axes to the scene's, for column vectors


def parts_of_scene(scene: trimesh.Scene) -> list[Part]:
    """Return the triangle meshes of a scene, in the order of its nodes."""
    parts = []
    for node in scene.graph.nodes_geometry:
        transform, name = scene.graph[node]
        geometry = scene.geometry[name]
        if isinstance(geometry, trimesh.Trimesh) and len(geometry.faces):
            parts.append(Part(geometry, transform[None]))
    return parts
