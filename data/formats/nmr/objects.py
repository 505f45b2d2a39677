"""ShapeNet as rendered for the Neural Mesh Renderer (NMR): 13 categories, 24 views of 64 x 64 per object.

    ROOT/CATEGORY/OBJECT/image/0000.png ..., mask/0000.png ..., cameras.npz (see data/formats/nmr/cameras.py)
    ROOT/CATEGORY/train.lst, val.lst, test.lst      names of objects, line by line
    ROOT/CATEGORY/softras_train.lst ...             other splits: softras_*.lst, gen_*.lst

The root may also be a zip archive of all this, which is not unpacked, or a single category. With masks, a
background that is not white becomes white. The public images have cameras at a distance of about 2.732, an
elevation of 30 degrees and every 15 degrees of azimuth, which scripts/check_data.py checks by
`data.formats.nmr.cameras.require_even_turn`.

Problems with a file raise a one-line ValueError that starts with its path.
"""

from pathlib import Path

from jaxtyping import Float, UInt8
from torch import Tensor

from data.formats.nmr.cameras import read_cameras
from data.formats.nmr.files import FolderFiles, NMRFiles, files_of
from data.images.files import read_picture
from data.images.masks import on_white, read_mask
from data.scenes.objects import RawObjects
from data.splits import SPLITS, Split

LOOK_AT = 64  # folders inspected to recognise the layout; there are 13 categories
LISTS = ("", "softras_", "gen_")  # known prefixes of the lists' names


class NMRObjects(RawObjects):
    """Objects in folders, which are listed on access. Ids are CATEGORY_OBJECT."""

    even_turns = True

    def __init__(self, folders: list[Path], files: NMRFiles | None = None):
        self.ids = tuple(f"{_category(folder)}_{folder.name}" for folder in folders)
        self._folders, self._files = tuple(folders), files or FolderFiles()
        self._numbers: dict[int, tuple[int, ...]] = {}
        self._shared: dict[tuple[int, ...], tuple[int, ...]] = {}

    def names(self, index: int) -> tuple[str, ...]:
        """CATEGORY/OBJECT, its id, OBJECT."""
        folder = self._folders[index]
        return f"{_category(folder)}/{folder.name}", self.ids[index], folder.name

    def place(self, index: int) -> str:
        """Its folder."""
        return str(self._folders[index])

    def num_views(self, index: int) -> int:
        """The number of images."""
        return len(self._views(index))

    def cameras(self, index: int) -> tuple[Float[Tensor, "v 4 4"], Float[Tensor, "v 3 3"]]:
        """Poses and intrinsics in the order of the pictures' numbers."""
        path = self._folders[index] / "cameras.npz"
        return read_cameras(path, self._views(index), self._files.content(path))

    def picture(self, index: int, view: int) -> UInt8[Tensor, "h w 3"]:
        """RGB on white."""
        path, opacity = self._file("image", index, view), self.alpha(index, view)
        picture = read_picture(path, self._files.content(path))
        if opacity is None:
            return picture
        if opacity.shape != picture.shape[:2]:
            raise ValueError(
                f"{self._file('mask', index, view)}: is {list(opacity.shape)} pixels (height, width), but "
                f"its image is {list(picture.shape[:2])}; restore both"
            )
        return on_white(picture, opacity)

    def alpha(self, index: int, view: int) -> UInt8[Tensor, "h w"] | None:
        """The mask."""
        mask = self._file("mask", index, view)
        if not self._files.is_dir(mask.parent):
            return None
        return read_mask(mask, content=self._files.content(mask))

    def _file(self, kind: str, index: int, view: int) -> Path:
        return self._folders[index] / kind / f"{self._views(index)[view]:04d}.png"

    def _views(self, index: int) -> tuple[int, ...]:
        """The image numbers; most objects have the same, so they share one cached tuple."""
        if index not in self._numbers:
            numbers = _picture_numbers(self._folders[index] / "image", self._files)
            self._numbers[index] = self._shared.setdefault(numbers, numbers)
        return self._numbers[index]


def open_nmr(root: Path, split: Split, prefix: str = "") -> NMRObjects:
    """Open the objects named by the lists {prefix}{split}.lst of all categories.

    A category may lack held-out lists, but not the training list. Raises ValueError if that is missing, if no
    category has the list, or if an object is missing.
    """
    files, inside = files_of(root)
    categories = _categories(inside, files)
    lists = [folder / f"{prefix}{split}.lst" for folder in categories]
    found = [path for path in lists if files.is_file(path)]
    if not found:
        raise ValueError(
            f"data.root={root}: no category has a list {prefix}{split}.lst; restore it, or choose other "
            "lists by data.layout (nmr: train.lst, nmr_softras: softras_train.lst, nmr_gen: gen_train.lst)"
        )
    without = [path for path in lists if path not in found and _is_category(path.parent, files)]
    if split == "train" and without:
        raise ValueError(
            f"{without[0]}: is missing, though there is {found[0]}; restore the list or move the category "
            "out of the data set"
        )
    return NMRObjects([folder for path in found for folder in _listed(path, files)], files)


def is_nmr(root: Path, prefix: str = "") -> bool:
    """Whether a data set has this layout, with lists of that beginning."""
    if not (root.is_dir() or is_archive(root)):
        return False
    files, inside = files_of(root)
    # Not all of them: thousands of other folders may lie there.
    categories = _categories(inside, files)[:LOOK_AT]
    return any(files.is_file(folder / f"{prefix}train.lst") for folder in categories)


def _category(folder: Path) -> str:
    return folder.parent.name or folder.parent.resolve().name


def is_archive(root: Path) -> bool:
    """Whether a path is a zip file."""
    return root.suffix.lower() == ".zip" and root.is_file()


def _categories(root: Path, files: NMRFiles) -> list[Path]:
    """Folders with lists: the root itself, or those in it."""
    return [root] if _has_list(root, files) else files.folders(root)


def _is_category(folder: Path, files: NMRFiles) -> bool:
    """Whether a folder has any list, or its first folder is an object: others are not part of the set."""
    first = files.folders(folder)[:1]
    return _has_list(folder, files) or any(files.is_file(child / "cameras.npz") for child in first)


def _has_list(folder: Path, files: NMRFiles) -> bool:
    return any(files.is_file(folder / f"{prefix}{split}.lst") for prefix in LISTS for split in SPLITS)


def _listed(path: Path, files: NMRFiles) -> list[Path]:
    """The folders of the objects that a list names."""
    try:
        names = [line.strip() for line in files.text(path).splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: cannot be read as text ({type(error).__name__}); restore it") from error
    # One listing is faster than asking for each of thousands.
    there = {child.name for child in files.folders(path.parent)}
    if absent := [name for name in names if name not in there]:
        raise ValueError(
            f"{path}: names {absent[0]}, which is not in its folder ({len(absent)} of {len(names)} are not); "
            "unpack the category again or remove it from the list"
        )
    if len(set(names)) < len(names):
        twice = next(name for place, name in enumerate(names) if name in names[:place])
        raise ValueError(f"{path}: names {twice} twice; remove one of them")
    return [path.parent / name for name in names]


def _picture_numbers(folder: Path, files: NMRFiles) -> tuple[int, ...]:
    try:
        names = [name for name in files.names(folder) if name.endswith(".png") and name[0] != "."]
        stems = [name.removesuffix(".png") for name in names]
    except OSError as error:
        raise ValueError(f"{folder}: cannot be listed ({error.strerror}); unpack the object again") from error
    if not stems:
        raise ValueError(f"{folder}: has no images (0000.png ...); unpack the object again")
    if odd := [stem for stem in stems if not (stem.isdecimal() and stem == f"{int(stem):04d}")]:
        raise ValueError(f"{folder / odd[0]}.png: images must be called 0000.png, 0001.png ...; rename it")
    return tuple(sorted(map(int, stems)))
