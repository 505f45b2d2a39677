"""Find mesh files in folders and archives, with unique names and credits.

An archive is a zip file of meshes. If it has a catalogue, as in Sweet Home 3D's furniture libraries (.sh3f),
the catalogue lists the models with rotation, category, author and licence.
"""

import os
import re
import zipfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path

from data.meshes.bounded_reads import ZIP_ERRORS, read_member

CATALOGUE = "PluginFurnitureCatalog.properties"
CATALOGUE_BYTES = 2**26  # a larger catalogue is not trusted
MESH_SUFFIXES = (".glb", ".gltf", ".obj", ".ply", ".stl", ".off", ".dae", ".zae", ".3mf", ".3dxml", ".xaml")
ARCHIVE_SUFFIXES = (".zip", ".sh3f")
RESERVED = ("rgb", "pose", "depth", "alpha", "intrinsics")  # reserved names in the SRN layout
Rotation = tuple[float, float, float, float, float, float, float, float, float]


@dataclass(frozen=True)
class MeshSource:
    """One mesh file and its metadata."""

    name: str  # of the resulting object: unique, valid as a folder name
    path: Path  # a mesh file or an archive
    base: Path  # no texture outside this folder is read
    member: str = ""  # in the archive; "" if the path is the mesh itself
    rotation: Rotation | None = None  # 3 x 3, row-major, applied to the stored mesh
    title: str = ""
    category: str = ""
    creator: str = ""
    licence: str = ""
    problem: str = ""  # why no mesh was found in an archive

    @property
    def file(self) -> str:
        """Its name in messages."""
        return f"{self.path}:{self.member}" if self.member else str(self.path)

    @property
    def origin(self) -> str:
        """The same relative to the base, so that it is valid on other computers."""
        path = self.path.absolute().relative_to(self.base.absolute()).as_posix()
        return f"{path}:{self.member}" if self.member else path

    @property
    def suffix(self) -> str:
        """The mesh file's suffix, lower case, with dot."""
        return Path(self.member or self.path.name).suffix.lower()


def find_meshes(place: Path, *, only: str | None = None, without: Path | None = None) -> list[MeshSource]:
    """Find the meshes in a folder, an archive or a file, in order of their paths; skips the folder `without`.

    `only` is a case-insensitive regular expression that must match the name, title, category or path. Raises
    ValueError if there are none.
    """
    if place.is_dir():
        base, files = place, sorted(path for path in _files_below(place) if _wanted(path, place, without))
    elif not place.is_file():
        raise ValueError(f"{place}: there is no such file or folder; give meshes to render")
    else:
        base, files = place.absolute().parent.parent, [place]
        if place.suffix.lower() not in MESH_SUFFIXES + ARCHIVE_SUFFIXES:
            raise ValueError(f"{place}: is not a readable mesh ({' '.join(MESH_SUFFIXES)}); convert it")
    found = []
    for path in files:
        archive = path.suffix.lower() in ARCHIVE_SUFFIXES
        found += _in_archive(path, base) if archive else [MeshSource("", path, base)]
    if not found:
        raise ValueError(
            f"{place}: contains no mesh ({' '.join(MESH_SUFFIXES)}) and no archive with any; add some"
        )
    named = _name(found, place)
    if only is not None:
        pattern = re.compile(only, re.IGNORECASE)
        named = [s for s in named if any(map(pattern.search, (s.name, s.title, s.category, s.file)))]
        if not named:
            raise ValueError(f"{place}: none of its {len(found)} meshes matches '{only}'; see --only")
    return named


def _files_below(place: Path) -> Iterator[Path]:
    """List files recursively, following links; each folder once, so that cycles end."""
    seen = set()
    for folder, folders, files in os.walk(place, followlinks=True):
        status = os.stat(folder)
        if (status.st_dev, status.st_ino) in seen:
            folders.clear()
            continue
        seen.add((status.st_dev, status.st_ino))
        folders.sort()
        yield from (Path(folder, name) for name in files)


def _wanted(path: Path, place: Path, without: Path | None) -> bool:
    if path.suffix.lower() not in MESH_SUFFIXES + ARCHIVE_SUFFIXES or not path.is_file():
        return False
    hidden = any(part.startswith((".", "__MACOSX")) for part in path.relative_to(place).parts)
    return not hidden and not (without is not None and path.resolve().is_relative_to(without.resolve()))


def _in_archive(path: Path, base: Path) -> list[MeshSource]:
    try:
        with zipfile.ZipFile(path) as archive:
            members = sorted(info.filename for info in archive.infolist() if not info.is_dir())
            if CATALOGUE in members:
                return _catalogued(path, base, archive, members)
    except ZIP_ERRORS as error:  # reported with the others when it is loaded
        kind = "" if isinstance(error, ValueError) else f"{type(error).__name__}: "
        return [MeshSource("", path, base, problem=f"the archive, {kind}{error}")]
    plain = [member for member in members if not member.startswith((".", "__MACOSX"))]
    return [MeshSource("", path, base, m) for m in plain if Path(m).suffix.lower() in MESH_SUFFIXES]


def _catalogued(path: Path, base: Path, archive: zipfile.ZipFile, members: Sequence[str]) -> list[MeshSource]:
    """Return the models of a catalogue, in order, each file once."""
    properties = _read_properties(read_member(archive, CATALOGUE, limit=CATALOGUE_BYTES))
    licence = properties.get("license") or _licence_link(archive, members)
    found: dict[str, MeshSource] = {}
    for key, model in properties.items():
        name, _, number = key.partition("#")
        if name != "model" or not number:
            continue
        about = {field: properties.get(f"{field}#{number}", "") for field in ("name", "category", "creator")}
        member = model.lstrip("/")
        found.setdefault(
            member,
            MeshSource(
                "",
                path,
                base,
                member,
                rotation=_rotation(f"modelRotation#{number}", properties),
                title=about["name"],
                category=about["category"],
                creator=about["creator"],
                licence=properties.get(f"license#{number}", licence),
            ),
        )
    return list(found.values())


def _read_properties(content: bytes) -> dict[str, str]:
    """Parse Java properties: `key=value`, comments, line continuations and escapes such as \\u00e9."""
    text = content.decode("latin-1").replace("\r\n", "\n")
    text = re.sub(r"\\\n[ \t]*", "", text)
    text = re.sub(r"\\u([0-9a-fA-F]{4})", lambda match: chr(int(match[1], 16)), text)
    pairs = (line.partition("=") for line in text.splitlines() if not line.lstrip().startswith(("#", "!")))
    return {key.strip(): re.sub(r"\\(.)", r"\1", value.strip()) for key, equals, value in pairs if equals}


def _licence_link(archive: zipfile.ZipFile, members: Sequence[str]) -> str:
    """Return the first link in the archive's licence file, or that file's name."""
    for member in members:
        if Path(member).stem.lower() in ("license", "licence", "copying"):
            text = read_member(archive, member, limit=CATALOGUE_BYTES).decode("latin-1")
            link = re.search(r"https?://\S*(?:licen|zero)\S*", text)
            return link[0].rstrip(").,") if link else member
    return ""


def _rotation(key: str, properties: Mapping[str, str]) -> Rotation | None:
    text = properties.get(key, "")
    try:
        numbers = tuple(float(number) for number in text.split())
    except ValueError:
        raise ValueError(f"{CATALOGUE}: {key} is '{text[:80]}'; write nine numbers") from None
    return numbers if len(numbers) == 9 else None


def _name(sources: Sequence[MeshSource], place: Path) -> list[MeshSource]:
    """Assign unique names: the file name, with as many parent folders as needed."""
    parts = [[*_folders(source, place), Path(source.member or source.path).stem] for source in sources]
    common = set.intersection(*map(set, parts)) if len(parts) > 1 else set()
    stems = Counter(path[-1].lower() for path in parts)
    taken: set[str] = set()
    named = []
    for source, path in zip(sources, parts, strict=True):
        words = [path[-1]] if stems[path[-1].lower()] == 1 else [part for part in path if part not in common]
        words = [word for i, word in enumerate(words) if word.lower() not in (w.lower() for w in words[:i])]
        name = re.sub(r"[^A-Za-z0-9.-]+", "_", "_".join(words)).strip("._") or "object"
        name = f"{name}_" if name.lower() in RESERVED else name
        candidates = (name if number == 1 else f"{name}_{number}" for number in count(1))
        chosen = next(candidate for candidate in candidates if candidate.lower() not in taken)
        taken.add(chosen.lower())
        named.append(replace(source, name=chosen))
    return named


def _folders(source: MeshSource, place: Path) -> tuple[str, ...]:
    """Return the folders between the search root and the mesh file; an archive counts as one."""
    below = source.path.relative_to(place) if place.is_dir() else Path(source.path.name)
    return (below.with_suffix("") / Path(source.member).parent if source.member else below.parent).parts
