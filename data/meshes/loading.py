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
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace

import numpy as np
import trimesh

from data.meshes.assets import ArchiveAssets, FolderAssets
from data.meshes.axes import Axis
from data.meshes.bounded_reads import read_limited, read_member
from data.meshes.gltf.document import Document
from data.meshes.gltf.scene import credits_of, read_parts
from data.meshes.materials import Textures, painted
from data.meshes.mesh import Mesh, join_meshes, take_faces
from data.meshes.parts import Part, parts_of_scene
from data.meshes.polygons.dae import plain_dae
from data.meshes.polygons.obj import plain_obj
from data.meshes.polygons.off import plain_off
from data.meshes.polygons.ply import plain_ply
from data.meshes.sources import MeshSource

Z_UP = (".stl", ".3mf")  # what is printed or milled lies on the xy plane; other formats mean y, as glTF does
GLTF = (".glb", ".gltf")  # their factors and vertex colours are linear; textures never are
# What makes triangles of the polygons of a file, for formats that have them.
CUT = {".obj": plain_obj, ".ply": plain_ply, ".off": plain_off, ".dae": plain_dae}


@dataclass(frozen=True)
class LoadedMesh:
    """A mesh as it is stored."""

    mesh: Mesh
    up: Axis  # as the file says, or by the custom of its format
    notes: tuple[str, ...]  # what is missing from it, each in a line
    credits: dict[str, str]  # title, creator and licence, where the file itself tells them


def load_mesh(source: MeshSource) -> LoadedMesh:
    """Read a mesh with its materials, turned as its catalogue says.

    Raises ValueError if that is impossible, or where the mesh has no surface.
    """
    notes: list[str] = []
    try:
        with _log_of_trimesh(notes), np.errstate(all="ignore"), _opened(source) as file:
            parts, up, credits = _read(file, notes)
            mesh = _flattened(parts, notes, linear=file.suffix in GLTF)
    except ImportError as error:
        raise ValueError(
            f"{source.file}: reading {source.suffix} files needs a package ({_one_line(error)})"
        ) from error
    except Exception as error:  # a loader may raise anything on a file that somebody has damaged
        raise ValueError(f"{source.file}: cannot be read ({_one_line(error)})") from error
    notes += [f"{name} is missing" for name in file.assets.missing]
    mesh = _with_surface(mesh, source, notes)
    if source.rotation is not None:
        turn = np.array(source.rotation).reshape(3, 3)
        mesh = replace(mesh, vertices=mesh.vertices @ turn.T)
    return LoadedMesh(mesh, up, tuple(dict.fromkeys(notes)), credits)


@dataclass(frozen=True)
class _File:
    content: bytes
    suffix: str
    assets: FolderAssets


@contextmanager
def _opened(source: MeshSource) -> Iterator[_File]:
    """A mesh file and the files that it refers to, in a folder or an archive."""
    if source.problem:
        raise ValueError(source.problem)
    with ExitStack() as stack:
        assets = FolderAssets(source)
        if source.member:
            archive = stack.enter_context(zipfile.ZipFile(source.path))
            content, assets = read_member(archive, source.member), ArchiveAssets(source, archive)
        else:
            content = read_limited(source.path)
        if source.suffix == ".zae":  # a zip file, of which the first DAE file counts
            archive = stack.enter_context(zipfile.ZipFile(io.BytesIO(content)))
            first = next((name for name in archive.namelist() if name.lower().endswith(".dae")), None)
            if first is None:
                raise ValueError("it is a zip file without a DAE file")
            content = read_member(archive, first)
            yield _File(content, ".dae", ArchiveAssets(replace(source, member=first), archive))
        else:
            yield _File(content, source.suffix, assets)


def _read(file: _File, notes: list[str]) -> tuple[list[Part], Axis, dict[str, str]]:
    """The meshes of a file, which axis is up, and whose it is."""
    up: Axis = "z" if file.suffix in Z_UP else "y"
    if file.suffix in GLTF:
        document = Document(file.content, file.assets)
        return read_parts(document, notes), up, credits_of(document)
    if file.suffix == ".dae" and (said := re.search(rb"<up_axis>\s*([XYZ])_UP", file.content)):
        up = {b"X": "x", b"Y": "y", b"Z": "z"}[said[1]]
    cut = CUT.get(file.suffix)
    content = cut(file.content, notes) if cut else file.content
    # `process` would merge vertices, and their colours with them.
    scene = trimesh.load_scene(
        io.BytesIO(content), file_type=file.suffix[1:], resolver=file.assets, process=False
    )
    return parts_of_scene(scene), up, {}


def _flattened(parts: list[Part], notes: list[str], *, linear: bool) -> Mesh | None:
    """All parts in the axes of the scene; None if there are none."""
    textures: Textures = {}
    placed = []
    for part in parts:
        mesh = painted(part.geometry, textures, notes, linear=linear)
        for transform in part.transforms:
            moved = mesh.vertices @ transform[:3, :3].T + transform[:3, 3]
            placed.append(replace(mesh, vertices=moved))
    return join_meshes(placed) if placed else None


def _with_surface(mesh: Mesh | None, source: MeshSource, notes: list[str]) -> Mesh:
    """The faces that can be seen, and their vertices alone. Raises ValueError if there are none."""
    if mesh is None:
        reason = f" ({notes[0]})" if notes else ""
        raise ValueError(f"{source.file}: holds no triangles, only points, lines or nothing{reason}")
    finite = np.isfinite(mesh.vertices).all(1)[mesh.faces].all(1)
    if not finite.all():
        notes.append(
            f"{(~finite).sum()} of its {len(finite)} triangles have a corner that is nowhere (inf, nan)"
        )
    mesh = take_faces(mesh, finite)
    size = np.ptp(mesh.vertices, axis=0).max() if len(mesh.faces) else 0.0
    corners = mesh.vertices[mesh.faces] / (size or 1.0)  # so that no square overflows
    areas = np.linalg.norm(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1)
    if not (areas > 0).any():
        reason = f" ({notes[0]})" if notes else ""
        raise ValueError(f"{source.file}: none of its {len(finite)} triangles has an area{reason}")
    return take_faces(mesh, areas > 0)


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
    kind = "" if type(error) is ValueError else f"{type(error).__name__}: "
    return f"{kind}{error}".split("\n")[0][:300]
