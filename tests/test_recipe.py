"""Recipes: stages in one file, each a run that goes on from the one before."""

import json
import re
from itertools import pairwise
from pathlib import Path

import pytest
import torch

import train as program
from config.recipe import load_stages
from config.run import load_config
from models.checkpoints.building import empty_model
from models.checkpoints.format import checkpoints_of, find_checkpoint, load_checkpoint
from models.checkpoints.loading import load_model
from models.training.distributed import Workers
from models.training.interruption import StopSignal
from scripts.training.stages import run_stages
from tests.models.stable_diffusion.tiny_base import require_base
from tests.scenes import STAGES, TINY_FAMILIES, TINY_MODEL

ROOT = Path(__file__).resolve().parents[1]


def tiny_base() -> Path:
    """The folder of a tiny Stable Diffusion. Skips the test where the libraries are missing."""
    return Path(require_base(TINY_FAMILIES["controlnet"])["base"]["path"])


def complaint(path: Path, *changes: str, **options) -> str:
    with pytest.raises(ValueError, match=r"\A[^\n]*\Z") as caught:
        load_stages(path, list(changes), **options)
    return str(caught.value)


def test_every_stage_is_a_run_with_the_keys_of_the_recipe_and_its_own(write_recipe, tmp_path):
    path = write_recipe(optim={"lr": 3e-3})
    volumes, denoiser, grown = load_stages(path)
    assert [stage.folder.name for stage in (volumes, denoiser, grown)] == [
        "1_volumes",
        "2_denoiser",
        "3_grown",
    ]
    assert {stage.folder.parent for stage in (volumes, denoiser, grown)} == {tmp_path / "runs" / "tiny"}
    assert [stage.transfer for stage in (volumes, denoiser, grown)] == [
        None,
        str(volumes.folder),
        str(denoiser.folder),
    ]
    assert (volumes.model.loss.diffusion, denoiser.model.loss.diffusion) == (0, 1)
    assert [len(stage.model.denoiser.channels) for stage in (volumes, denoiser, grown)] == [2, 2, 3]
    assert {stage.optim.lr for stage in (volumes, denoiser, grown)} == {3e-3}


def test_a_change_holds_for_all_stages_or_for_the_one_it_names(write_recipe):
    one = "stages.denoiser.train.batch=3"
    for order in ([one, "train.batch=5"], ["train.batch=5", one]):
        assert [stage.train.batch for stage in load_stages(write_recipe(), order)] == [5, 3, 5]
    stages = load_stages(write_recipe(), ["train.steps=9", one, "seed=4"])
    assert [stage.train.steps for stage in stages] == [9, 9, 9]
    assert [stage.train.batch for stage in stages] == [2, 3, 2]
    assert stages[1].key("train.batch") == "stages.denoiser.train.batch"
    assert {stage.seed for stage in stages} == {4}


def test_a_recipe_may_be_called_by_a_number(write_recipe, tmp_path):
    assert load_stages(write_recipe(), ["name=64"])[0].folder == tmp_path / "runs" / "64" / "1_volumes"


def test_a_stage_left_out_keeps_the_numbers_of_the_others(write_recipe):
    first, last = load_stages(write_recipe(), ["stages.denoiser=null"])
    assert (first.name, last.name, last.transfer) == ("1_volumes", "3_grown", str(first.folder))


def test_a_stage_alone_begins_where_the_recipe_or_the_user_says(write_recipe):
    path = write_recipe()
    (alone,) = load_stages(path, only="denoiser")
    assert alone == load_stages(path)[1]
    (elsewhere,) = load_stages(path, ["transfer=other"], only="denoiser")
    assert elsewhere.transfer == "other"
    (from_nothing,) = load_stages(path, ["transfer=null"], only="denoiser")
    assert from_nothing.transfer is None
    assert load_stages(path, ["transfer=other"])[0].transfer == "other"
    own = {"volumes": {}, "denoiser": {"transfer": "mine"}}
    assert load_stages(write_recipe(own))[1].transfer == "mine"


def test_a_plain_config_is_a_recipe_of_one_run(write_recipe, tmp_path):
    document = json.loads(write_recipe().read_text())
    del document["stages"]
    path = tmp_path / "plain.json"
    path.write_text(json.dumps(document))
    assert load_stages(path, ["seed=3"]) == [load_config(path, ["seed=3"])]


@pytest.mark.parametrize(
    ("stages", "changes", "only", "words"),
    [
        (
            STAGES,
            ["stages.volume.train.steps=2"],
            None,
            "no stage 'volume'; its stages are volumes",
        ),
        (STAGES, [], "denoisers", "no stage 'denoisers'; its stages are volumes, denoiser, grown"),
        ({"a": None}, [], None, "no stage that is not null"),
        ({}, [], None, "no stage that is not null"),
        ([], [], None, '"stages" must be an object'),
        ({"a": 3}, [], None, "stages.a: must be an object of changes, or null, but is 3"),
        (STAGES, ["stages.volumes=nul"], None, "stages.volumes: must be an object of changes, or null"),
        (STAGES, ["stages.grown.train.device=cuda"], None, "train.device: all stages run on one"),
        (STAGES, ["name=../up"], None, "recipe: use letters"),
        ({"a": {"name": "x"}}, [], None, "stages.a.name: belongs to the recipe"),
        ({"a": {"runs": "x"}}, [], None, "stages.a.runs: belongs to the recipe"),
        ({"a b": {}}, [], None, "stage a b: name: use letters"),
        (
            {"a": {"train": {"stops": 3}}},
            [],
            None,
            "stage a: unknown key 'train.stops'; did you mean",
        ),
        ({"a": {"model": {"loss": {"rgb": -1}}}}, [], None, "stage a: model.loss.rgb"),
    ],
)
def test_what_is_wrong_with_a_recipe_is_one_line(write_recipe, stages, changes, only, words):
    assert words in complaint(write_recipe(stages), *changes, only=only)


def test_a_recipe_is_no_config_of_one_run(write_recipe, tmp_path):
    with pytest.raises(ValueError, match="recipe with stages"):
        load_config(write_recipe())
    path = tmp_path / "plain.json"
    path.write_text(json.dumps({"model": TINY_MODEL, "data": {"root": "x"}}))
    assert "has no stages" in complaint(path, only="volumes")
    assert "the config has no stages" in complaint(path, "stages.a.train.steps=2")


def test_stages_run_one_after_another_and_go_on_in_the_right_one(write_recipe, tmp_path, capsys):
    path, changes = write_recipe(), ["train.preflight=false"]
    assert program.main([str(path), *changes]) == 0
    folder = tmp_path / "runs" / "tiny"
    listed = json.loads((folder / "recipe.json").read_text())["stages"]
    assert [(stage["name"], stage["train"]["steps"]) for stage in listed] == [
        ("1_volumes", 2),
        ("2_denoiser", 3),
        ("3_grown", 1),
    ]
    first, second, third = (load_checkpoint(find_checkpoint(stage.folder)) for stage in load_stages(path))
    assert (first.step, second.step, third.step) == (2, 3, 1)
    assert find_checkpoint(folder) == third.path
    # What a stage does not train comes from the average of the one before.
    for name, value in second.section("model").items():
        if name.startswith(("encoder", "renderer")):
            assert torch.equal(value, first.best_weights()[name]), name
    capsys.readouterr()

    whole = {name: value.clone() for name, value in third.tensors.items()}
    for stage in (second, third):
        stage.path.unlink()
    assert program.main([str(path), *changes]) == 0
    said = capsys.readouterr().err
    assert "1_volumes: done" in said
    assert f"transfer: {len(first.section('model'))} of" in said
    again = load_checkpoint(find_checkpoint(folder)).tensors
    assert all(torch.equal(whole[name], again[name]) for name in whole)
    assert load_model(folder)[1].data.image_size == 32


def test_a_loss_that_is_not_finite_names_its_stage(write_recipe, capsys):
    changes = ["--stage", "volumes", "optim.lr=1e30", "train.steps=9", "train.preflight=false"]
    assert program.main([str(write_recipe()), *changes]) == 2
    advice = "last good checkpoint: none yet; lower stages.volumes.optim.lr or check the data"
    assert capsys.readouterr().err.endswith(f"is not finite; {advice}\n")


def test_a_stop_ends_the_recipe_and_not_only_a_stage(write_recipe, monkeypatch):
    ran: list[str] = []
    monkeypatch.setattr(program, "train", lambda config, stop, workers: ran.append(config.name) or 1)
    assert program.main([str(write_recipe()), "train.preflight=false"]) == 0
    assert ran == ["1_volumes"]


def test_processes_wait_for_what_the_next_stage_begins_with(write_recipe, monkeypatch):
    seen: list[str] = []

    class Noting(Workers):
        def barrier(self) -> None:
            seen.append("all are here")

    monkeypatch.setattr(program, "train", lambda config, *_: seen.append(config.name) or config.train.steps)
    stages = load_stages(write_recipe(), ["train.preflight=false"])
    workers = Noting(0, 2, torch.device("cpu"))
    run_stages(stages, program.train, StopSignal(), workers, plan=False)
    assert seen[:5] == ["1_volumes", "all are here", "2_denoiser", "all are here", "3_grown"]


def test_a_stage_whose_forerunner_is_missing_is_refused(write_recipe, capsys):
    assert program.main([str(write_recipe()), "--stage", "denoiser", "train.preflight=false"]) == 2
    assert "1_volumes, which does not exist; train that stage first" in capsys.readouterr().err
    assert program.main([str(write_recipe()), "--stage", "denoiser", "transfer=null"]) == 0
    assert checkpoints_of(load_stages(write_recipe())[1].folder)


@pytest.mark.parametrize("path", sorted((ROOT / "config").glob("recipe_*.json")), ids=lambda path: path.stem)
def test_every_weight_of_a_stage_comes_from_the_one_before(path):
    changes = ["data.root=none"]
    if "controlnet" in path.stem:
        changes += [f"model.base.path={tiny_base()}", "model.control.widths=null"]
    stages = load_stages(path, changes)
    models = [empty_model(stage.model, path) for stage in stages]
    for before, after in pairwise(models):
        given, _ = after.adapt(before.state_dict())
        shapes = {name: value.shape for name, value in given.items()}
        assert {name: value.shape for name, value in after.state_dict().items()} == shapes


def test_the_recipe_of_the_documentation_is_one(tmp_path):
    text = (ROOT / "docs" / "training.md").read_text(encoding="utf-8")
    (example,) = re.findall(r"^```json\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL)
    document = json.loads(example)
    path = tmp_path / "mine.json"
    path.write_text(json.dumps(document | {"extends": str(ROOT / "config" / document["extends"])}))
    stages = load_stages(path)
    assert [stage.name for stage in stages] == ["1_volumes_64", "2_combined_64"]
    assert [stage.data.image_size for stage in stages] == [64, 64]
    named = re.findall(r"`(recipe_[a-z0-9_]+\.json)`", text)
    assert {path.name for path in (ROOT / "config").glob("recipe_*.json")} == set(named)
