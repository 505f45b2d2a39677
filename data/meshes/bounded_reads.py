"""Read whole files, in folders and zip archives, without trusting their stated size."""

import lzma
import zipfile
import zlib
from pathlib import Path

MOST_BYTES = 2**31  # per file: an archive could claim any size
# Raised by zipfile for damaged, encrypted, truncated or unsupported archives.
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
    """Read a file. Raises ValueError if it has 2 GiB or more."""
    if path.stat().st_size >= MOST_BYTES:
        raise ValueError(f"{path.name} is larger than 2 GiB")
    return path.read_bytes()


def read_member(archive: zipfile.ZipFile, member: str, *, limit: int = MOST_BYTES) -> bytes:
    """Read a member of an archive. Raises ValueError if it has `limit` bytes or more, KeyError if it is
    missing, and `ZIP_ERRORS` if it cannot be read.
    """
    size = archive.getinfo(member).file_size
    if size >= limit:
        raise ValueError(f"{member} is larger than {limit / 2**20:g} MiB")
    with archive.open(member) as file:
        content = file.read(size + 1)  # bounded, in case the stated size is false
    if len(content) > size:
        raise ValueError(f"{member} is larger than its archive says")
    return content
