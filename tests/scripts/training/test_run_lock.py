"""A run is trained by one process at a time, whatever ended the one before; reading it is free."""

import errno
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

import filelock
import pytest

import sample_views
import train as program
from config.recipe import load_stages
from config.run import load_config
from models.checkpoints.format import checkpoints_of, last_step
from models.training.distributed import Workers, join_workers
from models.training.interruption import StopSignal
from scripts.training import run_lock
from scripts.training.run_lock import LOCK, hold_run
from tests.scenes import run_document
from tests.tiny_run import save_tiny_run, tiny_config

ROOT = Path(__file__).resolve().parents[3]
HOLDER = """
import os, sys, time
from pathlib import Path
sys.path.insert(0, {root!r})
from scripts.training.run_lock import hold_run

def children():
    for _ in range(2):  # as loading processes, which for a while outlive a process that is killed
        if os.fork() == 0:
            time.sleep(1000)
    return "held"

with hold_run(Path(sys.argv[1]), print):
    print(children(), *(line for line in os.popen(f"pgrep -P {{os.getpid()}}").read().split()), flush=True)
    time.sleep(1000)
"""


@pytest.fixture(autouse=True)
def _impatient(monkeypatch):
    monkeypatch.setattr(run_lock, "PATIENCE_S", 0.2)


@pytest.fixture
def holder(tmp_path):
    """holder(folder): a process that holds a run's folder, and has two children."""
    script, started = tmp_path / "holder.py", []
    script.write_text(HOLDER.format(root=str(ROOT)))

    def start(folder: Path) -> subprocess.Popen:
        process = subprocess.Popen(
            [sys.executable, str(script), str(folder)], stdout=subprocess.PIPE, text=True, cwd=tmp_path
        )
        word, *children = process.stdout.readline().split()
        assert word == "held"
        started.append((process, [int(child) for child in children]))
        return process

    yield start
    for process, children in started:
        process.kill()
        process.wait()
        for child in children:
            with suppress(ProcessLookupError):
                os.kill(child, signal.SIGKILL)


@pytest.fixture
def write_config(tmp_path, plant_object):
    """write_config(**train): a config file of the tiniest run."""
    for number, name in enumerate(("cars_train/a", "cars_train/bb", "cars_val/c")):
        plant_object(tmp_path / "data" / name, num_views=3 + number, size=(16, 16))

    def write(**train: int) -> Path:
        path = tmp_path / "tiny.json"
        path.write_text(json.dumps(run_document(tmp_path / "data", tmp_path / "runs", train=train)))
        return path

    return write


def contents(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()
    }


def test_who_holds_a_run_is_named_and_a_kill_sets_it_free(holder, tmp_path):
    folder = tmp_path / "runs" / "cars"
    process = holder(folder)
    name = re.escape(f"{folder} is being trained by process {process.pid} on {socket.gethostname()}; ")
    for _ in range(2):  # a refusal takes nothing away from who holds it
        with pytest.raises(ValueError, match=rf"\A{name}[^\n]*\Z"), hold_run(folder, pytest.fail):
            pytest.fail("held twice")
    process.kill()
    process.wait()
    with hold_run(folder, pytest.fail):
        assert (folder / LOCK).read_text().split()[0] == str(os.getpid())
    assert list(folder.iterdir()) == []


def test_contexts_within_each_other_are_one_and_an_unused_folder_goes(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = Path("runs/cars")
    with hold_run(folder, pytest.fail):
        with hold_run(folder, pytest.fail), hold_run(tmp_path / "runs" / "vans", pytest.fail):
            pass
        assert (folder / LOCK).exists()
        (folder / "log.jsonl").touch()
    assert [path.name for path in folder.rglob("*")] == ["log.jsonl"]
    assert not (tmp_path / "runs" / "vans").exists()
    with pytest.raises(KeyError), hold_run(tmp_path / "new" / "cars", pytest.fail):
        raise KeyError
    assert not (tmp_path / "new").exists()


def test_threads_of_one_process_are_kept_apart_too(tmp_path):
    refused = []

    def start() -> None:
        try:
            with hold_run(tmp_path / "cars", pytest.fail):
                pass
        except ValueError as error:
            refused.append(str(error))

    with hold_run(tmp_path / "cars", pytest.fail):
        thread = threading.Thread(target=start)
        thread.start()
        thread.join()
    assert len(refused) == 1


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP])
def test_a_file_system_without_locks_is_a_notice(tmp_path, monkeypatch, number):
    def acquire(self, *_, **__):
        Path(self.lock_file).touch()
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(filelock.FileLock, "acquire", acquire)
    said = []
    with hold_run(tmp_path / "cars", said.append):
        (tmp_path / "cars" / "log.jsonl").touch()
    (line,) = said
    assert line.startswith(f"{tmp_path / 'cars'}: ")
    assert "\n" not in line
    assert [path.name for path in (tmp_path / "cars").iterdir()] == ["log.jsonl"]


def test_a_folder_that_cannot_be_made_is_one_line(tmp_path):
    (tmp_path / "file").touch()
    with (
        pytest.raises(ValueError, match=r"\A[^\n]*file[^\n]*: cannot be written [^\n]*runs=FOLDER\Z"),
        hold_run(tmp_path / "file" / "cars", pytest.fail),
    ):
        pytest.fail("held")


def test_a_second_start_is_refused_and_leaves_everything_as_it_is(write_config, holder, capsys):
    path = write_config()
    folder = load_config(path, []).folder
    assert program.main([str(path), "train.steps=1", "train.preflight=false"]) == 0
    process, before = holder(folder), contents(folder)
    capsys.readouterr()
    assert program.main([str(path)]) == 2
    said = capsys.readouterr().err
    assert re.fullmatch(rf"train\.py: {folder} is being trained by process {process.pid} on [^\n]*\n", said)
    assert contents(folder) == before
    assert [child.name for child in folder.parent.iterdir()] == [folder.name]  # no trial was begun
    assert program.main([str(path), "--plan"]) == 0
    process.kill()
    process.wait()
    assert program.main([str(path)]) == 0
    assert last_step(folder) == 3
    assert not (folder / LOCK).exists()


def test_every_stage_of_a_recipe_is_held_by_itself(write_recipe, holder, capsys):
    path = write_recipe()
    first, second, _ = (stage.folder for stage in load_stages(path))
    process = holder(second)
    arguments = [str(path), "train.preflight=false"]
    assert program.main(arguments) == 2
    line = capsys.readouterr().err.splitlines()[-1]
    assert line.startswith(f"train.py: {second} is being trained by process {process.pid} on ")
    assert last_step(first) == 2
    assert not (first / LOCK).exists()
    with hold_run(first, pytest.fail):  # is done, so nobody wants it
        assert program.main(arguments) == 2
    assert program.main([*arguments, "--stage", "volumes"]) == 0
    process.kill()
    process.wait()
    assert program.main(arguments) == 0


def test_ranks_but_the_first_take_no_lock(write_config, holder):
    config = load_config(write_config(), ["train.preflight=false"])
    process = holder(config.folder)
    device = join_workers("cpu", {}).device

    class Second(Workers):
        def any(self, flag):
            return flag

        def mean(self, values):
            return values

        def wrap(self, model):
            return model

    assert program.train(config, StopSignal(), Second(1, 2, device)) == 3
    with pytest.raises(ValueError, match=f"process {process.pid} on "):
        program.train(config, StopSignal(), Second(0, 2, device))


def test_a_run_is_sampled_while_it_is_trained(srn_root, tmp_path, holder):
    folder = save_tiny_run(tiny_config(srn_root, tmp_path / "runs"))
    holder(folder)
    arguments = ["--transfer", str(folder), "--data", str(srn_root), "--output", str(tmp_path / "out")]
    assert sample_views.main([*arguments, "--views", "1", "--device", "cpu"]) == 0


def test_a_killed_run_with_loading_processes_resumes_at_once(write_config):
    path = write_config(steps=9999, save_every=1)
    folder = load_config(path, []).folder
    process = subprocess.Popen(
        [sys.executable, "train.py", str(path), "data.workers=1", "train.preflight=false"],
        cwd=ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        stderr=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + 300
    while not checkpoints_of(folder) and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.05)
    assert program.main([str(path)]) == 2
    process.kill()
    process.wait()
    steps = last_step(folder)
    assert program.main([str(path), f"train.steps={steps + 1}"]) == 0
    assert last_step(folder) == steps + 1
