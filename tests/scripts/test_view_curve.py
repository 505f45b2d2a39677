"""The curve of quality against input views shows what the results say, and only results that go together."""

import json
from pathlib import Path

import pytest

from data.images.files import read_picture
from scripts.view_curve import main, read_results

pytest.importorskip("matplotlib", reason="needs requirements-metrics.txt")


def plant(run: Path, views: int, psnr: float, *, protocol: str = "", lpips: bool = True, **setup) -> Path:
    """Results of a run for a number of input views."""

    def figures(level: float) -> dict:
        names = ("psnr", "ssim", *(["lpips_vgg"] if lpips else []), "stlpips")
        return {name: {"mean": level + place, "over_objects": 0.25} for place, name in enumerate(names)}

    name = protocol or f"nmr_random_{views}view"
    common = {"protocol": name, "checkpoint": "12", "sample": {"steps": 3}, "seed": 0}
    rows = {"sample": figures(psnr), "nearest_view": figures(psnr - 9), "mean_image": figures(5.0)}
    path = run / "evaluation" / name / "results.json"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps({"setup": common | setup, "rows": rows}))
    return path


def test_the_table_has_every_number_of_views_and_method_with_errors(tmp_path, capsys):
    for run, gain in (("with", 1.0), ("without", 0.25)):
        for views in (1, 4, 2):
            plant(tmp_path / run, views, 20 + gain * views)
    plant(tmp_path / "with", 1, 99.0, protocol="nmr_softras")
    chart = tmp_path / "out.png"
    assert main([str(tmp_path / "with"), str(tmp_path / "without"), "--output", str(chart)]) == 0
    rows = [row.strip("| ").split(" | ") for row in capsys.readouterr().out.splitlines()]
    assert rows[0] == ["input views", "method", "PSNR (dB)", "SSIM", "LPIPS-VGG"]
    methods = ["with", "without", "nearest input copied", "mean training image"]
    assert [row[:2] for row in rows[2:]] == [[str(n), method] for n in (1, 2, 4) for method in methods]
    by_name = {(row[0], row[1]): row[2] for row in rows[2:]}
    assert by_name["4", "with"] == "24.00 \u00b1 0.25"
    assert by_name["4", "without"] == "21.00 \u00b1 0.25"
    assert by_name["2", "nearest input copied"] == "13.00 \u00b1 0.25"
    assert read_picture(chart).float().std() > 10


def test_the_perceptual_distance_is_the_one_that_all_runs_have(tmp_path, capsys):
    for run, lpips in (("a", True), ("b", False)):
        for views in (1, 2):
            plant(tmp_path / run, views, 20, lpips=lpips)
    assert main([str(tmp_path / "a"), str(tmp_path / "b"), "--output", str(tmp_path / "o.png")]) == 0
    assert capsys.readouterr().out.splitlines()[0].endswith("| PSNR (dB) | SSIM | stLPIPS |")


def test_results_that_do_not_go_together_are_one_line(tmp_path, capsys):
    plant(tmp_path / "run", 1, 20)
    arguments = [str(tmp_path / "run"), "--output", str(tmp_path / "o.png")]
    assert main(arguments) == 2
    assert "has results of 1 numbers of views" in capsys.readouterr().err
    path = plant(tmp_path / "run", 2, 20, checkpoint="13")
    assert main(arguments) == 2
    assert "nmr_random_2view and nmr_random_1view differ in checkpoint" in capsys.readouterr().err
    path.write_text('{"rows": 3}')
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert f"{path}: is no result" in error
    assert error.count("\n") == 1
    assert not (tmp_path / "o.png").exists()


def test_a_run_without_results_is_named(tmp_path):
    with pytest.raises(ValueError, match="nowhere: has results of 0"):
        read_results(tmp_path / "nowhere")
