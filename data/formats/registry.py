"""Open data sets of any layout, recognised by their files."""

import json
from collections.abc import Callable, Collection
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from data.config import DataConfig
from data.dtu_options import DTUOptions
from data.formats.colmap import is_colmap, open_colmap
from data.formats.dtu.objects import is_dtu, open_dtu
from data.formats.nmr.objects import LISTS, is_archive, is_nmr, open_nmr
from data.formats.packed.objects import is_packed, open_packed
from data.formats.pictures import is_pictures, open_pictures
from data.formats.srn.archives import SUFFIX
from data.formats.srn.objects import open_srn
from data.formats.transforms import is_transforms, open_transforms
from data.formats.videos.objects import is_videos, open_videos
from data.scenes.objects import Objects, RawObjects
from data.splits import SPLITS, Split


@dataclass(frozen=True)
class Layout:
    """A file layout of data sets."""

    recognises: Callable[[Path], bool]  # whether an existing path has this layout
    open: Callable[[Path, Split], RawObjects]


# In order of recognition; the last one reports what is missing.
LAYOUTS: dict[str, Layout] = {
    "packed": Layout(is_packed, open_packed),
    "nmr": Layout(is_nmr, open_nmr),
    "nmr_softras": Layout(partial(is_nmr, prefix="softras_"), partial(open_nmr, prefix="softras_")),
    "nmr_gen": Layout(partial(is_nmr, prefix="gen_"), partial(open_nmr, prefix="gen_")),
    "transforms": Layout(is_transforms, open_transforms),
    "colmap": Layout(is_colmap, open_colmap),
    "dtu": Layout(is_dtu, open_dtu),
    "videos": Layout(is_videos, open_videos),
    "pictures": Layout(is_pictures, open_pictures),
    "srn": Layout(lambda root: True, open_srn),
}


def open_split(config: DataConfig, split: Split, *, cameras: bool = True) -> Objects:
    """The objects of a split of `config.root`; without `cameras`, they may be video.

    Raises ValueError where there are none.
    """
    objects = _open_split(config, split)
    if cameras:
        objects.require({"cameras"})
    return objects


def _open_split(config: DataConfig, split: Split) -> Objects:
    root = Path(config.root)
    if config.shards == "rank" and split == "train":
        raw = open_raw(root, split, "packed", partial=True)
    else:
        raw = open_raw(root, split, config.layout, dtu=config.dtu)
    if config.views is None:
        return Objects(config, raw)
    path = Path(config.views)
    return Objects(config, raw, views=read_view_list(path, root, _names(root, config)))


def at_root(config: DataConfig, root: str) -> DataConfig:
    """Return the config for another data set, without what is specific to the files of the first.

    The layout is kept if it fits, so that the choice of NMR lists is preserved.
    """
    fits = config.layout.startswith("nmr") and LAYOUTS[config.layout].recognises(Path(root))
    layout = config.layout if fits else "auto"
    dtu = config.dtu.model_copy(update={"scenes": None})
    own = {"layout": layout, "views": None, "shards": "all", "depth_scale": 1.0, "dtu": dtu}
    return config.model_copy(update={"root": root} | own)


def open_raw(
    root: Path, split: Split, layout: str = "auto", *, partial: bool = False, dtu: DTUOptions | None = None
) -> RawObjects:
    """Open the objects of a split as stored; `partial` allows missing shards of a packed set, and `dtu` says
    how to read one in that layout.

    Raises ValueError if there are none.
    """
    _require_folder(root)
    if layout == "auto":
        layout = next(name for name, kind in LAYOUTS.items() if kind.recognises(root))
    if layout == "packed":
        return open_packed(root, split, partial=partial)
    if layout == "dtu":
        return open_dtu(root, split, dtu)
    return LAYOUTS[layout].open(root, split)


def _require_folder(root: Path) -> None:
    """Raise ValueError where no folder is, naming what is there and what to do with it."""
    if root.is_dir() or (is_archive(root) and any(is_nmr(root, prefix) for prefix in LISTS)):
        return
    if not root.exists():
        problem = "there is no such folder; give the folder of a data set"
    elif root.suffix == ".safetensors":
        problem = "this is one file of a packed set; give the folder that contains it"
    elif SUFFIX.search(root.name):
        problem = f"is an archive; pack it with `python -m scripts.prepare_srn {root} --output FOLDER`"
    else:
        problem = "is a file; give the folder of a data set"
    raise ValueError(f"data.root={root}: {problem}")


def _names(root: Path, config: DataConfig) -> set[str] | None:
    """Return the names of the objects of all splits; None if files of the set are on other machines."""
    names: set[str] = set()
    for split in SPLITS:
        with suppress(ValueError):  # not every data set has every split
            raw = open_raw(root, split, config.layout, partial=True, dtu=config.dtu)
            if len(raw.shards) < raw.num_shards:
                return None
            names.update(name for index in range(len(raw)) for name in raw.names(index))
    return names


def read_view_list(path: Path, root: Path, known: Collection[str] | None) -> dict[str, list[int]]:
    """Read the JSON list of views; every object in it must be `known`, unless that is None."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ValueError(f"data.views={path}: cannot be read ({error.strerror}); give a JSON file") from error
    if path.suffix.lower() in (".pickle", ".pkl") or content[:1] == b"\x80":
        raise ValueError(f"data.views={path}: is a pickle, which could run code; convert it to JSON")
    try:
        views = json.loads(content)
    except ValueError as error:
        raise ValueError(
            f"data.views={path}: is not JSON ({error}); write {{object id: [view numbers]}}"
        ) from error
    if not isinstance(views, dict):
        raise ValueError(f"data.views={path}: is not a JSON object; write {{object id: [view numbers]}}")
    for name, chosen in views.items():
        whole = isinstance(chosen, list) and all(type(view) is int and view >= 0 for view in chosen)
        if not whole or not chosen or len(set(chosen)) < len(chosen):
            raise ValueError(f"data.views={path}: {name} needs a list of distinct whole numbers from 0")
    if known is not None and (unknown := sorted(views.keys() - set(known))):
        raise ValueError(
            f"data.views={path}: names {unknown[0]}, which is not in {root}; remove it from the list"
        )
    return views
