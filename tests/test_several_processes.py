"""train.py in several processes: the same result as in one, one writer, and an end when one of them dies."""

import json
import multiprocessing
import os
import re
import signal
import socket
import subprocess
import sys
import time
from multiprocessing.connection import Connection
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.distributed.elastic.multiprocessing.errors import ProcessFailure

import train as program
from config.run import load_config
from data.formats.registry import open_split
from data.scenes.loader import SceneLoader
from models.checkpoints.format import checkpoint_path, checkpoints_of, load_checkpoint
from models.training import distributed
from models.training.distributed import join_workers
from models.training.interruption import StopSignal
from models.training.run_directory import RunFolder
from scripts.training import launch as launcher
from scripts.training import processes
from scripts.training.launch import Outcome
from scripts.training.run_lock import hold_run
from tests.conftest import _plant_object
from tests.scenes import run_document

ROOT = Path(__file__).resolve().parents[1]
# What Python runs first in every process: it notes which rank has which number, and what that rank writes.
SPY = """
import os, sys

def look(event, arguments):
    if event == "open":
        path, _, flags = arguments
        if not flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
            return
    elif event in ("os.rename", "os.mkdir", "os.remove", "os.rmdir", "os.link", "os.symlink", "os.truncate"):
        path = arguments[0]
    else:
        return
    os.write(notes, f"{path}\\n".encode())

if "RANK" in os.environ:
    place = os.path.join(os.environ["SPY"], os.environ["RANK"])
    with open(f"{place}.pid", "w") as file:
        file.write(str(os.getpid()))
    notes = os.open(f"{place}.written", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    sys.addaudithook(look)
"""
TOGETHER = {"steps": 60, "batch": 1, "save_every": 5, "keep": 99, "preview_every": 10}
COMPARED = 20  # steps after which runs are compared
PATIENCE_S = 600  # of what takes half a minute on a machine that does nothing else


class EnoughError(Exception):
    """A run has come to where it is compared."""


class Job:
    """A run of train.py by a launcher."""

    def __init__(self, folder: Path, launcher: list[str], arguments: list[str]):
        self.spy, self.messages = folder / "spy", folder / "messages.txt"
        self.spy.mkdir(parents=True)
        (self.spy / "sitecustomize.py").write_text(SPY)
        environment = os.environ | {
            "OMP_NUM_THREADS": "1",
            "SPY": str(self.spy),
            "PYTHONPATH": str(self.spy),
            "PYTHONDONTWRITEBYTECODE": "1",
        }
        with self.messages.open("w") as stderr:
            self.process = subprocess.Popen(
                [sys.executable, *launcher, *arguments], cwd=ROOT, env=environment, stderr=stderr
            )

    def await_step(self, run: Path, step: int) -> None:
        deadline = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline and self.process.poll() is None:
            if (run / "log.jsonl").exists() and len((run / "log.jsonl").read_text().splitlines()) >= step:
                return
            time.sleep(0.02)
        raise AssertionError(self.messages.read_text())

    def kill(self, rank: int) -> None:
        os.kill(int((self.spy / f"{rank}.pid").read_text()), signal.SIGKILL)

    def end(self, timeout_s: float = PATIENCE_S) -> tuple[int, list[str]]:
        """Exit code, and the lines of stderr without progress bars."""
        code = self.process.wait(timeout_s)
        lines = re.split(r"[\r\n]+", self.messages.read_text())
        return code, [line for line in lines if line.strip() and "step/s" not in line and "?step" not in line]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with `data`: fifty objects to train with, two held out, of noise, 16 x 16 pixels."""
    folder = tmp_path_factory.mktemp("several")
    for number in range(52):
        split = "val" if number >= 50 else "train"
        _plant_object(folder / "data" / f"cars_{split}" / f"{number:02d}", num_views=5, size=(16, 16))
    return folder


@pytest.fixture(scope="module")
def start(place):
    """start(name, *arguments, torchrun=False): a Job that trains the tiniest model in two processes."""
    jobs = []

    def begin(name: str, *arguments: str, torchrun: bool = False) -> Job:
        launcher = ["train.py", "--processes", "2"]
        if torchrun:
            launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "train.py"]
        jobs.append(Job(place / name, launcher, [str(write_config(place, name)), *arguments]))
        return jobs[-1]

    yield begin
    for job in jobs:
        if job.process.poll() is None:
            job.process.terminate()
            job.process.wait(PATIENCE_S)


@pytest.fixture(scope="module")
def together(start, place):
    """A job under torchrun that trains undisturbed beyond the steps that are compared, until the second
    process, and it alone, meets a damaged picture: the job, that picture, the number of its scene."""
    config = load_config(write_config(place, "together"))
    objects = open_split(config.data, "train")
    loader = SceneLoader(objects, config.data, seed=config.seed, batch=2)
    scenes = [loader.choose(number) for number in range(120)]
    shown = [{(scene.object_index, view) for view in scene.source + scene.target} for scene in scenes]
    number = next(n for n in range(2 * COMPARED + 5, 120, 2) if shown[n] - set.union(*shown[:n]))
    index, view = min(shown[number] - set.union(*shown[:number]))
    victim = place / "data" / "cars_train" / objects.ids[index] / "rgb" / f"{view:06d}.png"
    whole = victim.read_bytes()
    victim.write_bytes(whole[:200])
    try:
        job = start("together", torchrun=True)
        job.end()
    finally:
        victim.write_bytes(whole)
    return job, victim, number


def write_config(place: Path, name: str, **train: int) -> Path:
    document = run_document(place / "data", place / "runs", train=TOGETHER | train)
    path = place / f"{name}.json"
    path.write_text(json.dumps(document | {"name": name}))
    return path


def after_compared(place: Path, name: str) -> dict[str, Tensor]:
    """What a run had when it had come so far."""
    return load_checkpoint(checkpoint_path(place / "runs" / name, COMPARED)).tensors


def log(place: Path, name: str) -> list[dict]:
    """The lines of a run's log up to there."""
    lines = (place / "runs" / name / "log.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines[:COMPARED]]


def train_alone(place: Path, monkeypatch: pytest.MonkeyPatch, name: str, **train: int) -> dict[str, Tensor]:
    """What one process, this one, makes of the same run."""
    save = RunFolder.save

    def save_until_compared(folder, model, ema, optimizer, step):
        save(folder, model, ema, optimizer, step)
        if step == COMPARED:
            raise EnoughError

    monkeypatch.setattr(RunFolder, "save", save_until_compared)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # as the others have
    try:
        with pytest.raises(EnoughError):
            program.train(load_config(write_config(place, name, **train)), StopSignal())
    finally:
        torch.set_num_threads(threads)
    return after_compared(place, name)


def test_two_processes_equal_one_with_twice_the_batch(together, place, monkeypatch):
    one, two = train_alone(place, monkeypatch, "alone", batch=2), after_compared(place, "together")
    assert one.keys() == two.keys()
    assert {name.split(".")[0] for name in one} == {"model", "ema", "optim"}
    for name, tensor in one.items():
        torch.testing.assert_close(two[name], tensor, rtol=0, atol=1e-6, msg=name)
    # Each process has one of the two scenes: the log must speak of both.
    for ours, theirs in zip(log(place, "alone"), log(place, "together"), strict=True):
        for name in ("loss", "diffusion", "rgb", "gradient_norm", "weight_norm/encoder"):
            assert theirs[name] == pytest.approx(ours[name], rel=1e-4)


def test_two_processes_equal_one_that_accumulates_to_the_last_bit(together, place, monkeypatch):
    # No difference is left but how a network adds up over the scenes of a batch.
    one, two = (
        train_alone(place, monkeypatch, "accumulating", accumulate=2),
        after_compared(place, "together"),
    )
    assert [name for name in one if not torch.equal(one[name], two[name])] == []


def test_only_the_first_process_writes(together, place):
    first, other = (
        {Path(line) for line in (together[0].spy / f"{rank}.written").read_text().splitlines()}
        for rank in (0, 1)
    )
    run = place / "runs" / "together"
    assert {run / "log.jsonl", run / "samples", run / "checkpoints"} <= {*first, *(p.parent for p in first)}
    assert [path for path in other if path.is_relative_to(place) or path.is_relative_to(ROOT)] == []


def test_what_one_rank_finds_damaged_ends_torchrun_with_its_name(together, place):
    job, victim, number = together
    code, lines = job.end()
    assert code != 0
    said = [line for line in lines if line.startswith("train.py: ")]
    (cause,) = (line for line in said if line.startswith(f"train.py: rank 1: {victim}: "))
    assert set(said) <= {cause, "train.py: rank 0: another rank ended; see its message"}
    assert cause.removeprefix("train.py: ") in "".join(lines).partition("Root Cause")[2]
    assert load_checkpoint(checkpoints_of(place / "runs" / "together")[-1]).step == number // 2 // 5 * 5


def test_a_killed_rank_restarts_all_and_then_ends_all_with_the_cause_on_the_last_line(together, start, place):
    job, run = start("killed", "--restarts", "1"), place / "runs" / "killed"
    job.await_step(run, 7)
    job.kill(1)
    job.await_step(run, COMPARED + 1)
    job.kill(1)
    code, lines = job.end()  # long before the processes would give up a machine that is silent
    assert code == 1
    assert "Traceback" not in "".join(lines)
    assert lines.count("train.py: rank 0: another rank ended; see its message") == 2
    assert any(line in (f"resuming {run} at step 5", f"resuming {run} at step 10") for line in lines)
    step = load_checkpoint(checkpoints_of(run)[-1]).step
    cause = "rank 1 was killed by SIGKILL (out of memory?)"
    assert lines[-1] == f"train.py: {cause}; the same command resumes {run} at step {step}"
    undisturbed, restarted = after_compared(place, "together"), after_compared(place, "killed")
    assert undisturbed.keys() == restarted.keys()
    assert [name for name in undisturbed if not torch.equal(undisturbed[name], restarted[name])] == []


def test_all_stop_at_the_same_step_when_they_are_told_to(start, place):
    job, run = (
        start("stopped", "data.workers=1", "train.steps=9999", "train.save_every=9999"),
        place / "runs" / "stopped",
    )
    job.await_step(run, 3)
    # Every process, as job schedulers do it; those that load pictures must serve until all is saved.
    for rank in (0, 1):
        os.killpg(int((job.spy / f"{rank}.pid").read_text()), signal.SIGTERM)
    job.process.terminate()
    code, lines = job.end()
    assert code == 0, lines
    (checkpoint,) = checkpoints_of(run)
    assert lines[-1] == f"stopped at step {load_checkpoint(checkpoint).step}: {run}"


def test_a_run_that_another_process_trains_is_refused_by_its_first_rank(start, place):
    with hold_run(place / "runs" / "twice", print):
        code, lines = start("twice").end()
    assert code == 2
    holder = f"process {os.getpid()} on {socket.gethostname()}"
    assert f"rank 0: {place / 'runs' / 'twice'} is being trained by {holder}; " in lines[-1]
    assert not (place / "runs" / "twice").exists()


@pytest.fixture
def started():
    """started(function): two processes that call it with rank, environment and a line; the lines' ends."""
    store = torch.distributed.TCPStore("localhost", 0, is_master=True, wait_for_workers=False)
    environment = {
        "MASTER_ADDR": "localhost",
        "MASTER_PORT": str(store.port),
        "WORLD_SIZE": "2",
        "TORCHELASTIC_USE_AGENT_STORE": "True",
        "TORCHELASTIC_RESTART_COUNT": "0",
    }
    forks, ranks = multiprocessing.get_context("fork"), []

    def start(function):
        lines = [forks.Pipe(duplex=False) for _ in range(2)]
        for rank, (_, said) in enumerate(lines):
            ranks.append(forks.Process(target=function, args=(rank, environment, said), daemon=True))
            ranks[-1].start()
        return ranks, lines

    yield start
    for rank in ranks:
        rank.kill()
        rank.join()


def count_together(rank: int, environment: dict[str, str], said: Connection) -> None:
    """A process that says how many names all have together."""
    names = [{"a", "b", "c"}, {"b", "d"}][rank]
    os.environ.update(environment | {"RANK": str(rank)})
    with join_workers("cpu", os.environ).session(lambda: None) as workers:
        said.send((workers.distinct(set()), workers.distinct(names), workers.distinct(names - {"a", "d"})))


def test_what_several_processes_have_met_is_counted_once(started):
    _, lines = started(count_together)
    for heard, _ in lines:
        assert heard.poll(PATIENCE_S)
        assert heard.recv() == (0, 4, 2)
    assert join_workers("cpu", {}).distinct({"a", "b"}) == 2


def wait_for_a_gpu(rank: int, environment: dict[str, str], said: Connection) -> None:
    """A process that comes to wait for another one's GPU, for ever."""

    def lost() -> None:
        said.send("lost")
        os._exit(3)

    os.environ.update(environment | {"RANK": str(rank)})
    distributed.PATIENCE_S = 0.3
    with join_workers("cpu", os.environ).session(lost):
        said.send("joined")
        time.sleep(1000)


def test_a_rank_that_waits_for_its_gpu_ends_when_another_one_dies(started):
    ranks, lines = started(wait_for_a_gpu)
    for heard, _ in lines:
        assert heard.poll(PATIENCE_S)
        assert heard.recv() == "joined"
    ranks[1].kill()
    assert lines[0][0].poll(PATIENCE_S)
    assert lines[0][0].recv() == "lost"
    ranks[0].join(PATIENCE_S)
    assert ranks[0].exitcode == 3


def test_an_error_that_nobody_expected_ends_with_its_rank_and_is_told_to_the_launcher(
    tmp_path, monkeypatch, capsys
):
    given = {"RANK": "3", "WORLD_SIZE": "4", "TORCHELASTIC_ERROR_FILE": str(tmp_path / "error.json")}
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(processes.os, "_exit", sys.exit)
    try:
        raise KeyError("a mistake of ours")
    except KeyError as error:
        with pytest.raises(SystemExit) as ended:
            processes._fail_unexpectedly(KeyError, error, error.__traceback__)
    message = """rank 3: KeyError: 'a mistake of ours'"""
    assert ended.value.code == 1
    said = capsys.readouterr().err
    assert said.startswith("Traceback")
    assert said.splitlines()[-1] == f"train.py: {message}"
    failure = ProcessFailure(local_rank=0, pid=0, exitcode=1, error_file=str(tmp_path / "error.json"))
    assert failure.message == message
    assert abs(failure.timestamp - time.time()) < 60


@pytest.fixture
def launch_with(monkeypatch):
    """launch_with(function): starts the processes of train.py instead of `launch`."""
    monkeypatch.setattr(processes.os, "environ", dict(os.environ))
    monkeypatch.setattr(processes.logging, "disable", lambda level: None)
    return lambda function: monkeypatch.setattr(launcher, "launch", function)


@pytest.mark.parametrize(("restarts", "times"), [(0, 1), (2, 2)])
def test_why_a_process_ended_is_said_once_and_at_once_where_others_may_begin_again(
    place, launch_with, monkeypatch, capsys, restarts, times
):
    def launch(*_, **__) -> Outcome:
        with monkeypatch.context() as patch:
            patch.setenv("RANK", "1")
            patch.setenv("WORLD_SIZE", "2")
            with pytest.raises(SystemExit):
                processes.fail("no such GPU")
        return Outcome(2, "rank 1: no such GPU")

    monkeypatch.setattr(processes.os, "_exit", sys.exit)
    launch_with(launch)
    arguments = ["--processes", "2", "--restarts", str(restarts)]
    assert program.main([str(write_config(place, "once")), *arguments]) == 2
    said = capsys.readouterr().err
    assert said.count("rank 1: no such GPU") == times
    assert said.endswith("train.py: rank 1: no such GPU; there is no checkpoint yet\n")


def test_restarts_of_one_process_say_that_it_is_one(place, launch_with, capsys):
    launch_with(lambda *_, **__: Outcome(0))
    path = str(write_config(place, "one"))
    assert program.main([path, "--restarts", "3"]) == 0
    line = r"train\.py: one process, restarted up to 3 times if it dies; --processes N [^\n]*\n"
    assert re.fullmatch(line, capsys.readouterr().err)
    assert program.main([path, "--restarts", "3", "--processes", "2"]) == 0
    assert capsys.readouterr().err == ""


ORPHAN = """
import os, subprocess, sys, time
sys.path.insert(0, {root!r})
if len(sys.argv) == 1:
    subprocess.Popen([sys.executable, sys.argv[0], "child"]).wait()
else:
    from scripts.training.processes import _mind_the_launcher
    launcher = os.getppid()
    print(os.getpid(), flush=True)  # from now on it may be killed
    _mind_the_launcher(launcher)
"""


def test_a_process_whose_launcher_was_killed_stops(tmp_path):
    script = tmp_path / "orphan.py"
    script.write_text(ORPHAN.format(root=str(ROOT)))
    launcher = subprocess.Popen([sys.executable, str(script)], stdout=subprocess.PIPE, text=True)
    assert launcher.stdout.readline().strip().isdigit()
    launcher.kill()
    # The end of the output: nobody is left who could write.
    launcher.communicate(timeout=PATIENCE_S)


def test_wrong_numbers_of_processes_are_one_line(place, capsys, monkeypatch):
    path = str(write_config(place, "wrong"))
    for arguments in (["--processes", "0"], ["--restarts", "-1"]):
        assert program.main([path, *arguments]) == 2
        assert re.fullmatch(r"train.py: [^\n]*--processes[^\n]*\n", capsys.readouterr().err)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(ValueError, match=r"\Atrain.device=auto: [^\n]*one process for each\Z"):
        join_workers("auto", {"RANK": "1", "WORLD_SIZE": "2", "LOCAL_RANK": "1"})
