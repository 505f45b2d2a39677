"""The import rules of the repository as functions of its root; each finding is a line."""

import ast
from collections import defaultdict
from collections.abc import Iterator
from functools import cache
from pathlib import Path

# Package -> its floor. Imports go to a lower floor or stay at home.
FLOORS = {"data": 0, "nerf": 1, "diffusion": 1, "config": 2, "models": 3, "scripts": 4}
PROGRAMS = ("train", "sample_views")
SHARED = ("common", "training", "sampling", "packing")  # rooms of scripts/ that every program may use
FAMILY_NAMES_ALLOWED = ("config/families.py", "config/legacy.py", "models/checkpoints/")
MOST_FILES = 14


@cache
def parsed(path: Path) -> ast.Module:
    """A file's syntax, which many tests look at."""
    return ast.parse(path.read_text(encoding="utf-8"))


def files(root: Path) -> list[Path]:
    """Every Python file of the packages and programs."""
    found = [path for package in FLOORS for path in (root / package).rglob("*.py")]
    return sorted([*found, *(root / f"{name}.py" for name in PROGRAMS if (root / f"{name}.py").exists())])


def name_of(path: Path, root: Path) -> str:
    """The dotted name of a module."""
    name = ".".join(path.relative_to(root).with_suffix("").parts)
    return name.removesuffix(".__init__")


def imports(path: Path) -> Iterator[str]:
    """Every module that a file names in an import, and `module.name` for what it takes from one."""
    for node in ast.walk(parsed(path)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def arrows(root: Path) -> list[tuple[str, str]]:
    """(module, module that it imports), both ours."""
    modules = {name_of(path, root): path for path in files(root)}
    found = []
    for module, path in modules.items():
        for name in imports(path):
            target = name if name in modules else name.rpartition(".")[0]
            if target in modules and target != module:
                found.append((module, target))
    return sorted(set(found))


def upward_imports(root: Path) -> list[str]:
    """Imports from a package on the same floor or a higher one, and of the programs at the top."""
    found = []
    for module, target in arrows(root):
        home, other = module.split(".")[0], target.split(".")[0]
        if other in PROGRAMS or (
            home != other and home in FLOORS and FLOORS[home] <= FLOORS.get(other, len(FLOORS))
        ):
            found.append(f"{module} imports {target}")
    return found


def programs_importing_programs(root: Path) -> list[str]:
    """Imports between rooms of scripts/ that are not shared ones."""
    found = []
    for module, target in arrows(root):
        if not (module.startswith("scripts.") and target.startswith("scripts.")):
            continue
        home, other = module.split(".")[1], target.split(".")[1]
        if home != other and other not in SHARED:
            found.append(f"{module} imports {target}")
    return found


def circles(root: Path) -> list[str]:
    """Children of one folder (files, or subfolders as a whole) that import each other in a circle."""
    edges = arrows(root)
    found = []
    for folder in sorted({parent for pair in edges for module in pair for parent in _parents(module)}):
        graph = defaultdict(set)
        for module, target in edges:
            child, other = _child(module, folder), _child(target, folder)
            if child and other and child != other:
                graph[child].add(other)
        found += [f"{folder or 'the top'}: {' and '.join(loop)}" for loop in _loops(graph)]
    return found


def family_names_in_common_code(root: Path, families: list[str]) -> list[str]:
    """Strings that are the name of a family, and imports of one, outside the places that may know it."""
    found = []
    for path in files(root):
        place = path.relative_to(root).as_posix()
        if place.startswith(FAMILY_NAMES_ALLOWED):
            continue
        own = place.split("/")[1] if place.startswith("models/") else None
        others = [family for family in families if family != own]
        texts = {node.value for node in ast.walk(parsed(path)) if isinstance(node, ast.Constant)}
        found += [f"{place} says '{family}'" for family in others if family in texts]
        for name in imports(path):
            if any(f"{name}.".startswith(f"models.{family}.") for family in others):
                found.append(f"{place} imports {name}")
    return found


def crowded_folders(root: Path) -> list[str]:
    """Folders with more Python files than one can overlook."""
    counts = defaultdict(int)
    for path in files(root):
        if path.parent != root:
            counts[path.parent.relative_to(root).as_posix()] += 1
    return [f"{folder}: {count} files" for folder, count in sorted(counts.items()) if count > MOST_FILES]


def _parents(module: str) -> list[str]:
    """The folders above a module, the top among them."""
    parts = module.split(".")
    return [".".join(parts[:count]) for count in range(len(parts))]


def _child(module: str, folder: str) -> str | None:
    """The child of a folder in which a module lies; None where it lies elsewhere."""
    if module == folder:
        return "__init__"
    if folder and not module.startswith(f"{folder}."):
        return None
    return module[len(folder) + 1 :].split(".")[0] if folder else module.split(".")[0]


def _loops(graph: dict[str, set[str]]) -> list[list[str]]:
    """Groups of nodes that reach each other."""
    reach = {node: _reachable(graph, node) for node in list(graph)}
    groups = {tuple(sorted(other for other in reach[node] if node in reach.get(other, ()))) for node in reach}
    return [list(group) for group in sorted(groups) if len(group) > 1]


def _reachable(graph: dict[str, set[str]], start: str) -> set[str]:
    seen, left = set(), [start]
    while left:
        for other in graph.get(left.pop(), ()):
            if other not in seen:
                seen.add(other)
                left.append(other)
    return seen
