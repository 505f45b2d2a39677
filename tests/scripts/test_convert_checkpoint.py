"""The conversion program, and the programs that read a published file by themselves."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

import sample_views
import train
from models.checkpoints import published
from models.checkpoints.format import checkpoints_of, find_checkpoint, load_checkpoint
from models.checkpoints.loading import load_model
from scripts import convert_checkpoint
from tests.published_files import DOUBLE, STEP, assert_same, tiny_published
from tests.scenes import TINY_MODEL, run_document, tiny_model

SETTINGS = {"latent_upsampling": "nearest", "image_range": "unit"}  # unlike a run's own


@pytest.fixture(scope="module")
def content():
    """What a published file of the tiniest model holds."""
    return tiny_published()[0]


@pytest.fixture
def place(content, tmp_path, monkeypatch, plant_object) -> Path:
    """A folder with genvs.pt of the tiniest model, its config, which is the published one here, and data."""
    for name in ("cars_train/a", "cars_val/bb"):
        plant_object(tmp_path / "data" / name, num_views=3, size=(16, 16))
    torch.save(content, tmp_path / "genvs.pt")
    document = run_document(tmp_path / "data", tmp_path / "runs", model=TINY_MODEL | SETTINGS)
    (tmp_path / "tiny.json").write_text(json.dumps(document))
    (tmp_path / "own.json").write_text(json.dumps(document | {"name": "own", "model": TINY_MODEL}))
    monkeypatch.setattr(published, "PUBLISHED_CONFIG", tmp_path / "tiny.json")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def convert(*arguments: str) -> int:
    return convert_checkpoint.main(list(arguments))


def refusal(capsys, *arguments: str) -> str:
    """The one line by which the program refuses its arguments."""
    assert convert(*arguments) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("convert_checkpoint: ")
    assert captured.err.count("\n") == 1
    return captured.err


def test_there_and_back_again_is_the_same_file(place, content, capsys):
    assert convert("genvs.pt", "ours.safetensors") == 0
    read = capsys.readouterr().out
    distinct = len({value.data_ptr() for value in content["model"].values()})
    assert f"{len(content['model'])} entries, {distinct} distinct tensors" in read
    parameters = sum(parameter.numel() for parameter in tiny_model().parameters())
    assert f"{parameters:,} parameters" in read
    assert f"step: {STEP}" in read
    assert "ours.safetensors" in read
    assert convert("--to-published", "ours.safetensors", "back.pt") == 0
    written = capsys.readouterr().out
    assert f"back.pt, {len(content['model'])} entries" in written
    assert "the published code differs" not in written
    back = torch.load("back.pt", weights_only=True)
    assert_same(back["model"], content["model"])
    for i, moments in content["optim"]["state"].items():
        assert_same(back["optim"]["state"][i], moments)
    assert {key: back[key] for key in ("step", "epoch")} == {key: content[key] for key in ("step", "epoch")}


def test_a_folder_becomes_a_run_that_goes_on_and_draws(place, capsys):
    assert convert("genvs.pt", "runs/published") == 0
    assert [path.name for path in checkpoints_of(Path("runs/published"))] == [f"step-{STEP:08d}.safetensors"]
    _, config, step = load_model("runs/published")
    assert (config.name, config.runs, step) == ("published", "runs", STEP)
    assert config.model.image_range == "unit"
    flags = ["--trajectory", "data", "--views", "1", "--output", "out"]
    assert sample_views.main(["--transfer", "runs/published", "--n", "1", *flags]) == 0
    assert (place / "out" / "view_0000.png").exists()
    assert train.main(["runs/published/config.json", f"train.steps={STEP + 1}"]) == 0
    assert f"resuming runs/published at step {STEP}" in capsys.readouterr().err
    after = load_checkpoint(find_checkpoint("runs/published"))
    assert after.step == STEP + 1
    name = "optim.renderer.field.output.bias.step"
    assert after.tensors[name] == load_checkpoint(checkpoints_of(Path("runs/published"))[0]).tensors[name] + 1


def test_programs_read_the_file_by_themselves(place, content, capsys):
    flags = ["--trajectory", "data", "--views", "1", "--output"]
    assert sample_views.main(["--transfer", "genvs.pt", *flags, "one"]) == 0
    assert convert("genvs.pt", "ours.safetensors") == 0
    assert sample_views.main(["--transfer", "ours.safetensors", *flags, "two"]) == 0
    assert Path("one/view_0000.png").read_bytes() == Path("two/view_0000.png").read_bytes()

    assert train.main(["own.json", "transfer=genvs.pt", "train.steps=1"]) == 0
    told = capsys.readouterr().err
    total = len(load_model("genvs.pt")[0].state_dict())
    assert f"transfer: {total} of {total} tensors from genvs.pt (step {STEP})" in told
    # Only what changes the meaning of the weights.
    assert 'trained with another model.image_range ("unit", now "symmetric")' in told
    assert 'trained with another model.latent_upsampling ("nearest", now "bilinear")' in told
    assert told.count("trained with another") == 2
    assert load_checkpoint(find_checkpoint("runs/own")).step == 1

    assert train.main(["tiny.json", "transfer=genvs.pt", "train.steps=1"]) == 0
    assert "trained with another" not in capsys.readouterr().err


def test_a_run_is_published_with_its_average_and_a_word_on_what_differs(place, capsys):
    assert train.main(["own.json", "train.steps=2"]) == 0
    assert convert("--to-published", "runs/own", "mine.pt") == 0
    told = capsys.readouterr().out
    assert "averaged weights" in told
    assert "the published code differs: model.image_range is unit, here symmetric" in told
    assert convert("--to-published", "--raw", "runs/own", "raw.pt") == 0
    assert "averaged" not in capsys.readouterr().out
    own = load_checkpoint(find_checkpoint("runs/own"))
    name, key = "renderer.field.output.bias", "nerf.sigma_color_net.net.1.bias"
    mine, raw = (torch.load(file, weights_only=True)["model"][key] for file in ("mine.pt", "raw.pt"))
    assert torch.equal(mine, own.section("ema")[name])
    assert torch.equal(raw, own.section("model")[name])
    assert not torch.equal(mine, raw)


def test_another_config_may_be_named(place, content, capsys, monkeypatch):
    monkeypatch.undo()
    monkeypatch.chdir(place)
    assert "--config" in refusal(capsys, "genvs.pt", "a.safetensors")  # not of the published size
    assert convert("genvs.pt", "a.safetensors", "--config", "own.json") == 0
    assert "config: own.json" in capsys.readouterr().out
    assert load_model("a.safetensors")[1].model.image_range == "symmetric"


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        ("gone.pt out", "no such run or checkpoint"),
        ("genvs.pt genvs.pt", "is the input file"),
        ("genvs.pt link.safetensors", "is the input file"),
        ("genvs.pt tiny.json", "exists already"),
        ("genvs.pt full", "exists already"),
        ("genvs.pt out --raw", "--to-published"),
        ("genvs.pt out/-x.y/..", "name"),
        ("genvs.pt out --config gone.json", "cannot be read"),
        ("ours.safetensors out", "a checkpoint of this project already"),
        ("net.pth out", "denoiser alone"),
        ("--to-published net.pth out.pt", "denoiser alone"),
        ("--to-published tiny.json out.pt", "tiny.json"),
        ("--to-published ours.safetensors out.pt --config tiny.json", "leave it out"),
        ("--to-published ours.safetensors ours.safetensors", "is the input file"),
        ("--to-published ours.safetensors full", "cannot be written"),
        ("--to-published ours.safetensors tiny.json/x.pt", "cannot be written"),
    ],
)
def test_what_cannot_be_done_is_one_line_and_changes_nothing(place, capsys, arguments, problem):
    assert convert("genvs.pt", "ours.safetensors") == 0
    Path("link.safetensors").symlink_to("genvs.pt")
    Path("full").mkdir()
    Path("full/config.json").write_text("{}")
    prefix = "ddpm_pipeline.inner_model.inner_model."
    state = torch.load("genvs.pt", weights_only=True)["model"]
    torch.save({k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}, "net.pth")
    capsys.readouterr()
    before = {path: path.read_bytes() for path in place.rglob("*") if path.is_file()}
    assert problem in refusal(capsys, *arguments.split())
    assert {path: path.read_bytes() for path in place.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize("arguments", [[], ["genvs.pt"], ["a", "b", "c"], ["a", "b", "--to-publish"]])
def test_a_wrong_command_line_is_one_line(capsys, arguments):
    with pytest.raises(SystemExit) as left:
        convert_checkpoint.main(arguments)
    assert left.value.code == 2
    message = capsys.readouterr().err
    assert message.startswith("convert_checkpoint: ")
    assert message.count("\n") == 1


def test_help_teaches(capsys):
    with pytest.raises(SystemExit) as left:
        convert_checkpoint.main(["--help"])
    assert left.value.code == 0
    told = capsys.readouterr().out
    for word in ("--to-published", "genvs.pt runs/published", "srn_cars_128_published.json", "Exit codes"):
        assert word in told


def test_a_named_file_is_replaced_whole_or_stays(place, capsys, monkeypatch):
    Path("ours.safetensors").write_bytes(b"old")
    monkeypatch.setattr("data.files._sync", lambda path: (_ for _ in ()).throw(OSError("disk is full")))
    assert "disk is full" in refusal(capsys, "genvs.pt", "ours.safetensors")
    assert Path("ours.safetensors").read_bytes() == b"old"
    assert not list(place.glob("*unfinished*"))
    monkeypatch.undo()
    monkeypatch.chdir(place)
    assert convert("genvs.pt", "ours.safetensors", "--config", "tiny.json") == 0
    with safe_open("ours.safetensors", framework="pt") as file:
        assert len(list(file.keys())) > 100


@pytest.mark.parametrize("prefix", ["", "module.", "_orig_mod.module."])
def test_a_published_state_dict_as_safetensors_is_the_same_as_genvs_pt(place, content, capsys, prefix):
    single = {key: value for key, value in content["model"].items() if not key.startswith(DOUBLE)}
    save_file({prefix + key: value.contiguous() for key, value in single.items()}, "bare.safetensors")
    assert convert("bare.safetensors", "ours.safetensors") == 0
    assert f"read: bare.safetensors, {len(single)} entries" in capsys.readouterr().out
    assert convert("genvs.pt", "same.safetensors") == 0
    ours, same = (load_checkpoint(Path(f"{name}.safetensors")).section("model") for name in ("ours", "same"))
    assert_same(ours, same)
    model, _, step = load_model("bare.safetensors")
    assert step == 0
    assert_same(model.state_dict(), ours)
    capsys.readouterr()
    single.pop("nerf.aabb_infer")
    save_file({key: value.contiguous() for key, value in single.items()}, "bare.safetensors")
    assert "bare.safetensors: 'nerf.aabb_infer' is missing" in refusal(
        capsys, "bare.safetensors", "x.safetensors"
    )


def test_what_is_no_published_file_says_what_it_is(place, capsys):
    assert convert("genvs.pt", "ours.safetensors") == 0
    capsys.readouterr()
    assert "ours.safetensors: is no published file but a checkpoint of this project already" in refusal(
        capsys, "ours.safetensors", "again.safetensors"
    )
    save_file({"other.weight": torch.ones(3)}, "other.safetensors")
    assert "other.safetensors: is a safetensors file, but no checkpoint" in refusal(
        capsys, "other.safetensors", "again.safetensors"
    )


@pytest.mark.parametrize(
    "value", [np.float64(0.5), np.int64(3), np.bool_(True), np.arange(3), np.dtype("f4")]
)
def test_a_numpy_value_in_a_file_of_torch_is_named_as_such(place, content, capsys, value):
    torch.save(content | {"step": value}, "strange.pt")
    said = refusal(capsys, "strange.pt", "ours.safetensors")
    assert "strange.pt: holds a NumPy value ('numpy." in said
    assert ".item()" in said
    assert "run code" not in said
