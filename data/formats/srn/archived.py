"""Read objects of the SRN layout from archives, unpacking one object at a time."""

import shutil
import tempfile
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

from jaxtyping import Float, UInt8
from torch import Tensor

from data.formats.srn.archives import Member
from data.formats.srn.layout import PICTURES, split_folders
from data.formats.srn.objects import SRNObjects
from data.scenes.objects import RawObjects
from data.splits import Split

Read = TypeVar("Read")


class ArchivedObjects(RawObjects):
    """The objects of archives; only the one read last is unpacked at any time.

    Extracted below `scratch`, which the caller owns and removes. Read object by object for speed.
    """

    def __init__(self, folders: Sequence[str], members: dict[str, tuple[Member, ...]], scratch: Path):
        self._folders, self._members, self._scratch = tuple(folders), members, scratch
        self._root: Path | None = None
        self._unpacked: int | None = None
        self._paths = self._objects(scratch)  # names only; nothing exists there yet
        self.ids = self._paths.ids

    def __reduce__(self) -> tuple[type["ArchivedObjects"], tuple[object, ...]]:
        """Pickle for other processes, which unpack in their own folders."""
        return ArchivedObjects, (self._folders, self._members, self._scratch)

    def names(self, index: int) -> tuple[str, ...]:
        """Its names, as in the unpacked set."""
        return self._paths.names(index)

    def place(self, index: int) -> str:
        """The archive and the folder in it."""
        return f"{self._archive(index)}: {self._folders[index]}"

    def num_views(self, index: int) -> int:
        """Number of pictures."""
        files = [Path(member.place) for member in self._members[self._folders[index]]]
        return sum(file.parent.name == "rgb" and file.suffix.lower() in PICTURES for file in files)

    def cameras(self, index: int) -> tuple[Float[Tensor, "v 4 4"], Float[Tensor, "v 3 3"]]:
        """Poses and intrinsics."""
        return self._read(index, lambda objects: objects.cameras(index))

    def picture(self, index: int, view: int) -> UInt8[Tensor, "h w 3"]:
        """RGB on white."""
        return self._read(index, lambda objects: objects.picture(index, view))

    def depth(self, index: int, view: int) -> Float[Tensor, "h w"] | None:
        """In scene units."""
        return self._read(index, lambda objects: objects.depth(index, view))

    def alpha(self, index: int, view: int) -> UInt8[Tensor, "h w"] | None:
        """0 to 255."""
        return self._read(index, lambda objects: objects.alpha(index, view))

    def unpack(self, index: int, root: Path) -> None:
        """Write the files of an object below `root`."""
        for member in self._members[self._folders[index]]:
            path = root / member.place
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(member.read())

    def lies_in(self, index: int, root: Path) -> bool:
        """Whether all files of an object exist below `root` with the same contents."""
        members = [(root / member.place, member) for member in self._members[self._folders[index]]]
        # Sizes first: cheap to compare.
        return all(path.is_file() and path.stat().st_size == member.size for path, member in members) and all(
            path.read_bytes() == member.read() for path, member in members
        )

    def _read(self, index: int, read: Callable[[SRNObjects], Read]) -> Read:
        if self._root is None:
            self._scratch.mkdir(parents=True, exist_ok=True)
            self._root = Path(tempfile.mkdtemp(dir=self._scratch))
        if self._unpacked != index:
            shutil.rmtree(self._root)
            self._unpacked = None
            self.unpack(index, self._root)
            self._unpacked, self._opened = index, self._objects(self._root)
        try:
            return read(self._opened)
        except ValueError as error:
            message = str(error).replace(f"{self._root}/", f"{self._archive(index)}: ")
            raise ValueError(message) from error

    def _objects(self, root: Path) -> SRNObjects:
        return SRNObjects(root, [root / folder for folder in self._folders])

    def _archive(self, index: int) -> Path:
        return self._members[self._folders[index]][0].archive


def open_archived(members: Sequence[Member], split: Split, scratch: Path) -> ArchivedObjects:
    """Open the objects of a split, as if the archives were unpacked side by side; see `open_srn`.

    Raises ValueError if the split has no objects.
    """
    by_folder: dict[str, list[Member]] = defaultdict(list)
    for member in members:
        by_folder[member.folder].append(member)
    # Create only the folders, so that the usual code assigns the splits.
    skeleton = Path(tempfile.mkdtemp(dir=scratch))
    for place in {member.place.rpartition("/")[0] for member in members}:
        (skeleton / place).mkdir(parents=True, exist_ok=True)
    try:
        found = [path.relative_to(skeleton).as_posix() for path in split_folders(skeleton, split)]
    except ValueError as error:
        archives = ", ".join(dict.fromkeys(str(member.archive) for member in members))
        message = str(error).replace(f"{skeleton}/", f"{archives}: ").replace(str(skeleton), archives)
        raise ValueError(message) from error
    finally:
        shutil.rmtree(skeleton)
    return ArchivedObjects(found, {folder: tuple(by_folder[folder]) for folder in found}, scratch)
