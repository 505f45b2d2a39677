"""Files of SRN data sets in the archives that they are published in: zip and tar files.

An archive may have folders above its objects or none, and what archivers add (__MACOSX, .DS_Store) is left
alone. A `Member` is a file of an object, with the place where it would lie in an unpacked set:

    [*_train, *_val or *_test/][one more folder/]OBJECT/rgb/000000.png, pose/000000.txt, intrinsics.txt ...

where the split's folder is the one in the archive or, without one, the archive's own name. Archives come
from strangers: names that lead out of the folder, links, encrypted files and what unpacks to far more than
pictures are refused. Every problem is a ValueError of one line that begins with the archive's path.
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
MOST_BYTES = 64 * 2**20  # of a file of an object
MOST_GROWTH = 100  # times the archive's size, for all of its files together
ANYWAY_BYTES = 2**30  # to which any archive may grow
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
)  # what the standard library raises on bad archives


@dataclass(frozen=True, slots=True)  # a set has millions
class Member:
    """A file of an object."""

    archive: Path  # as it was given
    source: Path  # the file that is read: the archive, or what it was expanded to
    kind: Literal["zip", "tar", "folder"]
    name: str  # as the archive has it
    size: int  # bytes, unpacked
    offset: int = 0  # of its bytes in a tar file
    place: str = ""  # where it belongs below the root of an unpacked set, with /

    @property
    def folder(self) -> str:
        """The folder of its object, below the root of an unpacked set."""
        return "/".join(_object_parts(self.place.split("/")))

    def read(self) -> bytes:
        """Its bytes. Raises ValueError if the archive is damaged."""
        try:
            content = self._read()
        except DAMAGES as error:
            raise ValueError(f"{self.archive}: {self.name} cannot be read ({error}); get it again") from error
        if len(content) != self.size:
            raise ValueError(f"{self.archive}: {self.name} is not as long as is said; get it again")
        return content

    def _read(self) -> bytes:
        if self.kind == "zip":
            # With a limit: the size in the list may be a lie, and all would be inflated before it is cut off.
            with _open_zip(self.source).open(self.name) as file:
                return file.read(self.size + 1)
        if self.kind == "folder":
            return (self.source / self.name).read_bytes()
        with self.source.open("rb") as file:
            file.seek(self.offset)
            return file.read(self.size)


def list_members(archives: Sequence[Path], scratch: Path) -> list[Member]:
    """The files of all objects in archives or folders. Compressed tar files are expanded into `scratch`.

    Raises ValueError if an archive cannot be read or trusted, or two files belong in one place.
    """
    members = [member for archive in archives for member in _list(archive, scratch)]
    seen: dict[str, Member] = {}
    for member in members:
        other = seen.setdefault(member.place, member)
        if other is not member:
            raise ValueError(
                f"{member.archive}: {member.name} belongs where {other.name} of {other.archive} does; give "
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
        raise ValueError(f"{archive}: no objects (folders with rgb/ and pose/) in it; give an SRN data set")
    for member in members:
        if member.size > MOST_BYTES:
            raise ValueError(
                f"{archive}: {member.name} unpacks to {member.size / 2**20:.0f} MB, more than any picture; "
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
        raise ValueError(f"{archive}: no readable zip or tar file ({error}); get it again") from error


def _expand(archive: Path, opener: Callable[..., BinaryIO], scratch: Path, limit: int) -> Path:
    """Write the plain tar file into `scratch`, under a name of its own: archives may be called alike."""
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
                    f"{archive}: cannot be expanded into {scratch} ({error.strerror}); make room there"
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
            # A size below 0 would lead back to headers that were read already, for ever.
            if entry.size < 0 or entry.offset_data <= end:
                raise ValueError(f"{archive}: {entry.name} has no possible size; do not trust this archive")
            end = entry.offset_data
            member = Member(archive, source, "tar", entry.name, entry.size, entry.offset_data)
            if not _place(member) or entry.isdir():
                continue
            if not entry.isreg() or entry.issparse():
                raise ValueError(
                    f"{archive}: {entry.name} is a link or no plain file; pack the files themselves"
                )
            yield member


def _folder_members(root: Path, folder: Path, above: tuple[str, ...] = ()) -> Iterator[Member]:
    """The files below `folder`, through links to other folders too, but not round in circles."""
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
    """Where a file belongs; nowhere if it is no part of an object. Raises ValueError for hostile names."""
    name = member.name
    parts = [part for part in re.split(r"[/\\]", name) if part not in ("", ".")]
    if ".." in parts or name.startswith(("/", "\\")) or re.match(r"[A-Za-z]:", name) or "\0" in name:
        raise ValueError(f"{member.archive}: {name!r} leads out of the folder; do not trust this archive")
    above = _object_parts(parts)
    if above is None or any(part.startswith((".", "__")) for part in parts):
        return ""
    stem, inside = SUFFIX.sub("", member.archive.name), parts[len(above) :]
    # The innermost: cars_train_val_test/cars_val/OBJECT belongs to cars_val.
    split = next((number for number in reversed(range(len(above) - 1)) if split_named(above[number])), None)
    if split is not None:
        kept = [above[split], *above[split + 1 :][-2:]]
    elif split_named(stem):
        kept = [stem, *above[-2:]]
    else:
        kept = above[-2:] or [stem]
    return "/".join([*kept, *inside])


def _object_parts(parts: list[str]) -> list[str] | None:
    """The folders down to the object that a file belongs to; None if it belongs to none."""
    if len(parts) > 1 and parts[-2] in FOLDERS:
        return parts[:-2]
    return parts[:-1] if parts[-1:] == ["intrinsics.txt"] else None


@lru_cache(maxsize=4)
def _open_zip(path: Path) -> zipfile.ZipFile:
    """Kept open: to read the list of a large archive takes seconds."""
    return zipfile.ZipFile(path)
