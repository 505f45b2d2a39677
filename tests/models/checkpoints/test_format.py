"""Checkpoints and run directories: round trips, hostile files, full disks."""

import json
import pickle
import struct
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from config.run import OptimConfig, validate_config
from models.checkpoints.format import (
    FORMAT,
    checkpoint_path,
    checkpoints_of,
    find_checkpoint,
    load_checkpoint,
    load_weights,
)
from models.checkpoints.loading import load_model
from models.checkpoints.transfer import transfer_weights
from models.training.ema import EMA
from models.training.optimizer import make_optimizer
from models.training.run_directory import RunFolder, keep_newest, restore, save_checkpoint
from tests.scenes import run_document, scene_batch, tiny_model

OPTIM = OptimConfig(warmup=0, lr=1e-3)


@pytest.fixture(scope="module")
def trained():
    """A model, its average and its optimiser after two updates."""
    model = tiny_model()
    optimizer, ema = make_optimizer(model, OPTIM), EMA(model, 0.9)
    for step in (1, 2):
        sum(model.loss(scene_batch([[True]]), progress=step / 10).values()).backward()
        optimizer.step()
        optimizer.zero_grad()
        ema.update(model, step)
    return model, ema, optimizer


@pytest.fixture(scope="module")
def saved(trained, tmp_path_factory):
    """A run directory with the checkpoint of step 2."""
    runs = tmp_path_factory.mktemp("runs")
    config = validate_config(run_document("data", runs), "test")
    path = checkpoint_path(config.folder, 2)
    save_checkpoint(path, *trained, step=2, config=config.model_dump(mode="json"))
    return path


@pytest.fixture(scope="module")
def other():
    """A model of the same shape with other weights."""
    torch.manual_seed(99)
    model = tiny_model()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1)
    return model


def complaint(function, *arguments, **options) -> str:
    with pytest.raises(ValueError) as caught:  # noqa: PT011 (its text is what the caller looks at)
        function(*arguments, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def header(path: Path) -> dict:
    with path.open("rb") as file:
        return json.loads(file.read(struct.unpack("<Q", file.read(8))[0]))


def with_metadata(saved: Path, path: Path, **changes: str | None) -> Path:
    """A copy of a checkpoint with changed metadata, unsealed; None takes a key away."""
    with saved.open("rb") as file:
        size = struct.unpack("<Q", file.read(8))[0]
        document, data = json.loads(file.read(size)), file.read()
    metadata = document["__metadata__"] | {"checksum": None} | changes
    document["__metadata__"] = {key: value for key, value in metadata.items() if value is not None}
    text = json.dumps(document).encode()
    text += b" " * (-len(text) % 8)
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)
    return path


def test_weights_average_and_optimiser_come_back_to_the_last_bit(trained, saved, other):
    model, ema, optimizer = trained
    loaded = load_checkpoint(saved)
    assert (loaded.step, loaded.config["name"]) == (2, "tiny")
    other_ema, other_optimizer = EMA(other, 0.9), make_optimizer(other, OPTIM)
    restore(loaded, other, other_ema, other_optimizer)
    for name, value in model.state_dict().items():
        assert torch.equal(other.state_dict()[name], value)
    for name, value in ema.shadow.items():
        assert torch.equal(other_ema.shadow[name], value)
    theirs = dict(other.named_parameters())
    for name, parameter in model.named_parameters():
        for key, value in optimizer.state[parameter].items():
            assert torch.equal(other_optimizer.state[theirs[name]][key], value)


def test_a_loaded_model_has_the_averaged_weights_and_draws_the_same(trained, saved):
    model, ema, _ = trained
    loaded, config, step = load_model(saved.parent.parent)
    assert (step, config.name) == (2, "tiny")
    assert not loaded.training
    for name, parameter in loaded.named_parameters():
        assert torch.equal(parameter, ema.shadow[name])
        assert not parameter.requires_grad
    for name, value in loaded.named_buffers():
        assert torch.equal(value, dict(model.named_buffers())[name])


def test_a_checkpoint_holds_no_more_than_it_says(trained, saved):
    names = [name for name in header(saved) if name != "__metadata__"]
    assert {name.split(".")[0] for name in names} == {"model", "ema", "optim"}
    assert header(saved)["__metadata__"]["format"] == FORMAT


@pytest.mark.parametrize("share", [0.0, 0.001, 0.5, 0.999])
def test_a_file_that_is_cut_short_is_one_line(saved, tmp_path, share):
    path = tmp_path / "cut.safetensors"
    content = saved.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    assert "cut short" in complaint(load_checkpoint, path)


class Payload:
    """Executed by whoever unpickles it."""

    def __init__(self, trace: Path):
        self.trace = trace

    def __reduce__(self):
        return Path.touch, (self.trace,)


@pytest.mark.parametrize("kind", ["zip", "legacy", "protocol 4", "protocol 2"])
def test_a_pickle_is_refused_and_not_executed(tmp_path, kind):
    trace, path = tmp_path / "executed", tmp_path / "genvs.pt"
    payload = {"model": Payload(trace), "weights": torch.zeros(3)}
    if kind in ("zip", "legacy"):
        torch.save(payload, path, _use_new_zipfile_serialization=kind == "zip")
    else:
        path.write_bytes(pickle.dumps(Payload(trace), protocol=int(kind[-1])))
    for function in (load_checkpoint, load_model):
        assert "pickle" in complaint(function, path)
    assert not trace.exists()


@pytest.mark.parametrize("length", [0x0280, 0x4B50])
def test_a_header_whose_length_looks_like_a_pickle_is_read(tmp_path, length):
    """Lengths are the first bytes of the file: these are the opcode of a pickle, and PK of a zip archive."""
    path = tmp_path / "a.safetensors"
    metadata = {"format": FORMAT, "step": "3", "config": "{}", "padding": ""}
    tensors = {"model.a": torch.ones(2)}
    save_file(tensors, path, metadata)
    size = struct.unpack("<Q", path.read_bytes()[:8])[0]
    save_file(tensors, path, metadata | {"padding": "x" * (length - size)})
    assert struct.unpack("<Q", path.read_bytes()[:8])[0] == length
    assert load_checkpoint(path).step == 3


def test_safetensors_of_something_else_are_refused(tmp_path):
    path = tmp_path / "bert.safetensors"
    save_file({"model.weight": torch.zeros(3)}, path, {"format": "pt"})
    assert "no checkpoint of this project" in complaint(load_checkpoint, path)
    assert "no checkpoint of this project" in complaint(load_model, path)


@pytest.mark.parametrize(
    "changes",
    [
        {"step": "many"},
        {"step": "-1"},
        {"step": None},
        {"config": None},
        {"config": "{"},
        {"config": "[]"},
        {"config": '"text"'},
        {"config": '{"a":' * 50_000},
    ],
)
def test_a_damaged_header_is_one_line(saved, tmp_path, changes):
    assert "header is damaged" in complaint(
        load_checkpoint, with_metadata(saved, tmp_path / "a.safetensors", **changes)
    )


@pytest.mark.parametrize(
    "change",
    [
        {"model": {"family": "unheard of"}},
        {"model": {"family": ["genvs"]}},
        {"model": None},
        {"model": {"encoder": {"channels": 10**6}}},
        {"model": {"encoder": {"channels": 10**12, "planes": 10**12}}},
        {"model": {"renderer": {"latent_channels": 10**30}}},
        {"model": {"encoder": {"backbone": "../../etc/passwd"}}},
        {"model": {"encoder": {"weights": "imagenet"}}},
        {"model": {"renderer": {"field": {"hidden": 10**9}}}},
        {"model": {"denoiser": {"channels": [2**20] * 2}}},
        {"model": {"encoder": {"planes": "four"}}},
        {"name": "../../elsewhere"},
        {"surprise": 1},
    ],
)
def test_a_hostile_config_is_one_line_and_no_big_allocation(saved, tmp_path, change):
    config = json.loads(header(saved)["__metadata__"]["config"])
    for key, value in change.items():
        if isinstance(value, dict):
            for name, nested in value.items():
                known = config[key].get(name)
                config[key][name] = known | nested if isinstance(known, dict) else nested
        else:
            config[key] = value
    path = with_metadata(saved, tmp_path / "a.safetensors", config=json.dumps(config))
    if change == {"model": {"encoder": {"weights": "imagenet"}}}:
        load_model(path)  # what is loaded needs no initial weights, so none are fetched
    else:
        assert str(path) in complaint(load_model, path)


def test_weights_of_another_kind_are_refused(trained, tmp_path, saved):
    model, _, _ = trained
    weights = {name: value.clone() for name, value in model.state_dict().items()}
    name = "renderer.field.output.bias"
    for wrong in (weights[name].double(), weights[name][1:], weights[name].long()):
        message = complaint(load_weights, model, weights | {name: wrong}, saved)
        assert "1 of another kind" in message
        assert name in message
    assert "1 surplus" in complaint(load_weights, model, weights | {"x": torch.zeros(1)}, saved)
    del weights[name]
    assert "1 tensors missing" in complaint(load_weights, model, weights, saved)


def test_an_average_of_another_model_is_refused(trained, saved):
    model, ema, optimizer = trained
    loaded = load_checkpoint(saved)
    del loaded.tensors["ema.renderer.field.output.bias"]
    assert "renderer.field.output.bias" in complaint(restore, loaded, model, ema, optimizer)


def fail_half_way(tensors, path, metadata):
    Path(path).write_bytes(b"half")
    raise OSError(28, "No space left on device")


def fail_at_once(path):
    raise OSError(5, "Input/output error")


@pytest.mark.parametrize(
    ("name", "failure"),
    [("models.checkpoints.format.save_file", fail_half_way), ("data.files._sync", fail_at_once)],
)
def test_a_failing_disk_leaves_the_old_checkpoint_whole_and_nothing_half_written(
    trained, tmp_path, monkeypatch, name, failure
):
    path = tmp_path / "checkpoints" / "step-00000001.safetensors"
    save_checkpoint(path, *trained, step=1, config={})
    before = path.read_bytes()
    monkeypatch.setattr(name, failure)
    with pytest.raises(OSError, match="cannot be written") as caught:
        save_checkpoint(path, *trained, step=1, config={"new": True})
    assert "\n" not in str(caught.value)
    assert path.read_bytes() == before
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_a_folder_that_cannot_be_made_is_one_line(trained, tmp_path):
    (tmp_path / "file").write_text("in the way")
    path = tmp_path / "file" / "checkpoints" / "step-00000001.safetensors"
    with pytest.raises(OSError, match="cannot be written") as caught:
        save_checkpoint(path, *trained, step=1, config={})
    assert str(path) in str(caught.value)


def test_only_the_newest_are_kept_in_order_of_their_steps(tmp_path):
    folder = tmp_path / "checkpoints"
    folder.mkdir()
    for step in (9, 10, 99_999_999, 100_000_000, 2):
        checkpoint_path(tmp_path, step).touch()
    for stranger in ("step-best.safetensors", "step-00000001.unfinished", "notes.txt"):
        (folder / stranger).touch()
    keep_newest(tmp_path, 2)
    assert [path.name for path in checkpoints_of(tmp_path)] == [
        "step-99999999.safetensors",
        "step-100000000.safetensors",
    ]
    assert len(list(folder.iterdir())) == 5
    keep_newest(tmp_path, 7)
    assert find_checkpoint(tmp_path).name == "step-100000000.safetensors"


def test_what_is_no_run_and_no_checkpoint_is_named(tmp_path):
    assert "no such run" in complaint(find_checkpoint, tmp_path / "gone")
    assert "train it first" in complaint(find_checkpoint, tmp_path)


def test_a_transfer_tells_what_fitted_and_what_did_not(trained, saved, other):
    small = tiny_model(renderer={"field": {"hidden": 9}, "size": 8, "latent_channels": 4})
    before = small.renderer.field.hidden.weight.detach().clone()
    report = transfer_weights(small, load_checkpoint(saved))
    total = len(small.state_dict())
    assert f"{total - 3} of {total} tensors" in report
    assert "other shape in the file): 3: renderer.field.hidden.bias" in report
    assert torch.equal(small.renderer.field.hidden.weight, before)
    _, ema, _ = trained
    name = "denoiser.inner_model.proj_in.weight"
    assert torch.equal(dict(small.named_parameters())[name], ema.shadow[name])


def test_a_transfer_that_fits_nowhere_is_refused(tmp_path, other):
    path = tmp_path / "a.safetensors"
    save_file({"model.x": torch.zeros(3)}, path, {"format": FORMAT, "step": "1", "config": "{}"})
    before = {name: value.clone() for name, value in other.state_dict().items()}
    assert "no weight that fits" in complaint(transfer_weights, other, load_checkpoint(path))
    assert all(torch.equal(other.state_dict()[name], value) for name, value in before.items())


def test_a_run_of_another_model_is_not_resumed(saved, trained):
    model, ema, optimizer = trained
    document = json.loads(header(saved)["__metadata__"]["config"])
    document["model"]["renderer"]["coarse"] = 6
    folder = RunFolder(validate_config(document, "test"))
    message = complaint(folder.start, model, ema, optimizer)
    assert "model.renderer.coarse (5, now 6)" in message


def test_a_run_that_does_not_know_a_newer_setting_resumes_with_its_default(saved, trained, tmp_path):
    model, ema, optimizer = trained
    document = json.loads(header(saved)["__metadata__"]["config"]) | {"runs": str(tmp_path)}
    folder = RunFolder(validate_config(document, "test"))
    path = checkpoint_path(folder.path, 2)
    path.parent.mkdir(parents=True)
    assert document["model"].pop("latent_upsampling") == "bilinear"
    with_metadata(saved, path, config=json.dumps(document))
    assert folder.start(model, ema, optimizer)[0] == 2
    other = validate_config(
        document | {"model": document["model"] | {"latent_upsampling": "nearest"}}, "test"
    )
    assert '("bilinear", now "nearest")' in complaint(RunFolder(other).start, model, ema, optimizer)


def test_the_log_is_cut_back_to_what_the_weights_have_seen(tmp_path):
    folder = RunFolder(validate_config(run_document("data", tmp_path), "test"))
    folder.path.mkdir()
    lines = [json.dumps({"step": step}) for step in (1, 2, 3)] + ['{"step": 4, "lo', "[]", ""]
    (folder.path / "log.jsonl").write_text("\n".join(lines))
    folder.open(2)
    assert (folder.path / "log.jsonl").read_text() == '{"step": 1}\n{"step": 2}\n'
    assert validate_config(json.loads((folder.path / "config.json").read_text()), "x") == folder.config
    assert sorted(path.name for path in folder.path.iterdir()) == ["config.json", "log.jsonl", "samples"]


def test_a_config_that_is_given_for_a_run_is_told_from_one(tmp_path):
    path = tmp_path / "recipe.json"
    path.write_text("{}")
    with pytest.raises(ValueError, match=rf"\A{path}: is a config, not a run[^\n]*\Z"):
        find_checkpoint(path)
