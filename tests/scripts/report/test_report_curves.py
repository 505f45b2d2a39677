"""scripts/report: scales, smoothing, thinning, grouping and wording."""

import math
from html import unescape
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from html_pages import PageReader, chart_of, drawn_points, plant_run, read_page

from scripts.common.html.wording import count, duration, number, plain, tick
from scripts.report import __main__ as report
from scripts.report.curves import charts_of, noisy, smooth, step_times, thin
from scripts.report.read_run import read_run
from scripts.report.scales import fit, round_steps
from scripts.report.summary import differences, whole


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        ([1.0, 99.0], "linear"),
        ([1.0, 101.0], "log"),
        ([1e-9, 3.0, 2.0], "log"),
        ([-1.0, 2.0, 3.0], "linear"),
        ([-0.05, 0.001, 0.002, -0.003, 0.002, 0.001, 2.0], "signed log"),
        ([0.0, 0.001, 0.002, 0.003, 0.5, 0.9], "signed log"),
        ([5.0], "linear"),
        ([0.0, 0.0], "linear"),
        ([1e99, -1e99, 1e-300], "linear"),
        ([0.1 + 0.2, 0.3], "linear"),
    ],
)
def test_a_scale_suits_its_values(values, kind):
    scale = fit(values)
    assert scale.kind == kind
    places = [scale.place(value) for value in sorted(values)]
    assert places == sorted(places)
    assert all(0 <= place <= 1 for place in places)
    assert len(set(values)) == 1 or places[-1] - places[0] > 0.85 or values == [0.1 + 0.2, 0.3]
    marks = scale.ticks()
    assert 1 <= len(marks) <= 11
    places = [scale.place(mark) for mark in marks]
    assert all(0 <= place <= 1 for place in places)
    assert all(after - before > 0.04 for before, after in pairwise(places))  # of a height: a line of words
    assert (scale.place(scale.low), scale.place(scale.high)) == (pytest.approx(0), pytest.approx(1))


def test_a_signed_logarithm_is_odd_and_gives_every_decade_its_length():
    scale = fit([-300.0, 400.0, *[0.001, -0.002] * 9])
    middle = scale.place(0.0)
    for value in (0.003, 2.0, 250.0):
        assert scale.place(value) - middle == pytest.approx(middle - scale.place(-value))
    decades = [scale.place(10.0 ** (power + 1)) - scale.place(10.0**power) for power in (-1, 0, 1)]
    assert decades == pytest.approx([decades[0]] * 3, rel=1e-3)


def test_a_share_is_shown_from_nothing():
    assert fit([0.2, 0.3], share=True).low == 0
    assert fit([0.0], share=True).place(0.0) == 0


def test_marks_are_round_and_all_of_them_lie_between():
    rng = np.random.default_rng(0)
    for low, spread in zip(rng.normal(size=200) * 10, 10 ** rng.uniform(-6, 6, 200), strict=True):
        marks = round_steps(low, low + spread)
        assert 3 <= len(marks) <= 8
        steps = np.diff(marks)
        assert np.allclose(steps, steps[0])
        assert f"{steps[0]:.4e}"[:6] in ("1.0000", "2.0000", "5.0000")
        assert low - 1e-6 * spread <= marks[0] < low + steps[0] * 1.01
        assert low + spread - steps[0] * 1.01 < marks[-1] <= low + spread * (1 + 1e-6)


def test_logarithmic_curves_pass_through_their_values(tmp_path):
    rows = [{"step": step, "loss": 10.0 ** (1 - step / 7)} for step in range(1, 30)]
    assert report.main([str(plant_run(tmp_path / "run", rows))]) == 0
    chart = chart_of(read_page(tmp_path / "run" / "report.html"), "Loss")
    assert chart.all("span", "about")[0].text == "log scale"
    for kind in ("dots", "line"):
        steps, values = drawn_points(chart, "loss", logarithmic=True, kind=kind)
        np.testing.assert_allclose(steps, range(1, 30), atol=0.05)
        np.testing.assert_allclose(np.log(values), np.log([row["loss"] for row in rows]), atol=5e-3)


def test_a_long_log_keeps_its_peaks_and_shows_running_means(tmp_path):
    rng = np.random.default_rng(1)
    losses = 5 + rng.normal(size=3001) * 0.1
    losses[1234], losses[2345] = 9.0, 1.0
    rows = [{"step": step, "loss": loss} for step, loss in enumerate(losses.tolist(), 1)]
    assert report.main([str(plant_run(tmp_path / "run", rows))]) == 0
    chart = chart_of(read_page(tmp_path / "run" / "report.html"), "Loss")
    steps, values = drawn_points(chart, "loss")
    assert len(steps) <= 400
    assert (max(values), min(values)) == (pytest.approx(9, abs=0.05), pytest.approx(1, abs=0.05))
    assert steps[np.argmax(values)] == pytest.approx(1235, abs=2)
    steps, values = drawn_points(chart, "loss", kind="line")
    assert 200 <= len(steps) <= 301
    assert np.std(values) < 0.03  # a tenth of 3001 values
    assert steps[-1] == pytest.approx(3001, abs=2)


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


def test_every_series_of_a_chart_looks_different_and_is_named(tmp_path):
    terms = {f"term{number}": 1.0 for number in range(12)}
    rows = [{"step": step, "loss": 12.0, **terms, "lr": 1.0, "health/latent_flat": 1.0} for step in (1, 2)]
    assert report.main([str(plant_run(tmp_path / "run", rows))]) == 0
    page = read_page(tmp_path / "run" / "report.html")
    looks = {one.attributes["data-key"]: one.attributes["class"] for one in chart_of(page, "Loss").all("li")}
    assert list(looks) == ["loss", *terms]
    assert len(set(looks.values())) == 13
    curves = chart_of(page, "Loss").all("g")
    assert {one.attributes["data-key"]: one.attributes["class"] for one in curves} == {
        key: f"{look} sparse" for key, look in looks.items()
    }
    named = {title: [one.all("span")[0].text for one in chart_of(page, title).all("li")] for title in (
        "Learning rate", "Share of latent channels"
    )}  # fmt: skip
    assert named == {"Learning rate": ["last"], "Share of latent channels": ["flat"]}


def test_the_time_of_a_step_is_that_since_the_line_before(tmp_path):
    rows = [{"step": 4, "seconds": 8.0}, {"step": 5, "loss": 1.0}, {"step": 11, "seconds": 3.0}]
    stage = read_run(plant_run(tmp_path / "run", rows)).stages[0]
    assert step_times(stage) == [(4, 2.0), (11, 0.5)]


def test_differences_are_those_of_the_leaves():
    before = {"a": 1, "b": {"c": [1, 2], "d": None}, "e": {"f": 2}, "same": {"x": 1}}
    now = {"a": 1.5, "b": {"c": [1, 3], "d": None, "g": "h"}, "same": {"x": 1}, "i": {}}
    assert differences(before, now) == {
        "a": ("1", "1.5"), "b.c": ("[1, 2]", "[1, 3]"), "b.g": ("", '"h"'), "e": ('{"f": 2}', ""),
        "i": ("", "{}"),
    }  # fmt: skip
    assert differences(before, before) == {}


def test_a_config_is_written_as_json():
    import json

    config = {"a": [1, 2], "b": {}, "c": [], "d": {"e": [{"f": "]"}, [1]], "g": None}, "h": "<\n>"}
    assert json.loads(whole(config)) == config
    assert '"a": [1, 2],' in whole(config)
    assert whole({}) == "{}"


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (0.0, "0"), (-1.0, "-1.000"), (12.3456, "12.35"), (0.00034567, "0.0003457"), (9.99996, "10.00"),
        (1234567.0, "1,234,567"), (3.5e-9, "3.5e-9"), (-2e12, "-2e12"), (math.nan, "nan"),
        (-math.inf, "-inf"),
        (5e-324, "4.941e-324"), (99999.6, "100,000"),
    ],
)  # fmt: skip
def test_numbers_are_said_with_four_digits(value, said):
    assert plain(value) == said
    element = PageReader(number(value)).root.all("data")[0]
    assert element.attributes["value"] == repr(value)
    assert element.text.replace("\u2212", "-").replace("\u200a\u00d7\u200a10", "e") == said


@pytest.mark.parametrize(
    ("value", "apart", "said"),
    [
        (0.25, 0.05, "0.25"),
        (2.0, 0.5, "2.0"),
        (1500.0, 500.0, "1,500"),
        (0.0, 0.1, "0"),
        (-0.3, 0.1, "\u22120.3"),
    ],
)
def test_marks_have_the_digits_of_their_distance(value, apart, said):
    assert unescape(tick(value, apart)) == said


def test_powers_of_ten_are_said_as_such():
    assert unescape(tick(1e-7, 0)) == "10<sup>\u22127</sup>"
    assert tick(0.001, 0) == "0.001"


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(0.04, "0.0 s"), (9.94, "9.9 s"), (9.96, "10 s"), (59.4, "59 s"), (59.7, "60 s"), (61, "1 min 01 s"),
     (3599.7, "1 h 00 min"), (7500, "2 h 05 min"), (90000, "1 d 1 h")],
)  # fmt: skip
def test_times_are_said_in_two_units(seconds, said):
    assert duration(seconds) == said


def test_counts_of_weights_are_short():
    assert [count(value) for value in (721, 45678, 13_612_345, 2_000_000_000)] == [
        "721", "45,678", "13.6 M", "2.00 G"
    ]  # fmt: skip


def test_the_page_has_no_more_files_than_it_needs():
    folder = Path(report.__file__).parents[1]
    pages = [f"{page}/{name}" for page in ("report", "gallery") for name in ("style.css", "page.js")]
    for name in ("common/html/base.css", *pages):
        text = (folder / name).read_text(encoding="ascii")
        assert "</" not in text
        assert "//" not in text.replace("// ", "")
