"""Open the splits of a data set of any layout, and report objects that prevent that."""

from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from data.checks.findings import Finding
from data.formats.registry import open_raw
from data.formats.srn.layout import is_object, pair_files
from data.formats.srn.objects import SRNObjects
from data.scenes.objects import RawObjects
from data.splits import SPLITS, Split


@dataclass(frozen=True)
class OpenSplit:
    """A split that can be read."""

    split: Split
    raw: RawObjects


def open_splits(root: Path, layout: str = "auto") -> tuple[list[OpenSplit], list[Finding]]:
    """Open all splits that exist, each once, and report what is wrong with the others.

    A split used in place of another is not checked twice. Raises ValueError if no split can be opened.
    """
    opened: list[OpenSplit] = []
    findings: list[Finding] = []
    seen: set[tuple] = set()
    for split in SPLITS:
        try:
            raw = open_raw(root, split, layout)
        except ValueError as error:
            raw, found = _without_broken(root, split, str(error))
            findings += found
        if raw and (contents := contents_of(raw)) not in seen:
            seen.add(contents)
            opened.append(OpenSplit(split, raw))
    if not opened:
        raise ValueError(findings[0].message)
    # One broken object can prevent several splits that share its folder from opening.
    unique = {(finding.place, finding.message): finding for finding in findings}
    return opened, list(unique.values())


def contents_of(raw: RawObjects) -> tuple:
    """Return a key that is equal for two splits with the same contents.

    The splits of a single scene are different views of one object, distinguished by their poses.
    """
    poses = b""
    if len(raw) == 1:
        with suppress(ValueError):  # problems with cameras are reported where they are used
            poses = raw.cameras(0)[0].numpy().tobytes()
    return *(raw.place(index) for index in range(len(raw))), poses


def view_files(raw: RawObjects, index: int) -> list[tuple[str, str]] | None:
    """Return the (image, pose) files of every view if the object is a folder of the SRN layout.

    Raises ValueError if images and poses do not match.
    """
    folder = Path(raw.place(index))
    if not (folder / "rgb").is_dir():
        return None
    return [(str(picture), str(pose)) for picture, pose in pair_files(folder)]


def _without_broken(root: Path, split: Split, reason: str) -> tuple[RawObjects | None, list[Finding]]:
    """Open a split without the objects that prevent it from being opened."""
    if reason.startswith((f"{root}: ", f"data.root={root}: ")):
        # The split itself is missing.
        return None, [Finding("layout", "note", split, "", str(root), reason)]
    folders = [folder for folder in root.iterdir() if folder.name in (split, f"{root.name}_{split}")]
    folders += [folder for folder in root.glob(f"*_{split}") if folder not in folders]
    whole, findings = [], []
    for folder in _objects_below([folder for folder in folders if folder.is_dir()] or [root]):
        try:
            is_object(folder)
            whole.append(folder)
        except ValueError as error:
            findings.append(Finding("layout", "error", split, folder.name, str(folder), str(error)))
    if not findings:  # another layout's error, or one of the whole split
        return None, [Finding("layout", "error", split, "", str(root), reason)]
    return SRNObjects(root, whole) if whole else None, findings


def _objects_below(folders: list[Path]) -> list[Path]:
    """List folders, one or two levels down, that contain rgb/ or pose/, sorted."""
    patterns = [f"{level}/{kind}" for level in ("*", "*/*") for kind in ("rgb", "pose")]
    found = {path.parent for folder in folders for pattern in patterns for path in folder.glob(pattern)}
    return sorted(folder for folder in found if not folder.name.startswith((".", "__")))
