"""A set of objects from mesh files, one task at a time: what is found out of each, how each is drawn.

Both tasks stand alone, so that other processes can do them. A task that cannot be done raises ValueError.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from data.formats.srn.writer import INTRINSICS, write_object, write_text
from data.meshes.axes import Axis, customary_front, upright
from data.meshes.datasets.camera_poses import Region, random_poses
from data.meshes.datasets.splits import Measures, assign_splits, measure_shape
from data.meshes.lighting import three_suns
from data.meshes.loading import load_mesh
from data.meshes.mesh import Mesh, normalised
from data.meshes.ray_casting import render_views
from data.meshes.sources import MeshSource
from data.splits import SPLITS, Split

# Of files that belong to meshes beside them.
ASSETS = (".mtl", ".bin", ".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tga", ".gif", ".tif", ".tiff")


@dataclass(frozen=True)
class Finding:
    """What a mesh file turned out to hold."""

    name: str
    faces: int = 0
    shape: Measures = ()  # of its shape, whatever its colours
    notes: tuple[str, ...] = ()  # what is missing from it
    credits: dict[str, str] = field(default_factory=dict)
    problem: str = ""  # why it cannot be drawn; the rest is empty then


@dataclass(frozen=True)
class Drawing:
    """How objects are drawn."""

    views: int  # of a training object
    size: int  # pixels
    region: Region
    up: Axis | None  # None: the custom of each file's format
    front: Axis | None
    seed: int


def examine(source: MeshSource, drawing: Drawing) -> Finding:
    """Read a mesh and find out what later decisions need. Raises ValueError if it cannot be drawn."""
    mesh, notes, credits = prepared(source, drawing.up, drawing.front)
    return Finding(source.name, len(mesh.faces), measure_shape(mesh), notes, credits)


def draw(
    source: MeshSource, folder: Path, drawing: Drawing, held_out_poses: Float[ndarray, "v 4 4"] | None
) -> None:
    """Draw a mesh and write it to `folder`; its own random views unless there are poses for it.

    Raises ValueError if it cannot be read, OSError if it cannot be written.
    """
    mesh, _, _ = prepared(source, drawing.up, drawing.front)
    poses = held_out_poses
    if poses is None:
        # Of its name, so that an object's views do not depend on what else is in the set.
        name = int.from_bytes(hashlib.sha256(source.name.encode()).digest()[:8], "big")
        poses = random_poses(drawing.views, drawing.region, np.random.default_rng((drawing.seed, name)))
    pictures = render_views(
        mesh, poses, intrinsics=INTRINSICS, height=drawing.size, width=drawing.size, lighting=three_suns
    )
    write_object(folder, pictures, poses)


def fingerprint(sources: Sequence[MeshSource], without: Path) -> str:
    """Changes when objects come or go, or when their files or what lies beside them for them changes.

    Files below `without` do not count.
    """
    folders = {source.path.absolute().parent for source in sources if not source.member}
    beside = [
        ((folder.name, path.name), path)
        for folder in sorted(folders)
        if not folder.resolve().is_relative_to(without.resolve())
        for path in sorted(folder.iterdir())
        if path.suffix.lower() in ASSETS
    ]
    files = [((s.name, s.member), s.path) for s in sources] + beside
    facts = [(key, path.stat().st_size, path.stat().st_mtime_ns) for key, path in files if path.exists()]
    return hashlib.sha256(repr(facts).encode()).hexdigest()[:16]


def settle_splits(
    root: Path, groups: Sequence[tuple[str, ...]], *, val: float | int, test: float | int, seed: int
) -> dict[str, Split]:
    """The split of each name in the set at `root`, as `assign_splits` has it, recorded there for good.

    Objects that became readable later than others never move those. Raises ValueError if the record is
    damaged, or an object is already in a folder of another split.
    """
    record = root / "splits.json"
    placed = {}
    if record.exists():
        try:
            placed = json.loads(record.read_text(encoding="utf-8"))
        except ValueError:
            placed = None
        if not isinstance(placed, dict) or not set(map(str, placed.values())) <= set(SPLITS):
            raise ValueError(f"{record} is damaged; delete {root}")
    splits = assign_splits(groups, val=val, test=test, seed=seed, placed=placed)
    for split in SPLITS:
        for name in (name for name, of in splits.items() if of != split):
            if (root / f"objects_{split}" / name).exists():
                raise ValueError(
                    f"{root / f'objects_{split}' / name} is of {splits[name]}; delete this folder"
                )
    if placed != placed | splits:
        write_text(record, json.dumps(placed | splits, indent=1) + "\n")
    return splits


def read_findings(path: Path) -> dict[str, Finding]:
    """Those that an earlier run has left, by name; a line that it could not finish is passed over."""
    found = {}
    for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else []:
        try:
            said = json.loads(line)
            finding = Finding(**said | {key: tuple(said[key]) for key in ("notes", "shape")})
        except (ValueError, TypeError, KeyError):
            continue
        found[finding.name] = finding
    return found


def finding_line(finding: Finding) -> str:
    """For a file that `read_findings` reads. It begins a line, in case the last one was left unfinished."""
    return "\n" + json.dumps(asdict(finding))


def attribution(
    sources: Sequence[MeshSource], findings: Mapping[str, Finding], splits: Mapping[str, Split]
) -> str:
    """A table, columns separated by tabs: whose the objects are and where they come from."""
    rows = [("object", "split", "title", "category", "creator", "licence", "file")]
    for source in sources:
        if source.name in splits:
            said = findings[source.name].credits
            known = (
                getattr(source, key) or said.get(key, "")
                for key in ("title", "category", "creator", "licence")
            )
            rows.append((source.name, splits[source.name], *known, source.origin))
    return "".join("\t".join(" ".join(word.split()) for word in row) + "\n" for row in rows)


def prepared(
    source: MeshSource, up: Axis | None, front: Axis | None
) -> tuple[Mesh, tuple[str, ...], dict[str, str]]:
    """A mesh as it is drawn: upright and normalised; with what is missing from it, and its credits.

    Raises ValueError if it cannot be read.
    """
    loaded = load_mesh(source)
    up = up or loaded.up
    turned = upright(loaded.mesh, up, front or customary_front(up))
    return normalised(turned), loaded.notes, loaded.credits
