"""Signals: what may be abandoned is, at once; what must not be cut short is not; and nothing is lost.

Signals are sent from within what they should cut short, so that no test depends on how fast anything is.
"""

import json
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import ClassVar

import pytest
import torch
from safetensors.torch import save_file

import train as program
from config import recipe
from config.run import load_config
from data.formats.registry import open_split
from data.scenes.loader import SceneLoader
from models.checkpoints import format as checkpoints
from models.checkpoints.format import checkpoint_path, checkpoints_of, load_checkpoint
from models.genvs.model import GeNVS
from models.training.distributed import Workers, join_workers
from models.training.interruption import StopRequested, StopSignal
from models.training.run_directory import RunFolder
from tests.scenes import run_document

ROOT = Path(__file__).resolve().parents[1]
PATIENCE_S = 600  # of what takes seconds on a machine that does nothing else
# train.py with a file that appears where a preview begins.
DRAWING = """
import sys
from models.genvs.model import GeNVS
import train

draw = GeNVS.draw

def noted(*arguments, **options):
    open(sys.argv[1], "w").close()
    return draw(*arguments, **options)

GeNVS.draw = noted
sys.exit(train.main(sys.argv[2:]))
"""


@pytest.fixture(autouse=True)
def _restore_handlers():
    numbers = (signal.SIGTERM, signal.SIGINT)
    before = [signal.getsignal(number) for number in numbers]
    yield
    for number, handler in zip(numbers, before, strict=True):
        signal.signal(number, handler)


@pytest.fixture
def write_config(tmp_path, plant_object):
    """write_config(name): a config file of a run with two objects to learn from and one held out."""
    for number, name in enumerate(("cars_train/a", "cars_train/bb", "cars_val/c")):
        plant_object(tmp_path / "data" / name, num_views=3 + number, size=(16, 16))

    def write(name: str) -> Path:
        path = tmp_path / f"{name}.json"
        path.write_text(json.dumps(run_document(tmp_path / "data", tmp_path / "runs") | {"name": name}))
        return path

    return write


def send(number: int = signal.SIGTERM, process: int | None = None) -> None:
    os.kill(os.getpid() if process is None else process, number)


def cut_short(*_, **__) -> None:
    """Stands for what takes for ever unless the signal, which comes now, ends it."""
    send()
    raise AssertionError("the signal was not heeded")


def train(path: Path, *changes: str, workers: Workers | None = None) -> Path:
    config = load_config(path, list(changes))
    with StopSignal() as stop, stop.abandonable():
        program.train(config, stop, workers)
    return config.folder


def log(folder: Path) -> list[dict]:
    lines = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    return [
        {key: line[key] for key in line.keys() - {"seconds", "data_wait", "images_per_second"}}
        for line in lines
    ]


def last(folder: Path) -> dict[str, torch.Tensor]:
    return load_checkpoint(checkpoints_of(folder)[-1]).tensors


def assert_same_run(one: Path, two: Path) -> None:
    ours, theirs = last(one), last(two)
    assert ours.keys() == theirs.keys()
    assert [name for name in ours if not torch.equal(ours[name], theirs[name])] == []


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_leaves_what_may_be_abandoned_and_is_noted_elsewhere(number):
    done = []
    with StopSignal() as stop, suppress(StopRequested), stop.abandonable(), stop.deferred():
        send(number)
        done.append("noted")
        with stop.abandonable():
            done.append("never")
    assert done == ["noted"]
    assert stop.requested


def test_a_signal_interrupts_once_and_not_where_that_is_not_wanted():
    done = []
    with StopSignal() as stop:
        with stop.abandonable(False):
            send()
        stop.requested = False
        with suppress(StopRequested), stop.abandonable():
            try:
                cut_short()
            finally:
                send()
                done.append("on the way out")
        send()
        done.append("outside")
    assert done == ["on the way out", "outside"]


def test_the_second_ctrl_c_ends_the_process():
    with StopSignal():
        send(signal.SIGINT)
        assert signal.getsignal(signal.SIGINT) is signal.SIG_DFL
    with StopSignal(launched=True):
        send(signal.SIGINT)
        assert signal.getsignal(signal.SIGINT) is not signal.SIG_DFL


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs another process")
def test_processes_that_inherit_the_signal_are_not_interrupted():
    with StopSignal() as stop, stop.abandonable():
        child = os.fork()
        if child == 0:
            try:
                send()
                os._exit(7)
            finally:
                os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7


def test_a_preview_is_abandoned_without_a_trace(write_config, monkeypatch, capsys):
    undisturbed = train(write_config("undisturbed"), "train.steps=3")
    path = write_config("stopped")
    draw, drawn = GeNVS.draw, []

    def draw_once(*arguments, **options):
        if drawn:
            cut_short()
        drawn.append(draw(*arguments, **options))
        return drawn[0]

    monkeypatch.setattr(GeNVS, "draw", draw_once)
    folder = train(path, "train.steps=3", "train.preview_every=2")
    assert "stopped at step 2" in capsys.readouterr().err
    assert checkpoints_of(folder) == [checkpoint_path(folder, 2)]
    assert [picture.name for picture in (folder / "samples").iterdir()] == ["step-00000000.png"]
    assert log(folder) == log(undisturbed)[:2]
    assert_same_run(train(path, "train.steps=3"), undisturbed)
    assert log(folder) == log(undisturbed)


def send_in_pass(monkeypatch: pytest.MonkeyPatch, wanted: int, act: Callable = cut_short) -> None:
    """Have the loss of the pass of that number, from 1, `act`."""
    passes, loss = [], GeNVS.loss

    def counting(self, batch, *, progress):
        passes.append(progress)
        if len(passes) == wanted:
            act()
        return loss(self, batch, progress=progress)

    monkeypatch.setattr(GeNVS, "loss", counting)


def test_a_step_in_the_middle_is_abandoned_and_repeated(write_config, monkeypatch, capsys):
    changes = ("train.steps=3", "train.accumulate=2")
    undisturbed, path = train(write_config("undisturbed"), *changes), write_config("stopped")
    with monkeypatch.context() as patch:
        send_in_pass(patch, 6)  # the last of the third step
        folder = train(path, *changes, "train.log_every=10")
    assert "stopped at step 2" in capsys.readouterr().err
    assert checkpoints_of(folder) == [checkpoint_path(folder, 2)]
    (line,), (first, second, _) = log(folder), log(undisturbed)
    assert line["step"] == 2
    assert line["lr"] == second["lr"]
    for name in ("diffusion", "rgb", "gradient_norm"):
        assert line[name] == pytest.approx((first[name] + second[name]) / 2)
    assert_same_run(train(path, *changes), undisturbed)


def test_in_the_first_step_there_is_nothing_to_save(write_config, monkeypatch, capsys):
    send_in_pass(monkeypatch, 1)
    folder = train(write_config("stopped"))
    assert "stopped at step 0" in capsys.readouterr().err
    assert not checkpoints_of(folder)
    assert not (folder / "log.jsonl").exists()


def test_nothing_is_saved_twice(write_config, monkeypatch):
    saved = []
    save = RunFolder.save
    monkeypatch.setattr(RunFolder, "save", lambda self, *given: saved.append(given[-1]) or save(self, *given))
    send_in_pass(monkeypatch, 3)
    train(write_config("stopped"), "train.steps=9", "train.save_every=2")
    assert saved == [2]


def test_waiting_for_data_ends_and_the_run_saves_before_it_waits_for_its_processes(
    write_config, monkeypatch, tmp_path
):
    load, processes, written = SceneLoader.load, [], tmp_path / "runs/stopped/log.jsonl"
    saved, unheeded = tmp_path / "saved", tmp_path / "unheeded"

    def slow(self, step):
        if step == 2:
            while not written.exists() or len(written.read_text().splitlines()) < 2:
                time.sleep(0.05)
            send(process=os.getppid())
            patience = iter(range(20 * PATIENCE_S))
            while not saved.exists():
                time.sleep(0.05)
                if next(patience, None) is None:
                    unheeded.touch()
                    break
        return load(self, step)

    def save(self, *given):
        processes.extend(multiprocessing.active_children())
        saved.touch()

    monkeypatch.setattr(SceneLoader, "load", slow)
    monkeypatch.setattr(RunFolder, "save", save)
    train(write_config("stopped"), "train.steps=9", "data.workers=1")
    assert not unheeded.exists()
    assert len(processes) == 1
    assert processes[0].exitcode == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_loading_processes_go_on_when_their_whole_group_is_signalled(write_config, number):
    config = load_config(write_config("group"), ["data.workers=1"])
    objects = open_split(config.data, "train")
    loader = SceneLoader(objects, config.data, seed=0, batch=1)
    batches = loader.batches()
    next(batches)
    (process,) = multiprocessing.active_children()
    for step in range(1, 6):
        send(number, process.pid)
        assert next(batches).scene_ids == loader.load(step).scene_ids
    batches.close()
    assert process.exitcode == 0


def test_a_checkpoint_that_is_being_written_is_finished(write_config, monkeypatch, capsys):
    def slowly(tensors, path, metadata):
        send()
        save_file(tensors, path, metadata)

    monkeypatch.setattr(checkpoints, "save_file", slowly)
    folder = train(write_config("stopped"), "train.steps=9", "train.save_every=3")
    assert "stopped at step 3" in capsys.readouterr().err
    assert load_checkpoint(checkpoint_path(folder, 3)).step == 3
    assert not list(folder.rglob("*unfinished*"))


def test_before_the_first_step_a_signal_leaves_at_once_and_writes_nothing(
    write_config, monkeypatch, capsys, tmp_path
):
    monkeypatch.setattr(RunFolder, "start", cut_short)
    assert program.main([str(write_config("stopped"))]) == 0
    monkeypatch.setattr(recipe, "load_stages", cut_short)
    assert program.main(["any.json"]) == 0
    said = capsys.readouterr().err
    assert "stopped before the first step" in said
    assert "stopped; there was nothing to save" in said
    assert not (tmp_path / "runs").exists()


class OneOfTwo(Workers):
    """A process that is told that it is one of two; the other does not want to stop."""

    asked: ClassVar[list[bool]] = []

    def any(self, flag):
        self.asked.append(flag)
        return flag

    def mean(self, values):
        return values

    def wrap(self, model):
        return model


@pytest.mark.parametrize("where", ["pass", "preview"])
def test_several_processes_leave_where_they_agree_to(write_config, monkeypatch, capsys, where):
    monkeypatch.setattr(OneOfTwo, "asked", [])
    changes = ["train.steps=9", "train.accumulate=2"]
    if where == "pass":
        send_in_pass(monkeypatch, 5, act=send)  # the first of step 3, which goes on to its end
    else:
        train(write_config("stopped"), "train.steps=1", "train.accumulate=2")  # no picture of the beginning
        monkeypatch.setattr(GeNVS, "draw", cut_short)
        changes.append("train.preview_every=2")
    workers = OneOfTwo(0, 2, join_workers("cpu", {}).device)
    folder = train(write_config("stopped"), *changes, workers=workers)
    assert OneOfTwo.asked == [False] * {"pass": 5, "preview": 2}[where] + [True]
    assert "stopped at step 2" in capsys.readouterr().err
    assert checkpoints_of(folder)[-1] == checkpoint_path(folder, 2)


def test_a_process_in_a_preview_that_takes_minutes_saves_and_leaves(write_config, tmp_path):
    path, folder = write_config("stopped"), tmp_path / "runs" / "stopped"
    train(path, "train.steps=1")
    changes = ["train.steps=9", "train.save_every=1", "train.preview_every=2", "sample.steps=10000"]
    process = subprocess.Popen(
        [sys.executable, "-c", DRAWING, str(tmp_path / "drawing"), str(path), *changes],
        cwd=ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        stderr=subprocess.PIPE,
        text=True,
    )
    while process.poll() is None and not (tmp_path / "drawing").exists():
        time.sleep(0.02)
    process.send_signal(signal.SIGTERM)
    _, messages = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 0, messages
    assert "stopped at step 2" in messages
    assert load_checkpoint(checkpoints_of(folder)[-1]).step == 2
    assert not list((folder / "samples").iterdir())
