"""Select and order the objects to pack: leave out categories, or shuffle them."""

import json
from collections.abc import Sequence
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # heavy imports happen where they are used, so that --help answers at once
    from data.scenes.objects import RawObjects
    from data.splits import Split

MIXING_SEED = 0


def selected(
    sources: "dict[Split, RawObjects]", root: Path, *, without: Sequence[str], mix: bool
) -> "dict[Split, RawObjects]":
    """The splits without the categories of training named in `without`, and shuffled to `mix` shards.

    The other splits keep all objects, for evaluation. Raises ValueError if there is no such category, or
    nothing is left.
    """
    from data.scenes.selected_objects import SelectedObjects

    if not without and not mix:
        return sources
    raw = sources.get("train")
    if raw is None:
        raise ValueError("--without and --mix concern the training split, which is not packed; add it")
    chosen = list(range(len(raw)))
    if without:
        categories = [_category(raw.names(index)[0]) for index in chosen]
        dropped = {_find(name, root, set(categories)) for name in without}
        chosen = [index for index in chosen if categories[index] not in dropped]
        if not chosen:
            raise ValueError(f"--without {' '.join(without)}: no object is left to train on; leave one out")
    if mix:
        Random(MIXING_SEED).shuffle(chosen)
    return sources | {"train": SelectedObjects(raw, chosen)}


def _category(name: str) -> str:
    """The category in an object's name, such as 02958343/1a2b3c; "" if it has none."""
    return name.rpartition("/")[0]


def _find(wanted: str, root: Path, known: set[str]) -> str:
    """Find the folder of a category by its name or one of those in metadata.yaml."""
    words = _metadata(root / "metadata.yaml")
    names = {category: [*words.get(category, []), category] for category in known - {""}}
    for category, own in names.items():
        if wanted in own:
            return category
    has = ", ".join(sorted(own[0] for own in names.values()))
    raise ValueError(f"--without {wanted}: there is no such category to train on; there are: {has or 'none'}")


def _metadata(path: Path) -> dict[str, list[str]]:
    """Read the names of each category, the usual one first; none if the file is missing or malformed."""
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        return {str(key): str(entry["name"]).split(",") for key, entry in document.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}
