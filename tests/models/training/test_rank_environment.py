"""What launchers leave in the environment: understood, or refused in one line that names the variable."""

import json
import os
import re
import socket
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import pytest

import train as program
from models.training import distributed as workers
from models.training.distributed import join_workers
from models.training.rank_environment import Ranks, read_meeting_point, read_ranks
from scripts.evaluate import __main__ as evaluate
from scripts.training import processes
from tests.scenes import run_document

ROOT = Path(__file__).resolve().parents[3]
NAMES = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
MEETING = {"MASTER_ADDR": "localhost", "MASTER_PORT": "29500"}
# Environments that describe no job, and the variable that the line begins with.
REFUSED = [
    ({"WORLD_SIZE": "2"}, "WORLD_SIZE=2"),
    ({"WORLD_SIZE": "2", "LOCAL_RANK": "0"} | MEETING, "WORLD_SIZE=2"),
    ({"RANK": "1"}, "RANK=1"),
    ({"LOCAL_RANK": "1"}, "LOCAL_RANK=1"),
    ({"RANK": "1", "WORLD_SIZE": ""}, "RANK=1"),
    ({"RANK": "1", "WORLD_SIZE": "1"}, "RANK=1"),
    ({"RANK": "2", "WORLD_SIZE": "2"} | MEETING, "RANK=2"),
    ({"RANK": "0", "WORLD_SIZE": "2", "LOCAL_RANK": "2"} | MEETING, "LOCAL_RANK=2"),
    ({"RANK": "3", "WORLD_SIZE": "4", "LOCAL_RANK": "2", "LOCAL_WORLD_SIZE": "2"} | MEETING, "LOCAL_RANK=2"),
    ({"WORLD_SIZE": "two"}, "WORLD_SIZE='two'"),
    ({"WORLD_SIZE": "2.0", "RANK": "0"}, "WORLD_SIZE='2.0'"),
    ({"WORLD_SIZE": "0"}, "WORLD_SIZE='0'"),
    ({"WORLD_SIZE": "-1"}, "WORLD_SIZE='-1'"),
    ({"WORLD_SIZE": "9" * 30, "RANK": "0"}, "WORLD_SIZE='999"),
    ({"WORLD_SIZE": "2", "RANK": "-1"} | MEETING, "RANK='-1'"),
    ({"WORLD_SIZE": "2", "RANK": "1_0"} | MEETING, "RANK='1_0'"),
    ({"LOCAL_RANK": "$SLURM_LOCALID"}, "LOCAL_RANK='$SLURM_LOCALID'"),
]
NOWHERE = [
    ({}, "MASTER_ADDR"),
    ({"MASTER_ADDR": "", "MASTER_PORT": "29500"}, "MASTER_ADDR"),
    ({"MASTER_ADDR": "localhost"}, "MASTER_PORT"),
    ({"MASTER_ADDR": "localhost", "MASTER_PORT": ""}, "MASTER_PORT"),
    ({"MASTER_ADDR": "localhost", "MASTER_PORT": "http"}, "MASTER_PORT='http'"),
    ({"MASTER_ADDR": "localhost", "MASTER_PORT": "0"}, "MASTER_PORT='0'"),
    ({"MASTER_ADDR": "localhost", "MASTER_PORT": "65536"}, "MASTER_PORT='65536'"),
]


@pytest.fixture
def surroundings(monkeypatch):
    """surroundings(variables): this process has these of a launcher's variables and no others."""

    def become(variables: dict[str, str]) -> None:
        for name in NAMES:
            monkeypatch.delenv(name, raising=False)
        for name, value in variables.items():
            monkeypatch.setenv(name, value)

    return become


@pytest.fixture
def config_path(tmp_path, plant_object):
    """A config file of the tiniest run."""
    for number, name in enumerate(("cars_train/a", "cars_val/c")):
        plant_object(tmp_path / "data" / name, num_views=3 + number, size=(16, 16))
    path = tmp_path / "tiny.json"
    path.write_text(json.dumps(run_document(tmp_path / "data", tmp_path / "runs", train={"steps": 1})))
    return path


@pytest.mark.parametrize("blank", ["", " "])
def test_what_is_empty_is_absent(blank):
    assert read_ranks(dict.fromkeys(NAMES, blank)) == Ranks(0, 0, 1) == read_ranks({})
    assert read_ranks({"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": blank}) == Ranks()
    assert join_workers("cpu", dict.fromkeys(NAMES, blank)).is_single


def test_a_job_is_understood():
    job = {"RANK": "5", "LOCAL_RANK": "1", "WORLD_SIZE": "8", "LOCAL_WORLD_SIZE": "4"} | MEETING
    assert read_ranks(job) == Ranks(rank=5, local_rank=1, world=8)
    assert read_ranks({"RANK": " 5 ", "WORLD_SIZE": "08\n"}) == Ranks(rank=5, local_rank=0, world=8)
    assert read_ranks({"RANK": "0", "WORLD_SIZE": "1", "LOCAL_RANK": "0"}) == Ranks()
    assert read_meeting_point(job) == ("localhost", 29500)


@pytest.mark.parametrize(("variables", "begins"), REFUSED)
def test_what_contradicts_itself_is_one_line_in_every_program(
    surroundings, config_path, capsys, variables, begins
):
    surroundings(variables)
    line = rf"train\.py: {re.escape(begins)}[^\n]*unset [^\n]*\n"
    for options in ([], ["--processes", "2"], ["--restarts", "1"]):
        assert program.main([str(config_path), *options]) == 2
        assert re.fullmatch(line, capsys.readouterr().err)
    assert not (config_path.parent / "runs").exists()
    assert evaluate.main(["--checkpoint", str(config_path.parent), "--protocol", "nmr"]) == 2
    assert re.fullmatch(line.replace(r"train\.py", "evaluate"), capsys.readouterr().err)


@pytest.mark.parametrize(("variables", "named"), NOWHERE)
def test_processes_that_cannot_meet_say_which_variable_is_wrong(variables, named):
    with pytest.raises(ValueError, match=rf"\A[^\n]*{named}[^\n]*\Z"):
        join_workers("cpu", {"RANK": "0", "WORLD_SIZE": "2"} | variables)


def test_processes_that_do_not_meet_say_where(surroundings, monkeypatch):
    with socket.socket() as taken:  # nobody answers here, and nobody else can listen
        taken.bind(("localhost", 0))
        port = taken.getsockname()[1]
        monkeypatch.setattr(workers, "TIMEOUT", timedelta(seconds=1))
        for rank in ("0", "1"):
            job = {"RANK": rank, "WORLD_SIZE": "2", "MASTER_ADDR": "localhost", "MASTER_PORT": str(port)}
            surroundings(job)
            with pytest.raises(ValueError, match=rf"\A[^\n]*MASTER_PORT={port} [^\n]*\Z"):
                join_workers("cpu", os.environ)


def test_who_waits_for_others_says_so(surroundings, monkeypatch, capsys):
    surroundings({"RANK": "1", "WORLD_SIZE": "2"} | MEETING)
    monkeypatch.setattr(processes, "SLOW_S", 0.01)
    said: list[str] = []
    monkeypatch.setattr(processes, "print", lambda line, **_: said.append(line), raising=False)
    with processes._said_if_slow():
        while not said:
            pass
    assert said == ["train.py: waiting at localhost:29500 for the other processes of WORLD_SIZE=2"]


@pytest.mark.parametrize(
    ("variables", "code"), [({"WORLD_SIZE": ""}, 0), ({"WORLD_SIZE": "2"}, 2), ({"RANK": "1"}, 2)]
)
def test_a_fresh_interpreter_says_the_same(config_path, variables, code):
    clean = {name: value for name, value in os.environ.items() if name not in NAMES}
    done = subprocess.run(
        [sys.executable, "train.py", str(config_path), "train.preflight=false"],
        cwd=ROOT,
        env=clean | {"OMP_NUM_THREADS": "1"} | variables,
        capture_output=True,
        text=True,
    )
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    if code:
        assert re.fullmatch(r"train\.py: [^\n]*\n", done.stderr)
