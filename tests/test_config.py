"""config/__init__.py: inheritance, changes from the command line, and one clear line for every mistake."""

import json
from pathlib import Path

import pytest

from config import RunConfig, load_config, validate_config

ROOT = Path(__file__).resolve().parent.parent
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


@pytest.mark.parametrize("path", sorted((ROOT / "config").glob("*.json")), ids=lambda path: path.stem)
def test_every_config_of_the_project_loads_and_survives_a_round_trip(path):
    config = load_config(path, ["data.root=somewhere"])
    assert isinstance(config, RunConfig)
    assert config.name == path.stem
    assert validate_config(json.loads(config.model_dump_json()), "again") == config


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
        ("train.steps=many", ["train.steps", "integer", '"many"']),
        ("train.batch=0", ["train.batch", "greater than or equal to 1", "0"]),
        ("optim.lr=-1", ["optim.lr", "greater than 0"]),
        ("optim.lr=Infinity", ["optim.lr", "finite"]),
        ("optim.lr=NaN", ["optim.lr", "finite"]),
        ("model.loss.rgb=Infinity", ["model.loss.rgb", "finite"]),
        ("model.family=vewfusion", ["vewfusion", "choose one of genvs"]),
        ('model.family=["a"]', ["family"]),
        ("model=3", ["model must be an object"]),
        ("train=null", ["train"]),
        ("train.steps.deep=1", ["'steps' is a value"]),
        ("sample.sampler=eular", ["sampler", "eular", "euler"]),
        ("data.sources=[3,1]", ["data.sources", "fewest"]),
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
