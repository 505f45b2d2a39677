"""What a run survives: being killed, a disk that is full, bits that flip."""

import errno
import json
import os
import random
import re
import signal
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

import train as program
from config.run import load_config
from data.images import picture_files
from models.checkpoints import format as checkpoints
from models.checkpoints.format import (
    DamagedCheckpointError,
    checkpoint_path,
    checkpoints_of,
    load_checkpoint,
)
from models.training.interruption import StopSignal
from tests.scenes import run_document

STEPS, KILLS = 24, 20


@pytest.fixture
def write_config(tmp_path, plant_object):
    """write_config(name): a config file of a run that saves often."""
    for number, name in enumerate(("cars_train/a", "cars_train/bb", "cars_val/c")):
        plant_object(tmp_path / "data" / name, num_views=3 + number, size=(16, 16))

    def write(name: str) -> Path:
        path = tmp_path / f"{name}.json"
        document = run_document(tmp_path / "data", tmp_path / "runs")
        path.write_text(json.dumps(document | {"name": name}))
        return path

    return write


def train(path: Path, *changes: str) -> Path:
    """Train within this process; returns the run directory."""
    config = load_config(path, [f"train.steps={STEPS}", "train.save_every=3", *changes])
    program.train(config, StopSignal())
    return config.folder


def newest(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(checkpoints_of(folder)[-1])


def assert_same_weights(first: Path, second: Path) -> None:
    ours, theirs = newest(first), newest(second)
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs a process to kill")
def test_a_run_that_is_killed_again_and_again_ends_as_if_it_had_not_been(write_config):
    undisturbed, path = train(write_config("undisturbed")), write_config("killed")
    chance, died, folder = random.Random(0), 0, load_config(path, []).folder
    while died < KILLS:
        child = os.fork()
        if child == 0:
            try:
                sys.stderr = open(os.devnull, "w")  # noqa: SIM115 (the process ends here)
                train(path, f"train.steps={STEPS}")
            finally:
                os._exit(0)
        time.sleep(chance.uniform(0.0, 0.5))
        os.kill(child, signal.SIGKILL)
        died += os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
        if checkpoints_of(folder) and checkpoints_of(folder)[-1] == checkpoint_path(folder, STEPS):
            for step in checkpoints_of(folder)[1:]:  # it came to its end: go on from further back
                step.unlink()
    train(path)
    assert_same_weights(undisturbed, folder)
    assert not list(folder.rglob("*unfinished*"))
    steps = [json.loads(line)["step"] for line in (folder / "log.jsonl").read_text().splitlines()]
    assert steps == sorted(set(steps))


@pytest.mark.parametrize("where", ["weights", "header", "length"])
def test_a_damaged_checkpoint_is_noticed_and_the_one_before_is_used(write_config, capsys, where):
    whole, folder = train(write_config("whole")), train(write_config("damaged"))
    victim, before = checkpoints_of(folder)[-1], checkpoints_of(folder)[-2]
    content = bytearray(victim.read_bytes())
    positions = {"weights": len(content) - 1000, "header": content.index(b"image_size"), "length": 2}
    content[positions[where]] ^= 4
    victim.write_bytes(content)
    with pytest.raises(DamagedCheckpointError, match=rf"\A{victim}[^\n]*\Z"):
        load_checkpoint(victim)
    capsys.readouterr()
    train(write_config("damaged"))
    said = capsys.readouterr().err
    assert str(victim) in said
    assert f"resuming {folder} at step {load_checkpoint(before).step}" in said
    assert_same_weights(whole, folder)


def test_where_every_checkpoint_is_damaged_the_newest_is_named(write_config):
    folder = train(write_config("ruined"))
    for path in checkpoints_of(folder):
        path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(ValueError, match=rf"\A{checkpoints_of(folder)[-1]}: is cut short[^\n]*\Z"):
        train(write_config("ruined"))


def test_a_full_disk_costs_a_checkpoint_and_not_the_run(write_config, capsys, monkeypatch):
    written: list[Path] = []

    def full_in_between(tensors, path, metadata):
        written.append(path)
        if 3 <= len(written) <= 5:
            Path(path).write_bytes(b"half")
            raise OSError(28, "No space left on device")
        save_file(tensors, path, metadata)

    undisturbed = train(write_config("roomy"))
    monkeypatch.setattr(checkpoints, "save_file", full_in_between)
    capsys.readouterr()
    folder = train(write_config("full"))
    said = capsys.readouterr().err
    assert said.count("warning") == 3
    assert "step-00000009.safetensors: cannot be written" in said
    assert_same_weights(undisturbed, folder)
    assert not list(folder.rglob("*unfinished*"))


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize(("number", "code"), [(errno.ESTALE, 1), (errno.EIO, 1), (errno.EACCES, 2)])
def test_a_disk_that_may_answer_again_has_the_exit_code_that_restarts(
    write_config, monkeypatch, capsys, number, code, workers
):
    def fail(path, *_, **__):
        raise OSError(number, os.strerror(number), str(path))

    path = write_config("remote")
    arguments = (f"data.workers={workers}", "train.preflight=false", "train.preview_every=0")
    monkeypatch.setattr(picture_files.Image, "open", fail)
    assert program.main([str(path), *arguments]) == code
    line = capsys.readouterr().err.splitlines()[-1]
    assert re.match(rf"train.py: .*\.png: .*{re.escape(os.strerror(number))}", line)


def test_a_last_checkpoint_that_cannot_be_written_is_an_error(write_config, monkeypatch, capsys):
    def full(tensors, path, metadata):
        raise OSError(28, "No space left on device")

    path = write_config("full")
    monkeypatch.setattr(checkpoints, "save_file", full)
    assert program.main([str(path), "train.steps=3", "train.save_every=3"]) == 2
    assert "cannot be written" in capsys.readouterr().err
