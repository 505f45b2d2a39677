"""Reading whole files, in folders and in zip archives, without trusting what they say of their size."""

import lzma
import zipfile
import zlib
from pathlib import Path

MOST_BYTES = 2**31  # of one file: an archive could claim to hold anything
# What zipfile raises for archives that are damaged, encrypted, cut short or packed in a way it does not know.
ZIP_ERRORS = (
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
    OSError,
    ValueError,
    EOFError,
    RuntimeError,  # and NotImplementedError
)


def read_limited(path: Path) -> bytes:
    """A file's content. Raises ValueError for one of 2 GiB or more."""
    if path.stat().st_size >= MOST_BYTES:
        raise ValueError(f"{path.name} is larger than 2 GiB")
    return path.read_bytes()


def read_member(archive: zipfile.ZipFile, member: str, *, limit: int = MOST_BYTES) -> bytes:
    """The content of an archive's member. Raises ValueError for one of `limit` bytes or more, KeyError for
    none, and `ZIP_ERRORS` where it cannot be read.
    """
    size = archive.getinfo(member).file_size
    if size >= limit:
        raise ValueError(f"{member} is larger than {limit / 2**20:g} MiB")
    with archive.open(member) as file:
        content = file.read(size + 1)  # a number: without, all of what lies about its size is unpacked
    if len(content) > size:
        raise ValueError(f"{member} is larger than its archive says")
    return content
