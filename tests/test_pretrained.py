"""The shipped weights: their file, the figures of their model card, and the first film of the demo."""

import json
import re
from pathlib import Path

import pytest

from models import load
from models.checkpoints import format as checkpoint_format
from models.checkpoints.format import find_checkpoint
from scripts.evaluate.__main__ import main as evaluate
from scripts.make_shapes import main as make_shapes

FOLDER = Path(__file__).parents[1] / "pretrained"
CARD = (FOLDER / "README.md").read_text(encoding="utf-8")
FIGURES = json.loads((FOLDER / "cars_64.json").read_text(encoding="utf-8"))


def test_the_file_is_small_and_opens_by_its_name():
    assert (FOLDER / "cars_64.safetensors").stat().st_size <= 20e6
    model = load("cars_64", "cpu")
    weights = sum(value.numel() for value in model.parameters())
    assert f"{weights / 1e6:.1f} million weights" in CARD


def test_a_name_is_looked_up_only_if_there_is_no_such_path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert find_checkpoint("cars_64") == FOLDER / "cars_64.safetensors"
    (tmp_path / "cars_64").write_text("a file of the user")
    assert find_checkpoint("cars_64") == Path("cars_64")
    for missing in ("runs/cars_64", "cars_65"):
        with pytest.raises(ValueError, match=f"{missing}: no such run or checkpoint.*cars_64"):
            find_checkpoint(missing)
    monkeypatch.setattr(checkpoint_format, "SHIPPED", tmp_path / "empty")
    with pytest.raises(
        ValueError, match=r"cars_65: no such run or checkpoint; give a folder such as runs/NAME"
    ):
        find_checkpoint("cars_65")


def test_the_figures_of_two_held_out_cars_are_reproduced(tmp_path):
    root, output = tmp_path / "held_out", tmp_path / "figures.json"
    assert make_shapes(["--root", str(root), "--first", "2219", "--objects", "1", "--val", "2"]) == 0
    given = ["--checkpoint", "cars_64", "--data", str(root), "--device", "cpu", "--output", str(output)]
    assert evaluate(given) == 0
    found = json.loads(output.read_text(encoding="utf-8"))
    for name, expected in FIGURES["two_cars"].items():
        assert found[name] == pytest.approx(expected, abs=0.05), name  # other machines round differently


def test_the_card_states_the_figures_that_the_evaluation_wrote():
    table = dict(re.findall(r"^\| ([^|]+?) \| ([-\d.]+) \|", CARD, flags=re.MULTILINE))
    assert table, "the card has no table"
    for title, stated in table.items():
        value = FIGURES["thirty_cars"][title]
        assert stated == f"{value:.{len(stated.partition('.')[2])}f}", title
