"""scripts/report: what the page says is what the run has left, and nothing on it comes from elsewhere."""

import json
import math
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from models.checkpoints.format import checkpoint_path
from models.training.ema import EMA
from models.training.run_directory import save_checkpoint
from scripts.report import __main__ as report
from scripts.report.read_run import read_run
from tests.html_pages import Element
from tests.scripts.report.made_runs import (
    chart_of,
    figure_of,
    lines,
    make,
    numbers,
    plant_run,
    points_of,
    read_off,
    values_of,
)

EVIL = "<script>alert('a')</script> & \"b\" <img src=x onerror=alert(1)>"


def problems(page: Element) -> list[str]:
    found = page.with_id("problems")
    return [one.text for one in found.all("li")] if found else []


def test_figures_are_those_of_the_log(tmp_path):
    rows = lines()
    page = make(plant_run(tmp_path / "run", rows, data={"image_size": 37}))
    tiles = {tile.all("dt")[0].text: numbers(tile) for tile in page.all("dl")[0].all("div")}
    seconds = [row["seconds"] / 10 for row in rows]
    assert tiles == {
        "Sample PSNR, held out": [rows[3]["held_out_sample_psnr"], rows[3]["held_out_sample_psnr"]],
        "Preview PSNR, held out": [rows[3]["held_out_preview_psnr"], rows[1]["held_out_preview_psnr"]],
        "Loss": [rows[4]["loss"], rows[0]["loss"]],
        "Time of a step": [
            pytest.approx(float(np.median(seconds))),
            pytest.approx(3 * 2 / np.median(seconds)),
        ],
    }
    row = page.with_id("figures").all("tbody")[0].all("tr")[0]
    assert [cell.text for cell in row.all("td")][:4] == ["50", "52 s", "1.03 s", "37"]
    assert numbers(row)[2:] == [1.7, 1.7 / 5, 10.25, 12.25, 15.625, 15.625]
    assert "best 12.25 at step 20" in page.all("dl")[0].text
    assert page.all("h1")[0].text == "run"
    assert page.all("p", "state")[0].text.startswith("finished50 steps52 s of training")
    assert problems(page) == []


def test_every_logged_number_has_a_curve_and_a_row_of_its_values(tmp_path):
    rows = [row | {"health/opacity": row["step"] ** 2, "surprise": -row["loss"]} for row in lines(7)]
    run = plant_run(tmp_path / "run", rows)
    page = make(run)
    keys = {"Loss": ("loss", "rgb", "opacity"), "Gradient norm": ("gradient_norm",)}
    keys |= {"Learning rate": ("lr",), "Share of time waiting for data": ("data_wait",)}
    keys |= {"Opacity": ("health/opacity",), "Surprise": ("surprise",)}
    keys |= {"PSNR of held-out views": ("held_out_preview_psnr", "held_out_sample_psnr")}
    for title, drawn in keys.items():
        figure = figure_of(run, title)
        for number, key in enumerate(drawn):
            expected = [(row["step"], row[key]) for row in rows if key in row]
            points = points_of(figure, number=number, num_series=len(drawn))
            np.testing.assert_array_equal(points, expected)
            values = [value for _, value in expected]
            assert values_of(chart_of(page, title), key) == [values[-1], min(values), max(values)]
    points = points_of(figure_of(run, "Time of a step"))
    np.testing.assert_allclose(points[:, 1], [row["seconds"] / 10 for row in rows])
    assert len(page.all("figure", "chart")) == len(page.all("svg")) == len(keys) + 1


def test_a_curve_can_be_read_off_its_axes(tmp_path):
    rows = [{"step": 7 * number, "x": 2000.0, "loss": 3 + (number % 4) ** 2} for number in range(1, 8)]
    page = make(plant_run(tmp_path / "run", rows))
    expected = [(row["step"], row["loss"]) for row in rows]
    np.testing.assert_allclose(read_off(chart_of(page, "Loss"), "c1"), expected, rtol=0.01, atol=0.02)
    np.testing.assert_allclose(read_off(chart_of(page, "X"), "c1")[:, 1], 2000.0, rtol=1e-3)


def test_the_same_run_makes_the_same_page(tmp_path):
    run = plant_run(tmp_path / "run", lines(40), pictures={20: (20, 32), 40: (20, 32)})
    texts = []
    for name in ("a.html", "b.html"):
        assert report.main([str(run), "--output", str(tmp_path / name)]) == 0
        texts.append((tmp_path / name).read_text())
    assert texts[0] == texts[1]


def test_charts_take_all_their_colours_from_the_theme(tmp_path):
    """Or they could not be seen in the dark."""
    warned = {"steps": 500, "warnings": [(100, "empty")]}
    plant_run(tmp_path / "recipe" / "1_a", [row | {"rgb": math.nan} for row in lines(50)], **warned)
    plant_run(tmp_path / "recipe" / "2_b", lines(50), **warned)
    page = make(tmp_path / "recipe")
    parts = [part for chart in page.all("svg") for part in chart.all()]
    values = " ".join(value for part in parts for value in part.attributes.values())
    assert not re.findall(r": #[0-9a-f]{3,8}\b", values)
    names = set(re.findall(r"var\((--\w+)\)", values))
    style = page.all("style")[0].text
    assert {"--c0", "--c1", "--faint", "--grid", "--halt", "--rule"} <= names
    assert all(style.count(f"{name}:") == 2 for name in names)  # light and dark


def test_nothing_on_the_page_comes_from_elsewhere(tmp_path):
    pictures = {20: (20, 32), 40: (20, 32)}
    page = make(plant_run(tmp_path / "run", lines(), pictures=pictures, warnings=[(20, "empty")]))
    for element in page.all():
        for name, value in element.attributes.items():
            if name in ("src", "href", "xlink:href"):
                assert re.match(r"data:|#", value), value
            assert not name.startswith("on")
    for link in page.all("a"):
        address = link.attributes.get("href") or link.attributes["xlink:href"]
        assert page.with_id(address.removeprefix("#")) is not None
    text = (tmp_path / "page.html").read_text()
    assert not re.search(r"https?:|@import|url\((?!#)", text)
    assert "default-src 'none'" in text


@pytest.mark.filterwarnings("error")
def test_words_from_elsewhere_stay_words(tmp_path):
    name = EVIL.replace("/", "")
    rows = [row | {EVIL: 3.5, "health/</script><b>": 2.5} for row in lines()]
    recipe = tmp_path / name
    for stage in ("1_a", '2_<b> $\\frac$ id="1" \u4f53\u79ef'):
        plant_run(
            recipe / stage,
            rows,
            warnings=[(20, EVIL), (50, "</td><b>")],
            note=EVIL,
            model={"loss": {EVIL: 1}},
        )
    (recipe / "1_a" / "samples" / "step-00000001.png").write_text("no picture")
    with (recipe / stage / "log.jsonl").open("a") as log:
        log.write(json.dumps({"step": 60, "</script>": EVIL}) + "\n")
    page = make(recipe)
    assert page.all("h1")[0].text == name
    assert page.all("b") == page.all("dl")[0].all("b")
    assert len(page.all("script")) == 1
    assert page.all("img") == []
    assert EVIL in page.with_id("warning-1").text
    assert json.dumps(EVIL) in page.all("pre")[0].text
    assert any("'</script>' is not always a number" in problem for problem in problems(page))
    assert not [name for one in page.all() for name in one.attributes if name.startswith("on")]
    assert any(EVIL in one.attributes.get("data-key", "") for one in page.all("tr"))


def test_warnings_are_marked_on_every_chart_and_lead_to_their_words(tmp_path):
    warned = [(100, "empty"), (101, "still empty"), (400, "ignored")]
    page = make(plant_run(tmp_path / "run", lines(50), steps=500, warnings=warned))
    for chart in page.all("figure", "chart"):
        marks = chart.all("a")
        assert [mark.text.strip() for mark in marks] == ["1\u20132", "3"]
        assert [mark.attributes["xlink:href"] for mark in marks] == ["#warning-1", "#warning-3"]
    marks = [text for text in figure_of(tmp_path / "run", "Loss").axes[0].texts if text.get_url()]
    assert [mark.get_position()[0] for mark in marks] == [100, 400]
    assert page.with_id("warning-3").text == "3400ignored"


def test_a_run_goes_on_until_its_log_is_silent(tmp_path):
    run = plant_run(tmp_path / "run", lines(3), steps=50)
    written = (run / "log.jsonl").stat().st_mtime
    assert read_run(run).state(written + 60) == "running"
    assert read_run(run).state(written + 10_000) == "stopped"
    slow = [row | {"seconds": 9000.0} for row in lines(3)]
    (run / "log.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in slow))
    assert read_run(run).state(written + 10_000) == "running"  # a line an hour or two is its pace
    assert read_run(plant_run(tmp_path / "done", lines(5))).state(written + 10_000) == "finished"
    assert read_run(plant_run(tmp_path / "new", [])).state(written) == "not started"
    os.utime(run / "log.jsonl", (0, 0))
    text = make(run).all("p", "state")[0].text
    assert text.startswith("stoppedstep 30 of 50")


def test_parameters_are_those_of_the_model(tmp_path):
    model = nn.ModuleDict(
        {"encoder": nn.Sequential(nn.Conv2d(3, 5, 3), nn.BatchNorm2d(5)), "field": nn.Linear(4, 7)}
    )
    run = plant_run(tmp_path / "run", [])
    ema, optimizer = EMA(model, 0.9), torch.optim.AdamW(model.parameters())
    for step in (3, 12):
        save_checkpoint(checkpoint_path(run, step), model, ema, optimizer, step=step, config={})
    page = make(run)
    tile = page.all("dl")[0].all("div")[0]
    assert numbers(tile) == [sum(parameter.numel() for parameter in model.parameters())]
    for name, part in model.items():
        assert f"{name} {sum(parameter.numel() for parameter in part.parameters())}" in tile.text
    assert "step 12 of 50" in page.all("p", "state")[0].text  # by its checkpoint, for want of a log


def test_nothing_but_the_page_is_written(tmp_path, capsys):
    run = plant_run(tmp_path / "run", lines(), pictures={20: (20, 32)})
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    assert report.main([str(run)]) == 0
    after = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    assert after.keys() - before.keys() == {run / "report.html"}
    assert before.items() <= after.items()
    out, err = capsys.readouterr()
    assert out.startswith(f"{run / 'report.html'}: finished, 1 pictures, ")
    assert err == ""


def test_watching_ends_with_the_run(tmp_path, monkeypatch):
    run, naps = plant_run(tmp_path / "run", lines(4)), []

    def nap(seconds):
        assert 'http-equiv="refresh" content="7"' in (run / "report.html").read_text()
        naps.append(seconds)
        with (run / "log.jsonl").open("a") as log:
            log.write(json.dumps(lines(5)[4]) + "\n")

    monkeypatch.setattr(report.time, "sleep", nap)
    assert report.main([str(run), "--watch", "7"]) == 0
    assert naps == [7.0]
    assert 'http-equiv="refresh"' not in (run / "report.html").read_text()


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["nowhere"], "nowhere: there is no such folder; give a run such as runs/NAME"),
        (["empty"], "empty: holds no run, .* give one such as runs/NAME"),
        (["."], "holds no run, .* give one of the runs in it, such as run"),
        (["run", "--max-mb", "0"], "not above 0"),
        (["run", "--max-mb", "nan"], "not above 0"),
        (["run", "--max-mb", "much"], "invalid"),
        (["run", "--max-mb", "0.01"], r"--max-mb 0.01: the page takes \d+ kB without pictures; allow more"),
        (["run", "--watch", "-3"], "not above 0"),
        (["run", "--output", "run/config.json/page.html"], "cannot be written"),
        ([], "required: RUN"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(tmp_path, monkeypatch, capsys, arguments, told):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    plant_run(tmp_path / "run", lines())
    try:
        code = report.main(arguments)
    except SystemExit as exit_:
        code = exit_.code
    assert code == 2
    out, err = capsys.readouterr()
    assert err.count("\n") == 1
    assert re.search(told, err), err
    assert out == ""
    assert not list(tmp_path.rglob("*.html"))


def test_help_answers_without_heavy_imports():
    code = "import sys\nfrom scripts.report import __main__ as report\ntry: report.main(['--help'])\n"
    code += "finally: assert not {'torch', 'PIL', 'numpy'} & set(sys.modules)"
    folder = Path(report.__file__).parents[2]
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=folder)
    assert answer.returncode == 0, answer.stderr
    assert "--max-mb" in answer.stdout
