"""The report of runs that were killed, resumed or damaged: what can be read is shown, the rest is named."""

import json
from pathlib import Path

import numpy as np
import pytest

from scripts.report import __main__ as report
from scripts.report.read_run import read_run
from tests.html_pages import Element, read_page
from tests.scripts.report.made_runs import chart_of, figure_of, plant_run, points_of

ROWS = [{"step": step, "loss": 3.0 / step, "seconds": 0.5} for step in (10, 20, 30)]


def make(folder: Path) -> tuple[Element, list[str]]:
    """The page of a run, and what it says could not be read."""
    assert report.main([str(folder)]) == 0
    page = read_page(folder / "report.html")
    found = page.with_id("problems")
    return page, [one.text for one in found.all("li")] if found else []


def with_lines(folder: Path, *lines: str) -> Path:
    run = plant_run(folder, ROWS)
    with (run / "log.jsonl").open("a", encoding="utf-8") as log:
        log.write("".join(lines))
    return run


def test_a_last_line_that_is_cut_short_is_left_out(tmp_path):
    run = with_lines(tmp_path / "run", '{"step": 40, "loss": 0.0')
    _, told = make(run)
    assert told == [f"{run / 'log.jsonl'}: line 4 was cut short; it is left out"]
    assert points_of(figure_of(run, "Loss"))[:, 0].tolist() == [10, 20, 30]


@pytest.mark.parametrize("line", ["[1, 2]", "null", "nonsense", '{"step": 40, ', "[" * 100_000, '"text"'])
def test_a_line_that_is_no_object_is_named_and_those_behind_it_count(tmp_path, line):
    run = with_lines(tmp_path / "run", line, "\n\n", '{"step": 50, "loss": 1.0}\n')
    _, told = make(run)
    assert told == [f"{run / 'log.jsonl'}: line 4 is no JSON object; it is left out"]
    assert [row.step for row in read_run(run).stages[0].rows] == [10, 20, 30, 50]


def test_a_page_is_no_larger_for_a_log_that_is_damaged_throughout(tmp_path):
    run = with_lines(tmp_path / "run", *["nonsense\n"] * 3000)
    _, told = make(run)
    assert len(told) == 21
    assert told[-1].startswith("and 2,980 more, ")
    assert (run / "report.html").stat().st_size < 60_000


@pytest.mark.parametrize("step", ["-1", "2.5", "1e300", "null", "true", '"40"', "1" * 400, "NaN", "[4]"])
def test_a_line_without_a_step_is_left_out(tmp_path, step):
    run = with_lines(tmp_path / "run", f'{{"step": {step}, "loss": 1.0}}\n')
    _, told = make(run)
    assert told == [f"{run / 'log.jsonl'}: line 4 has no step; it is left out"]
    assert read_run(run).step == 30


@pytest.mark.parametrize("value", ["NaN", "Infinity", "-Infinity", "1e999", "1" * 400, "-1e200"])
def test_a_value_that_is_not_finite_is_a_cross_and_spoils_no_curve(tmp_path, value):
    run = with_lines(tmp_path / "run", f'{{"step": 40, "loss": {value}, "seconds": 0.5}}\n')
    page, told = make(run)
    odd = chart_of(page, "Loss").all("td", "odd")
    assert [one.text for one in odd] == ["\u00d7 total: 1 value not finite, first at step 40"]
    *curves, crosses = figure_of(run, "Loss").axes[0].get_lines()
    assert crosses.get_xydata().tolist() == [[40, 1]]
    assert crosses.get_marker() == "x"
    (curve,) = (line.get_xydata().tolist() for line in curves)
    assert curve == [[10, 0.3], [20, 0.15], [30, 0.1]]
    assert told == []


def test_a_number_that_is_never_finite_has_an_empty_chart(tmp_path):
    run = plant_run(tmp_path / "run", [{"step": 1, "loss": float("nan")}, {"step": 2, "loss": float("inf")}])
    page, _ = make(run)
    chart = chart_of(page, "Loss")
    assert "2 values not finite" in chart.all("td", "odd")[0].text
    assert not chart.all("data")


def test_values_that_are_no_numbers_are_named_once(tmp_path):
    more = [
        json.dumps({"step": step, "loss": 1.0, "note": "<b>", "on": True, "none": None}) for step in (40, 50)
    ]
    run = with_lines(tmp_path / "run", *(f"{line}\n" for line in more))
    page, told = make(run)
    named = {line.split("'")[1] for line in told}
    assert named == {"note", "on", "none"}
    assert len(told) == 3
    assert chart_of(page, "Loss")


def test_steps_done_anew_after_a_resume_replace_those_before(tmp_path):
    again = [{"step": 20, "loss": 7.0, "seconds": 0.5}, {"step": 25, "loss": 8.0, "seconds": 0.25}]
    run = with_lines(tmp_path / "run", *(f"{json.dumps(row)}\n" for row in again))
    _, told = make(run)
    assert points_of(figure_of(run, "Loss")).tolist() == [[10, 0.3], [20, 7.0], [25, 8.0]]
    seconds = points_of(figure_of(run, "Time of a step"))[:, 1]
    np.testing.assert_allclose(seconds, [0.05, 0.05, 0.05])
    assert told == []


@pytest.mark.parametrize("missing", ["log.jsonl", "config.json", "samples", "contents of the log"])
def test_what_is_missing_is_left_out(tmp_path, missing):
    run = plant_run(tmp_path / "run", ROWS)
    if missing == "samples":
        (run / "samples").rmdir()
    elif missing == "contents of the log":
        (run / "log.jsonl").write_bytes(b"")
    else:
        (run / missing).unlink()
    page, told = make(run)
    assert bool(told) == (missing == "config.json")
    assert bool(page.all("figure", "chart")) == ("log" not in missing)
    state = page.all("p", "state")[0].text
    assert ("step 30" in state) == ("log" not in missing)
    assert ("of 50" in state) == (missing != "config.json")


@pytest.mark.parametrize(
    "config", ["", "[]", "{", "[" * 100_000, '{"train": 3}', '{"train": {"steps": "many"}}']
)
def test_a_damaged_config_leaves_the_curves(tmp_path, config):
    run = plant_run(tmp_path / "run", ROWS)
    (run / "config.json").write_text(config)
    page, told = make(run)
    assert bool(told) == ("train" not in config)
    assert chart_of(page, "Loss")
    assert page.all("p", "state")[0].text.startswith("runningstep 30")


def test_bytes_that_are_no_text_do_no_harm(tmp_path):
    run = plant_run(tmp_path / "run", ROWS)
    with (run / "log.jsonl").open("ab") as log:
        log.write(b'{"step": 40, "loss": 1.0, "\xff\xfe": 2.0}\n\x00\x00\x00')
    (run / "config.json").write_bytes(b"\xff\xfe{}")
    (run / "warnings.jsonl").write_bytes(b'{"step": 3, "warning": "\xff"}\n{"warning": 2}\n{"step": 4}\n')
    page, told = make(run)
    assert len(told) == 3  # the log's last line, the config, a warning without a step
    assert len(page.with_id("warnings").all("tbody")[0].all("tr")) == 2


def test_a_damaged_checkpoint_is_named_and_the_one_before_is_used(tmp_path):
    from safetensors.numpy import save_file

    run = plant_run(tmp_path / "run", ROWS)
    (run / "checkpoints").mkdir()
    tensors = {
        "ema.encoder.a": np.zeros((3, 5)),
        "model.encoder.a": np.zeros((3, 5)),
        "ema.field.b": np.zeros(7),
    }
    save_file(tensors, run / "checkpoints" / "step-00000020.safetensors")
    (run / "checkpoints" / "step-00000030.safetensors").write_bytes(b"\x40\x00\x00")
    page, told = make(run)
    assert len(told) == 1
    assert "step-00000030.safetensors: cannot be read" in told[0]
    tile = page.all("dl")[0].all("div")[-1]
    assert tile.text == "Parameters22encoder 15, field 7"


def test_a_folder_where_a_file_should_be_is_named(tmp_path):
    run = plant_run(tmp_path / "run", [])
    (run / "log.jsonl").unlink()
    (run / "log.jsonl").mkdir()
    _, told = make(run)
    assert told == [f"{run / 'log.jsonl'}: cannot be read (Is a directory)"]
