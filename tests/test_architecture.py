"""Who may import whom, and what nobody below the programs does. Files are parsed, not run."""

import ast
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from config.families import FAMILIES
from tests import architecture
from tests.architecture import PROGRAMS, imports, parsed

ROOT = Path(__file__).resolve().parents[1]
ALL = architecture.files(ROOT)
BELOW = [
    path for path in ALL if path.relative_to(ROOT).parts[0] not in ("scripts", *(f"{p}.py" for p in PROGRAMS))
]


def each_file(paths: list[Path]) -> Callable[[Callable[[Path], None]], Callable[[], None]]:
    """Make one test of a check of a file, since thousands of tests cost seconds; it names all that fail."""

    def made(check: Callable[[Path], None]) -> Callable[[], None]:
        def test() -> None:
            found = []
            for path in paths:
                try:
                    check(path)
                except AssertionError as error:
                    found.append(f"{path.relative_to(ROOT)}: {error}")
            assert not found, "\n".join(found)

        test.__name__, test.__doc__ = check.__name__, check.__doc__
        return test

    assert paths
    return made


def calls(path: Path) -> Iterator[str]:
    """Every call in a file, as it is written: print, torch.load, self.model.cuda."""
    for node in ast.walk(parsed(path)):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func)


def test_the_walk_sees_what_it_should():
    assert ("models.genvs.model", "models.volumes.volume_model") in architecture.arrows(ROOT)
    assert "print" in set(calls(ROOT / "train.py"))
    assert len(BELOW) > 100


def test_imports_go_downwards_and_nobody_imports_a_program_at_the_top():
    assert architecture.upward_imports(ROOT) == []


def test_no_program_imports_another():
    assert architecture.programs_importing_programs(ROOT) == []


def test_there_is_no_circle_at_the_top_or_inside_a_folder():
    assert architecture.circles(ROOT) == []


def test_common_code_names_no_family():
    assert family_names(ROOT) == []


def test_folders_hold_no_more_files_than_one_can_overlook():
    assert architecture.crowded_folders(ROOT) == []


def family_names(root: Path) -> list[str]:
    return architecture.family_names_in_common_code(root, list(FAMILIES))


CLEAN = {
    "data/files.py": "",
    "data/cameras/poses.py": "import data.files",
    "models/genvs/model.py": "import models.volumes.encoder",
    "models/volumes/encoder.py": "from data.cameras import poses",
    "scripts/common/progress.py": "",
    "scripts/report.py": "import scripts.common.progress",
    "scripts/gallery/__main__.py": "import scripts.gallery.page",
    "scripts/gallery/page.py": "",
    "train.py": "import scripts.common.progress",
}
PLANTED = {
    "upward": (
        architecture.upward_imports,
        {"data/files.py": "def f():\n    import models.genvs.model"},
    ),
    "sideways": (architecture.upward_imports, {"nerf/a.py": "import diffusion.b", "diffusion/b.py": ""}),
    "program at the top": (architecture.upward_imports, {"scripts/report.py": "import train"}),
    "circle": (
        architecture.circles,
        {
            "data/a.py": "import data.b",
            "data/b.py": "from data import c",
            "data/c.py": "from data.a import x",
        },
    ),
    "circle of folders": (
        architecture.circles,
        {"data/cameras/poses.py": "import data.images.io", "data/images/io.py": "import data.cameras.poses"},
    ),
    "program": (
        architecture.programs_importing_programs,
        {"scripts/report.py": "from scripts.gallery import page"},
    ),
    "name of a family": (family_names, {"models/training/loop.py": "kind = 'genvs'"}),
    "import of a family": (family_names, {"scripts/report.py": "from models.genvs import model"}),
    "crowd": (architecture.crowded_folders, {f"nerf/f{number}.py": "" for number in range(15)}),
}


def write_tree(root: Path, tree: dict[str, str]) -> Path:
    for place, text in tree.items():
        (root / place).parent.mkdir(parents=True, exist_ok=True)
        (root / place).write_text(text)
    return root


@pytest.mark.parametrize(("check", "planted"), PLANTED.values(), ids=PLANTED)
def test_each_rule_finds_what_breaks_it_and_nothing_else(check, planted, tmp_path):
    assert check(write_tree(tmp_path / "clean", CLEAN)) == []
    assert len(check(write_tree(tmp_path / "planted", CLEAN | planted))) == 1


def test_a_check_of_each_file_names_all_that_fail():
    def is_short(path: Path) -> None:
        assert len(path.name) < 9, "long"

    check = each_file([ROOT / "a.py", ROOT / "models/longer.py", ROOT / "longest.py"])
    with pytest.raises(AssertionError) as caught:
        check(is_short)()
    assert "models/longer.py: long\n" in str(caught.value)
    assert " longest.py: long\n" in str(caught.value)
    assert "a.py" not in str(caught.value)


@each_file([path for path in ALL if path.relative_to(ROOT).parts[0] != "diffusion"])
def test_k_diffusion_stays_behind_its_wall(path):
    assert not [name for name in imports(path) if name.split(".")[0] == "k_diffusion"]


@each_file(BELOW)
def test_nobody_below_the_programs_prints_or_reads_the_command_line_or_the_environment(path):
    assert "argparse" not in set(imports(path))
    assert not {"print", "input", "os.getenv", "exit", "sys.exit"} & set(calls(path))
    text = path.read_text(encoding="utf-8")
    assert "os.environ" not in text
    assert "sys.argv" not in text


@each_file([path for path in BELOW if path.relative_to(ROOT).parts[0] in ("models", "nerf", "diffusion")])
def test_models_do_not_read_json(path):
    if path.parent.name in ("checkpoints", "training"):
        return  # headers of checkpoints; logs and configs of runs
    assert not {"json.load", "json.loads"} & set(calls(path))


@each_file(ALL)
def test_nothing_is_unpickled_and_no_device_is_taken_for_granted(path):
    called = set(calls(path))
    assert not [name for name in called if name.endswith(".cuda") and name != "torch.cuda"]
    assert not {"pickle.load", "pickle.loads", "eval", "exec"} & called
    assert "torch.load" not in called or path.name == "torch_file.py"
    assert "pickle" not in set(imports(path))
    text = path.read_text(encoding="utf-8")
    assert "weights_only=False" not in text
    assert text.count("torch.load(") == text.count("weights_only=True")
    assert "except:" not in text


@each_file([path for path in ALL if path.parent in (ROOT, ROOT / "scripts") or path.name == "__main__.py"])
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
    lines = path.read_text(encoding="utf-8").splitlines()
    assert len(lines) <= 300
    for node in ast.walk(parsed(path)):
        if isinstance(node, ast.FunctionDef) and (path.name, node.name) != ("train.py", "train"):
            own = (line.strip() for line in lines[node.lineno : node.end_lineno])
            code = [line for line in own if line and not line.startswith("#")]
            assert len(code) < 60, node.name


@each_file(ALL)
def test_public_functions_say_what_they_do(path):
    for node in parsed(path).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_"):
            assert ast.get_docstring(node), node.name
