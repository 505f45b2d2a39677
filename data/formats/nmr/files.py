"""Where the files of an NMR data set are: in folders, or in the zip archive that is published.

Of an archive nothing is unpacked. A file in it goes by the path ARCHIVE.zip/FOLDER/FILE, which messages show.
"""

import os
import zipfile
import zlib
from collections import defaultdict
from functools import lru_cache
from pathlib import Path

from data.splits import subfolders

MOST_BYTES = 64 * 2**20  # of a file in an archive
DAMAGES = (
    zipfile.BadZipFile,
    zlib.error,
    NotImplementedError,
    RuntimeError,
    EOFError,
    OSError,
    OverflowError,
)


class FolderFiles:
    """Files in folders."""

    def is_file(self, path: Path) -> bool:
        """Whether there is such a file."""
        return path.is_file()

    def is_dir(self, path: Path) -> bool:
        """Whether there is such a folder."""
        return path.is_dir()

    def folders(self, path: Path) -> list[Path]:
        """The folders in a folder, sorted. Raises ValueError if it cannot be listed."""
        return subfolders(path)

    def names(self, path: Path) -> list[str]:
        """The names in a folder. Raises OSError if it cannot be listed."""
        return os.listdir(path)

    def content(self, path: Path) -> bytes | None:
        """None, since the caller can open the file itself."""
        return None

    def text(self, path: Path) -> str:
        """Read a text file. Raises OSError or UnicodeDecodeError if that fails."""
        return path.read_text(encoding="utf-8-sig")


class ZipFiles:
    """Files in a zip archive, which every process opens for itself."""

    def __init__(self, archive: Path):
        self.archive = archive
        self._opened: tuple[int, zipfile.ZipFile] | None = None
        self._files: dict[Path, list[str]] = defaultdict(list)
        self._folders: dict[Path, dict[Path, None]] = defaultdict(dict)
        try:
            names = self._zip.namelist()
        except DAMAGES as error:
            raise ValueError(f"{archive}: is no whole zip archive ({error}); get it again") from error
        for name in names:
            self._add(name)

    def __reduce__(self) -> tuple[type["ZipFiles"], tuple[Path]]:
        """For other processes."""
        return ZipFiles, (self.archive,)

    @property
    def root(self) -> Path:
        """The innermost folder that holds all files."""
        folder = self.archive
        while len(self._folders[folder]) == 1 and not self._files[folder]:
            folder = next(iter(self._folders[folder]))
        return folder

    def is_file(self, path: Path) -> bool:
        """Whether there is such a file."""
        return path.name in self._files.get(path.parent, ())

    def is_dir(self, path: Path) -> bool:
        """Whether there is such a folder."""
        return path in self._folders.get(path.parent, ())

    def folders(self, path: Path) -> list[Path]:
        """The folders in a folder, sorted, without hidden ones and what archivers add."""
        return [
            child for child in sorted(self._folders.get(path, ())) if not child.name.startswith((".", "__"))
        ]

    def names(self, path: Path) -> list[str]:
        """The names in a folder. Raises OSError if there is no such folder."""
        if not self.is_dir(path):
            raise FileNotFoundError(2, "no such folder in the archive", str(path))
        return self._files.get(path, [])

    def content(self, path: Path) -> bytes:
        """The bytes of a file. Raises ValueError where they cannot be had."""
        name = path.relative_to(self.archive).as_posix()
        try:
            with self._zip.open(name) as file:
                content = file.read(MOST_BYTES + 1)
        except KeyError as error:
            raise ValueError(f"{path}: is missing; get the archive again") from error
        except DAMAGES as error:
            raise ValueError(f"{path}: cannot be read ({error}); get the archive again") from error
        if len(content) > MOST_BYTES:
            raise ValueError(f"{path}: is larger than any picture; do not trust this archive")
        return content

    def text(self, path: Path) -> str:
        """Read a text file. Raises UnicodeDecodeError if it is not text."""
        return self.content(path).decode("utf-8-sig")

    @property
    def _zip(self) -> zipfile.ZipFile:
        # A position in the file is shared with processes that were forked.
        if self._opened is None or self._opened[0] != os.getpid():
            self._opened = (os.getpid(), zipfile.ZipFile(self.archive))
        return self._opened[1]

    def _add(self, name: str) -> None:
        path = self.archive / name
        if not name.endswith("/"):
            self._files[path.parent].append(path.name)
            path = path.parent
        while path != self.archive and path not in self._folders[path.parent]:
            self._folders[path.parent][path] = None
            path = path.parent
            if path == path.parent:  # a name that leads out of the archive
                raise ValueError(f"{self.archive}: {name!r} leads out of it; do not trust this archive")


NMRFiles = FolderFiles | ZipFiles


def files_of(root: Path) -> tuple[NMRFiles, Path]:
    """The files of a data set in a folder or a zip archive, and the folder that holds its categories.

    Raises ValueError where the archive cannot be read.
    """
    if root.is_dir():
        return FolderFiles(), root
    state = root.stat()
    files = _listed(root, state.st_size, state.st_mtime_ns)
    return files, files.root


@lru_cache(maxsize=2)
def _listed(archive: Path, size: int, changed_ns: int) -> ZipFiles:
    """Kept: to read the list of a large archive takes seconds."""
    return ZipFiles(archive)
