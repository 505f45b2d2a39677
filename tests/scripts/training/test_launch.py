"""Starting several processes, and why they ended. The processes are small scripts; no model is made."""

import os
import signal
import threading
import time

import pytest

from scripts.training.launch import Outcome, launch

SCRIPT = """
import json, os, signal, sys, time
rank, attempt = os.environ["RANK"], os.environ["TORCHELASTIC_RUN_ID"].rpartition("-")[2]

def fail(message, code, later=0):
    with open(os.environ["TORCHELASTIC_ERROR_FILE"], "w") as file:
        json.dump({"message": message, "timestamp": int(time.time()) + later}, file)
    os._exit(code)

def pid_file(rank):
    return os.path.join(sys.argv[1], f"pid{rank}.{attempt}")

def ended(rank):
    try:
        with open(pid_file(rank)) as file, open(f"/proc/{int(file.read())}/stat") as status:
            return status.read().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return os.path.exists(pid_file(rank))
    except ValueError:  # is still being written
        return False

with open(pid_file(rank), "w") as file:
    file.write(str(os.getpid()))

"""
OTHERS_END = """
if rank == "0":
    while not ended("1"):
        time.sleep(0.02)
    fail("rank 0: another rank ended", 1, later=10)
"""


@pytest.fixture(autouse=True)
def _restore(monkeypatch):
    numbers = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT)
    before = [signal.getsignal(number) for number in numbers]
    monkeypatch.setenv("TORCHELASTIC_SIGNALS_TO_HANDLE", "SIGTERM,SIGINT")
    monkeypatch.setenv("TORCH_DISABLE_SHARE_RDZV_TCP_STORE", "1")
    yield
    for number, handler in zip(numbers, before, strict=True):
        signal.signal(number, handler)


@pytest.fixture
def outcome(tmp_path):
    """outcome(text, restarts=0): how two processes of a script end."""

    def run(text: str, restarts: int = 0) -> Outcome:
        script = tmp_path / "script.py"
        script.write_text(SCRIPT + text)
        return launch([str(script), str(tmp_path)], processes=2, restarts=restarts)

    return run


def test_processes_that_end_well_have_nothing_to_say(outcome, tmp_path):
    assert outcome("open(os.path.join(sys.argv[1], rank), 'w').close()") == Outcome(0)
    assert {"0", "1"} <= {path.name for path in tmp_path.iterdir()}


@pytest.mark.parametrize(
    ("failure", "expected"),
    [
        ("fail('rank 1: a.png: is cut short', 2)", Outcome(2, "rank 1: a.png: is cut short")),
        ("fail('rank 1: KeyError: 3', 1)", Outcome(1, "rank 1: KeyError: 3")),
        ("os._exit(7)", Outcome(1, "rank 1 ended with exit code 7")),
        ("os.kill(os.getpid(), 9)", Outcome(1, "rank 1 was killed by SIGKILL (out of memory?)")),
        ("os.kill(os.getpid(), 11)", Outcome(1, "rank 1 was killed by SIGSEGV")),
    ],
)
def test_the_first_failure_is_the_cause(outcome, failure, expected):
    assert outcome(f"if rank == '1': {failure}\n{OTHERS_END}") == expected


def test_a_mistake_of_the_user_is_not_tried_again(outcome, tmp_path):
    text = f"if rank == '1': fail('rank 1: data.root: there is no such folder', 2)\n{OTHERS_END}"
    assert outcome(text, restarts=2) == Outcome(2, "rank 1: data.root: there is no such folder")
    assert len(list(tmp_path.glob("pid1.*"))) == 1


def test_a_mistake_that_only_a_restart_meets_ends_the_restarts(outcome, tmp_path):
    text = f"if rank == '1': fail('cut short', 2) if attempt == '1' else os._exit(7)\n{OTHERS_END}"
    assert outcome(text, restarts=3) == Outcome(2, "cut short")
    assert len(list(tmp_path.glob("pid1.*"))) == 2


def test_restarts_go_on_until_all_end_well_or_none_is_left(outcome):
    assert outcome(f"if rank == '1' and attempt < '2': os._exit(7)\n{OTHERS_END}", restarts=1).code == 1
    assert outcome("if rank == '1' and attempt < '1': os._exit(7)", restarts=1) == Outcome(0)


@pytest.mark.parametrize(
    ("reaction", "expected"),
    [("os._exit(0)", Outcome(0)), ("fail(f'rank {rank}: disk full', 2)", Outcome(1, "rank 0: disk full"))],
)
def test_a_signal_is_passed_on_and_no_failure_in_itself(outcome, tmp_path, reaction, expected):
    def interrupt() -> None:
        while not {"ready0", "ready1"} <= {path.name for path in tmp_path.iterdir()}:
            time.sleep(0.02)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=interrupt, daemon=True).start()
    found = outcome(
        f"""
def react(*_):
    {reaction if reaction.startswith("os") else f"time.sleep(int(rank)); {reaction}"}

signal.signal(signal.SIGTERM, react)
open(os.path.join(sys.argv[1], "ready" + rank), "w").close()
time.sleep(60)
"""
    )
    assert found == expected
