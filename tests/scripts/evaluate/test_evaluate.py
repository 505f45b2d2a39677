"""scripts/evaluate: protocols from the command line to the table, by other routes to the same numbers."""

import csv
import inspect
import json
import math
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from data.images.files import read_picture
from data.scenes.batch import Geometry, Views
from models.base import Prediction
from models.checkpoints.format import find_checkpoint, load_checkpoint, write_checkpoint
from scripts.evaluate import __main__ as evaluate
from scripts.evaluate.quick import geometry_figures
from tests.data.formats.test_nmr import plant
from tests.scenes import cameras
from tests.tiny_run import save_tiny_run, tiny_config

pytest.importorskip("torchmetrics", reason="needs requirements-metrics.txt")
stlpips = pytest.importorskip("stlpips_pytorch.stlpips", reason="needs requirements-metrics.txt")

from skimage.metrics import peak_signal_noise_ratio, structural_similarity  # noqa: E402

from scripts.evaluate.arguments import evaluate_request, make_parser  # noqa: E402
from scripts.evaluate.metrics.metrics import METRICS  # noqa: E402
from scripts.evaluate.metrics.set_distances import SET_METRICS  # noqa: E402
from scripts.evaluate.plan import open_evaluation  # noqa: E402

ROOT = Path(evaluate.__file__).parents[2]
# Object -> views: unequal, so that means over views and over objects differ.
VIEWS = {"cars_train/a": 3, "cars_test/bb": 5, "cars_test/c": 4}


@pytest.fixture(autouse=True)
def no_weights(tmp_path, monkeypatch):
    """Wherever these tests run, nobody has put other networks' weights there."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))


@pytest.fixture
def run(tmp_path, plant_object, monkeypatch) -> Path:
    """A run on two objects to be judged on, of 5 and 4 views."""
    for name, num_views in VIEWS.items():
        plant_object(tmp_path / "data" / name, num_views=num_views, size=(32, 32), surfaces=True)
    monkeypatch.chdir(tmp_path)
    return save_tiny_run(tiny_config(tmp_path / "data", tmp_path / "runs"))


@pytest.fixture
def quick_metrics(monkeypatch):
    """Without those that take time."""
    for name in ("stlpips", "ssim", "ssim_7x7"):
        monkeypatch.delitem(METRICS, name)
    monkeypatch.delitem(SET_METRICS, "kid_lite0")


def judge(run: Path, *arguments: str) -> int:
    given = [*arguments] if "--input-view" in arguments else [*arguments, "--input-view", "1"]
    command = ["--checkpoint", str(run), "--protocol", "srn_cars_1view", "--device", "cpu", *given]
    return evaluate.main(command)


def results(folder: Path) -> dict:
    return json.loads((folder / "results.json").read_text())


def drawn(folder: Path) -> dict[str, int]:
    """When each picture was written, by its path."""
    return {str(path.relative_to(folder)): path.stat().st_mtime_ns for path in folder.rglob("0*.png")}


def small_network() -> torch.nn.Module:
    """In place of Inception: seven features of pictures of 299 x 299 pixels."""
    torch.manual_seed(4)
    layers = (torch.nn.Conv2d(3, 7, 9, stride=20), torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten())
    return torch.nn.Sequential(*layers).requires_grad_(False)


def pixels(path: Path) -> np.ndarray:
    with Image.open(path) as picture:
        return np.asarray(picture)


def test_the_table_is_that_of_other_libraries_on_the_written_pictures(run, tmp_path, capsys):
    assert judge(run) == 0
    told = capsys.readouterr().out
    folder = run / "evaluation" / "srn_cars_1view"
    assert told.startswith((folder / "results.md").read_text())
    network = stlpips.LPIPS(net="alex", variant="shift_tolerant", verbose=False)
    options = {"channel_axis": -1, "data_range": 255}
    gaussian = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}
    expected = []
    for name, num_views in (("bb", 5), ("c", 4)):
        scores = []
        for view in (0, *range(2, num_views)):
            seen = pixels(folder / "objects" / name / "seed_0" / f"{view:06d}.png")
            truth = pixels(tmp_path / "data" / "cars_test" / name / "rgb" / f"{view:06d}.png")
            tensors = [
                torch.from_numpy(part.copy()).movedim(-1, 0)[None] / 127.5 - 1 for part in (seen, truth)
            ]
            with torch.no_grad():
                distance = network(*tensors).item()
            scores.append(
                (
                    peak_signal_noise_ratio(truth, seen, data_range=255),
                    structural_similarity(truth, seen, **options, **gaussian),
                    structural_similarity(truth, seen, **options),
                    distance,
                )
            )
        expected.append(np.mean(scores, axis=0))
    row = results(folder)["rows"]["sample"]
    found = [row[name]["mean"] for name in ("psnr", "ssim", "ssim_7x7", "stlpips")]
    assert found == pytest.approx(np.mean(expected, axis=0).tolist(), abs=1e-4)
    error = np.std(expected, axis=0, ddof=1) / np.sqrt(2)
    assert row["psnr"]["over_objects"] == pytest.approx(error[0], abs=1e-4)

    with (folder / "objects.csv").open() as file:
        lines = list(csv.DictReader(file))
    assert [(line["object"], line["views"]) for line in lines] == [("bb", "4"), ("c", "3")]
    assert [float(line["sample_ssim"]) for line in lines] == pytest.approx(
        [means[1] for means in expected], abs=1e-4
    )
    assert float(lines[0]["silhouette_iou"]) > 0
    latex = [line for line in (folder / "results.tex").read_text().splitlines() if not line.startswith("%")]
    figures = f"{found[0]:.2f} & {found[1]:.4f} & {found[2]:.4f} & {found[3]:.4f}"
    assert latex[0] == f"sample & {figures} & {row['kid_lite0']['mean']:.2f} \\\\"
    assert {len(line.split("&")) for line in latex} == {6}
    for name in ("best", "median", "worst"):
        with Image.open(folder / f"sheet_{name}.png") as sheet:
            assert sheet.height > 4 * 32


def test_baselines_need_no_model(run, tmp_path):
    assert judge(run, "--input-view", "3", "0", "--output", "out", "--objects", "1") == 0
    rows = results(tmp_path / "out")["rows"]
    folder, views = tmp_path / "data", (1, 2, 4)

    def picture(view: int, name: str = "cars_test/bb") -> np.ndarray:
        return pixels(folder / name / "rgb" / f"{view:06d}.png").astype(float)

    def quality(seen: list[np.ndarray]) -> float:
        errors = [np.square(one - picture(view)).mean() for one, view in zip(seen, views, strict=True)]
        return np.mean([10 * np.log10(255**2 / error) for error in errors])

    mean = np.round(np.mean([picture(view, "cars_train/a") for view in range(3)], axis=0))
    assert rows["copy_input"]["psnr"]["mean"] == pytest.approx(quality([picture(3)] * 3), abs=1e-4)
    assert rows["mean_image"]["psnr"]["mean"] == pytest.approx(quality([mean] * 3), abs=2e-2)
    poses = [np.loadtxt(folder / "cars_test/bb/pose" / f"{view:06d}.txt").reshape(4, 4) for view in range(5)]
    places = [pose[:3, 3] / np.linalg.norm(pose[:3, 3]) for pose in poses]
    nearest = [max((3, 0), key=lambda source: places[source] @ places[view]) for view in views]
    assert set(nearest) == {0, 3}
    expected = quality([picture(source) for source in nearest])
    assert rows["nearest_view"]["psnr"]["mean"] == pytest.approx(expected, abs=1e-4)


@pytest.mark.usefixtures("quick_metrics")
def test_what_was_done_is_not_done_again_and_what_is_damaged_is(run, tmp_path):
    out = tmp_path / "out"
    assert judge(run, "--output", "out") == 0
    before, table = drawn(out), (out / "results.json").read_text()
    assert judge(run, "--output", "out") == 0
    assert drawn(out) == before
    torn = out / "objects" / "c" / "seed_0" / "000002.png"
    whole = torn.read_bytes()
    torn.write_bytes(whole[:-30])
    assert judge(run, "--output", "out") == 0
    changed = {name for name, time in drawn(out).items() if before[name] != time}
    assert changed == {f"objects/c/seed_0/{view:06d}.png" for view in (0, 2, 3)}
    assert torn.read_bytes() == whole
    (out / "objects" / "bb" / "figures.json").write_text("{")
    assert judge(run, "--output", "out") == 0
    assert (out / "results.json").read_text() == table


@pytest.mark.usefixtures("quick_metrics")
def test_an_interruption_loses_one_object(run, tmp_path, monkeypatch, capsys):
    from scripts.evaluate.evaluate_object import Bench

    work, done = Bench.work, []

    def interrupted(bench, plan, tick):
        if done:
            raise KeyboardInterrupt
        done.append(plan.task.name)
        return work(bench, plan, tick)

    monkeypatch.setattr(Bench, "work", interrupted)
    assert judge(run, "--output", "out") == 130
    assert capsys.readouterr().err.strip().endswith("run the same command to resume")
    monkeypatch.setattr(Bench, "work", work)
    before = drawn(tmp_path / "out")
    assert {name.split("/")[1] for name in before if name.startswith("objects")} == {"bb"}
    assert judge(run, "--output", "out") == 0
    after = drawn(tmp_path / "out")
    assert all(after[name] == time for name, time in before.items())


@pytest.mark.usefixtures("quick_metrics")
def test_shards_together_give_the_table_of_one_process(run, tmp_path, capsys, monkeypatch):
    assert judge(run, "--output", "alone") == 0
    capsys.readouterr()
    assert judge(run, "--output", "out", "--shard", "2/2") == 0
    assert "part 2 of 2 is done; objects left to the others: 1" in capsys.readouterr().out
    assert [path.name for path in (tmp_path / "out/objects").iterdir()] == ["c"]
    assert judge(run, "--output", "out", "--merge") == 2
    assert "1 of 2 objects are not done, such as bb" in capsys.readouterr().err
    for name, value in (("RANK", "0"), ("WORLD_SIZE", "2"), ("LOCAL_RANK", "0")):
        monkeypatch.setenv(name, value)
    assert judge(run, "--output", "out") == 0
    for _ in range(2):
        for name in ("results.json", "results.md", "objects.csv"):
            assert (tmp_path / "out" / name).read_text() == (tmp_path / "alone" / name).read_text()
            (tmp_path / "out" / name).unlink()
        assert judge(run, "--output", "out", "--merge") == 0


@pytest.mark.usefixtures("quick_metrics")
def test_seeds_are_averaged_and_the_best_of_them_is_labelled_everywhere(run, tmp_path):
    out = tmp_path / "out"
    alone = []
    for seed in range(3):
        assert judge(run, "--output", f"seed{seed}", "--seed", str(seed)) == 0
        alone.append(results(tmp_path / f"seed{seed}")["rows"]["sample"]["psnr"]["mean"])
    assert len(set(alone)) == 3
    assert judge(run, "--output", "out") == 0
    first = drawn(out)
    texts = [path.read_text() for path in (out / "results.md", out / "results.tex", out / "objects.csv")]
    assert not any("best of" in text or "best_of" in text for text in texts)
    assert judge(run, "--output", "out", "--seeds", "3") == 0
    psnr = results(out)["rows"]["sample"]["psnr"]
    assert psnr["mean"] == pytest.approx(np.mean(alone))
    assert psnr["over_seeds"] == pytest.approx(np.std(alone, ddof=1))
    assert all(drawn(out)[name] == time for name, time in first.items())
    assert f"| sample (mean of 3 seeds) | {psnr['mean']:.2f} ± " in (out / "results.md").read_text()

    assert judge(run, "--output", "out", "--best-of", "3") == 0
    best = results(out)["rows"]["best_of_3"]["psnr"]["mean"]
    objects = []
    for name in ("bb", "c"):
        scores = json.loads((out / "objects" / name / "figures.json").read_text())["scores"]
        columns = [scores[f"seed_{seed}"]["psnr"] for seed in range(3)]
        objects.append(np.mean(np.max(columns, axis=0)))
    assert best == pytest.approx(np.mean(objects))
    assert best > psnr["mean"]
    for name in ("results.md", "results.tex", "results.json"):
        assert "best of 3 by PSNR to the truth" in (out / name).read_text()
    assert "best_of_3_psnr" in (out / "objects.csv").read_text().splitlines()[0].split(",")


@pytest.mark.usefixtures("quick_metrics")
def test_an_object_of_white_alone_is_left_out_of_means_and_counted(run, tmp_path):
    assert judge(run, "--output", "before") == 0
    before = results(tmp_path / "before")["rows"]["copy_input"]["psnr"]
    white = tmp_path / "data/cars_test/white"
    (tmp_path / "data/cars_test/c").rename(white)
    for path in white.glob("rgb/*.png"):
        Image.new("RGB", (32, 32), (255, 255, 255)).save(path)
    assert judge(run, "--output", "out") == 0
    row = results(tmp_path / "out")["rows"]["copy_input"]["psnr"]
    assert row["left_out"] == 3
    with (tmp_path / "out/objects.csv").open() as file:
        known, empty = (line["copy_input_psnr"] for line in csv.DictReader(file))
    assert (float(known), empty) == (pytest.approx(row["mean"], rel=1e-5), "")
    assert row["mean"] != before["mean"]
    assert np.isfinite(results(tmp_path / "out")["rows"]["sample"]["psnr"]["mean"])
    assert (
        "pictures equal the truth: 3 of PSNR, copied input view" in (tmp_path / "out/results.md").read_text()
    )


def test_metrics_that_come_later_are_added_without_drawing_again(run, tmp_path, monkeypatch):
    with monkeypatch.context() as without:
        for name in ("stlpips", "ssim"):
            without.delitem(METRICS, name)
        assert judge(run, "--output", "out") == 0
    before, first = drawn(tmp_path / "out"), results(tmp_path / "out")["rows"]["sample"]
    assert judge(run, "--output", "out") == 0
    rows = results(tmp_path / "out")["rows"]
    assert "ssim" not in first
    assert rows["sample"]["psnr"] == first["psnr"]
    assert all({"ssim", "stlpips"} <= set(row) for row in rows.values())
    assert drawn(tmp_path / "out") == before


@pytest.mark.usefixtures("quick_metrics")
def test_fid_is_that_of_clean_fid_on_all_pictures(run, tmp_path, monkeypatch):
    package = pytest.importorskip("cleanfid.fid")
    network = small_network()
    monkeypatch.setattr("scripts.evaluate.metrics.fid.NUM_FEATURES", 7)
    monkeypatch.setattr("scripts.evaluate.metrics.fid.load_inception", lambda device: network)
    assert judge(run, "--output", "out", "--seeds", "2", "--best-of", "2") == 0
    rows = results(tmp_path / "out")["rows"]
    assert [name for name, row in rows.items() if "fid" not in row] == ["mean_of_2", "best_of_2"]
    named = [(name, f"{view:06d}.png") for name, num in (("bb", 5), ("c", 4)) for view in (0, *range(2, num))]
    folders = {"truth": tmp_path / "data/cars_test/{}/rgb"}
    folders |= {f"seed_{seed}": tmp_path / f"out/objects/{{}}/seed_{seed}" for seed in range(2)}
    features = {
        kind: package.get_files_features(
            [str(folder / file).format(name) for name, file in named],
            network, num_workers=0, device=torch.device("cpu"), mode="clean", verbose=False,
        )
        for kind, folder in folders.items()
    }  # fmt: skip
    if "disp" not in inspect.signature(package.linalg.sqrtm).parameters:
        pytest.skip("this SciPy is too new for clean-fid's distance")
    distances = [package.fid_from_feats(features[f"seed_{seed}"], features["truth"]) for seed in range(2)]
    assert rows["sample"]["fid"]["mean"] == pytest.approx(np.mean(distances), rel=1e-3)
    assert rows["sample"]["fid"]["over_seeds"] == pytest.approx(np.std(distances, ddof=1), rel=1e-2)
    assert "FID of 7 images is unreliable" in (tmp_path / "out/results.md").read_text()


@pytest.mark.usefixtures("quick_metrics")
def test_the_mean_of_the_samples_is_judged_as_a_picture_and_anew_with_other_seeds(run, tmp_path):
    assert judge(run, "--output", "out", "--seeds", "2", "--views", "2") == 0
    assert judge(run, "--output", "out", "--seeds", "3", "--views", "2") == 0
    record = json.loads((tmp_path / "out/objects/c/figures.json").read_text())
    folder = tmp_path / "out/objects/c"
    for num in (2, 3):
        for index, view in enumerate(record["views"]):
            drawn = [read_picture(folder / f"seed_{seed}/{view:06d}.png").double() for seed in range(num)]
            truth = read_picture(tmp_path / f"data/cars_test/c/rgb/{view:06d}.png").double()
            error = (torch.stack(drawn).mean(dim=0) - truth).square().mean().item()
            wanted = 10 * math.log10(255**2 / error)
            assert record["scores"][f"mean_of_{num}"]["psnr"][index] == pytest.approx(wanted, abs=0.02)
    rows = results(tmp_path / "out")["rows"]
    assert rows["mean_of_3"]["title"] == "mean image of 3 samples"
    assert "mean_of_2" not in rows


@pytest.mark.usefixtures("quick_metrics")
def test_of_nmr_the_list_and_the_categories_are_named(run, tmp_path):
    for category, name in (("02", "a"), ("02", "b"), ("03", "d")):
        plant(tmp_path / "nmr" / category / name)
    for file, words in (("02/train", "a"), ("02/softras_train", "a"), ("02/softras_test", "b")):
        (tmp_path / f"nmr/{file}.lst").write_text(words)
    for file in ("train", "softras_train", "softras_test"):
        (tmp_path / f"nmr/03/{file}.lst").write_text("d")
    command = ["--checkpoint", str(run), "--protocol", "nmr_softras", "--data", "nmr", "--device", "cpu"]
    assert evaluate.main([*command, "--views", "3", "--output", "out"]) == 0
    found = results(tmp_path / "out")
    assert found["setup"]["split"] == "softras_test.lst"
    assert "2 objects (softras_test.lst; " in (tmp_path / "out/results.md").read_text()
    means = [rows["sample"]["psnr"]["mean"] for rows in found["categories"].values()]
    assert list(found["categories"]) == ["02", "03"]
    assert np.mean(means) == pytest.approx(found["rows"]["sample"]["psnr"]["mean"])
    assert evaluate.main([*command, "--views", "3", "--output", "train", "--split", "train"]) == 0
    found = results(tmp_path / "train")
    assert found["setup"]["split"] == "train"
    assert "the train split" in found["notes"][0]


@pytest.mark.usefixtures("quick_metrics")
def test_what_differs_from_the_protocol_and_what_is_missing_is_said(run, tmp_path):
    assert judge(run, "--output", "out", "--objects", "1", "--views", "2", "--split", "train") == 0
    notes = "\n".join(results(tmp_path / "out")["notes"])
    for told in (
        "NOT the whole protocol",
        "pictures of 32 x 32 pixels, not 128 x 128",
        "objects of 3 views, not 251",
        "2 evenly spaced target views",
        "input views [1], not [64]",
        "the train split",
        "LPIPS-VGG is left out: ",
        "put https://download.pytorch.org/models/vgg16-397923af.pth there",
        "FID is left out: ",
        "inception-2015-12-05.pt is missing",
    ):
        assert told in notes, told
    (tmp_path / "data/cars_test").rename(tmp_path / "data/cars_val")
    assert judge(run, "--output", "val") == 0
    assert "the val split" in results(tmp_path / "val")["notes"][0]


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        ("--input-view 9", "srn_cars_1view gives view 9, but there are 5; name another with --input-view"),
        ("--objects 3", "--objects 3: the split has 2"),
        ("--views 9", "9 target views requested"),
        ("--best-of 3 --seeds 2", "--best-of 3 needs as many seeds; give --seeds 3"),
        ("--best-of 1", "1 is less than 2"),
        ("--shard 3/2", "3/2 is not K/N"),
        ("--shard 1/2 --merge", "leave --shard out"),
        ("--merge", "2 of 2 objects are not done, such as bb"),
        ("--protocol nmr", "data.root=.*no category has a list test.lst"),
        ("--protocol nmr2", "invalid choice: 'nmr2'"),
        ("--protocol quick --seeds 2", "--input-view is not for --protocol quick"),
        ("--view-list list.txt", "give only one"),
        ("--data nowhere", "nowhere"),
        ("--sampler huen", "no sampler 'huen'"),
        ("--output file", "file.*cannot be written|file/setup.json"),
        ("--device tpu", "tpu"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(run, tmp_path, capsys, flags, told):
    (tmp_path / "file").touch()
    try:
        code = judge(run, *flags.split())
    except SystemExit as exit_:
        code = exit_.code
    assert code == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if line and "mean image" not in line]
    assert len(lines) == 1
    assert re.search(told, lines[0]), lines[0]


def test_the_customary_view_must_be_there(run, capsys):
    assert evaluate.main(["--checkpoint", str(run), "--protocol", "srn_cars_2view"]) == 2
    assert "srn_cars_2view gives view 64, but there are 5" in capsys.readouterr().err


@pytest.mark.usefixtures("quick_metrics")
def test_figures_of_another_setup_are_not_mixed(run, capsys):
    assert judge(run, "--output", "out") == 0
    assert judge(run, "--output", "out", "--steps", "2") == 2
    assert "was measured with sample " in capsys.readouterr().err
    trained = load_checkpoint(find_checkpoint(run))  # and trained once more, under its name
    write_checkpoint(replace(trained, tensors={key: value + 1 for key, value in trained.tensors.items()}))
    assert judge(run, "--output", "out") == 2
    assert "was measured with checkpoint " in capsys.readouterr().err
    Path("out/setup.json").write_text("[]")
    assert judge(run, "--output", "out") == 2
    assert "choose another --output" in capsys.readouterr().err


def test_depth_is_read_as_in_training_unless_it_is_of_another_set(run, tmp_path):
    config = tiny_config(tmp_path / "data", tmp_path / "other")
    data = config.data.model_copy(update={"depth_scale": 0.5})
    other = save_tiny_run(config.model_copy(update={"data": data}))
    command = ["--checkpoint", str(other), "--protocol", "srn_cars_1view", "--input-view", "1"]
    scales = {"": 0.5, f"--data {tmp_path / 'data'}": 1.0, "--depth-scale 3": 3.0}
    for flags, scale in scales.items():
        evaluation = open_evaluation(evaluate_request(make_parser().parse_args([*command, *flags.split()])))
        assert evaluation.setup["depth_scale"] == evaluation.config.data.depth_scale == scale


def test_a_quick_look_prints_psnr_and_writes_nothing_but_a_file_asked_for(run, tmp_path, capsys):
    before = set(tmp_path.rglob("*"))
    command = ["--transfer", str(run), "--split", "test", "--views", "2", "--device", "cpu"]
    assert evaluate.main([*command, "--output", str(tmp_path / "figures.json")]) == 0
    assert "sample psnr" in capsys.readouterr().out
    assert set(tmp_path.rglob("*")) - before == {tmp_path / "figures.json"}
    assert {"sample_psnr", "copy_input_psnr"} <= set(json.loads((tmp_path / "figures.json").read_text()))


def test_help_answers_without_heavy_imports():
    code = "import sys\nfrom scripts.evaluate import __main__ as evaluate\ntry: evaluate.main(['--help'])\n"
    code += "finally: assert not {'torch', 'pydantic'} & set(sys.modules)"
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert answer.returncode == 0, answer.stderr
    assert "srn_chairs_2view" in answer.stdout


def test_depth_is_judged_where_a_pixel_is_covered_whole_and_silhouettes_by_their_overlap():
    seen_by = cameras(1, 2)
    pose = seen_by.cam_to_world.clone()
    pose[..., :3, 3] += 0.3 * pose[..., :3, 0] + 0.1 * pose[..., :3, 2]  # now it looks past the origin
    distance = seen_by.positions.norm(dim=-1) - 0.1
    seen_by = replace(seen_by, cam_to_world=pose)
    alpha, depth = torch.zeros(1, 2, 3, 5), torch.zeros(1, 2, 3, 5)
    alpha[:, :, 1:, 1:] = 1
    alpha[:, :, 1, 1] = 0.9  # shown, but not whole
    depth[alpha > 0] = 1.2
    truth = Views(
        torch.zeros(1, 2, 3, 3, 5), seen_by, torch.ones(1, 2, dtype=torch.bool), Geometry(depth, alpha)
    )
    opacity = torch.zeros(1, 2, 1, 3, 5)
    opacity[..., 1:, :4] = 0.8  # 6 of the 8 pixels shown, and two more
    guess = torch.full((1, 2, 1, 3, 5), 1.15)
    guess[..., 0, :], guess[..., 1, 1] = 9.0, 9.0
    images = torch.zeros(1, 2, 3, 3, 5)
    found = geometry_figures(Prediction(images, images, guess, opacity), truth)
    assert found["depth_error"] == pytest.approx(50, rel=1e-4)
    assert found["flat_depth_error"] == pytest.approx(1000 * (distance - 1.2).abs().mean().item(), rel=1e-4)
    assert found["silhouette_iou"] == pytest.approx(100 * 6 / 10)
