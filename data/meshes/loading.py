"""Load mesh files of any format that trimesh reads, as one coloured mesh.

Scenes are flattened. Colours are the product of material colour, vertex or face colour, and texture;
transparency is ignored, so that windows are opaque as in the SRN images. Axes: f face.
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

from data.files import first_line
from data.mesh_options import Axis
from data.meshes.assets import ArchiveAssets, FolderAssets
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

Z_UP = (".stl", ".3mf")  # formats for printing or milling are z-up; others are y-up, like glTF
GLTF = (".glb", ".gltf")  # their factors and vertex colours are linear; textures are sRGB
# Triangulation of the polygons in a file, by format.
CUT = {".obj": plain_obj, ".ply": plain_ply, ".off": plain_off, ".dae": plain_dae}


@dataclass(frozen=True)
class LoadedMesh:
    """A mesh as stored."""

    mesh: Mesh
    up: Axis  # from the file, or by the convention of its format
    notes: tuple[str, ...]  # what is missing, one line each
    credits: dict[str, str]  # title, creator and licence, if stated in the file


def load_mesh(source: MeshSource) -> LoadedMesh:
    """Read a mesh with its materials, rotated as its catalogue specifies.

    Raises ValueError if that fails, or if the mesh has no surface.
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
    except Exception as error:  # loaders may raise anything on a damaged file
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
    """Open a mesh file and the files it refers to, in a folder or an archive."""
    if source.problem:
        raise ValueError(source.problem)
    with ExitStack() as stack:
        assets = FolderAssets(source)
        if source.member:
            archive = stack.enter_context(zipfile.ZipFile(source.path))
            content, assets = read_member(archive, source.member), ArchiveAssets(source, archive)
        else:
            content = read_limited(source.path)
        if source.suffix == ".zae":  # a zip file; the first DAE file is used
            archive = stack.enter_context(zipfile.ZipFile(io.BytesIO(content)))
            first = next((name for name in archive.namelist() if name.lower().endswith(".dae")), None)
            if first is None:
                raise ValueError("it is a zip file without a DAE file")
            content = read_member(archive, first)
            yield _File(content, ".dae", ArchiveAssets(replace(source, member=first), archive))
        else:
            yield _File(content, source.suffix, assets)


def _read(file: _File, notes: list[str]) -> tuple[list[Part], Axis, dict[str, str]]:
    """Read the meshes of a file, its up axis and credits."""
    up: Axis = "z" if file.suffix in Z_UP else "y"
    if file.suffix in GLTF:
        document = Document(file.content, file.assets)
        return read_parts(document, notes), up, credits_of(document)
    if file.suffix == ".dae" and (match := re.search(rb"<up_axis>\s*([XYZ])_UP", file.content)):
        up = {b"X": "x", b"Y": "y", b"Z": "z"}[match[1]]
    cut = CUT.get(file.suffix)
    content = cut(file.content, notes) if cut else file.content
    # `process` would merge vertices and their colours.
    scene = trimesh.load_scene(
        io.BytesIO(content), file_type=file.suffix[1:], resolver=file.assets, process=False
    )
    return parts_of_scene(scene), up, {}


def _flattened(parts: list[Part], notes: list[str], *, linear: bool) -> Mesh | None:
    """Join all parts in the axes of the scene; None if there are none."""
    textures: Textures = {}
    placed = []
    for part in parts:
        mesh = painted(part.geometry, textures, notes, linear=linear)
        for transform in part.transforms:
            moved = mesh.vertices @ transform[:3, :3].T + transform[:3, 3]
            placed.append(replace(mesh, vertices=moved))
    return join_meshes(placed) if placed else None


def _with_surface(mesh: Mesh | None, source: MeshSource, notes: list[str]) -> Mesh:
    """Keep the visible faces and their vertices. Raises ValueError if there are none."""
    if mesh is None:
        reason = f" ({notes[0]})" if notes else ""
        raise ValueError(f"{source.file}: contains no triangles{reason}")
    finite = np.isfinite(mesh.vertices).all(1)[mesh.faces].all(1)
    if not finite.all():
        notes.append(f"{(~finite).sum()} of its {len(finite)} triangles have a corner that is not finite")
    mesh = take_faces(mesh, finite)
    size = np.ptp(mesh.vertices, axis=0).max() if len(mesh.faces) else 0.0
    corners = mesh.vertices[mesh.faces] / (size or 1.0)  # to avoid overflow
    areas = np.linalg.norm(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1)
    if not (areas > 0).any():
        reason = f" ({notes[0]})" if notes else ""
        raise ValueError(f"{source.file}: all of its {len(finite)} triangles are degenerate{reason}")
    return take_faces(mesh, areas > 0)


class _Collector(logging.Handler):
    def __init__(self, lines: list[str]):
        super().__init__(logging.WARNING)
        self.lines = lines

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage().split("\n")[0])


@contextmanager
def _log_of_trimesh(lines: list[str]) -> Iterator[None]:
    """Collect trimesh's warnings in `lines` instead of printing them."""
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
    return f"{kind}{first_line(error)}"[:300]
