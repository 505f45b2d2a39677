"""models/training/tracking.py: tracking never holds a run up."""

import time

import pytest

from config.run import validate_config
from models.training.tracking import Tracker
from tests.scenes import run_document

BLACK_HOLE = "http://127.0.0.1:9"  # nothing listens on the discard port


@pytest.fixture
def make_tracker(tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_BASE_URL", BLACK_HOLE)
    monkeypatch.setenv("WANDB_SILENT", "true")
    monkeypatch.delenv("WANDB_MODE", raising=False)

    def make(mode: str, key: str | None = None) -> Tracker:
        if key:
            monkeypatch.setenv("WANDB_API_KEY", key)
        else:
            monkeypatch.delenv("WANDB_API_KEY", raising=False)
            monkeypatch.setenv("NETRC", str(tmp_path / "no-netrc"))
        config = validate_config(run_document("data", tmp_path, train={"wandb": mode}), "test")
        config.folder.mkdir(exist_ok=True)
        return Tracker(config)

    return make


def test_without_tracking_nothing_is_written(make_tracker, tmp_path):
    tracker = make_tracker("off")
    tracker.log({"step": 1, "loss": 2.0})
    tracker.finish()
    assert tracker.notice is None
    assert not list(tmp_path.rglob("*.wandb"))


@pytest.mark.parametrize(("mode", "key"), [("offline", None), ("on", None), ("on", 40 * "a")])
def test_tracking_without_a_server_is_kept_for_later(make_tracker, tmp_path, mode, key):
    began = time.monotonic()
    tracker = make_tracker(mode, key)
    tracker.log({"step": 1, "loss": 2.0})
    tracker.finish()
    assert time.monotonic() - began < 60, "it waited for a server"  # a hang, not a speed
    assert (tracker.notice is None) == (mode == "offline")
    assert mode == "offline" or "offline" in tracker.notice
    assert len(list(tmp_path.rglob("*.wandb"))) == 1


def test_stages_of_two_recipes_are_tracked_in_places_of_their_own(tmp_path, monkeypatch):
    began = []
    monkeypatch.setattr("wandb.init", lambda **options: began.append(options["id"]))
    for recipe in (None, "cars", "shapes"):
        document = run_document("data", tmp_path, train={"wandb": "offline"})
        Tracker(validate_config(document | {"name": "1_volumes", "recipe": recipe}, "test"))
    assert began == ["1_volumes", "cars_1_volumes", "shapes_1_volumes"]
