"""Three steps of everything before the first, and what they tell of the rest."""

import json
import re
from copy import deepcopy

import pytest
import torch

import train as program
from config.documents import set_key, split_override
from config.families import family
from config.recipe import load_stages
from config.run import validate_config
from models.checkpoints.format import find_checkpoint, load_checkpoint
from models.training.distributed import join_workers
from models.training.interruption import StopSignal
from models.training.preflight import Cost, preflight
from scripts.training import plan_table
from scripts.training import stages as stages_module
from scripts.training.plan_table import lacks_room, plan
from tests.models.stable_diffusion.tiny_base import require_base
from tests.scenes import STAGES, TINY_FAMILIES

LONG = {name: stage | {"train": {"steps": 200}} for name, stage in STAGES.items()}


@pytest.fixture
def write_recipe(write_recipe):
    """As everywhere, but of LONG stages unless others are given."""
    return lambda stages=LONG, **changes: write_recipe(stages, **changes)


def workers():
    return join_workers("cpu", {})


def train(config) -> None:
    program.train(config, StopSignal())


def test_the_plan_tries_every_stage_and_leaves_nothing(write_recipe, tmp_path, capsys):
    before = {path for path in tmp_path.rglob("*") if path.is_file()} | {tmp_path / "tiny.json"}
    previews = ["stages.grown.train.preview_every=7", "stages.grown.train.previews=4"]
    assert program.main([str(write_recipe()), "--plan", *previews]) == 0
    said = capsys.readouterr().err.strip().splitlines()
    assert said[:3] == [
        "stage 1 of 3: trying 3 updates of 2 scenes of 16 pixels and a checkpoint of 1_volumes",
        "stage 2 of 3: trying 3 updates of 2 scenes of 16 pixels and a checkpoint of 2_denoiser",
        "stage 3 of 3: trying 3 updates of 2 scenes of 32 pixels, 4 previews and a checkpoint of 3_grown",
    ]
    lines = said[-5:]
    assert [line.split()[0] for line in lines[:4]] == ["run", "1_volumes", "2_denoiser", "3_grown"]
    cells = [line.split()[1:4] for line in lines[1:4]]
    assert cells == [["16", "200", "2"], ["16", "200", "2"], ["32", "200", "2"]]
    assert {path for path in tmp_path.rglob("*") if path.is_file()} == before
    assert not (tmp_path / "runs").exists()


def test_costs_are_those_of_the_model_that_is_trained(write_recipe):
    stages = load_stages(write_recipe())
    costs = list(preflight(stages, train, workers()))
    assert [cost.config for cost in costs] == stages
    assert [set(cost.trained) for cost in costs] == [
        {"encoder", "renderer"},
        {"denoiser"},
        {"encoder", "renderer", "denoiser"},
    ]
    model = family("genvs")(stages[1].model)
    assert costs[1].trained == {"denoiser": sum(value.numel() for value in model.denoiser.parameters())}
    (alone,) = load_stages(write_recipe(), ["transfer=null", "train.steps=1"], only="denoiser")
    train(alone)
    written = find_checkpoint(alone.folder)
    assert abs(costs[1].checkpoint_bytes - written.stat().st_size) < 1000  # the header's config differs
    assert all(cost.seconds > 0 and cost.peak_bytes > 0 for cost in costs)
    assert costs[0].total_seconds == pytest.approx(200 * costs[0].seconds)


def test_a_run_is_the_same_with_and_without_having_been_tried(write_recipe, tmp_path):
    path, stage = write_recipe(), ["--stage", "volumes", "train.steps=5"]
    weights = []
    for number, tried in enumerate(("true", "false")):
        runs = tmp_path / str(number)
        assert program.main([str(path), *stage, f"runs={runs}", f"train.preflight={tried}"]) == 0
        weights.append(load_checkpoint(find_checkpoint(runs / "tiny")).tensors)
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])


def test_what_would_stop_the_last_stage_is_known_before_the_first(write_recipe, tmp_path, capsys):
    impossible = LONG["grown"] | {"model": {"loss": {"depth_supervised": 1.0}}}
    path = write_recipe(LONG | {"grown": impossible})
    assert program.main([str(path)]) == 2
    assert re.search(r"3_grown: [^\n]*has no depth images", capsys.readouterr().err)
    assert not (tmp_path / "runs" / "tiny").exists()


def test_a_run_that_has_begun_is_not_tried_again(write_recipe, monkeypatch):
    path, tried = write_recipe(STAGES), []
    assert program.main([str(path), "--stage", "volumes", "train.preflight=false"]) == 0
    monkeypatch.setattr(stages_module, "try_out", lambda stages, *_: tried.extend(stages) or True)
    assert program.main([str(path), "--stage", "volumes", "train.steps=3"]) == 0
    assert tried == []


def refuse() -> None:
    raise ValueError("enough")


def short_of_memory(largest: int, error: Exception):
    def limited(config) -> None:
        if config.train.batch > largest:
            raise error
        train(config)

    return limited


@pytest.mark.parametrize("error", [torch.OutOfMemoryError("CUDA out of memory."), MemoryError()])
def test_a_batch_that_fits_is_found_where_memory_does_not_suffice(write_recipe, error):
    stages, said = load_stages(write_recipe(), ["train.batch=6", "train.accumulate=2"]), []
    with pytest.raises(ValueError, match=r"\A[^\n]*\Z") as caught:
        list(preflight(stages, short_of_memory(3, error), workers(), said.append))
    words = (
        "1_volumes: out of memory with train.batch=6 at data.image_size=16; stages.volumes.train.batch=3 "
        "stages.volumes.train.accumulate=4 fits"
    )
    assert words in str(caught.value)
    assert said[1:] == [f"1_volumes: out of memory; trying train.batch={batch}" for batch in (4, 3)]


@pytest.mark.parametrize("error", [torch.OutOfMemoryError("CUDA out of memory."), MemoryError()])
def test_where_no_batch_fits_other_advice_is_given(write_recipe, error):
    stages = load_stages(write_recipe(), ["train.batch=6", "train.accumulate=2"])
    with pytest.raises(ValueError, match=r"and with train\.batch=1; compute parts twice"):
        list(preflight(stages, short_of_memory(0, error), workers()))


def test_growing_numbers_of_views_are_tried_at_their_largest(write_recipe):
    growing = [{"start": 1, "end": 2}, {"start": 4, "end": 3, "begin": 0.5}]
    stages = load_stages(write_recipe(), [f"data.sources={json.dumps(growing)}"])
    tried = []
    with pytest.raises(ValueError, match="enough"):
        list(preflight(stages, lambda config: tried.append(config) or refuse(), workers()))
    assert tried[0].data.sources == (2, 4)


@pytest.mark.parametrize("name", sorted(TINY_FAMILIES))
def test_advice_about_memory_is_in_keys_of_the_run(write_recipe, tmp_path, name):
    document = json.loads(write_recipe().read_text()) | {"model": deepcopy(require_base(TINY_FAMILIES[name]))}
    del document["stages"]
    if name == "viewneti":
        document["model"]["mode"] = "multi_scene"  # others learn one object, and the set has two
    config = validate_config(document, "plain")
    for largest in (1, 0):
        with pytest.raises(ValueError, match="out of memory") as caught:
            list(preflight([config], short_of_memory(largest, MemoryError()), workers()))
        advice = re.findall(r"[\w.]+=\w+", str(caught.value).partition(";")[2])
        assert advice[:2] == ["train.batch=1", "train.accumulate=2"] or largest == 0
        for change in advice:
            set_key(document, *split_override(change))
    validate_config(document, "advised")


def test_runs_that_are_tried_at_the_same_time_leave_each_other_alone(write_recipe):
    path = write_recipe()
    document = json.loads(path.read_text())
    del document["stages"]
    one, other = (validate_config(document | {"name": name}, name) for name in ("one", "other"))

    def train_beside(config) -> None:
        train(config)
        assert len(list(preflight([other], train, workers()))) == 1

    assert [cost.config for cost in preflight([one], train_beside, workers())] == [one]


def test_a_stage_that_is_not_to_be_tried_stands_in_no_later_ones_way(write_recipe):
    assert program.main([str(write_recipe(STAGES)), "stages.volumes.train.preflight=false"]) == 0


def test_other_errors_are_no_lack_of_memory(write_recipe):
    with pytest.raises(RuntimeError, match="shapes"):
        list(preflight(load_stages(write_recipe()), short_of_memory(1, RuntimeError("shapes")), workers()))


def test_a_stop_ends_the_trial(write_recipe, monkeypatch, capsys, tmp_path):
    def stopping(config, stop, workers):
        stop.requested = True
        return 1

    monkeypatch.setattr(program, "train", stopping)
    assert program.main([str(write_recipe())]) == 0
    assert "stopped before the first step" in capsys.readouterr().err
    assert not (tmp_path / "runs" / "tiny").exists()


def cost(
    config, *, seconds: float = 0.5, peak_bytes: int | None = 3 * 2**29, checkpoint_bytes: int = 10
) -> Cost:
    trained = {"a": 1_234_567, "b": 4321}
    return Cost(config, trained, seconds, peak_bytes, checkpoint_bytes)


def test_the_table_adds_up(write_recipe):
    config = load_stages(write_recipe(), ["train.accumulate=3", "train.steps=7200"])[0]
    lines = plan([cost(config), cost(config, seconds=36.0, peak_bytes=None)]).splitlines()
    assert lines[1].split("  ")[0] == "1_volumes"
    first = ("7200", "2 x 3", "a 1.23M, b 4.32k", "1.5 GiB", "0.50 s", "1 h 00 min")
    assert all(words in lines[1] for words in first)
    assert all(words in lines[2] for words in ("?", "36.00 s", "3 d 0 h"))
    assert lines[3].strip() == "3 d 1 h"
    assert len({len(line) for line in lines}) == 1


def test_too_small_a_disk_is_a_warning(write_recipe, monkeypatch):
    config = load_stages(write_recipe(), ["train.keep=4"])[0]
    monkeypatch.setattr(
        plan_table.shutil, "disk_usage", lambda path: type("Usage", (), {"free": 6 * 2**30})()
    )
    assert lacks_room([cost(config, checkpoint_bytes=2**30)]) is None
    assert "10.0 GiB, but" in lacks_room([cost(config, checkpoint_bytes=2**30)] * 2)
