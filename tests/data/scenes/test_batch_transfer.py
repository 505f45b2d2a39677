"""Batches from loader processes: whole, or one line that says why not, and never a wait without end."""

import errno
import json
import multiprocessing
import os
import re
import resource
import signal
import time
from pathlib import Path

import pytest
import torch

import train as program
from config.run import load_config
from data.files import TemporaryError
from data.formats.registry import open_split
from data.scenes import batch_transfer
from data.scenes.batch import SceneBatch
from data.scenes.batch_transfer import Parcel, lost_process, pack
from data.scenes.loader import SceneLoader
from models.genvs.model import GeNVS
from tests.scenes import ready_batch, run_document


@pytest.fixture
def config_path(tmp_path, plant_object):
    """A config file of the tiniest run, of 64 pixels: a batch has 49 kB or more."""
    for number, name in enumerate(("cars_train/a", "cars_train/bb", "cars_val/c")):
        plant_object(tmp_path / "data" / name, num_views=3 + number, size=(64, 64))
    path = tmp_path / "tiny.json"
    document = run_document(tmp_path / "data", tmp_path / "runs", data={"image_size": 64})
    path.write_text(json.dumps(document))
    return path


@pytest.fixture
def scarce(monkeypatch):
    """scarce(kind, limit, step=0): loader processes have no more than that of a resource from a step on."""
    load = SceneLoader.load

    def limit_to(kind: int, limit: int, step: int = 0) -> None:
        def limited(self: SceneLoader, number: int) -> SceneBatch:
            batch = load(self, number)
            if number >= step:
                resource.setrlimit(kind, (limit, resource.getrlimit(kind)[1]))
            return batch

        monkeypatch.setattr(SceneLoader, "load", limited)

    return limit_to


def loader_of(path: Path, workers: int) -> SceneLoader:
    config = load_config(path, [f"data.workers={workers}"])
    return SceneLoader(open_split(config.data, "train"), config.data, seed=0, batch=2)


@pytest.mark.parametrize("workers", [1, 3])
@pytest.mark.parametrize("step", [0, 4])
def test_full_shared_memory_is_one_line_after_the_batches_that_fit(config_path, scarce, workers, step):
    loader = loader_of(config_path, workers)
    whole = [loader.load(number) for number in range(step)]
    scarce(resource.RLIMIT_FSIZE, 2**14, step)  # of the files that shared memory consists of
    batches = loader.batches()
    for batch in whole:
        assert torch.equal(next(batches).target.images, batch.target.images)
    line = r"\Ashared memory is full; raise --shm-size [^\n]*lower data\.workers[^\n]*\Z"
    with pytest.raises(ValueError, match=line):
        next(batches)
    assert not multiprocessing.active_children()


def test_too_many_open_files_are_one_line(config_path, scarce):
    scarce(resource.RLIMIT_NOFILE, 3)
    with pytest.raises(
        ValueError, match=r"\Atoo many open files; [^\n]*ulimit -n[^\n]*data\.workers[^\n]*\Z"
    ):
        next(loader_of(config_path, 1).batches())


def test_training_ends_with_the_line_and_an_exit_code(config_path, scarce, capsys):
    scarce(resource.RLIMIT_FSIZE, 2**14, 1)
    for trial in ("train.preflight=true", "train.preflight=false"):
        assert program.main([str(config_path), "data.workers=2", trial]) == 2
        assert re.fullmatch(
            r"train\.py: shared memory is full; [^\n]*", capsys.readouterr().err.splitlines()[-1]
        )


def test_no_room_for_the_processes_themselves_is_the_same_line(config_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(multiprocessing, "Semaphore", full)
    with pytest.raises(ValueError, match=r"\Ashared memory is full; [^\n]*\Z"):
        next(loader_of(config_path, 1).batches())
    next(loader_of(config_path, 0).batches())  # needs none


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGBUS])
def test_a_loading_process_that_dies_ends_training_with_a_line(config_path, monkeypatch, capsys, number):
    loss, killed = GeNVS.loss, []

    def kill_then_compute(self, batch, *, progress):
        if not killed:
            (process,) = multiprocessing.active_children()
            killed.append(process.pid)
            os.kill(process.pid, number)
            deadline = time.monotonic() + 120
            while time.monotonic() < deadline:  # torch raises here when it hears of the end
                time.sleep(0.01)
        return loss(self, batch, progress=progress)

    monkeypatch.setattr(GeNVS, "loss", kill_then_compute)
    arguments = ["data.workers=1", "train.preflight=false", "train.steps=99"]
    assert program.main([str(config_path), *arguments]) == (1 if number == signal.SIGKILL else 2)
    line = capsys.readouterr().err.splitlines()[-1]
    expected = f"loader process {killed[0]} " if number == signal.SIGKILL else "shared memory is full; "
    assert line.startswith(f"train.py: {expected}")
    assert "data.workers" in line


def test_only_what_torch_says_of_its_processes_is_taken_for_that():
    lost = lost_process(RuntimeError("DataLoader worker (pid(s) 3, 4) exited unexpectedly"))
    assert isinstance(lost, TemporaryError)
    assert str(lost).startswith("loader process 3, 4 ended; ")
    assert lost_process(RuntimeError("CUDA error: out of memory")) is None
    assert lost_process(MemoryError()) is None


def test_a_parcel_is_pinned_where_a_gpu_asks_for_it_and_errors_arrive_there_too(monkeypatch):
    batch = ready_batch([[True, False], [True, True]])
    pinned: list[SceneBatch] = []
    monkeypatch.setattr(SceneBatch, "pin_memory", lambda self: pinned.append(self) or self)
    found = pack(batch).pin_memory()
    assert len(pinned) == 1
    assert found is pinned[0]
    assert torch.equal(found.source.images, batch.source.images)
    assert torch.equal(found.source_indices, batch.source_indices)

    def refuse(content):
        raise RuntimeError("received 0 items of ancdata")

    monkeypatch.setattr(batch_transfer.ForkingPickler, "loads", refuse)
    for refused in (Parcel(b"").opened(), Parcel(b"").pin_memory()):
        assert isinstance(refused, ValueError)
        assert str(refused).startswith("too many open files; ")


def test_a_parcel_whose_sender_died_is_one_line(monkeypatch):
    def refuse(content):
        raise ConnectionRefusedError(errno.ECONNREFUSED, "Connection refused")

    monkeypatch.setattr(batch_transfer.ForkingPickler, "loads", refuse)
    refused = Parcel(b"").opened()
    assert isinstance(refused, TemporaryError)
    assert str(refused).startswith("a loader process ended; ")
