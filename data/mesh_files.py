"""Mesh files of any format that trimesh reads, as one mesh with its colours.

Scenes are flattened. A surface shows its material's colour times its vertex or face colours times its
texture; transparency is left out, so that windows are opaque as in the SRN pictures. Axes: f face.
"""

import io
import logging
import re
import warnings
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

import numpy as np
import trimesh

from data.gltf import credits_of, left_out_of, with_diffuse_colours
from data.mesh_assets import ArchiveAssets, FolderAssets
from data.mesh_axes import Axis
from data.mesh_bytes import read_limited, read_member
from data.mesh_paint import Textures, painted
from data.mesh_sources import MeshSource
from data.meshes import Mesh, join_meshes, take_faces

Z_UP = (".stl", ".3mf")  # what is printed or milled lies on the xy plane; other formats mean y, as glTF does
GLTF = (".glb", ".gltf")  # their factors and vertex colours are linear; textures never are


@dataclass(frozen=True)
class LoadedMesh:
    """A mesh as it is stored."""

    mesh: Mesh
    up: Axis  # as the file says, or by the custom of its format
    notes: tuple[str, ...]  # what is missing from it, each in a line
    credits: dict[str, str]  # title, creator and licence, where the file itself tells them


def load_mesh(source: MeshSource) -> LoadedMesh:
    """Read a mesh with its materials, turned as its catalogue says.

    Raises ValueError where that is impossible, or where the mesh has no surface.
    """
    notes: list[str] = []
    try:
        with _log_of_trimesh(notes), np.errstate(all="ignore"):
            content, scene, missing = _read(source)
            mesh = _flattened(scene, notes, linear=source.suffix in GLTF)
            up = _up(source, content)
    except ImportError as error:
        raise ValueError(
            f"{source.file}: reading {source.suffix} files needs a package ({_one_line(error)})"
        ) from error
    except Exception as error:  # a loader may raise anything on a file that somebody has damaged
        raise ValueError(f"{source.file}: cannot be read ({_one_line(error)})") from error
    notes += [f"{name} is missing" for name in missing]
    mesh = _with_surface(mesh, source, notes)
    if source.rotation is not None:
        turn = np.array(source.rotation).reshape(3, 3)
        mesh = replace(mesh, vertices=mesh.vertices @ turn.T)
    credits = credits_of(content) if source.suffix in GLTF else {}
    notes += left_out_of(content) if source.suffix in GLTF else []
    return LoadedMesh(mesh, up, tuple(dict.fromkeys(notes)), credits)


def _read(source: MeshSource) -> tuple[bytes, trimesh.Scene, list[str]]:
    if source.problem:
        raise ValueError(source.problem)
    if source.member:
        with zipfile.ZipFile(source.path) as archive:
            content, assets = read_member(archive, source.member), ArchiveAssets(source, archive)
            return content, _parse(source, content, assets), assets.missing
    content, assets = read_limited(source.path), FolderAssets(source)
    return content, _parse(source, content, assets), assets.missing


def _parse(source: MeshSource, content: bytes, assets: FolderAssets) -> trimesh.Scene:
    stream = io.BytesIO(with_diffuse_colours(content) if source.suffix in GLTF else content)
    # `process` would merge vertices, and their colours with them.
    return trimesh.load_scene(stream, file_type=source.suffix[1:], resolver=assets, process=False)


def _flattened(scene: trimesh.Scene, notes: list[str], *, linear: bool) -> Mesh | None:
    """All triangle meshes of a scene in the axes of its root; None where there are none."""
    textures: Textures = {}
    parts = []
    for node in scene.graph.nodes_geometry:
        transform, name = scene.graph[node]
        geometry = scene.geometry[name]
        if isinstance(geometry, trimesh.Trimesh) and len(geometry.faces):
            part = painted(geometry, textures, notes, linear=linear)
            moved = part.vertices @ transform[:3, :3].T + transform[:3, 3]
            parts.append(replace(part, vertices=moved))
    return join_meshes(parts) if parts else None


def _with_surface(mesh: Mesh | None, source: MeshSource, notes: list[str]) -> Mesh:
    """The faces that can be seen, and their vertices alone. Raises ValueError where there are none."""
    if mesh is None:
        raise ValueError(f"{source.file}: holds no triangles, only points, lines or nothing")
    finite = np.isfinite(mesh.vertices).all(1)[mesh.faces].all(1)
    mesh = take_faces(mesh, finite)
    size = np.ptp(mesh.vertices, axis=0).max() if len(mesh.faces) else 0.0
    corners = mesh.vertices[mesh.faces] / (size or 1.0)  # so that no square overflows
    areas = np.linalg.norm(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1)
    if not (areas > 0).any():
        reason = f" ({notes[0]})" if notes else ""
        raise ValueError(f"{source.file}: none of its {len(finite)} triangles has an area{reason}")
    return take_faces(mesh, areas > 0)


def _up(source: MeshSource, content: bytes) -> Axis:
    if source.suffix == ".zae":  # a zip file, of which trimesh reads the first DAE file
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            first = next(name for name in archive.namelist() if name.lower().endswith(".dae"))
            content = read_member(archive, first)
    if source.suffix in (".dae", ".zae") and (said := re.search(rb"<up_axis>\s*([XYZ])_UP", content)):
        return {b"X": "x", b"Y": "y", b"Z": "z"}[said[1]]
    return "z" if source.suffix in Z_UP else "y"


class _Collector(logging.Handler):
    def __init__(self, lines: list[str]):
        super().__init__(logging.WARNING)
        self.lines = lines

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage().split("\n")[0])


@contextmanager
def _log_of_trimesh(lines: list[str]) -> Iterator[None]:
    """Let its warnings become `lines`, instead of going to the terminal."""
    logger, collector = logging.getLogger("trimesh"), _Collector(lines)
    propagate, logger.propagate = logger.propagate, False
    logger.addHandler(collector)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.removeHandler(collector)
        logger.propagate = propagate


def _one_line(error: Exception) -> str:
    return f"{type(error).__name__}: {error}".split("\n")[0][:200]
