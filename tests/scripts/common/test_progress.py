"""scripts/common/progress.py: bars on a terminal, few lines in a log file."""

import io
import sys

import pytest

from scripts.common import progress
from scripts.common.progress import LINE_EVERY_S, progress_bar


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def clock(monkeypatch):
    """Seconds, which pass when a test says so."""
    seconds = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: seconds[0])
    return seconds


def written_by(monkeypatch, stream: io.StringIO, use) -> str:
    monkeypatch.setattr(sys, "stderr", stream)
    use()
    return stream.getvalue()


def test_a_log_file_has_a_line_now_and_then_and_one_at_the_end(monkeypatch, clock):
    def use():
        with progress_bar(total=1000, desc="run", unit="step", mininterval=0) as bar:
            for number in range(1000):
                clock[0] += LINE_EVERY_S / 240  # exact in binary
                bar.update()
                bar.set_postfix({"loss": f"{number}"})

    lines = written_by(monkeypatch, io.StringIO(), use).splitlines()
    assert [line.split("/1000")[0].split()[-1] for line in lines] == ["0", "240", "480", "720", "960", "1000"]
    assert all(line.startswith("run: ") for line in lines)
    assert "loss=999" in lines[-1]


def test_a_loop_over_things_is_told_likewise_and_inner_bars_are_not(monkeypatch, clock):
    def use():
        for _ in progress_bar(range(3), desc="outer"):
            inner = progress_bar(total=5, desc="inner", leave=False)
            for _ in range(5):
                inner.update()
            inner.reset()
            inner.close()

    text = written_by(monkeypatch, io.StringIO(), use)
    assert "inner" not in text
    assert "\r" not in text
    assert [line.split("|")[-1].split()[0] for line in text.splitlines()] == ["0/3", "3/3"]


def test_on_a_terminal_the_bar_moves(monkeypatch):
    def use():
        for _ in progress_bar(range(3), mininterval=0):
            pass

    text = written_by(monkeypatch, Terminal(), use)
    assert text.count("\r") >= 3
    assert text.count("\n") == 1


def test_a_bar_that_is_switched_off_is_silent(monkeypatch):
    def use():
        with progress_bar(total=3, disable=True) as bar:
            bar.update(3)

    assert written_by(monkeypatch, io.StringIO(), use) == ""
