"""How threads wait: limited in every program before torch is loaded, unless the user chose."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from scripts.common.threading_environment import CHOICES, SPIN_COUNT, SPINS, limit_spinning

ROOT = Path(__file__).resolve().parents[3]
PROGRAMS = ["train.py", "sample_views.py"]
PROGRAMS += sorted(
    "scripts." + ".".join(path.relative_to(ROOT / "scripts").with_suffix("").parts).removesuffix(".__main__")
    for path in (ROOT / "scripts").rglob("*.py")
    if '__name__ == "__main__"' in path.read_text() or path.name == "__main__.py"
)
# What Python runs first in every process: the first import of torch says how threads will wait, and ends it.
SPY = """
import os, sys

class Spy:
    def find_spec(self, name, path=None, target=None):
        if name == "torch":
            print("spins:", os.environ.get("GOMP_SPINCOUNT"), flush=True)
            os._exit(0)

sys.meta_path.insert(0, Spy())
"""


def clean() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name not in CHOICES}


def test_a_limit_is_set_unless_the_user_chose_how_threads_wait():
    environment: dict[str, str] = {"HOME": "/"}
    limit_spinning(environment)
    assert environment == {"HOME": "/", SPIN_COUNT: str(SPINS)}
    for name in CHOICES:
        environment = {name: "passive"}
        limit_spinning(environment)
        assert environment == {name: "passive"}
    environment = {SPIN_COUNT: ""}
    limit_spinning(environment)
    assert environment == {SPIN_COUNT: str(SPINS)}


@pytest.mark.parametrize("program", PROGRAMS)
def test_every_program_sets_it_before_torch_is_imported(program, tmp_path):
    (tmp_path / "sitecustomize.py").write_text(SPY)
    # Without its main: then with torch, as its main would import it.
    text = f"import importlib; importlib.import_module({program.removesuffix('.py')!r}); import torch"
    done = subprocess.run(
        [sys.executable, "-c", text],
        cwd=ROOT,
        env=clean() | {"PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    assert done.stdout == f"spins: {SPINS}\n", done.stderr


@pytest.mark.skipif(sys.platform != "linux", reason="torch's wheels for other systems have another OpenMP")
@pytest.mark.parametrize(("chosen", "expected"), [({}, str(SPINS)), ({SPIN_COUNT: "77"}, "77")])
def test_the_openmp_that_torch_loads_obeys_and_child_processes_inherit_it(chosen, expected):
    text = (
        "import subprocess, sys, scripts; subprocess.run([sys.executable, '-c', 'import torch'], check=True)"
    )
    done = subprocess.run(
        [sys.executable, "-c", text],
        cwd=ROOT,
        env=clean() | {"OMP_DISPLAY_ENV": "verbose"} | chosen,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    told = re.findall(r"GOMP_SPINCOUNT = '(\d+)'", done.stderr)
    if not told:
        pytest.skip("this torch has no GNU OpenMP")
    assert set(told) == {expected}
