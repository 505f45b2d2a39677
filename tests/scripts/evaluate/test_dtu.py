"""Evaluation on DTU: a tiny run from training to the table, and the masked metrics by other libraries."""

import csv
import json
import math
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

pytest.importorskip("torchmetrics", reason="needs requirements-metrics.txt")
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

import sample_views
import train
from data.formats.dtu.selection import ALL_34, INPUT_ORDER, REGNERF_25, TEST_SCENES, picture_name
from scripts.evaluate import __main__ as evaluate
from scripts.evaluate.metrics import masked
from scripts.evaluate.metrics.masked import MASKED_METRICS, load_masked_judges, masked_psnr
from scripts.evaluate.metrics.metrics import METRICS
from scripts.evaluate.metrics.set_distances import SET_METRICS
from scripts.evaluate.protocols import CHOICES, PROTOCOLS, first_views, views_of_choice
from scripts.make_shapes import main as make_shapes
from tests.scenes import run_document

WIDTH, HEIGHT = 32, 24
SMALLER = {"FIRST": (57, 76), "MEASURED": (30, 40)}  # than published, where all views are measured


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("dtu")
    options = ["--objects", "2", "--val", "2", "--size", str(WIDTH), "--workers", "1"]
    assert make_shapes(["--layout", "dtu", "--root", str(root), *options]) == 0
    return root


@pytest.fixture(scope="module")
def run(made, tmp_path_factory) -> Path:
    """A tiny model of the main family, trained for two steps on pictures of 4 : 3."""
    folder = tmp_path_factory.mktemp("run")
    data = {"image_size": WIDTH, "image_height": HEIGHT, "sources": [1, 3]}
    settings = {"steps": 2, "preview_every": 2, "preflight": False}
    path = folder / "config.json"
    path.write_text(json.dumps(run_document(made, folder / "runs", data=data, train=settings)))
    assert train.main([str(path)]) == 0
    assert (folder / "runs/tiny/samples").is_dir()
    return folder / "runs" / "tiny"


@pytest.fixture
def quick_metrics(monkeypatch, tmp_path):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    for name, size in SMALLER.items():
        monkeypatch.setattr(masked, name, size)
    for name in ("stlpips", "ssim", "ssim_7x7"):
        monkeypatch.delitem(METRICS, name)
    monkeypatch.delitem(SET_METRICS, "kid_lite0")


def judge(run: Path, folder: Path, *arguments: str, protocol: str = "dtu_3view") -> int:
    given = ["--checkpoint", str(run), "--protocol", protocol, "--device", "cpu", "--output", str(folder)]
    return evaluate.main([*given, "--steps", "2", "--batch", "34", *arguments])


def on_disk(path: Path, mode: str = "RGB") -> np.ndarray:
    with Image.open(path) as picture:
        return np.asarray(picture.convert(mode))


def published_size(pixels: np.ndarray, *, true: bool) -> np.ndarray:
    """As figures are measured, in [0, 1]: cubic interpolation without antialiasing, rounded to 8 bits."""
    image = Image.fromarray(pixels)
    image = image.resize(SMALLER["FIRST"][::-1], Image.Resampling.BICUBIC) if true else image
    values = torch.from_numpy(np.array(image)).double().reshape(image.height, image.width, -1)
    small = F.interpolate(
        values.movedim(-1, 0)[None], SMALLER["MEASURED"], mode="bicubic", align_corners=False
    )[0]
    return small.round().clamp(0, 255).numpy() / 255


def test_views_of_the_protocols_are_those_of_papers():
    for num in (1, 3, 6, 9):
        inputs = PROTOCOLS[f"dtu_{num}view"].input_views
        assert tuple(ALL_34[view] for view in inputs) == INPUT_ORDER[:num]
        counts = [len(views_of_choice(choice, inputs)) for choice in CHOICES]
        assert counts == [25, 34 - num, 34]
        assert not set(views_of_choice("rest", inputs)) & set(inputs)
    assert tuple(ALL_34[view] for view in views_of_choice("regnerf25", first_views(3))) == REGNERF_25
    assert views_of_choice("rest", first_views(9)) == views_of_choice("regnerf25", first_views(9))


def test_a_tiny_run_trains_samples_and_is_judged_as_by_other_libraries(
    run, made, tmp_path, quick_metrics, capsys
):
    folder = tmp_path / "results"
    assert judge(run, folder) == 0
    told = capsys.readouterr().out
    assert "NOT the whole protocol" in told
    assert "2 scenes, not 15" in told
    results = json.loads((folder / "results.json").read_text())
    assert results["setup"]["split"] == "test"
    assert list(results["choices"]) == list(CHOICES)
    found = {
        choice: [rows["sample"][name]["mean"] for name in ("masked_psnr", "masked_ssim", "whole_psnr")]
        for choice, rows in results["choices"].items()
    }
    assert [results["rows"]["sample"]["masked_psnr"]["mean"]] == [found["regnerf25"][0]]
    expected = {choice: [] for choice in CHOICES}
    for scene in (f"scan{scan}" for scan in TEST_SCENES[:2]):
        by_view = [figures_of(scene, view, made, folder) for view in range(34)]
        for choice in CHOICES:
            views = views_of_choice(choice, first_views(3))
            expected[choice].append(np.mean([by_view[view] for view in views], axis=0))
    for choice in CHOICES:
        assert found[choice] == pytest.approx(np.mean(expected[choice], axis=0).tolist(), abs=2e-3)
    assert len({round(figures[0], 3) for figures in found.values()}) == 3

    with (folder / "choices.csv").open() as file:
        lines = list(csv.DictReader(file))
    line = next(line for line in lines if (line["scene"], line["choice"]) == ("scan21", "rest"))
    assert (line["method"], line["views"]) == ("sample", "31")
    assert float(line["masked_psnr"]) == pytest.approx(expected["rest"][1][0], abs=2e-3)
    means = next(line for line in lines if (line["scene"], line["choice"]) == ("mean", "all34"))
    assert float(means["masked_ssim"]) == pytest.approx(found["all34"][1], abs=1e-4)
    latex = (folder / "results.tex").read_text()
    assert f"sample, all34 & {found['all34'][0]:.2f} & {found['all34'][1]:.4f}" in latex
    assert f"| sample, rest | {found['rest'][0]:.2f} |" in (folder / "results.md").read_text()
    with Image.open(folder / "sheet_best.png") as sheet:
        assert sheet.width > sheet.height  # eight views of 4 : 3 by three or four rows

    # The same command computes nothing again, and another resizing is another evaluation.
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("0*.png")}
    assert judge(run, folder) == 0
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("0*.png")} == before
    assert judge(run, folder, "--antialias") == 2
    assert "was measured with antialias false, now true" in capsys.readouterr().err


def figures_of(scene: str, view: int, made: Path, folder: Path) -> list[float]:
    """Masked PSNR, masked SSIM, PSNR of a view, by hand and by scikit-image."""
    camera = ALL_34[view]
    drawn = on_disk(folder / "objects" / scene / "seed_0" / f"{view:06d}.png")
    assert drawn.shape == (HEIGHT, WIDTH, 3)
    truth = on_disk(made / "Rectified" / scene / picture_name(camera, "3"))
    mask = on_disk(made / "submission_data/idrmasks" / scene / "mask" / f"{camera:03d}.png", "L")
    seen, true = published_size(drawn, true=False), published_size(truth, true=True)
    inside = (published_size(mask, true=True) > 0.01).repeat(3, axis=0)
    error = ((seen - true) ** 2 * inside).sum() / inside.sum()
    options = {"channel_axis": 0, "data_range": 1}
    similarity = structural_similarity(true * inside, seen * inside, **options)
    return [-10 * math.log10(error), similarity, peak_signal_noise_ratio(true, seen, data_range=1)]


def test_fewer_choices_draw_fewer_views_and_lead_the_table(run, tmp_path, quick_metrics):
    folder = tmp_path / "results"
    assert judge(run, folder, "--view-choice", "regnerf25", "--objects", "1", "--seeds", "2") == 0
    assert len(list((folder / "objects/scan8/seed_0").iterdir())) == 25
    methods = {line.split(",")[3] for line in (folder / "choices.csv").read_text().splitlines()[1:]}
    assert {"seed_0", "seed_1"} < methods
    assert "sample" not in methods
    several = tmp_path / "several"
    options = ["--view-choice", "rest", "regnerf25", "--views", "3", "--objects", "1"]
    assert judge(run, several, *options, protocol="dtu_1view") == 0
    results = json.loads((several / "results.json").read_text())
    assert next(iter(results["choices"])) == "rest"
    assert "3 evenly spaced target views instead of all" in results["notes"][0]


def test_it_samples_and_evaluates_quickly(run, tmp_path, capsys):
    out = tmp_path / "samples"
    words = ["--transfer", str(run), "--trajectory", "data", "--views", "2", "--steps", "2"]
    code = sample_views.main([*words, "--device", "cpu", "--output", str(out)])
    assert code == 0, capsys.readouterr().err
    assert on_disk(out / "view_0000.png").shape == (HEIGHT, WIDTH, 3)
    assert evaluate.main(["--checkpoint", str(run), "--objects", "1", "--device", "cpu"]) == 0
    assert "sample psnr" in capsys.readouterr().out


def test_missing_masks_stop_or_count_as_the_object(run, made, tmp_path, quick_metrics, capsys):
    root = shutil.copytree(made, tmp_path / "copy")
    shutil.rmtree(root / "submission_data")
    words = ["--data", str(root), "--view-choice", "regnerf25", "--objects", "1"]
    assert judge(run, tmp_path / "stop", *words) == 2
    message = capsys.readouterr().err
    assert "idrmasks/scan8/001.png: there is no such mask" in message
    assert message.strip().count("\n") == 0 or "%|" in message
    assert judge(run, tmp_path / "white", *words, "--missing-masks", "white") == 0
    results = json.loads((tmp_path / "white/results.json").read_text())
    assert "25 views have no mask and count as the object everywhere." in results["notes"]
    row = results["rows"]["sample"]
    assert row["masked_psnr"]["mean"] == pytest.approx(row["whole_psnr"]["mean"])


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--protocol", "srn_cars_1view", "--view-choice", "rest"], "--view-choice is for protocols of DTU"),
        (["--protocol", "nmr", "--antialias"], "--antialias is for protocols of DTU"),
        (["--missing-masks", "white"], "--missing-masks is for protocols of DTU"),
        (["--protocol", "dtu_3view", "--view-choice", "rest", "rest"], "has a choice twice"),
        (["--protocol", "dtu_3view", "--view-choice", "test"], "invalid choice: 'test'"),
        (["--protocol", "dtu_3view", "--views", "0"], "0 is less than 1"),
        (["--protocol", "dtu_3view", "--views", "35"], "--views 35: there are 34"),
        (["--protocol", "dtu_3view", "--input-view", "34"], "gives view 34, but there are 34"),
        (["--protocol", "dtu_3view", "--objects", "3"], "--objects 3: the split has 2"),
    ],
)
def test_what_does_not_suit_is_one_line_and_exit_code_2(run, words, message, capsys):
    try:
        code = evaluate.main(["--checkpoint", str(run), "--device", "cpu", *words])
    except SystemExit as left:
        code = left.code
    assert code == 2
    assert message in capsys.readouterr().err


def toy(seed: int) -> torch.Tensor:
    return torch.rand(3, 3, 9, 14, generator=torch.Generator().manual_seed(seed))


def test_masked_psnr_sees_nothing_outside_the_mask():
    images, truth, masks = toy(1), toy(2), toy(3)[:, 0] > 0.6
    found = masked_psnr(images, truth, masks)
    changed = torch.where(masks[:, None], images, toy(4))
    assert torch.equal(masked_psnr(changed, truth, masks), found)
    inside = [(images[n] - truth[n])[:, masks[n]].square().mean() for n in range(3)]
    torch.testing.assert_close(found, -10 * torch.stack(inside).log10())
    assert masked_psnr(truth, truth, masks).tolist() == [math.inf] * 3
    assert not torch.allclose(masked_psnr(images.flip(-1), truth, masks), found)


class Held:
    """One object of one view, as it is stored."""

    def __init__(self, picture: torch.Tensor, mask: torch.Tensor | None):
        self.raw = self
        self._picture, self._mask = picture, mask

    def picture(self, index: int, view: int) -> torch.Tensor:
        return self._picture

    def mask(self, index: int, view: int) -> torch.Tensor | None:
        return self._mask

    def place(self, index: int) -> str:
        return "scan9"


def eight_bits(height: int, width: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (height, width, 3), generator=generator, dtype=torch.uint8)


def judges(*, padded: bool = False, antialias: bool = False, missing: str = "stop"):
    return load_masked_judges(torch.device("cpu"), padded=padded, antialias=antialias, missing=missing)[0]


def test_antialiasing_moves_the_figures_and_equal_pictures_are_perfect():
    picture, mask = eight_bits(576, 768), torch.full((576, 768), 255, dtype=torch.uint8)
    mask[:, :300] = 0
    other = eight_bits(576, 768, seed=1)
    figures = {}
    for antialias in (False, True):
        bench = judges(antialias=antialias)
        truth = bench.truth(Held(picture, mask), 0, (0,))
        assert truth.pictures.shape == (1, 3, 300, 400)
        assert bench.figures("masked_psnr", picture[None], truth) == [math.inf]
        assert bench.figures("masked_ssim", picture[None], truth) == pytest.approx([1.0])
        figures[antialias] = bench.figures("masked_psnr", other[None], truth)[0]
        black = other.clone()
        black[:, :296] = 0
        assert bench.figures("masked_psnr", black[None], truth) == pytest.approx([figures[antialias]])
        assert bench.figures("whole_ssim", black[None], truth) != bench.figures(
            "whole_ssim", other[None], truth
        )
    assert figures[True] > figures[False] + 0.5  # averages of noise are closer to each other


def test_padding_is_no_part_of_the_figures():
    picture, drawn = eight_bits(576, 768), eight_bits(384, 512, seed=2)
    plain, padded = judges(missing="white"), judges(padded=True, missing="white")
    rows = [torch.zeros(size, width, 3, dtype=torch.uint8) for size, width in ((192, 768), (128, 512))]
    with_rows = Held(torch.cat([picture, rows[0]]), None)
    there = padded.figures("whole_ssim", torch.cat([drawn, rows[1]])[None], padded.truth(with_rows, 0, (0,)))
    assert there == plain.figures("whole_ssim", drawn[None], plain.truth(Held(picture, None), 0, (0,)))


def test_masks_that_are_empty_or_absent_stop():
    picture = eight_bits(12, 16)
    with pytest.raises(ValueError, match="scan9: the mask of view 7 is empty; restore it"):
        judges().truth(Held(picture, torch.zeros(12, 16, dtype=torch.uint8)), 0, (7,))
    with pytest.raises(ValueError, match=r"scan9: view 7 has no mask.*--missing-masks white"):
        judges().truth(Held(picture, None), 0, (7,))


def test_lpips_is_of_pictures_that_are_black_outside_the_mask(monkeypatch):
    seen = []

    def load(device: torch.device):
        def distance(images: torch.Tensor, truth: torch.Tensor) -> torch.Tensor:
            seen.extend([images, truth])
            return (images - truth).abs().mean((1, 2, 3))

        return distance

    metric = MASKED_METRICS["masked_lpips"]
    monkeypatch.setitem(masked.MASKED_METRICS, "masked_lpips", type(metric)("", load, False, 4))
    mask = torch.zeros(12, 16, dtype=torch.uint8)
    mask[3:9, 4:11] = 255
    bench = judges()
    truth = bench.truth(Held(eight_bits(12, 16), mask), 0, (0,))
    assert bench.figures("masked_lpips", eight_bits(12, 16, seed=3)[None], truth)[0] > 0
    outside = ~truth.masks[:, None].expand(-1, 3, -1, -1)
    assert 0.5 < outside.double().mean() < 0.85
    for images in seen:
        assert images[outside].eq(-1).all()
        assert images[~outside].max() > 0.5
