"""scripts/report: scales, smoothing, thinning and grouping of curves; differences of configs."""

import json
import math
from pathlib import Path

import numpy as np
import pytest

from scripts.report.chart import COLOURS, looks, scale_of
from scripts.report.curves import charts_of, noisy, smooth, step_times, thin
from scripts.report.read_run import read_run
from scripts.report.run_data import Run, Stage
from scripts.report.summary import config_changes, config_text
from tests.scripts.report.made_runs import chart_of, figure_of, make, numbers, plant_run


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        ([1.0, 99.0], "linear"),
        ([1.0, 101.0], "log"),
        ([1e-9, 3.0, 2.0], "log"),
        ([-1.0, 2.0, 3.0], "linear"),
        ([-0.05, 0.001, 0.002, -0.003, 0.002, 0.001, 2.0], "asinh"),
        ([0.0, 0.001, 0.002, 0.003, 0.5, 0.9], "asinh"),
        ([5.0], "linear"),
        ([0.0, 0.0], "linear"),
        ([1e99, -1e99, 1e-300], "linear"),
        ([0.1 + 0.2, 0.3], "linear"),
        ([-3e99, -1e-99, 2e-50], "asinh"),
        ([*(10.0**n for n in range(-4, 4)), *(-(10.0**n) for n in range(-4, 4))], "asinh"),
        ([5e-324, 1e-300], "linear"),
        ([1e-99, 9e99], "log"),
    ],
)
def test_a_scale_suits_its_values(tmp_path, values, kind):
    assert scale_of(values)["value"] == kind
    rows = [{"step": step, "odd": value} for step, value in enumerate(values, 1)]
    run = plant_run(tmp_path / "run", rows)
    axes = figure_of(run, "Odd").axes[0]
    low, high = axes.get_ylim()
    assert low <= min(values) <= max(values) <= high
    assert low < high
    places = axes.transData.transform([(0, mark) for mark in axes.get_yticks() if low <= mark <= high])[:, 1]
    assert min(np.diff(places), default=12) >= 12  # pixels: a line of words
    marks = [mark for mark in axes.get_yticks() if low <= mark <= high]
    assert 1 <= len(marks) <= 10
    make(run)


def test_a_difference_that_is_but_rounding_makes_no_wild_curve(tmp_path):
    rows = [{"step": step, "odd": 300 + step % 2 * 1e-9} for step in range(1, 9)]
    low, high = figure_of(plant_run(tmp_path / "run", rows), "Odd").axes[0].get_ylim()
    assert high - low > 10


def test_a_share_is_shown_from_nothing(tmp_path):
    for values in ([0.2, 0.3], [0.0, 0.0], [0.001, 0.9]):
        assert scale_of(values, share=True) == {"value": "linear"}
        rows = [{"step": step, "data_wait": value} for step, value in enumerate(values, 1)]
        run = plant_run(tmp_path / f"{values}", rows)
        low, high = figure_of(run, "Share of time waiting for data").axes[0].get_ylim()
        assert low == 0
        assert high > max(values)


def test_a_long_log_keeps_its_peaks_and_shows_running_means(tmp_path):
    rng = np.random.default_rng(1)
    losses = 5 + rng.normal(size=3001) * 0.1
    losses[1234], losses[2345] = 9.0, 1.0
    rows = [{"step": step, "loss": loss} for step, loss in enumerate(losses.tolist(), 1)]
    logged, means = (line.get_xydata() for line in
                     figure_of(plant_run(tmp_path / "run", rows), "Loss").axes[0].get_lines())  # fmt: skip
    assert len(logged) <= 400
    assert [1235, 9.0] in logged.tolist()
    assert [2346, 1.0] in logged.tolist()
    assert 200 <= len(means) <= 301
    assert np.std(means[:, 1]) < 0.03  # a tenth of 3001 values
    assert means[-1, 0] == 3001


def test_running_means_on_a_logarithmic_scale_are_geometric(tmp_path):
    values = np.exp(5 * np.random.default_rng(5).normal(size=43)).tolist()
    rows = [{"step": step, "loss": value} for step, value in enumerate(values, 1)]
    axes = figure_of(plant_run(tmp_path / "run", rows), "Loss").axes[0]
    assert axes.get_yscale() == "log"
    means = axes.get_lines()[1].get_xydata()[:, 1]
    np.testing.assert_allclose(np.log(means), smooth(np.log(values).tolist()))


def test_running_means_are_means_of_what_is_near():
    values = np.random.default_rng(2).normal(size=67)
    near = [values[max(0, at - 3) : at + 4].mean() for at in range(67)]
    np.testing.assert_allclose(smooth(values.tolist()), near)
    assert smooth([4.0]) == [4.0]
    assert smooth([]) == []


def test_schedules_are_no_noise():
    warm = [min(1.0, step / 10) * (1 + math.cos(step / 30)) for step in range(90)]
    assert not noisy(warm)
    assert not noisy([1.0, 1.0, 2.0, 2.0, 1.0] * 5 + [1.0] * 200)
    assert noisy(np.random.default_rng(3).normal(size=90).tolist())


def test_thinning_keeps_the_least_and_greatest_of_every_stretch():
    values = np.random.default_rng(4).normal(size=1003).tolist()
    points = list(enumerate(values))
    thinned = thin(points, 20)
    assert len(thinned) <= 20
    assert thinned == sorted(set(thinned) & set(points))
    assert {max(values), min(values)} <= {value for _, value in thinned}
    assert thin(points, 1003) == points
    assert thin([], 4) == []


def test_keys_find_their_charts(tmp_path):
    keys = ["loss", "diffusion", "own_term", "gradient_norm", "gradient_norm/encoder", "lr", "lr/encoder"]
    keys += [
        "weight_norm/encoder",
        "ema_drift",
        "schedule/noise_mean",
        "schedule/noise_std",
        "health/opacity",
    ]
    keys += ["schedule/loss_rgb", "schedule/most_sources", "schedule/augment_prob", "schedule/source_noise"]
    keys += ["health/opacity_object", "health/latent_flat", "health/near_plane"]
    keys += [
        "seconds",
        "data_wait",
        "images_per_second",
        "gpu_memory_mib",
        "held_out_sample_lpips",
        "rgb",
        "odd",
    ]
    rows = [{"step": step} | dict.fromkeys(keys, 1.5) for step in (1, 2)]
    run = read_run(plant_run(tmp_path / "run", rows, model={"loss": {"rgb": 1.0}}))
    found = {(chart.heading, chart.title): [one.label for one in chart.series] for chart in charts_of(run)}
    assert found == {
        ("Held-out views", "Held out sample LPIPS"): ["held out sample LPIPS"],
        ("Losses", "Loss"): ["total", "diffusion", "own term", "RGB"],
        ("Optimisation", "Gradient norm"): ["all", "encoder"],
        ("Optimisation", "Learning rate"): ["all", "encoder"],
        ("Schedules", "Noise level"): ["mean", "std"],
        ("Schedules", "Weights of the losses"): ["RGB"],
        ("Schedules", "Source views"): ["most"],
        ("Schedules", "Probabilities"): ["augment"],
        ("Schedules", "Source noise"): ["source noise"],
        ("Weights and health", "Norm of the weights"): ["encoder"],
        ("Weights and health", "Drift of the averaged weights"): ["EMA drift"],
        ("Weights and health", "Opacity"): ["all", "object"],
        ("Weights and health", "Share of latent channels"): ["flat"],
        ("Weights and health", "Near plane"): ["near plane"],
        ("Speed and memory", "Time of a step"): ["seconds per step"],
        ("Speed and memory", "Share of time waiting for data"): ["data wait"],
        ("Speed and memory", "Images per second"): ["images per second"],
        ("Speed and memory", "GPU memory"): ["GPU memory"],
        ("Other", "Odd"): ["odd"],
    }


def test_every_series_of_a_chart_looks_different_and_as_its_row(tmp_path):
    terms = {f"term{number}": 1.0 + number for number in range(12)}
    rows = [{"step": step, "loss": 12.0, **terms} for step in (1, 2)]
    run = plant_run(tmp_path / "run", rows)
    chart = chart_of(make(run), "Loss")
    (known,) = charts_of(read_run(run))
    assert [series.key for series in known.series] == ["loss", *terms]
    expected = looks(known.series)
    assert expected[0] == ("c0", "-")
    assert len(set(expected)) == 13
    lines = reversed(figure_of(run, "Loss").axes[0].get_lines())
    for row, line, (colour, style) in zip(chart.all("tr")[1:], lines, expected, strict=True):
        assert (line.get_color(), line.get_linestyle()) == (COLOURS[colour], style)
        assert row.all("i")[0].classes == [colour, *(["dashed"] if style != "-" else [])]
        assert line.get_ydata()[-1] == numbers(row)[0]


def test_the_time_of_a_step_is_that_since_the_line_before(tmp_path):
    rows = [{"step": 4, "seconds": 8.0}, {"step": 5, "loss": 1.0}, {"step": 11, "seconds": 3.0}]
    stage = read_run(plant_run(tmp_path / "run", rows)).stages[0]
    assert step_times(stage) == [(4, 2.0), (11, 0.5)]


def test_changes_are_those_of_the_leaves_since_the_stage_before():
    before = {"name": "1", "a": 1, "b": {"c": [1, 2], "d": None}, "e": {"f": 2}, "same": {"x": 1}}
    now = {"name": "2", "a": 1.5, "b": {"c": [1, 3], "d": None, "g": "h"}, "same": {"x": 1}, "i": None}
    stages = tuple(Stage(Path(), "", config) for config in (before, now, now))
    found = config_changes(Run("run", Path(), stages))
    assert [differing for _, _, differing in found] == [
        {},
        {
            "a": ("1", "1.5"), "b.c": ("[1, 2]", "[1, 3]"), "b.g": ("", '"h"'), "e": ('{"f": 2}', ""),
            "i": ("", "null"),
        },
        {},
    ]  # fmt: skip


def test_a_config_is_written_as_json():
    config = {"a": [1, 2], "b": {}, "c": [], "d": {"e": [{"f": "]"}, [1]], "g": None}, "h": "<\n>"}
    config |= {"i": ["[  x", "y", "  ]"], "j": [[0, 0.5], [10, 0.1]]}
    assert json.loads(config_text(config)) == config
    assert '"a": [1, 2],' in config_text(config)
    assert "[0, 0.5]," in config_text(config)
    assert config_text({}) == "{}"
