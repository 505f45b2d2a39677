"""train.py from end to end on tiny data: resuming, accumulation, signals, bad input."""

import json
import math
import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch._inductor.runtime.cache_dir_utils import default_cache_dir

import train as program
from config.run import OptimConfig, load_config, validate_config
from data.images.files import read_picture
from data.images.quality import psnr
from data.scenes.batch import valid_indices
from models import device as devices
from models.checkpoints.format import FORMAT, checkpoints_of, load_checkpoint
from models.checkpoints.loading import load_model
from models.genvs.model import GeNVS
from models.training.interruption import StopSignal
from models.training.meter import Meter
from models.training.optimizer import learning_rate_factor
from models.training.validation import HeldOut
from scripts.training import compilation
from tests.scenes import TINY_MODEL, StopsAfter, run_document

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Four objects to train with and one held out, of noise, 16 x 16 pixels, 3 to 5 views."""
    from tests.conftest import _plant_object

    root = tmp_path_factory.mktemp("data")
    for number, name in enumerate(("train/a", "train/bb", "train/ccc", "train/dddd", "val/e")):
        split, name = name.split("/")
        _plant_object(root / f"cars_{split}" / name, num_views=3 + number % 3, size=(16, 16))
    return root


@pytest.fixture
def write_config(data, tmp_path):
    """write_config(name, **changes): a config file; runs live in tmp_path/runs."""

    def write(name: str = "tiny", **changes) -> Path:
        path = tmp_path / f"{name}.json"
        document = run_document(changes.pop("root", data), tmp_path / "runs", **changes)
        path.write_text(json.dumps(document | {"name": name}))
        return path

    return write


@pytest.fixture(autouse=True)
def _restore_handlers():
    numbers = (signal.SIGTERM, signal.SIGINT)
    before = [signal.getsignal(number) for number in numbers]
    yield
    for number, handler in zip(numbers, before, strict=True):
        signal.signal(number, handler)


def train(path: Path, *changes: str, stop: StopSignal | None = None) -> Path:
    """Train within this process; returns the run directory."""
    config = load_config(path, list(changes))
    program.train(config, stop or StopSignal())
    return config.folder


def last(folder: Path) -> dict[str, Tensor]:
    return load_checkpoint(checkpoints_of(folder)[-1]).tensors


def log(folder: Path) -> list[dict]:
    lines = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    times = {"seconds", "data_wait", "images_per_second"}
    assert all(times <= line.keys() and 0 <= line["data_wait"] <= 1 for line in lines)
    return [{key: value for key, value in line.items() if key not in times} for line in lines]


def differences(one: dict[str, Tensor], two: dict[str, Tensor]) -> dict[str, float]:
    assert one.keys() == two.keys()
    return {
        name: (one[name].double() - two[name].double()).abs().max().item()
        for name in one
        if one[name].numel()
    }


def refusal(capsys, *arguments: str) -> str:
    """The one line by which the program refuses its arguments."""
    assert program.main(list(arguments)) == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("train.py: ")]
    assert len(lines) == 1
    return lines[0]


# Dropout draws from the global generator, all else that is random from seeds: both must be resumed.
RANDOM = TINY_MODEL | {
    "denoiser": TINY_MODEL["denoiser"] | {"dropout": 0.2},
    "augment": {"prob": 0.5},
    "source_noise": 0.1,
    "drop_condition_prob": 0.3,
    "noise": {"start": "low", "end": "high"},
}
SCHEDULED = RANDOM | {
    "augment": {"prob": {"start": 0.8, "end": 0.2}},
    "source_noise": {"start": 0, "end": 0.2, "begin": 0.3},
    "drop_condition_prob": {"start": 0.1, "end": 0.6, "shape": "cosine"},
    "loss": {
        "diffusion": {"start": 0, "end": 1, "begin": 0.2, "until": 0.8},
        "rgb": {"start": 1, "end": 0.1, "shape": "exponential"},
    },
}
GROWING = {"sources": [{"start": 1, "end": 2, "begin": 0.4}, 2]}


def test_ten_steps_equal_four_and_six_more_to_the_last_bit(write_config):
    schedule = {"warmup": 7, "schedule": "cosine", "decay_from": 0.8, "final": 0.1}
    sections = {"model": SCHEDULED, "optim": schedule, "data": GROWING}
    whole = train(write_config("whole", **sections), "train.steps=10")
    path = write_config("halves", **sections)
    halves = train(path, "train.steps=10", stop=StopsAfter(4))
    assert [line["step"] for line in log(halves)] == [1, 2, 3, 4]
    train(path, "train.steps=10")
    one, two = last(whole), last(halves)
    assert one.keys() == two.keys()
    assert {name.split(".")[0] for name in one} == {"model", "ema", "optim"}
    assert [name for name in one if not torch.equal(one[name], two[name])] == []
    assert [line["step"] for line in log(whole)] == list(range(1, 11))
    wanted = [1e-3 * learning_rate_factor(OptimConfig(**schedule), step, step / 10) for step in range(10)]
    assert [line["lr"] for line in log(whole)] == pytest.approx(wanted)
    assert log(whole) == log(halves)
    # What the log says of the schedules, by another route: the closed forms.
    for step, line in enumerate(log(whole)):
        found = {name: value for name, value in line.items() if name.startswith("schedule/")}
        assert found == pytest.approx(
            {
                "schedule/noise_mean": -1.2 + 0.22 * step,
                "schedule/noise_std": 1.2 + 0.02 * step,
                "schedule/loss_diffusion": min(1.0, max(0.0, (step - 2) / 6)),
                "schedule/loss_rgb": 0.1 ** (step / 10),
                "schedule/augment_prob": 0.8 - 0.06 * step,
                "schedule/drop_condition_prob": 0.35 - 0.25 * math.cos(math.pi * step / 10),
                "schedule/source_noise": max(0.0, 0.2 * (step - 3) / 7),
                "schedule/fewest_sources": 1.0 if step <= 7 else 2.0,
            }
        )
        assert (line["diffusion"] == 0) == (step <= 2)


def test_a_run_of_another_length_says_what_becomes_of_its_schedules(write_config, capsys):
    path = write_config("growing", data=GROWING)
    train(path, "train.steps=2")
    assert "schedules" not in capsys.readouterr().err
    train(path, "train.steps=3")
    assert "at step 2; train.steps was 2: schedules now run over 3 steps" in capsys.readouterr().err
    train(path, "train.steps=3")
    assert "schedules" not in capsys.readouterr().err
    constant = write_config("constant")
    train(constant, "train.steps=1")
    train(constant, "train.steps=2")
    assert "schedules" not in capsys.readouterr().err
    train(constant, "train.steps=3", "optim.schedule=cosine")
    assert "train.steps was 2: schedules now run over 3 steps" in capsys.readouterr().err


def test_a_run_of_an_older_version_is_read_and_resumed_by_the_config_it_wrote(write_config):
    sections = {"optim": {"schedule": "cosine"}, "model": RANDOM}
    folder = train(write_config("older", **sections), "train.steps=4", stop=StopsAfter(2))
    old = json.loads((folder / "config.json").read_text())
    old["model"]["noise"] = {"start": "low", "end": "high", "anneal_steps": 4}
    for name in ("schedule", "final", "reference_steps"):
        del old["optim"][name]
    old["optim"] |= {"decay_from": 0, "decay_steps": 4}
    (folder / "config.json").write_text(json.dumps(old))
    path = checkpoints_of(folder)[-1]
    tensors, step = load_file(path), str(load_checkpoint(path).step)
    path.unlink()  # whose pages the tensors are
    save_file(tensors, path, {"format": FORMAT, "step": step, "config": json.dumps(old)})
    _, config, step = load_model(folder)
    assert (config.optim.schedule, config.model.noise.end, step) == ("cosine", "high", 2)
    resumed = train(folder / "config.json")
    again = train(write_config("again", **sections), "train.steps=4")
    assert max(differences(last(resumed), last(again)).values()) == 0
    assert log(resumed) == log(again)


def test_a_resumed_run_repeats_the_steps_whose_weights_were_lost(write_config):
    whole = train(write_config("whole"), "train.steps=4", "train.accumulate=2")
    path = write_config("lost")
    lost = train(path, "train.steps=4", "train.accumulate=2", "train.save_every=2")
    checkpoints_of(lost)[-1].unlink()
    train(path, "train.steps=4", "train.accumulate=2")
    assert max(differences(last(whole), last(lost)).values()) == 0
    assert log(whole) == log(lost)


def test_a_run_goes_on_to_the_last_bit_when_it_is_told_to_save_memory(write_config, capsys):
    whole = train(write_config("whole", model=RANDOM), "train.steps=4")
    path = write_config("frugal", model=RANDOM)
    train(path, "train.steps=4", stop=StopsAfter(2))
    saving = ("model.encoder.checkpointing=true", "model.denoiser.checkpointing=true")
    frugal = train(path, "train.steps=4", *saving)
    assert max(differences(last(whole), last(frugal)).values()) == 0
    assert log(whole) == log(frugal)
    capsys.readouterr()
    train(write_config("heir"), f"transfer={frugal}", "train.steps=1")
    assert "checkpointing" not in capsys.readouterr().err


def test_what_is_compiled_is_kept_among_the_runs_unless_the_user_chose(write_config, monkeypatch, capsys):
    places = []
    monkeypatch.setattr(devices, "compile_networks", lambda *_: places.append(os.environ[compilation.CACHE]))
    for chosen in (True, False):
        monkeypatch.setenv(compilation.CACHE, "elsewhere" if chosen else default_cache_dir())
        path = write_config(f"chosen_{chosen}".lower())
        assert program.main([str(path), "train.steps=1", "train.compile=true"]) == 0
        where = "elsewhere" if chosen else str(load_config(path).folder.parent / ".compiled")
        assert places == [where, where]  # of the trial, and of the run
        assert f"compiling: the first steps take minutes, or less with what is in {where}" in (
            capsys.readouterr().err
        )
        places.clear()
    train(write_config("plain"), "train.steps=1")
    assert places == []


def test_the_picture_of_the_beginning_is_no_time_of_training(write_config, monkeypatch):
    depth, drawn = [], []

    @contextmanager
    def pausing(meter):
        depth.append(meter)
        yield
        depth.pop()

    monkeypatch.setattr(Meter, "pausing", pausing)
    monkeypatch.setattr(HeldOut, "save", lambda *_: drawn.append(len(depth)) or {})
    train(write_config(), "train.steps=1", "train.preview_every=1")
    assert drawn == [1, 1]


def test_a_run_names_the_place_of_the_padding_to_its_model(write_config, monkeypatch):
    seen, original = [], GeNVS.loss
    monkeypatch.setattr(
        GeNVS, "loss", lambda self, batch, **rest: seen.append(batch) or original(self, batch, **rest)
    )
    train(write_config())
    for batch in seen:
        assert torch.equal(batch.source_indices, valid_indices(batch.source.valid))
    assert len({len(batch.source_indices) for batch in seen}) > 1


def test_two_passes_of_one_scene_equal_one_of_two(write_config):
    # Plain steps along the gradient: AdamW would blow up rounding errors where gradients are almost zero.
    one = train(write_config("one"), "train.steps=1", "train.batch=2")
    two = train(write_config("two"), "train.steps=1", "train.batch=1", "train.accumulate=2")
    averages = [{k: v for k, v in last(f).items() if k.endswith(".exp_avg")} for f in (one, two)]
    assert len(averages[0]) > 50
    assert max(differences(*averages).values()) < 1e-6
    first, second = log(one)[0], log(two)[0]
    for name in ("loss", "diffusion", "rgb", "gradient_norm"):
        assert first[name] == pytest.approx(second[name], rel=1e-4)


@pytest.fixture
def run_program():
    """run_program(config, *changes): the program as a process; it ends with the test."""
    started = []

    def run(path: Path, *changes: str) -> subprocess.Popen:
        command = [sys.executable, "train.py", str(path), *changes]
        environment = os.environ | {"OMP_NUM_THREADS": "1"}
        started.append(
            subprocess.Popen(command, cwd=ROOT, env=environment, stderr=subprocess.PIPE, text=True)
        )
        return started[-1]

    yield run
    for process in started:
        process.terminate()
        process.wait(timeout=300)
        process.stderr.close()


def test_ctrl_c_saves_and_leaves_with_exit_code_zero(write_config, run_program, tmp_path):
    path = write_config("stopped")
    folder = tmp_path / "runs" / "stopped"
    process = run_program(path, "train.steps=100000")
    deadline = time.monotonic() + 300
    while not (folder / "log.jsonl").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, messages = process.communicate(timeout=300)
    assert process.returncode == 0, messages
    assert "stopped at step" in messages
    step = load_checkpoint(checkpoints_of(folder)[-1]).step
    assert log(folder)[-1]["step"] == step
    assert train(path, f"train.steps={step + 1}") == folder  # and it can be resumed
    assert log(folder)[-1]["step"] == step + 1


def test_a_run_leaves_its_config_its_log_pictures_and_checkpoints(write_config, capsys):
    path = write_config("whole")
    changes = ["train.steps=5", "train.save_every=1", "train.keep=2", "train.preview_every=2"]
    assert program.main([str(path), *changes]) == 0
    folder = load_config(path).folder
    assert sorted(p.name for p in folder.iterdir()) == ["checkpoints", "config.json", "log.jsonl", "samples"]
    written = validate_config(json.loads((folder / "config.json").read_text()), "config.json")
    assert written == load_config(path, changes) == load_config(folder / "config.json")
    assert [p.stem for p in checkpoints_of(folder)] == ["step-00000004", "step-00000005"]
    assert [p.name for p in sorted((folder / "samples").iterdir())] == [
        "step-00000000.png",  # untrained
        "step-00000002.png",
        "step-00000004.png",
    ]
    picture = read_picture(folder / "samples" / "step-00000002.png")
    assert picture.shape == (16, 6 * 16 + 5 * 2, 3)  # source, preview, depth, opacity, sample, truth
    for line in log(folder):
        assert {"step", "loss", "diffusion", "rgb", "opacity", "gradient_norm", "lr"} <= line.keys()
        assert line["loss"] == pytest.approx(line["diffusion"] + line["rgb"] + line["opacity"])
        parts = [line[f"gradient_norm/{part}"] for part in ("encoder", "renderer", "denoiser")]
        assert line["gradient_norm"] == pytest.approx(sum(norm**2 for norm in parts) ** 0.5)
        assert {"weight_norm/encoder", "weight_norm/renderer", "weight_norm/denoiser"} <= line.keys()
        assert 0 < line["ema_drift"] < 0.1
    measured = [
        line["step"]
        for line in log(folder)
        if {"held_out_preview_psnr", "held_out_sample_psnr"} <= line.keys()
    ]
    assert measured == [2, 4]
    assert "done at step 5" in capsys.readouterr().err
    assert program.main([str(path), *changes]) == 0  # nothing left to do
    assert "resuming" in capsys.readouterr().err


def test_a_resumed_run_keeps_the_picture_of_its_beginning(write_config):
    path = write_config("film")
    folder = train(path, "train.steps=1", "train.preview_every=1")
    before = (folder / "samples" / "step-00000000.png").stat().st_mtime_ns
    train(path, "train.steps=2", "train.preview_every=1")
    assert (folder / "samples" / "step-00000000.png").stat().st_mtime_ns == before
    assert len(list((folder / "samples").iterdir())) == 3


def test_what_goes_wrong_is_said_once_and_forgotten_with_the_weights(write_config, capsys, monkeypatch):
    empty = {"health/opacity_object": 0.001}
    monkeypatch.setattr(GeNVS, "diagnose", lambda *_: empty)
    path = write_config("hollow")
    changes = ("train.steps=5", "train.preview_every=1", "train.save_every=1", "train.keep=9")
    folder = train(path, *changes)
    said = [line for line in capsys.readouterr().err.splitlines() if "warning" in line]
    assert len(said) == 1
    assert "warning: step 2: the volumes are empty (opacity 0.001" in said[0]
    assert all(line["health/opacity_object"] == 0.001 for line in log(folder))
    written = (folder / "warnings.jsonl").read_text()
    assert [json.loads(line)["step"] for line in written.splitlines()] == [2]
    assert said[0].endswith(json.loads(written)["warning"])
    for checkpoint in checkpoints_of(folder)[1:]:
        checkpoint.unlink()
    empty.clear()
    train(path, *changes)
    assert (folder / "warnings.jsonl").read_text() == ""


def test_a_transfer_prints_what_matched_and_starts_from_the_average(write_config, capsys):
    first = train(write_config("first"))
    path = write_config("second", model=TINY_MODEL | {"drop_condition_prob": 0.5})
    second = train(path, f"transfer={first}", "train.steps=1", "optim.lr=1e-30")
    messages = capsys.readouterr().err
    total = sum(name.startswith("model.") for name in last(first))
    assert f"transfer: {total} of {total} tensors" in messages
    given = load_checkpoint(checkpoints_of(first)[-1]).best_weights()
    for section in ("model", "ema"):
        found = load_checkpoint(checkpoints_of(second)[-1]).section(section)
        assert all(torch.equal(found[name], given[name]) for name in found)
    field = TINY_MODEL["renderer"] | {"field": {"hidden": 9}}
    train(write_config("third", model=TINY_MODEL | {"renderer": field}), f"transfer={first}")
    messages = capsys.readouterr().err
    assert f"{total - 3} of {total} tensors" in messages
    assert "renderer.field.hidden.weight" in messages


def test_a_transfer_from_nowhere_is_refused(write_config, capsys, tmp_path):
    path = write_config("x")
    assert "no such run" in refusal(capsys, str(path), f"transfer={tmp_path}/gone")
    assert not (tmp_path / "runs").exists()


def test_another_model_is_not_resumed(write_config, capsys):
    path = write_config("same")
    folder = train(path, "train.steps=1")
    before = {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()}
    message = refusal(capsys, str(path), "model.encoder.channels=3")
    assert "model.encoder.channels (2, now 3)" in message
    assert {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()} == before


def test_a_loss_that_is_not_finite_stops_the_run(write_config, capsys, monkeypatch):
    original = GeNVS.loss

    def poisoned(self, batch, *, progress):
        terms = original(self, batch, progress=progress)
        return terms | {"rgb": terms["rgb"] * float("nan")} if progress == 3 / 9 else terms

    monkeypatch.setattr(GeNVS, "loss", poisoned)
    path = write_config("poisoned", train={"save_every": 2, "log_every": 5})
    message = refusal(capsys, str(path), "train.steps=9", "train.preflight=false")
    folder = load_config(path).folder
    kept = folder / "checkpoints" / "step-00000002.safetensors"
    assert "step 4: 'rgb' is not finite" in message
    assert str(kept) in message
    assert checkpoints_of(folder) == [kept]
    assert all(tensor.isfinite().all() for tensor in last(folder).values())


def test_an_absurd_learning_rate_leaves_finite_checkpoints(write_config, capsys):
    path = write_config("absurd", train={"save_every": 1})
    message = refusal(capsys, str(path), "optim.lr=1e30", "train.steps=9")
    assert "is not finite" in message
    assert "optim.lr" in message
    for checkpoint in checkpoints_of(load_config(path).folder):
        assert all(t.isfinite().all() for t in load_checkpoint(checkpoint).tensors.values())


@pytest.fixture
def broken(tmp_path):
    """A data set of its own, to be broken."""
    from tests.conftest import _plant_object

    root = tmp_path / "broken"
    for name in ("cars_train/a", "cars_train/b", "cars_val/c"):
        _plant_object(root / name, num_views=3, size=(16, 16))
    return root


def test_a_missing_folder_or_an_empty_split_is_one_line_and_nothing_is_written(
    write_config, capsys, tmp_path, broken
):
    assert "no such folder" in refusal(capsys, str(write_config(root=tmp_path / "gone")))
    for leaf in sorted(broken.glob("cars_train/*")):
        for path in sorted(leaf.rglob("*"), reverse=True):
            path.rmdir() if path.is_dir() else path.unlink()
        leaf.rmdir()
    assert "no objects" in refusal(capsys, str(write_config(root=broken)))
    assert not (tmp_path / "runs").exists()


def test_a_picture_that_is_cut_short_is_named_when_it_is_met(write_config, capsys, broken, tmp_path):
    path = write_config(root=broken)
    victim = broken / "cars_train/b/rgb/000001.png"
    victim.write_bytes(victim.read_bytes()[:200])
    assert str(victim) in refusal(capsys, str(path), "train.steps=50")
    assert not list((tmp_path / "runs").rglob("*unfinished*"))


def test_text_in_a_pose_is_named(write_config, capsys, broken):
    victim = broken / "cars_train/b/pose/000001.txt"
    victim.write_text("no numbers")
    assert str(victim) in refusal(capsys, str(write_config(root=broken)), "train.steps=50")


def test_what_is_refused_before_the_first_step_leaves_no_folder(write_config, capsys, broken, tmp_path):
    path = write_config(root=broken, train={"preview_every": 1})
    for picture in sorted(broken.glob("cars_val/c/rgb/*.png")):
        picture.write_bytes(picture.read_bytes()[:200])
    assert "cars_val/c/rgb" in refusal(capsys, str(path), "data.damaged=skip")
    assert "no such run" in refusal(capsys, str(path), f"transfer={broken}/gone")
    assert "optim.lr_scale" in refusal(capsys, str(path), 'optim.lr_scale={"wheels": 1}')
    assert not (tmp_path / "runs").exists()


def test_too_few_views_are_named_before_anything_is_written(write_config, capsys, broken, tmp_path):
    message = refusal(capsys, str(write_config(root=broken)), "data.targets=3")
    assert "has 3 views" in message
    assert not (tmp_path / "runs").exists()


def test_a_folder_that_cannot_be_written_is_one_line(write_config, capsys, tmp_path):
    (tmp_path / "runs").write_text("a file in the way")
    message = refusal(capsys, str(write_config()))
    assert "cannot be written" in message
    assert "runs=" in message


def test_wrong_keys_and_files_are_one_line(write_config, capsys, tmp_path):
    assert "did you mean 'train.steps'" in refusal(capsys, str(write_config()), "train.setps=3")
    assert "cannot be read" in refusal(capsys, str(tmp_path / "gone.json"))
    assert "cuda:99" in refusal(capsys, str(write_config()), "train.device=cuda:99")
    assert not (tmp_path / "runs").exists()


def test_a_run_learns_one_scene_by_heart(tmp_path, write_config):
    """Two views of one object: the loss falls, and the preview of what was trained on nears the truth."""
    from tests.conftest import _plant_object

    root = tmp_path / "one"
    for split in ("train", "val"):
        folder = _plant_object(root / f"cars_{split}" / "a", num_views=2, size=(16, 16))
        for view in range(2):  # smooth and asymmetric: a red and a blue corner
            ramp = torch.linspace(0, 255, 16)
            red, blue = ramp.expand(16, 16), ramp[:, None].expand(16, 16)
            picture = torch.stack([red, torch.full((16, 16), 90.0 * view), 255 - blue], dim=-1)
            Image.fromarray(picture.byte().numpy()).save(folder / "rgb" / f"{view:06d}.png")
    model = TINY_MODEL | {
        "encoder": TINY_MODEL["encoder"] | {"channels": 4, "planes": 8},
        "renderer": TINY_MODEL["renderer"] | {"size": 16, "coarse": 12, "fine": 0},
        "loss": {"diffusion": 0.2, "rgb": 10.0, "opacity": 0.0},
    }
    path = write_config(
        "heart",
        root=root,
        model=model,
        data={"sources": [1, 1]},
        optim={"lr": 3e-3, "warmup": 10, "ema": 0.9},
        train={"steps": 150, "log_every": 10, "save_every": 1000},
    )
    folder = train(path)
    first, final = log(folder)[0]["rgb"], log(folder)[-1]["rgb"]
    assert final < 0.2 * first

    from data.formats.registry import open_split
    from data.scenes.loader import held_out

    network, config, _ = load_model(folder)
    scene = held_out(open_split(config.data, "train"), 1)
    with torch.no_grad():
        found = network.sample(scene.source, scene.target.cameras, scene.seeds[:, None], config.sample)
    learnt = psnr(found.preview, scene.target.images).item()
    white = psnr(torch.ones_like(found.preview), scene.target.images).item()
    assert learnt > 18
    assert learnt > white + 8
