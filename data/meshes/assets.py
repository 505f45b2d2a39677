"""Resolve the files a mesh file refers to (materials, textures, buffers), in a folder or archive."""

import os
import posixpath
import zipfile
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote

from data.meshes.bounded_reads import read_limited, read_member
from data.meshes.sources import MeshSource


class FolderAssets:
    """Files beside a mesh file, as requested by trimesh's loaders.

    Names may have the wrong case, backslashes, leading options (as in an MTL file) or an absolute path from
    another computer. Nothing outside the base folder is read. `missing` collects what was not found.
    """

    def __init__(self, source: MeshSource):
        self.missing: list[str] = []
        self._base, self._folder = source.base.absolute(), source.path.absolute().parent

    def get(self, name: str) -> bytes:
        """Return a file's content. Raises FileNotFoundError if it is missing."""
        for spelling in _spellings(name):
            if (content := self._read(spelling)) is not None:
                return content
        self.missing.append(name.strip())
        raise FileNotFoundError(name)

    def __getitem__(self, name: str) -> bytes:
        """The same."""
        return self.get(name)

    def _read(self, name: str) -> bytes | None:
        path = Path(os.path.normpath(self._folder / name))
        if not path.is_relative_to(self._base):
            return None
        found = self._base
        for part in path.relative_to(self._base).parts:
            found = found / part if (found / part).exists() else _whatever_case(found, part)
            if found is None:
                return None
        return read_limited(found) if found.is_file() else None


class ArchiveAssets(FolderAssets):
    """Files in an open archive."""

    def __init__(self, source: MeshSource, archive: zipfile.ZipFile):
        super().__init__(source)
        self._archive, self._inside = archive, posixpath.dirname(source.member)
        self._members = {member.lower(): member for member in archive.namelist()}

    def _read(self, name: str) -> bytes | None:
        path = posixpath.normpath(posixpath.join(self._inside, name))
        member = self._members.get(path.lower())
        return None if member is None else read_member(self._archive, member)


def _whatever_case(folder: Path, name: str) -> Path | None:
    children = folder.iterdir() if folder.is_dir() else ()
    return next((child for child in children if child.name.lower() == name.lower()), None)


def _spellings(name: str) -> Iterator[str]:
    """Yield the possible meanings of a reference, likeliest first."""
    name = name.strip().strip('"').replace("\\", "/")
    yield name
    yield unquote(name)
    yield name.split()[-1] if name else name  # after the options of a texture map
    yield posixpath.basename(name)
    yield posixpath.basename(name.split()[-1] if name else name)
