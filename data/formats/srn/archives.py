"""Read the files of SRN data sets from zip and tar archives.

An archive may have folders above its objects or none; archiver leftovers (__MACOSX, .DS_Store) are ignored. A
`Member` is a file of an object, with its location in an unpacked set:

    [*_train, *_val or *_test/][one more folder/]OBJECT/rgb/000000.png, pose/000000.txt, intrinsics.txt ...

where the split's folder is the one in the archive or, without one, the archive's own name. Archives are
untrusted: path traversal, links, encrypted files and decompression bombs are rejected. Every problem is a
one-line ValueError that starts with the archive's path.
"""

import bz2
import gzip
import lzma
import os
import re
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import BinaryIO, Literal

from data.splits import split_named

FOLDERS = ("rgb", "pose", "depth", "alpha", "intrinsics")
MOST_BYTES = 64 * 2**20  # per file of an object
MOST_GROWTH = 100  # total unpacked size over the archive's size
ANYWAY_BYTES = 2**30  # unpacked size that is always allowed
SUFFIX = re.compile(r"(\.zip|\.tar(\.gz|\.bz2|\.xz)?|\.tgz|\.tbz2?|\.txz)$", re.IGNORECASE)
COMPRESSIONS = {b"\x1f\x8b": gzip.open, b"BZh": bz2.open, b"\xfd7zXZ\x00": lzma.open}
DAMAGES = (
    zipfile.BadZipFile,
    tarfile.TarError,
    zlib.error,
    lzma.LZMAError,
    NotImplementedError,
    RuntimeError,
    EOFError,
    OSError,
    OverflowError,
    UnicodeDecodeError,
)  # errors of the standard library for bad archives


@dataclass(frozen=True, slots=True)  # a data set has millions
class Member:
    """A file of an object."""

    archive: Path  # as it was given
    source: Path  # the file that is read: the archive, or its decompressed copy
    kind: Literal["zip", "tar", "folder"]
    name: str  # name in the archive
    size: int  # bytes, unpacked
    offset: int = 0  # of its data in a tar file
    place: str = ""  # path below the root of an unpacked set, with /

    @property
    def folder(self) -> str:
        """The folder of its object, below the root of an unpacked set."""
        return "/".join(_object_parts(self.place.split("/")))

    def read(self) -> bytes:
        """Return its bytes. Raises ValueError if the archive is damaged."""
        try:
            content = self._read()
        except DAMAGES as error:
            raise ValueError(f"{self.archive}: {self.name} cannot be read ({error}); get it again") from error
        if len(content) != self.size:
            raise ValueError(f"{self.archive}: {self.name} does not have the stated size; get it again")
        return content

    def _read(self) -> bytes:
        if self.kind == "zip":
            # With a limit: the stated size may be false, and everything would be inflated before truncation.
            with _open_zip(self.source).open(self.name) as file:
                return file.read(self.size + 1)
        if self.kind == "folder":
            return (self.source / self.name).read_bytes()
        with self.source.open("rb") as file:
            file.seek(self.offset)
            return file.read(self.size)


def list_members(archives: Sequence[Path], scratch: Path) -> list[Member]:
    """List the files of all objects in archives or folders. Compressed tar files are expanded into `scratch`.

    Raises ValueError if an archive cannot be read or trusted, or two files have the same location.
    """
    members = [member for archive in archives for member in _list(archive, scratch)]
    seen: dict[str, Member] = {}
    for member in members:
        other = seen.setdefault(member.place, member)
        if other is not member:
            raise ValueError(
                f"{member.archive}: {member.name} duplicates {other.name} of {other.archive}; give "
                "each object once"
            )
    return members


def _list(archive: Path, scratch: Path) -> list[Member]:
    if archive.is_dir():
        found, limit = list(_folder_members(archive, archive)), None
    elif archive.is_file():
        limit = ANYWAY_BYTES + MOST_GROWTH * archive.stat().st_size
        found = _archive_members(archive, scratch, limit)
    else:
        raise ValueError(f"{archive}: there is no such file; give a zip or tar file, or a folder")
    members = [replace(member, place=place) for member in found if (place := _place(member))]
    if not members:
        raise ValueError(
            f"{archive}: contains no objects (folders with rgb/ and pose/); give an SRN data set"
        )
    for member in members:
        if member.size > MOST_BYTES:
            raise ValueError(
                f"{archive}: {member.name} unpacks to {member.size / 2**20:.0f} MB, more than any image; "
                "do not trust this archive"
            )
    if limit is not None and sum(member.size for member in members) > limit:
        raise ValueError(
            f"{archive}: unpacks to over {MOST_GROWTH} times its size; do not trust this archive"
        )
    return members


def _archive_members(archive: Path, scratch: Path, limit: int) -> list[Member]:
    try:
        with archive.open("rb") as file:
            magic = file.read(6)
        if magic.startswith(b"PK"):
            return list(_zip_members(archive))
        opener = next((COMPRESSIONS[start] for start in COMPRESSIONS if magic.startswith(start)), None)
        if opener is None:
            return list(_tar_members(archive, archive))
        return list(_tar_members(archive, _expand(archive, opener, scratch, limit)))
    except PermissionError as error:
        raise ValueError(f"{archive}: cannot be read ({error.strerror}); check its permissions") from error
    except DAMAGES as error:
        raise ValueError(f"{archive}: not a readable zip or tar file ({error}); get it again") from error


def _expand(archive: Path, opener: Callable[..., BinaryIO], scratch: Path, limit: int) -> Path:
    """Decompress a tar file into `scratch`, under a unique name: archives may have equal names."""
    scratch.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(suffix=".tar", dir=scratch)
    with opener(archive, "rb") as packed, open(handle, "wb") as plain:
        while block := packed.read(2**20):
            if plain.tell() > limit:
                raise ValueError(
                    f"{archive}: unpacks to over {MOST_GROWTH} times its size; do not trust this archive"
                )
            try:
                plain.write(block)
            except OSError as error:  # not the archive's fault
                raise ValueError(
                    f"{archive}: cannot be expanded into {scratch} ({error.strerror}); free some space there"
                ) from error
    return Path(name)


def _zip_members(archive: Path) -> Iterator[Member]:
    for entry in _open_zip(archive).infolist():
        member = Member(archive, archive, "zip", entry.filename, entry.file_size)
        if not _place(member) or entry.is_dir():
            continue
        if (entry.external_attr >> 16) & 0o170000 == 0o120000:
            raise ValueError(f"{archive}: {entry.filename} is a link; pack the files themselves")
        if entry.flag_bits & 1:
            raise ValueError(f"{archive}: {entry.filename} is encrypted; pack it without a password")
        yield member


def _tar_members(archive: Path, source: Path) -> Iterator[Member]:
    with tarfile.open(source, "r:") as file:
        end = 0
        for entry in file:
            # A negative size would loop over the same headers forever.
            if entry.size < 0 or entry.offset_data <= end:
                raise ValueError(f"{archive}: {entry.name} has an invalid size; do not trust this archive")
            end = entry.offset_data
            member = Member(archive, source, "tar", entry.name, entry.size, entry.offset_data)
            if not _place(member) or entry.isdir():
                continue
            if not entry.isreg() or entry.issparse():
                raise ValueError(
                    f"{archive}: {entry.name} is a link or not a regular file; pack the files themselves"
                )
            yield member


def _folder_members(root: Path, folder: Path, above: tuple[str, ...] = ()) -> Iterator[Member]:
    """List the files below `folder`, following links but not cycles."""
    real = os.path.realpath(folder)
    if real in above:
        return
    try:
        for path in sorted(folder.iterdir()):
            if path.is_dir():
                yield from _folder_members(root, path, (*above, real))
            elif path.is_file():
                name = path.relative_to(root).as_posix()
                yield Member(root, root, "folder", name, path.stat().st_size)
    except OSError as error:
        raise ValueError(f"{folder}: cannot be listed ({error.strerror}); check its permissions") from error


def _place(member: Member) -> str:
    """Return a file's location, "" if it is not part of an object. Raises ValueError for path traversal."""
    name = member.name
    parts = [part for part in re.split(r"[/\\]", name) if part not in ("", ".")]
    if ".." in parts or name.startswith(("/", "\\")) or re.match(r"[A-Za-z]:", name) or "\0" in name:
        raise ValueError(f"{member.archive}: {name!r} leads out of the folder; do not trust this archive")
    above = _object_parts(parts)
    if above is None or any(part.startswith((".", "__")) for part in parts):
        return ""
    stem, inside = SUFFIX.sub("", member.archive.name), parts[len(above) :]
    # The innermost counts: cars_train_val_test/cars_val/OBJECT belongs to cars_val.
    split = next((number for number in reversed(range(len(above) - 1)) if split_named(above[number])), None)
    if split is not None:
        kept = [above[split], *above[split + 1 :][-2:]]
    elif split_named(stem):
        kept = [stem, *above[-2:]]
    else:
        kept = above[-2:] or [stem]
    return "/".join([*kept, *inside])


def _object_parts(parts: list[str]) -> list[str] | None:
    """Return the folders down to the object that a file belongs to, or None."""
    if len(parts) > 1 and parts[-2] in FOLDERS:
        return parts[:-2]
    return parts[:-1] if parts[-1:] == ["intrinsics.txt"] else None


@lru_cache(maxsize=4)
def _open_zip(path: Path) -> zipfile.ZipFile:
    """Open an archive and keep it open: listing a large archive takes seconds."""
    return zipfile.ZipFile(path)
