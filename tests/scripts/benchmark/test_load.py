"""Steps beside busy processes: measured in fresh processes with the setting that the table names."""

import os
import re
import signal
import subprocess
import sys
from contextlib import suppress

import pytest

from scripts.benchmark import load
from scripts.common.threading_environment import SPIN_COUNT


def test_steps_are_timed_after_a_warm_up():
    times = load.time_steps(0.0)
    assert len(times) == 2
    assert min(times) > 0


def test_neighbours_end_with_the_context_also_after_an_error():
    started = []
    popen = subprocess.Popen

    def noted(*arguments, **options):
        started.append(popen(*arguments, **options))
        return started[-1]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(load.subprocess, "Popen", noted)
        with suppress(KeyError), load.busy(2):
            assert [process.poll() for process in started] == [None, None]
            raise KeyError
    assert None not in [process.returncode for process in started]


def test_neighbours_end_when_their_parent_is_killed():
    code = (
        "import os, signal; from scripts.benchmark import load\n"
        "with load.busy(1): os.kill(os.getpid(), signal.SIGKILL)"
    )
    # The neighbour inherits the pipe: it reaches its end only when the neighbour has ended, too.
    with subprocess.Popen([sys.executable, "-c", code], cwd=load.ROOT, stdout=subprocess.PIPE) as parent:
        assert os.read(parent.stdout.fileno(), 1) == b""
    assert parent.returncode == -signal.SIGKILL


def test_the_table_has_the_median_of_every_setting_by_every_load(monkeypatch, capsys):
    beside, seen = [0], []

    class Busy:
        def __init__(self, num):
            self.num = num

        def __enter__(self):
            beside.append(self.num)

        def __exit__(self, *_):
            beside.append(0)

    def run(command, *, env, **_):
        assert command[1:4] == ["-m", "scripts.benchmark.load", "--child"]
        seen.append((int(env[SPIN_COUNT]), beside[-1]))
        times = f"{env[SPIN_COUNT]} {beside[-1] + 1} {1000 * (len(seen) + 1)}"
        return subprocess.CompletedProcess(command, 0, stdout=times)

    monkeypatch.setattr(load, "busy", Busy)
    monkeypatch.setattr(load.subprocess, "run", run)
    assert load.main(["--spins", "7", "5", "--neighbours", "1", "9", "--rounds", "1"]) == 0
    assert seen == [(7, 1), (5, 1), (7, 9), (5, 9)]  # settings take turns
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "| spins | beside 1 | beside 9 |"
    assert [re.findall(r"[\d.]+", line) for line in lines[2:]] == [
        ["7", "7.000", "10.000"],
        ["5", "5.000", "10.000"],
    ]
