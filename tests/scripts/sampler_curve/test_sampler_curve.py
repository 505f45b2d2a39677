"""scripts/sampler_curve: what is counted, compared, written and refused."""

import math
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image

from data.formats.registry import open_split
from data.images.quality import psnr
from data.scenes.loader import held_out
from diffusion.samplers import SampleOptions, num_evaluations
from models.checkpoints.format import find_checkpoint, load_checkpoint, write_checkpoint
from models.checkpoints.loading import load_model
from scripts.sampler_curve import __main__ as sampler_curve
from scripts.sampler_curve.curve import BASELINE, Curve, Row, by_label, difference, label, no_worse, table
from tests.tiny_run import save_tiny_run, tiny_config

needs_extras = pytest.mark.usefixtures("extras")
SHORT = BASELINE.model_copy(update={"steps": 4})


@pytest.fixture(scope="module")
def extras():
    for name in ("matplotlib", "torchmetrics", "stlpips_pytorch.stlpips"):
        pytest.importorskip(name, reason="needs requirements-metrics.txt")


@pytest.fixture
def run(tmp_path, plant_object, monkeypatch) -> Path:
    """A run on two held-out objects of 5 and 4 views; the baseline takes but 4 steps."""
    for name, num_views in (("cars_train/a", 3), ("cars_val/bb", 5), ("cars_val/c", 4)):
        plant_object(tmp_path / "data" / name, num_views=num_views, size=(32, 32))
    monkeypatch.setattr("scripts.sampler_curve.curve.BASELINE", SHORT)
    monkeypatch.chdir(tmp_path)
    return save_tiny_run(tiny_config(tmp_path / "data", tmp_path / "runs"))


def measure(run: Path, *arguments: str) -> int:
    return sampler_curve.main([str(run), "--views", "2", "--device", "cpu", *arguments])


def read(folder: Path) -> Curve:
    return Curve.model_validate_json((folder / "curve.json").read_text())


def row(psnr: list[list[float]], stlpips: list[list[float]] | None = None, **options) -> Row:
    scores = {"psnr": psnr, "ssim": psnr, "stlpips": stlpips or psnr}
    return Row(options=SampleOptions(**options), seconds=0.5, scores=scores)


@needs_extras
def test_figures_are_those_of_the_views_that_the_model_draws(run, tmp_path, capsys):
    asked = ["--samplers", "heun", "euler+churn", "--steps", "2", "3", "--output", str(tmp_path / "out")]
    assert measure(run, *asked) == 0
    names = ["curve.md", "curve.png", "curve.json"]
    assert capsys.readouterr().out.split() == [str(tmp_path / "out" / name) for name in names]

    curve, (model, config, _) = read(tmp_path / "out"), load_model(run)
    batch = held_out(open_split(config.data, "val"), 2, num_targets=2)
    seeds = batch.seeds[:, None] + torch.arange(2)
    ways = [(row.options.sampler, row.options.stochastic, row.options.steps) for row in curve.rows]
    heun, churn = [("heun", False, steps) for steps in (2, 3)], [("euler", True, steps) for steps in (2, 3)]
    assert ways[0] == ("euler", True, 4)
    assert sorted(ways[1:]) == sorted([*heun, *churn, ("dpmpp_2m", False, 3)])  # the last is the run's own
    for row in curve.rows:
        drawn = model.sample(batch.source, batch.target.cameras, seeds, row.options)
        expected = psnr(drawn.images, batch.target.images)
        torch.testing.assert_close(torch.tensor(row.scores["psnr"]), expected, atol=1e-3, rtol=0)
        assert [len(views) for metric in ("ssim", "stlpips") for views in row.scores[metric]] == [2] * 4
        assert row.seconds > 0


def test_options_of_a_family_survive_their_file():
    class Own(SampleOptions, frozen=True):
        levels: str = "karras"

    baseline = Own(sampler="euler_ancestral", steps=7, levels="training", sigma_max=151.0)
    scores = {"psnr": [[1.0]], "ssim": [[1.0]], "stlpips": [[1.0]]}
    rows = tuple(
        Row(options=options, seconds=0.5, scores=scores)
        for options in (baseline, Own(sampler="dpmpp_2m_sde", sigma_max=151.0), Own(sampler="dpmpp_2m_sde"))
    )
    curve = Curve(setup={"run": "x"}, rows=rows)
    again = Curve.model_validate_json(curve.model_dump_json(), context={"options": Own})
    assert again == curve
    assert again.row(baseline) == rows[0]
    assert set(by_label(again)) == {
        "euler_ancestral on training levels",
        "dpmpp_2m_sde",
        "dpmpp_2m_sde, sigma 0.01 to 80",
    }
    assert "Gains are over euler_ancestral on training levels with 7 steps" in table(again)
    with pytest.raises(ValueError, match="levels"):
        Curve.model_validate_json(curve.model_dump_json(), context={"options": SampleOptions})


@needs_extras
def test_the_evaluations_of_the_table_are_those_of_the_network(run, tmp_path, monkeypatch):
    calls, made = [], []

    def counting(path):
        model, *rest = load_model(path)
        model.denoiser.register_forward_hook(lambda module, inputs, output: calls.append(len(inputs[0])))
        return model, *rest

    def counted(model, config, scenes, options, judges, device):
        calls.clear()
        row = measured(model, config, scenes, options, judges, device)
        made.append((options, sum(calls) / (2 * len(scenes))))  # two views a scene
        return row

    measured = sampler_curve.measured
    monkeypatch.setattr("models.checkpoints.loading.load_model", counting)
    monkeypatch.setattr(sampler_curve, "measured", counted)
    asked = ["--samplers", "dpm_2", "dpmpp_2m_sde", "--steps", "3", "--output", str(tmp_path)]
    assert measure(run, *asked) == 0
    assert {options.sampler: count for options, count in made} == {
        "euler": 4, "dpmpp_2m": 3, "dpm_2": 5, "dpmpp_2m_sde": 3
    }  # fmt: skip
    assert all(num_evaluations(options) == count for options, count in made)


@needs_extras
def test_the_table_and_the_chart_can_be_read(run, tmp_path):
    assert measure(run, "--samplers", "heun", "--steps", "2", "--output", str(tmp_path)) == 0
    lines = (tmp_path / "curve.md").read_text().splitlines()
    cells = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines if line.startswith("|")]
    assert {len(row) for row in cells} == {len(cells[0])}
    assert [row[:3] for row in cells[2:]] == [
        ["dpmpp_2m", "3", "3"], ["euler+churn", "4", "4"], ["heun", "2", "3"]
    ]  # fmt: skip
    with Image.open(tmp_path / "curve.png") as picture:
        assert picture.width > 2 * picture.height > 500


@needs_extras
def test_a_second_call_draws_only_what_is_new(run, tmp_path, monkeypatch):
    asked = ["--samplers", "euler", "--steps", "2", "--output", str(tmp_path)]
    assert measure(run, *asked) == 0
    before, drawn = read(tmp_path), []
    measured = sampler_curve.measured
    monkeypatch.setattr(
        sampler_curve, "measured", lambda *given: drawn.append(given[3].sampler) or measured(*given)
    )
    assert measure(run, *asked) == 0
    assert drawn == []
    assert measure(run, "--samplers", "heun", "euler", *asked[2:]) == 0
    assert drawn == ["heun"]
    assert read(tmp_path).rows[:-1] == before.rows


@needs_extras
def test_an_interruption_keeps_what_is_measured(run, tmp_path, monkeypatch, capsys):
    measured, left = sampler_curve.measured, iter([True, True])

    def interrupted(*given):
        if next(left, None) is None:
            raise KeyboardInterrupt
        return measured(*given)

    monkeypatch.setattr(sampler_curve, "measured", interrupted)
    assert measure(run, "--samplers", "euler", "--steps", "2", "5", "--output", str(tmp_path)) == 130
    assert capsys.readouterr().err.strip().endswith("run the same command to resume")
    assert len(read(tmp_path).rows) == 2


@needs_extras
@pytest.mark.parametrize(
    ("flags", "told"),
    [
        ("--samplers huen", "no sampler 'huen'"),
        ("--samplers dpmpp_2m+churn", "cannot be stochastic"),
        ("--steps 1", "euler with 1 steps: .* greater than or equal to 2"),
        ("--steps ten", "invalid int"),
        ("--sigma-min 90", "sigma_min 90.* below sigma_max"),
        ("--objects 3", "--objects 3: the split has 2"),
        ("--views 9", "9 target views"),
        ("--data nowhere", "nowhere"),
        ("--device tpu", "tpu"),
        ("--output file", "file.*cannot be written"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(run, tmp_path, capsys, flags, told):
    (tmp_path / "file").touch()
    command = ["--samplers", "euler", "--steps", "2", *flags.split()]
    try:
        code = measure(run, *command)
    except SystemExit as exit_:
        code = exit_.code
    assert code == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if "sampling" not in line]
    assert len(lines) == 1
    assert re.search(told, lines[0]), lines[0]
    assert not list(tmp_path.rglob("curve.*"))


@needs_extras
def test_figures_of_other_views_are_not_mixed(run, tmp_path, capsys):
    asked = ["--samplers", "euler", "--steps", "2", "--output", str(tmp_path)]
    assert measure(run, *asked) == 0
    assert measure(run, *asked, "--seed", "1") == 2
    assert "measured with seed 0, now 1; choose another --output" in capsys.readouterr().err
    checkpoint = load_checkpoint(find_checkpoint(run))
    other = {
        name: value + 1e-3 * name.startswith("ema.denoiser") for name, value in checkpoint.tensors.items()
    }
    write_checkpoint(replace(checkpoint, tensors=other))  # of another run that has the same name and step
    assert measure(run, *asked) == 2
    assert re.search(r"measured with weights \w{8}, now \w{8}; choose another", capsys.readouterr().err)
    write_checkpoint(replace(checkpoint, config=checkpoint.config | {"seed": 7}))
    assert measure(run, *asked) == 0
    (tmp_path / "curve.json").write_text("{}")
    assert measure(run, *asked) == 2
    assert "is no curve; delete it" in capsys.readouterr().err


def test_without_the_extras_the_file_that_brings_them_is_named(run, tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    assert measure(run, "--output", str(tmp_path / "out")) == 2
    told = capsys.readouterr().err
    assert told.count("\n") == 1
    assert "matplotlib.figure is not installed; pip install -r requirements-metrics.txt" in told
    assert not (tmp_path / "out").exists()


def test_gains_are_means_over_objects_with_their_standard_error():
    ours, theirs = row([[20.0, 22.0], [25.0]]), row([[18.0, 20.0], [24.0]])
    mean, error = difference(ours, theirs, "psnr")
    assert mean == pytest.approx(1.5)  # 2 for the first object, 1 for the second
    assert error == pytest.approx(0.5)  # standard deviation 1 / sqrt(2), of two
    assert ours.mean("psnr") == pytest.approx((21 + 25) / 2)
    assert math.isnan(difference(row([[1.0]]), row([[2.0]]), "psnr")[1])


@pytest.mark.parametrize(
    ("psnr", "stlpips", "expected"),
    [(20.0, 0.1, True), (20.1, 0.09, True), (19.9, 0.05, False), (25.0, 0.11, False)],
)
def test_no_worse_is_no_worse_in_both(psnr, stlpips, expected):
    assert no_worse(row([[psnr]], [[stlpips]]), row([[20.0]], [[0.1]])) == expected


def test_the_table_names_the_cheapest_that_is_no_worse():
    curve = Curve(setup={"run": "made up"})
    baseline = {"sampler": "euler", "stochastic": True, "steps": 250}
    for values, options in (
        ((20.0, 0.10), baseline),
        ((19.0, 0.10), {"sampler": "euler", "steps": 4}),
        ((20.5, 0.09), {"sampler": "heun", "steps": 10}),  # 19 evaluations
        ((20.1, 0.10), {"sampler": "dpmpp_2m", "steps": 18}),
        ((21.0, 0.05), {"sampler": "dpmpp_2m", "steps": 25}),
    ):
        curve = curve.with_row(row([[values[0]]], [[values[1]]], **options))
    assert "stLPIPS than that: dpmpp_2m with 18 steps." in table(curve)
    assert [len(rows) for rows in by_label(curve).values()] == [2, 1, 1, 1]


def test_ways_of_sampling_have_names_of_their_own():
    assert label(BASELINE) == "euler+churn"
    assert label(SampleOptions(sampler="euler", sigma_min=1, sigma_max=40)) == "euler, sigma 1 to 40"


def test_help_answers_without_heavy_imports():
    code = "import sys\nfrom scripts.sampler_curve import __main__ as p\ntry: p.main(['--help'])\n"
    code += "finally: assert not {'torch', 'matplotlib'} & set(sys.modules)"
    folder = Path(sampler_curve.__file__).parents[2]
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=folder)
    assert answer.returncode == 0, answer.stderr
    assert "euler+churn" in answer.stdout
