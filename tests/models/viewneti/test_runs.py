"""Every mode trains through train.py and draws through sample_views.py."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import sample_views
import train
from data.formats.dtu.calibration import read_projections
from models.checkpoints.format import load_checkpoint
from models.checkpoints.loading import load_model
from scripts.evaluate.__main__ import main as evaluate
from scripts.make_shapes import main as make_shapes

MODES = ("object_only", "single_scene", "multi_scene", "finetune", "frozen_views")


def run_of(tmp_path: Path, mode: str) -> Path:
    return tmp_path / "runs" / f"viewneti_{mode}"


def weights(run: Path, step: int = 2) -> dict[str, torch.Tensor]:
    return load_checkpoint(run / "checkpoints" / f"step-{step:08d}.safetensors").section("model")


@pytest.fixture
def trained(arguments, several, tmp_path):
    """Train a mode, with the views of the run of several scenes where it loads any."""

    def of(mode: str, **changes) -> Path:
        if mode == "multi_scene":
            return several
        if mode in ("finetune", "frozen_views"):
            changes.setdefault("model__view_mapper", str(several))
        assert train.main(arguments(mode, **changes)) == 0
        return run_of(tmp_path, mode)

    return of


@pytest.mark.parametrize("mode", MODES)
def test_a_mode_trains_and_draws(trained, tmp_path, cars, mode):
    run = trained(mode)
    config = json.loads((run / "config.json").read_text())["model"]
    assert config["base"]["width"] == 24
    assert config["base"]["layers"] == 10
    assert len(config["base"]["fingerprint"]) == 12
    out = tmp_path / "out"
    root = cars[2 if mode == "multi_scene" else 1]
    given = ["--transfer", str(run), "--data", str(root), "--split", "train", "--cond-views", "0"]
    more = ["--views", "2", "--output", str(out), "--device", "cpu", "--guidance", "1"]
    assert sample_views.main([*given, *more]) == 0
    assert len(list(out.glob("*.png"))) >= 2


def test_a_checkpoint_holds_the_mappers_alone(trained):
    run = trained("single_scene")
    (path,) = (run / "checkpoints").glob("*.safetensors")
    tensors = load_file(path)
    assert {name.split(".")[1] for name in tensors if name.startswith("model.")} == {"objects", "view"}
    own = sum(value.numel() for name, value in tensors.items() if name.startswith("model."))
    assert own < 50_000


def test_frozen_views_stay_as_they_were_loaded(trained, several):
    run = trained("frozen_views", train__steps=20, train__save_every=20)
    before, after = weights(several), weights(run, 20)
    names = [name for name in after if name.startswith("view.")]
    assert len(names) == 12
    assert all(torch.equal(before[name], after[name]) for name in names)


def test_an_interrupted_run_goes_on_as_if_it_had_not_stopped(arguments, tmp_path):
    whole = {"runs": tmp_path / "whole", "train__steps": 4}
    assert train.main(arguments("single_scene", **whole)) == 0
    parts = {"runs": tmp_path / "parts"}
    for steps in (2, 4):
        assert train.main(arguments("single_scene", train__steps=steps, **parts)) == 0
    one, other = (weights(tmp_path / name / "viewneti_single_scene", 4) for name in ("whole", "parts"))
    assert one.keys() == other.keys()
    for name, value in one.items():
        torch.testing.assert_close(other[name], value)


def test_an_object_that_was_not_learned_is_neither_drawn_nor_measured(trained, tmp_path, cars, capsys):
    run = trained("single_scene")
    given = ["--transfer", str(run), "--split", "val", "--cond-views", "0", "--views", "2", "--device", "cpu"]
    assert sample_views.main([*given, "--output", str(tmp_path / "out")]) == 2
    assert "draws only what it has learned" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
    anything = ["--prompt", "{view}. A red car", "--output", str(tmp_path / "out")]
    assert sample_views.main([*given, *anything]) == 0
    measured = ["--checkpoint", str(run), "--views", "2", "--device", "cpu", "--split"]
    assert evaluate([*measured, "val"]) == 2
    assert "draws only what it has learned" in capsys.readouterr().err
    assert evaluate([*measured, "train"]) == 0
    assert "sample psnr" in capsys.readouterr().out


def test_held_out_views_of_the_object_are_measured(trained, tmp_path, cars, capsys):
    names = tmp_path / "views.json"
    names.write_text(json.dumps({path.name: [0, 1, 3] for path in (cars[1] / "cars_train").iterdir()}))
    run = trained("single_scene", data__views=names)
    measured = ["--checkpoint", str(run), "--data", str(cars[1]), "--split", "train", "--views", "3"]
    assert evaluate([*measured, "--device", "cpu"]) == 0
    assert "sample psnr" in capsys.readouterr().out


def test_a_scene_of_several_is_drawn_by_its_own_mapper(trained, capsys, tmp_path, cars):
    run = trained("multi_scene")
    model, config, _ = load_model(run)
    names = model.config.scenes
    assert len(names) == 2
    assert model.options_of(config.sample, names[1]).scene == names[1]
    held_out = ["--transfer", str(run), "--data", str(cars[2]), "--split", "val", "--cond-views", "0"]
    assert sample_views.main([*held_out, "--output", str(tmp_path / "out"), "--device", "cpu"]) == 2
    assert "draws only what it has learned" in capsys.readouterr().err
    named = ["--scene", names[1], "--views", "2", "--output", str(tmp_path / "out"), "--device", "cpu"]
    assert sample_views.main([*held_out, *named]) == 0


BAD = {
    "no slot": ({"model__prompts": '["a car"]'}, "has 0 slots {object}"),
    "two slots": ({"model__prompts": '["a {object} {object}"]'}, "has 2 slots {object}"),
    "two views": ({"model__prompts": '["{view} {view} {object}"]'}, "has 2 slots {view}"),
    "unknown slot": ({"model__prompts": '["{car} {object}"]'}, "{car} is no slot"),
    "long prompt": ({"model__prompts": json.dumps(["a " * 12 + "{object}"])}, "more than 12"),
    "several words": ({"model__object__word": "red car"}, "2 words"),
    "unknown word": ({"model__view__word": "zebra"}, "unknown"),
    "retired": ({"model__mode": 1}, "retired"),
    "no such base": ({"model__base__path": "/nowhere/at/all"}, "model.base.path"),
    "another width": ({"model__base__width": 32}, "width is 24"),
    "another base": ({"model__base__fingerprint": "0" * 12}, "fingerprint"),
    "odd size": ({"data__image_size": 20}, "multiple of 8"),
    "view mapper": ({"model__view_mapper": "runs/other"}, "loads no model.view_mapper"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_line(arguments, tmp_path, capsys, case):
    changes, message = BAD[case]
    assert train.main(arguments("single_scene", **changes)) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert message in error
    assert not run_of(tmp_path, "single_scene").exists()


def test_several_objects_are_refused_where_one_is_learned(arguments, cars, capsys):
    assert train.main(arguments("single_scene", data__root=cars[2])) == 2
    assert "2 training objects" in capsys.readouterr().err


def test_a_prompt_may_say_anything_with_the_right_slots(trained, tmp_path, cars, capsys):
    run = trained("single_scene")
    given = ["--transfer", str(run), "--split", "train", "--cond-views", "0", "--views", "2"]
    for number, prompt in enumerate(("{view} {object} {object}", "{view} {view}", "{camera}", "a " * 11)):
        out = tmp_path / f"refused{number}"
        assert sample_views.main([*given, "--prompt", prompt, "--output", str(out), "--device", "cpu"]) == 2
        assert f"prompt {prompt!r}" in capsys.readouterr().err
        assert not out.exists()
    for number, prompt in enumerate(("{view}. A red {object}", "{view}. A red car", "a car")):
        out = tmp_path / f"drawn{number}"
        assert sample_views.main([*given, "--prompt", prompt, "--output", str(out), "--device", "cpu"]) == 0
        assert out.exists()


def test_dtu_is_learned_by_the_matrices_of_its_calibration(arguments, tmp_path):
    root = tmp_path / "dtu"
    sizes = ["--objects", "1", "--val", "1", "--size", "32", "--workers", "1", "--layout", "dtu"]
    assert make_shapes(["--root", str(root), *sizes]) == 0
    scene = min(path.name for path in (root / "Rectified").iterdir())
    changes = {
        "data__root": root,
        "data__layout": "dtu",
        "data__dtu__scenes": json.dumps([scene]),
        "data__dtu__subset": 6,
        "data__dtu__world": "calibration",
        "data__image_size": 32,
        "data__image_height": 24,
        "model__camera__rounding": 4,
        "model__camera__pixels": "[1600, 1200]",
    }
    assert train.main(arguments("single_scene", **changes)) == 0
    model, _, _ = load_model(run_of(tmp_path, "single_scene"))
    stored = read_projections(root).flatten(1)
    torch.testing.assert_close(
        torch.tensor(model.config.camera.largest, dtype=torch.float64), stored.amax(0), atol=0.5, rtol=1e-3
    )
