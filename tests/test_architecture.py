"""Who may import whom, and what nobody below the programs does. Files are parsed, not run."""

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("config", "data", "diffusion", "models", "nerf", "scripts")
PROGRAMS = ("train", "sample_views")
# Package -> what it may import of ours, beside itself.
ALLOWED = {
    "config": {"models", "nerf", "diffusion", "data"},
    "models": {"nerf", "diffusion", "data"},
    "nerf": {"data.cameras"},
    "diffusion": {"data.schedule"},
    "data": set(),
}
BELOW = sorted(path for package in ALLOWED for path in (ROOT / package).rglob("*.py"))
# What `python -m` runs: it names no family, and answers --help at once.
SCRIPTS = sorted([*(ROOT / "scripts").glob("*.py"), *(ROOT / "scripts").glob("*/__main__.py")])
ALL = sorted([*BELOW, *(ROOT / "scripts").rglob("*.py"), *(ROOT / f"{name}.py" for name in PROGRAMS)])


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def each_file(paths: list[Path]):
    return pytest.mark.parametrize("path", paths, ids=name_of)


@cache
def parsed(path: Path) -> ast.Module:
    """A file's syntax, which many tests look at."""
    return ast.parse(path.read_text(encoding="utf-8"))


def imports(path: Path) -> Iterator[tuple[str, bool]]:
    """Every module that a file imports, and whether that happens at once (not within a function)."""
    tree = parsed(path)
    functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]
    within = {id(inner) for function in functions for inner in ast.walk(function)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, id(node) not in within) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
            yield node.module, id(node) not in within
            # `from models import losses` may name a module.
            for alias in node.names:
                yield f"{node.module}.{alias.name}", id(node) not in within


def calls(path: Path) -> Iterator[str]:
    """Every call in a file, as it is written: print, torch.load, self.model.cuda."""
    for node in ast.walk(parsed(path)):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func)


def test_the_walk_sees_what_it_should():
    found = dict(imports(ROOT / "models" / "genvs.py"))
    assert "nerf.renderer" in found
    assert "print" in set(calls(ROOT / "train.py"))
    assert len(BELOW) > 25


@each_file(BELOW)
def test_imports_go_downwards_only(path):
    package = path.relative_to(ROOT).parts[0]
    for module, _ in imports(path):
        top = module.split(".")[0]
        assert top not in PROGRAMS
        if top not in PACKAGES or top == package:
            continue
        permitted = ALLOWED[package]
        assert top in permitted or any(
            module == name or module.startswith(f"{name}.") for name in permitted
        ), f"{name_of(path)} imports {module}"


@each_file(sorted((ROOT / "models").glob("*.py")))
def test_families_do_not_import_each_other(path):
    from config.families import FAMILIES

    families = {module for module, _ in FAMILIES.values()}
    own = f"models.{path.stem}"
    if path.stem == "__init__":
        return
    imported = {module for module, _ in imports(path)} & families
    assert imported <= {own}


@each_file(sorted([*ROOT.glob("*.py"), *(ROOT / "config").glob("*.py"), *SCRIPTS]))
def test_programs_and_config_do_not_know_any_family(path):
    from config.families import FAMILIES

    families = {module for module, _ in FAMILIES.values()}
    assert not {module for module, _ in imports(path)} & families


@each_file([path for path in ALL if path.relative_to(ROOT).parts[0] != "diffusion"])
def test_k_diffusion_stays_behind_its_wall(path):
    assert not [module for module, _ in imports(path) if module.split(".")[0] == "k_diffusion"]


@each_file(BELOW)
def test_nobody_below_the_programs_prints_or_reads_the_command_line_or_the_environment(path):
    assert "argparse" not in {module for module, _ in imports(path)}
    assert not {"print", "input", "os.getenv", "exit", "sys.exit"} & set(calls(path))
    text = path.read_text(encoding="utf-8")
    assert "os.environ" not in text
    assert "sys.argv" not in text


@each_file([path for path in BELOW if path.relative_to(ROOT).parts[0] in ("models", "nerf", "diffusion")])
def test_models_do_not_read_json(path):
    if path.name in ("checkpoint.py", "checksums.py"):
        return  # what a checkpoint's header holds
    assert not {"json.load", "json.loads"} & set(calls(path))


@each_file(ALL)
def test_nothing_is_unpickled_and_no_device_is_taken_for_granted(path):
    called = set(calls(path))
    assert not [name for name in called if name.endswith(".cuda") and name != "torch.cuda"]
    assert not {"pickle.load", "pickle.loads", "eval", "exec"} & called
    assert "torch.load" not in called or path.name == "torch_file.py"
    assert "pickle" not in {module for module, _ in imports(path)}
    text = path.read_text(encoding="utf-8")
    assert "weights_only=False" not in text
    assert text.count("torch.load(") == text.count("weights_only=True")
    assert "except:" not in text


@each_file([*(ROOT / f"{name}.py" for name in PROGRAMS), *SCRIPTS])
def test_programs_answer_help_at_once(path):
    """Heavy packages are imported where they are used."""
    heavy = {
        "torch",
        "torchvision",
        "diffusion",
        "models",
        "config",
        "nerf",
        "trimesh",
        "wandb",
        "k_diffusion",
    }
    tree = parsed(path)
    guarded = {
        id(inner)
        for node in tree.body
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
        for inner in ast.walk(node)
    }
    for node in tree.body:
        if isinstance(node, ast.Import | ast.ImportFrom) and id(node) not in guarded:
            names = [node.module] if isinstance(node, ast.ImportFrom) else [a.name for a in node.names]
            assert not heavy & {name.split(".")[0] for name in names}, ast.unparse(node)


@each_file(ALL)
def test_files_stay_short_and_functions_too(path):
    text = path.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 300
    for node in ast.walk(parsed(path)):
        if isinstance(node, ast.FunctionDef) and (path.name, node.name) != ("train.py", "train"):
            assert node.end_lineno - node.lineno < 60, node.name


@each_file(ALL)
def test_public_functions_say_what_they_do(path):
    for node in parsed(path).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_"):
            assert ast.get_docstring(node), node.name
