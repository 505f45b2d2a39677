"""A plain folder of pictures of one thing, without cameras, as for textual inversion.

    ROOT/*.png, *.jpg, *.jpeg, *.webp

They are one object, named like the folder, and are for training, val and test alike. Pictures are turned
upright as their EXIF entries say. Every problem with a file is a one-line ValueError that starts with its
path.
"""

from pathlib import Path

from jaxtyping import Float, UInt8
from torch import Tensor

from data.images.files import on_white_ground
from data.images.picture_files import decoded
from data.scenes.objects import RawObjects
from data.splits import Split, natural_key

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp")


class Pictures(RawObjects):
    """The pictures in a folder, in natural order of their names."""

    has_cameras, kind = False, "a folder of pictures"

    def __init__(self, root: Path):
        self.ids = (root.resolve().name,)
        self._root, self._files = root, picture_files(root)

    def place(self, index: int) -> str:
        """The folder."""
        return str(self._root)

    def num_views(self, index: int) -> int:
        """The number of pictures."""
        return len(self._files)

    def cameras(self, index: int) -> tuple[Float[Tensor, "v 4 4"], Float[Tensor, "v 3 3"]]:
        """There are none: raises ValueError."""
        raise ValueError(f"{self._root}: is {self.kind} without cameras; give data with cameras")

    def picture(self, index: int, view: int) -> UInt8[Tensor, "h w 3"]:
        """RGB on white, upright."""
        return on_white_ground(decoded(self._files[view], upright=True))


def picture_files(folder: Path) -> tuple[Path, ...]:
    """The pictures in a folder, in natural order. Raises ValueError if it cannot be listed."""
    try:
        found = [path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES and path.is_file()]
    except OSError as error:
        raise ValueError(f"{folder}: cannot be listed ({error.strerror}); check its permissions") from error
    return tuple(
        sorted((path for path in found if path.name[0] != "."), key=lambda path: natural_key(path.name))
    )


def is_pictures(root: Path) -> bool:
    """Whether the folder holds pictures and no folders, which would be the objects of another layout.

    Other sets may have a picture of themselves beside their folders, such as the embedded contact sheet.
    """
    if not root.is_dir() or not picture_files(root):
        return False
    return not any(child.is_dir() and not child.name.startswith(".") for child in root.iterdir())


def open_pictures(root: Path, split: Split) -> Pictures:
    """Open the folder, whichever the split. Raises ValueError if it has no pictures."""
    if not picture_files(root):
        raise ValueError(f"data.root={root}: has 0 pictures ({', '.join(SUFFIXES)}); add some")
    return Pictures(root)
