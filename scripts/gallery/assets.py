"""The files of a gallery: collected in memory, counted, and written only when all of them are complete.

Names contain a hash of the content, so an existing page keeps its files until another one has replaced it.
"""

import hashlib
import re
from contextlib import suppress
from pathlib import Path

from data.files import write_text_whole, write_whole
from scripts.common.html.pictures import data_uri

INDEX, FOLDER = "index.html", "media"
MADE_BY = "scripts.gallery"
OURS = re.compile(r"[a-z0-9-]+-[0-9a-f]{16}\.(webp|jpeg|mp4)")
LONGEST_STEM = 60  # characters


class FullError(Exception):
    """The size limit is exceeded."""


class Assets:
    """Images and videos of a page, embedded in the page if `inline`."""

    def __init__(self, most: int, *, inline: bool = False):
        self._most, self.inline = most, inline
        self.files: dict[str, bytes] = {}

    def add(self, stem: str, kind: str, data: bytes) -> str:
        """Add a file; returns its name, which begins with the letters and digits of `stem`.

        Equal files are stored once. Raises FullError if the size limit is exceeded.
        """
        plain = re.sub(r"[^a-z0-9]+", "-", stem.lower()).strip("-")[:LONGEST_STEM].strip("-")
        name = f"{plain or 'object'}-{hashlib.sha256(data).hexdigest()[:16]}.{kind}"
        self.files[name] = data
        if self.size > self._most:
            raise FullError
        return name

    @property
    def size(self) -> int:
        """The size of all files in bytes, as embedded if `inline`."""
        total = sum(map(len, self.files.values()))
        return total * 4 // 3 if self.inline else total

    def data_uris(self) -> dict[str, str]:
        """The files as data URIs, by name."""
        return {name: data_uri(name.rpartition(".")[2], data) for name, data in self.files.items()}

    def publish(self, folder: Path, text: str) -> None:
        """Write the files and then the page, and delete files of an earlier page.

        If interrupted, either the earlier or the new page is complete.
        """
        place, fresh = folder / FOLDER, []
        files = {} if self.inline else self.files
        try:
            for name, data in files.items():
                path = place / name
                if not path.is_file() or path.stat().st_size != len(data):
                    fresh.append(path)
                    write_whole(path, lambda partial, data=data: partial.write_bytes(data))
            write_text_whole(folder / INDEX, text)
        except BaseException:
            if not _holds(folder / INDEX, text):
                for path in fresh:
                    path.unlink(missing_ok=True)
                for empty in (place, folder):
                    with suppress(OSError):  # it is not empty, or does not exist
                        empty.rmdir()
            raise
        for path in place.glob("*"):
            if OURS.fullmatch(path.name) and path.name not in files:
                path.unlink()


def _holds(path: Path, text: str) -> bool:
    """Whether the page is in place: the interruption may have come just after that."""
    return path.is_file() and path.read_text(encoding="utf-8") == text


def require_ours(folder: Path) -> None:
    """Raise ValueError if the folder is a file, or has a page that is no gallery."""
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"{folder}: is a file; choose another --output")
    page = folder / INDEX
    if not page.exists():
        return
    try:
        ours = f'content="{MADE_BY}"' in page.read_text(encoding="utf-8")[:4096]
    except (OSError, UnicodeDecodeError):
        ours = False
    if not ours:
        raise ValueError(f"{page}: is no gallery, and would be replaced by one; choose another --output")
