"""The splits of a data set to pack, and missing shards."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from scripts.packing.plan import without_stand_in

if TYPE_CHECKING:
    from data.scenes.objects import RawObjects
    from data.splits import Split


def open_sources(root: Path, layout: str, splits: "Sequence[Split] | None") -> "dict[Split, RawObjects]":
    """Open the given splits of a set (default: all), each once.

    Raises ValueError if one of them cannot be opened.
    """
    from data.formats.registry import LAYOUTS, open_raw
    from data.formats.srn.objects import SRNObjects
    from data.splits import SPLITS

    if layout != "auto" and layout not in LAYOUTS:
        raise ValueError(f"--layout {layout}: there is none of that name; choose of {', '.join(LAYOUTS)}")
    found: dict[Split, RawObjects] = {}
    problems: list[ValueError] = []
    for split in splits or SPLITS:
        try:
            found[split] = open_raw(root, split, layout)
        except ValueError as error:
            problems.append(error)
    if problems:
        # A missing split looks like a damaged one, so none is left out unless requested.
        remedy = f"; or choose splits: --splits {' '.join(found)}" if found and not splits else ""
        raise ValueError(f"{problems[0]}{remedy}") from problems[0]
    # An object of the SRN layout is a whole folder; reading its cameras, one file per view, takes long.
    return without_stand_in(found, whole=all(isinstance(raw, SRNObjects) for raw in found.values()))


def missing_shards(folder: Path) -> list[str]:
    """Find missing shards, by the number of shards in the file names."""
    from data.formats.packed.objects import PATTERN, packed_files
    from data.splits import SPLITS

    problems: list[str] = []
    for split in SPLITS:
        try:
            matches = [PATTERN.fullmatch(path.name) for path in packed_files(folder, split)]
        except ValueError as error:
            problems.append(str(error))
            continue
        here = {int(match[2] or 0) for match in matches}
        of = int(matches[0][3] or 1) if matches else 0
        problems += [
            f"{folder}: shard {number} of {of} of {split} is missing; copy it here, or verify file by file"
            for number in sorted(set(range(of)) - here)
        ]
    return problems
