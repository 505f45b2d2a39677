"""Render a data set from mesh files in independent tasks: examine each mesh, then render each.

Tasks are self-contained, so that they can run in other processes. A task that fails raises ValueError.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from data.files import write_text_whole
from data.formats.srn.writer import INTRINSICS, write_object
from data.mesh_options import Axis, Region
from data.meshes.axes import customary_front, upright
from data.meshes.datasets.camera_poses import random_poses
from data.meshes.datasets.splits import Measures, assign_splits, measure_shape
from data.meshes.lighting import three_suns
from data.meshes.loading import load_mesh
from data.meshes.mesh import Mesh, normalised
from data.meshes.ray_casting import render_views
from data.meshes.sources import MeshSource
from data.splits import SPLITS, Split

# Of files that belong to neighbouring meshes.
ASSETS = (".mtl", ".bin", ".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tga", ".gif", ".tif", ".tiff")


@dataclass(frozen=True)
class Finding:
    """The result of examining a mesh file."""

    name: str
    faces: int = 0
    shape: Measures = ()  # of its shape, regardless of colours
    notes: tuple[str, ...] = ()  # what is missing
    credits: dict[str, str] = field(default_factory=dict)
    problem: str = ""  # why it cannot be rendered; the rest is empty then


@dataclass(frozen=True)
class Drawing:
    """How objects are rendered."""

    views: int  # per training object
    size: int  # pixels
    region: Region
    up: Axis | None  # None for each format's convention
    front: Axis | None
    seed: int


def examine(source: MeshSource, drawing: Drawing) -> Finding:
    """Read a mesh and gather what later decisions need. Raises ValueError if it cannot be rendered."""
    mesh, notes, credits = prepared(source, drawing.up, drawing.front)
    return Finding(source.name, len(mesh.faces), measure_shape(mesh), notes, credits)


def draw(
    source: MeshSource, folder: Path, drawing: Drawing, held_out_poses: Float[ndarray, "v 4 4"] | None
) -> None:
    """Render a mesh and write it to `folder`, from the given poses or its own random views.

    Raises ValueError if it cannot be read, OSError if it cannot be written.
    """
    mesh, _, _ = prepared(source, drawing.up, drawing.front)
    poses = held_out_poses
    if poses is None:
        # From its name, so that an object's views do not depend on the rest of the set.
        name = int.from_bytes(hashlib.sha256(source.name.encode()).digest()[:8], "big")
        poses = random_poses(drawing.views, drawing.region, np.random.default_rng((drawing.seed, name)))
    pictures = render_views(
        mesh, poses, intrinsics=INTRINSICS, height=drawing.size, width=drawing.size, lighting=three_suns
    )
    write_object(folder, pictures, poses)


def fingerprint(sources: Sequence[MeshSource], without: Path) -> str:
    """Return a hash that changes if objects are added or removed, or if their files or assets change.

    Files below `without` are excluded.
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
    """Return the split of each name in the set at `root`, by `assign_splits`, recorded there permanently.

    Objects that become readable later do not move others. Raises ValueError if the record is damaged, or an
    object is already in the folder of another split.
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
                    f"{root / f'objects_{split}' / name} belongs to {splits[name]}; delete this folder"
                )
    if placed != placed | splits:
        write_text_whole(record, json.dumps(placed | splits, indent=1) + "\n")
    return splits


def read_findings(path: Path) -> dict[str, Finding]:
    """Read the findings of an earlier run, by name; an incomplete line is skipped."""
    found = {}
    for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else []:
        try:
            record = json.loads(line)
            finding = Finding(**record | {key: tuple(record[key]) for key in ("notes", "shape")})
        except (ValueError, TypeError, KeyError):
            continue
        found[finding.name] = finding
    return found


def finding_line(finding: Finding) -> str:
    """Format a finding for `read_findings`. Starts with a newline, in case the last line is incomplete."""
    return "\n" + json.dumps(asdict(finding))


def attribution(
    sources: Sequence[MeshSource], findings: Mapping[str, Finding], splits: Mapping[str, Split]
) -> str:
    """Return a tab-separated table of the objects' authors and sources."""
    rows = [("object", "split", "title", "category", "creator", "licence", "file")]
    for source in sources:
        if source.name in splits:
            stated = findings[source.name].credits
            known = (
                getattr(source, key) or stated.get(key, "")
                for key in ("title", "category", "creator", "licence")
            )
            rows.append((source.name, splits[source.name], *known, source.origin))
    return "".join("\t".join(" ".join(word.split()) for word in row) + "\n" for row in rows)


def prepared(
    source: MeshSource, up: Axis | None, front: Axis | None
) -> tuple[Mesh, tuple[str, ...], dict[str, str]]:
    """Read a mesh, upright and normalised, with notes on what is missing, and its credits.

    Raises ValueError if it cannot be read.
    """
    loaded = load_mesh(source)
    up = up or loaded.up
    turned = upright(loaded.mesh, up, front or customary_front(up))
    return normalised(turned), loaded.notes, loaded.credits
