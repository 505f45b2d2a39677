"""config/run.py: inheritance, changes from the command line, and one clear line for every mistake."""

import copy
import json
import math
from pathlib import Path

import pytest

from config.recipe import load_stages
from config.run import RunConfig, load_config, validate_config
from data.schedule import Ramp
from diffusion.noise import level_at
from models.training.optimizer import learning_rate_factor

ROOT = Path(__file__).resolve().parents[2]
BASE = {"name": "base", "model": {"family": "genvs"}, "data": {"root": "somewhere"}}


def write(folder: Path, name: str, document: object) -> Path:
    path = folder / name
    path.write_text(document if isinstance(document, str) else json.dumps(document))
    return path


def complaint(path: Path | str, *changes: str) -> str:
    with pytest.raises(ValueError) as caught:  # noqa: PT011 (its text is what the caller looks at)
        load_config(path, list(changes))
    message = str(caught.value)
    assert "\n" not in message
    assert len(message) < 400
    return message


def test_defaults_give_way_to_the_parent_the_parent_to_the_file_and_the_file_to_changes(tmp_path):
    write(
        tmp_path,
        "parent.json",
        BASE | {"train": {"steps": 1, "batch": 1, "keep": 9}, "optim": {"lr": 1e-3, "warmup": 1}},
    )
    (tmp_path / "deeper").mkdir()
    path = write(
        tmp_path, "deeper/child.json", {"extends": "../parent.json", "train": {"steps": 2, "batch": 2}}
    )
    config = load_config(path, ["train.steps=3", "optim.lr=1e-2"])
    found = (config.train.accumulate, config.train.keep, config.train.batch, config.train.steps)
    assert found == (1, 9, 2, 3)
    assert (config.optim.lr, config.optim.warmup) == (1e-2, 1)
    assert config.name == "base"


def test_a_file_without_a_name_lends_its_own(tmp_path):
    path = write(tmp_path, "blue.json", {key: BASE[key] for key in ("model", "data")})
    assert load_config(path).name == "blue"
    assert load_config(path, ["name=red", "runs=elsewhere"]).folder == Path("elsewhere/red")


def test_values_are_json_or_else_text(tmp_path):
    path = write(tmp_path, "a.json", BASE)
    config = load_config(
        path,
        [
            "data.root=/a folder/with=sign",
            "data.sources=[2,3]",
            "transfer=null",
            "sample.stochastic=true",
            "sample.sampler=euler",
            "optim.lr_scale.encoder=0.5",
            "name=64",
        ],
    )
    assert config.data.root == "/a folder/with=sign"
    assert config.data.sources == (2, 3)
    assert config.transfer is None
    assert config.sample.stochastic is True
    assert config.optim.lr_scale == {"encoder": 0.5}
    assert config.name == "64"


def test_a_file_of_another_family_inherits_all_but_the_model_and_the_rates_of_its_parts(tmp_path):
    parent = BASE | {"optim": {"lr": 1e-3, "lr_scale": {"denoiser": 2.0}}, "train": {"steps": 7}}
    parent["model"] = {"family": "genvs", "encoder": {"planes": 5}, "noise": {"start": "high"}}
    write(tmp_path, "parent.json", parent)
    child = write(
        tmp_path,
        "child.json",
        {"extends": "parent.json", "model": {"family": "pixelnerf", "source_noise": 0.5}},
    )
    config = load_config(child)
    assert (config.train.steps, config.optim.lr, config.optim.lr_scale) == (7, 1e-3, {})
    assert (config.model.family, config.model.source_noise) == ("pixelnerf", 0.5)
    assert config.model.encoder.planes == 64
    for model in ({"family": "genvs", "source_noise": 0.5}, {"source_noise": 0.5}):
        same = load_config(write(tmp_path, "same.json", {"extends": "parent.json", "model": model}))
        assert (same.optim.lr_scale, same.model.encoder.planes) == ({"denoiser": 2.0}, 5)
        assert (same.model.noise.start, same.model.source_noise) == ("high", 0.5)


@pytest.mark.parametrize("path", sorted((ROOT / "config").rglob("*.json")), ids=lambda path: path.stem)
def test_every_config_of_the_project_loads_and_survives_a_round_trip(path):
    configs = load_stages(path, ["data.root=somewhere"])
    assert path.stem in (configs[0].name, configs[0].folder.parent.name)
    config = configs[-1]
    assert isinstance(config, RunConfig)
    assert validate_config(json.loads(config.model_dump_json()), "again") == config


def test_a_ramp_may_be_given_changed_and_replaced(tmp_path):
    write(tmp_path, "parent.json", BASE | {"model": {"loss": {"rgb": {"start": 1, "end": 0.1}}}})
    path = write(tmp_path, "child.json", {"extends": "parent.json"})
    changed = load_config(path, ["model.loss.rgb.until=0.5", 'data.sources=[1,{"start":1,"end":3}]'])
    assert changed.model.loss.rgb == Ramp(start=1, end=0.1, until=0.5)
    assert changed.data.sources == (1, Ramp(start=1, end=3))
    assert validate_config(json.loads(changed.model_dump_json()), "again") == changed
    assert load_config(path, ["model.loss.rgb=2"]).model.loss.rgb == 2


def old_document(steps: int, noise: dict, optim: dict) -> dict:
    return BASE | {"train": {"steps": steps}, "model": {"noise": noise}, "optim": optim}


def test_schedules_in_steps_as_older_versions_wrote_them_are_read_as_progress():
    document = old_document(
        1200,
        {"start": "high", "end": "low", "anneal_steps": 300},
        {"lr": 1e-3, "decay_from": 500, "decay_steps": 700},
    )
    kept = copy.deepcopy(document)
    config = validate_config(document, "old")
    assert document == kept
    for step in range(0, 1201, 75):  # the older formulas, beside the new ones
        share = min(1.0, step / 300)
        assert level_at(config.model.noise, step / 1200).mean == pytest.approx(1.0 - 2.2 * share)
        fall = (1 + math.cos(math.pi * min(1.0, max(0, step - 500) / 700))) / 2
        factor = learning_rate_factor(config.optim, step, step / 1200)
        assert factor == pytest.approx(fall * min(1, (step + 1) / 500))


@pytest.mark.parametrize(
    ("noise", "optim", "wanted"),
    [
        ({"start": "mid", "end": None, "anneal_steps": 100_000}, {"decay_from": None, "decay_steps": 0}, {}),
        (
            {"start": "low", "anneal_steps": 7},
            {"decay_from": 80, "decay_steps": 4},
            {"noise": {"start": "low"}},
        ),
        (
            {"start": "low", "end": "high", "anneal_steps": 160},  # longer than the run
            {"decay_steps": 4, "decay_from": 20},
            {
                "noise": {"start": "low", "end": "high", "until": 1.0},
                "optim": {"schedule": "cosine", "decay_from": 0.5},
            },
        ),
    ],
)
def test_an_older_config_is_the_newer_one_that_does_the_same(noise, optim, wanted):
    found = validate_config(old_document(40, noise, optim), "old")
    assert found == validate_config(old_document(40, wanted.get("noise", {}), wanted.get("optim", {})), "new")


def test_older_keys_that_never_were_right_are_named():
    for noise, optim, words in (
        ({}, {"decay_from": 0.5, "decay_steps": 7}, r"unknown key 'optim\.decay_steps'"),
        ({"anneal_steps": "long"}, {}, r"unknown key 'model\.noise\.anneal_steps'"),
    ):
        with pytest.raises(ValueError, match=words):
            validate_config(old_document(40, noise, optim), "old")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("train.stesp=1", ["unknown key 'train.stesp'", "did you mean 'train.steps'"]),
        ("device=cpu", ["unknown key 'device'", "did you mean 'train.device'"]),
        ("trian.steps=1", ["unknown key 'trian'", "did you mean 'train'"]),
        (
            "model.encoder.plane=4",
            ["unknown key 'model.encoder.plane'", "did you mean 'model.encoder.planes'"],
        ),
        ("model.loss.xyzzy=4", ["unknown key 'model.loss.xyzzy'", "remove it"]),
        ("train.steps=many", ['train.steps: must be a whole number, but is "many"; the default is 100000']),
        ("train.steps=1.5", ["train.steps: must be a whole number, but is 1.5"]),
        ("train.steps=null", ["train.steps: must be a whole number, but is null; the default is 100000"]),
        ("train.batch=0", ["train.batch: must be at least 1, but is 0; the default is 4"]),
        ("train.previews=65", ["train.previews: must be at most 64"]),
        ("optim.lr=-1", ["optim.lr: must be more than 0, but is -1; the default is 0.0001"]),
        ("optim.lr=fast", ['optim.lr: must be a number, but is "fast"']),
        ("optim.ema=1", ["optim.ema: must be less than 1, but is 1"]),
        ('optim.lr_scale={"field": -1}', ["optim.lr_scale.field: must be at least 0, but is -1"]),
        ("train.compile=maybe", ['train.compile: must be true or false, but is "maybe"']),
        ("train.device=3", ['train.device: must be text, but is 3; the default is "auto"']),
        ("transfer=[1]", ["transfer: must be text, or null, but is [1]"]),
        ("data.root=null", ["data.root: must be text, but is null"]),
        (
            "data.layout=srm",
            ["data.layout: must be one of 'auto', 'packed'", "(did you mean 'srn'?)", '"srm"'],
        ),
        ("model.encoder.weights=imagnet", ["(did you mean 'imagenet'?), or null"]),
        ("data.sources=3", ["data.sources: must be a list, but is 3; the default is [1, 3]"]),
        ("data.sources=[1]", ["data.sources: entry 2 is missing; the default is [1, 3]"]),
        ("data.sources=[1,2,3]", ["data.sources: must be a list of 2 or fewer, but is [1, 2, 3]"]),
        ('data.sources=[1,"b"]', ['data.sources: entry 2 must be a whole number, but is "b"']),
        ("model.denoiser.channels=[]", ["model.denoiser.channels: must be a list of 1 or more"]),
        ("sample.sigma_min=100", ["sample: sigma_min 100.0 must be below sigma_max 80.0"]),
        ("optim.lr=Infinity", ["optim.lr", "finite"]),
        ("optim.lr=NaN", ["optim.lr", "finite"]),
        ("model.loss.rgb=Infinity", ["model.loss.rgb", "finite"]),
        ("model.family=vewfusion", ["vewfusion", "choose one of genvs"]),
        ('model.family=["a"]', ["family"]),
        ("model=3", ["model: must be a section", "but is 3"]),
        ("train=null", ["train: must be a section of keys and values, but is null"]),
        ("train.steps.deep=1", ["'steps' is a value"]),
        ("sample.sampler=eular", ["no sampler 'eular' (did you mean 'euler'?); choose one of euler, heun"]),
        ("sample.sampler=xyzzy", ["no sampler 'xyzzy'; choose one of euler, heun"]),
        ("data.sources=[3,1]", ["data.sources", "fewest"]),
        ('data.sources=[1,{"start":3,"end":0}]', ["data.sources", "at progress 0.84", "[1, 0]", "fewest"]),
        ('data.sources=[{"start":1,"end":3},2]', ["data.sources", "at progress 0.76", "[3, 2]"]),
        ('data.sources=[1,{"start":3}]', ["data.sources: entry 2 'end' is missing"]),
        ("model.loss.rgb=-1", ["model.loss.rgb", "at least 0", "-1"]),
        ('model.loss.rgb={"start":1,"end":-1}', ["model.loss.rgb", "at least 0"]),
        (
            'model.loss.rgb={"start":1,"end":0,"untill":1}',
            ["unknown key 'model.loss.rgb.untill'", "did you mean 'model.loss.rgb.until'"],
        ),
        (
            'model.loss.rgb={"start":1,"end":0,"begin":0.4,"until":0.2}',
            ["model.loss.rgb", "until (0.2) is before begin (0.4)"],
        ),
        ('model.augment.prob={"start":0,"end":2}', ["model.augment.prob", "between 0 and 1"]),
        ("model.drop_condition_prob=1.5", ["model.drop_condition_prob", "between 0 and 1"]),
        ("model.noise.start=higher", ["model.noise.start", '"mid"', "higher"]),
        ('model.noise.end={"mean":1}', ["model.noise.end.std", "missing"]),
        ("model.noise.until=2", ["model.noise.until", "at most 1"]),
        ("optim.decay_from=0.5", ["optim", "schedule=cosine"]),
        ("optim.decay_from=15000", ["optim.decay_from", "at most 1"]),
        ("name=../x", ["name", "../x", "letters"]),
        ("name=..", ["name", "letters"]),
        ("name=.", ["name", "letters"]),
        ('name=""', ["name", "letters"]),
        ("name=a/b", ["name", "a/b"]),
        ('name="a\\n"', ["name", "letters"]),
        ("steps", ["'steps' is not key=value"]),
        ("=3", ["is not key=value"]),
    ],
)
def test_a_wrong_change_is_one_line_that_names_the_key(tmp_path, change, words):
    path = write(tmp_path, "run.json", BASE | {"train": {"steps": 5}})
    message = complaint(path, change)
    assert all(word in message for word in words), message
    assert not any(word in message for word in ("should", "valid", "parse", "Tuple", "Input")), message


def test_a_wrong_file_is_one_line_that_names_it(tmp_path):
    missing = str(tmp_path / "no.json")
    assert missing in complaint(missing)
    assert "cannot be read" in complaint(tmp_path)
    for name, text, word in (
        ("text.json", "no json {", "is not JSON"),
        ("list.json", "[1, 2]", "must hold a JSON object"),
        ("strange.json", '{"extends": 3}', '"extends" must be'),
        ("orphan.json", '{"extends": "gone.json"}', "gone.json"),
        ("binary.json", "\x00\x01", "is not JSON"),
    ):
        message = complaint(write(tmp_path, name, text))
        assert word in message
        assert str(tmp_path) in message


def test_bytes_that_are_no_text_are_one_line(tmp_path):
    (tmp_path / "a.json").write_bytes(b"\xff\xfe\x00{")
    assert "is not JSON" in complaint(tmp_path / "a.json")


def test_very_deep_nesting_is_one_line(tmp_path):
    write(tmp_path, "deep.json", '{"a":' * 100_000)
    assert "deep.json" in complaint(tmp_path / "deep.json")


def test_a_circle_of_parents_is_found(tmp_path):
    write(tmp_path, "a.json", {"extends": "b.json"})
    write(tmp_path, "b.json", {"extends": "sub/../a.json"})
    (tmp_path / "sub").mkdir()
    assert "circle" in complaint(tmp_path / "a.json")
    write(tmp_path, "self.json", {"extends": "self.json"})
    assert "circle" in complaint(tmp_path / "self.json")


def test_a_key_that_is_missing_is_named(tmp_path):
    message = complaint(write(tmp_path, "run.json", {"model": {"family": "genvs"}}))
    assert "run.json" in message
    assert "'data'" in message
