"""scripts/evaluation/: networks and their weights, FID, protocols' views, figures worked out by hand."""

import inspect
import math
import warnings
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn
from torchvision.models.vgg import cfgs, make_layers

from tests.data.formats.test_nmr import plant

pytest.importorskip("torchmetrics", reason="needs requirements-metrics.txt")

from data.config import DataConfig
from data.formats.registry import open_split
from data.images.files import write_png
from data.images.pixels import from_uint8
from scripts.evaluate.aggregation import best_seeds, methods_of, object_mean, summarise
from scripts.evaluate.metrics import fid, kid, set_distances, weights
from scripts.evaluate.metrics.metrics import METRICS, exact_psnr
from scripts.evaluate.protocols import PROTOCOLS, listed_views, make_task, read_view_list
from scripts.evaluate.records import ObjectFolder, Record
from scripts.evaluate.report import measured_sets, ranked

CPU = torch.device("cpu")


def pictures(num: int, size: tuple[int, int] = (37, 45), seed: int = 0) -> torch.Tensor:
    """Smooth pictures in 8 bits, each of its own tint."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(num, 3, 4, 5, generator=generator) + torch.rand(num, 3, 1, 1, generator=generator)
    smooth = torch.nn.functional.interpolate(coarse / 2, size, mode="bilinear")
    return (255 * smooth).round().to(torch.uint8).movedim(1, -1)


class SmallNetwork(nn.Module):
    """Seven features of pictures in 0 to 255."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(4)
        self.mix = nn.Conv2d(3, 7, 9, stride=20)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        assert x.shape[1:] == (3, 299, 299)
        return (self.mix(x - 128) / 128).relu().mean(dim=(2, 3))


@pytest.fixture
def small_fid(monkeypatch):
    monkeypatch.setattr(fid, "NUM_FEATURES", 7)
    return fid.Features(CPU, SmallNetwork().requires_grad_(False))


def test_fid_is_that_of_clean_fid_on_the_files(small_fid, tmp_path):
    package = pytest.importorskip("cleanfid.fid")
    sets = {"ours": pictures(11, seed=1), "truth": pictures(13, seed=2)}
    distance = fid.FrechetDistance(small_fid, sets["truth"].split(4), CPU)
    found = distance(sets["ours"].split(5))
    assert found > 1e-3
    assert distance(sets["truth"].split(7)) == pytest.approx(0, abs=1e-6)
    assert distance(sets["ours"].split(3)) == pytest.approx(found, rel=1e-5)  # nothing stays of other sets
    for name, those in sets.items():
        for number, picture in enumerate(those):
            write_png(tmp_path / name / f"{number}.png", picture)
    options = {"model": SmallNetwork(), "num_workers": 0, "device": CPU, "mode": "clean", "verbose": False}
    features = [package.get_folder_features(str(tmp_path / name), **options) for name in sets]
    if "disp" not in inspect.signature(package.linalg.sqrtm).parameters:
        pytest.skip("this SciPy is too new for clean-fid's distance")
    assert found == pytest.approx(package.fid_from_feats(*features), rel=1e-4)


def test_the_frechet_distance_of_fixed_features_is_that_of_two_libraries(monkeypatch):
    from cleanfid.fid import fid_from_feats

    monkeypatch.setattr(fid, "NUM_FEATURES", 5)
    rng = np.random.default_rng(3)
    truth = rng.normal(size=(60, 5)) @ rng.normal(size=(5, 5))
    ours = rng.normal(size=(50, 5)) @ rng.normal(size=(5, 5)) + 0.3
    features = nn.Identity()
    features.num_features = 5
    distance = fid.FrechetDistance(features, torch.from_numpy(truth).split(9), CPU)
    found = distance(torch.from_numpy(ours).split(20))
    means, covariances = [part.mean(axis=0) for part in (truth, ours)], [np.cov(p.T) for p in (truth, ours)]
    # Of a symmetric product, which has the same eigenvalues.
    values, vectors = np.linalg.eigh(covariances[0])
    root = vectors @ np.diag(np.sqrt(values)) @ vectors.T
    cross = np.sqrt(np.linalg.eigvalsh(root @ covariances[1] @ root)).sum()
    by_hand = np.square(means[0] - means[1]).sum() + sum(map(np.trace, covariances)) - 2 * cross
    assert found == pytest.approx(by_hand, rel=1e-9)
    if "disp" in inspect.signature(__import__("scipy.linalg").linalg.sqrtm).parameters:
        assert found == pytest.approx(fid_from_feats(truth, ours), rel=1e-6)


def test_one_picture_has_no_fid():
    alone = SimpleNamespace(tasks=[SimpleNamespace(targets=(3,))], num_seeds=1)
    assert measured_sets(alone, ["sample"], None, CPU) == (
        {"sample": {}},
        ["FID, KID-lite0 (x 1000) are left out: one image is no distribution."],
    )


def test_the_kernel_distance_is_its_formula_by_a_loop():
    def features(part):
        return part.flatten(1).double() / 100

    truth, ours = pictures(5, seed=1), pictures(5, seed=2)
    found = kid.KernelDistance(features, truth.split(2))(ours.split(3))
    x, y = features(truth), features(ours)

    def kernel(a, b):
        return (a @ b / x.shape[1] + 1) ** 3

    different = [(i, j) for i in range(5) for j in range(5) if i != j]
    within = sum(kernel(x[i], x[j]) + kernel(y[i], y[j]) for i, j in different) / 20
    between = sum(kernel(a, b) for a in x for b in y) / 25
    assert found == pytest.approx(1000 * (within - 2 * between).item(), rel=1e-9)


def test_features_of_a_picture_do_not_depend_on_the_others_and_tell_pictures_apart():
    network = kid.Lite0Features(CPU)
    several = pictures(3)
    found = network(several)
    assert found.shape == (3, 1280)
    torch.testing.assert_close(found[1:2], network(several[1:2]), atol=1e-4, rtol=1e-4)
    assert (found[0] - found[1]).norm() > 1


def test_a_set_metric_that_is_not_to_be_had_says_why_and_the_others_are_measured(monkeypatch):
    class Brightness:
        def __init__(self, truth):
            self.truth = torch.cat(list(truth)).float().mean()

        def __call__(self, parts):
            return (torch.cat(list(parts)).float().mean() - self.truth).item()

    def refuse(device):
        raise ValueError("no such file; fetch it")

    metrics = {
        "absent": set_distances.SetMetric("Absent", 1, refuse, "of nothing"),
        "bright": set_distances.SetMetric("Bright", 1, lambda device: Brightness, "brightness"),
    }
    monkeypatch.setattr(set_distances, "SET_METRICS", metrics)
    shown = {None: pictures(4, seed=1), "a": pictures(4, seed=2), "b": pictures(4, seed=3)}
    found, lines = set_distances.set_distances(
        lambda method: iter(shown[method].split(3)),
        {"one": ["a", "b"]},
        num_objects=2,
        num_pictures=4,
        device=CPU,
    )
    wanted = [(shown[name].float().mean() - shown[None].float().mean()).item() for name in "ab"]
    assert found == {"bright": {"one": pytest.approx(wanted)}}
    assert lines == [
        "Absent is left out: no such file; fetch it",
        "Bright: brightness, 4 images against as many of the truth.",
    ]


def test_pictures_that_are_there_twice_count_twice(small_fid):
    three = pictures(3)
    several = three[[0, 1, 1, 2, 0]]
    torch.testing.assert_close(small_fid(several), small_fid(three)[[0, 1, 1, 2, 0]])


def test_inception_is_the_file_that_clean_fid_takes(tmp_path, monkeypatch):
    class Whole(nn.Module):
        def __init__(self):
            super().__init__()
            self.layers = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(3, 2048, 1), nn.Flatten())

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.layers(x)

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    with pytest.raises(ValueError, match=r"hub/checkpoints/inception-2015-12-05.pt is missing; put https"):
        weights.load_inception(CPU)
    path = weights.INCEPTION.path
    path.parent.mkdir(parents=True)
    whole = Whole()
    with warnings.catch_warnings(action="ignore"):
        torch.jit.script(whole).save(str(path))
    with pytest.raises(ValueError, match="is not the published file"):
        weights.load_inception(CPU)
    monkeypatch.setattr(weights, "INCEPTION", weights.WeightsFile(weights.INCEPTION.url, ""))
    x = 255 * torch.rand(2, 3, 299, 299)
    with torch.no_grad():
        expected = whole((x - 128) / 128)
        torch.testing.assert_close(weights.load_inception(CPU)(x), expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("name", ["lpips_vgg", "dists"])
def test_networks_that_look_through_vgg_get_the_range_that_their_library_wants(name, monkeypatch):
    functional = pytest.importorskip("torchmetrics.functional.image")
    torch.manual_seed(0)
    layers = make_layers(cfgs["D"])
    vgg = lambda weights=None: SimpleNamespace(features=layers)  # noqa: E731
    monkeypatch.setattr("torchvision.models.vgg16", vgg)
    monkeypatch.setattr("torchmetrics.functional.image.dists.vgg16", vgg)
    monkeypatch.setattr(weights, "_check_vgg", lambda: None)
    images, truth = (from_uint8(pictures(3, (33, 40), seed)) for seed in (1, 2))
    judge = METRICS[name].load(CPU)
    found = judge(images, truth)
    assert found.shape == (3,)
    with torch.no_grad():
        if name == "dists":
            expected = functional.deep_image_structure_and_texture_similarity(
                (images + 1) / 2, (truth + 1) / 2
            )
        else:
            expected = functional.learned_perceptual_image_patch_similarity(
                (images + 1) / 2, (truth + 1) / 2, net_type="vgg", reduction="none", normalize=True
            )
    assert (found > 1e-3).all()
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(judge(images[:1], truth[:1]), found[:1], atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(judge(truth, truth), torch.zeros(3), atol=1e-5, rtol=0)


def test_a_file_of_vgg_that_would_run_code_or_is_another_is_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    weights.VGG.path.parent.mkdir(parents=True)
    torch.save({"a": torch.zeros(2)}, weights.VGG.path)
    with pytest.raises(ValueError, match=r"is not the published file \(SHA-256 .*\); fetch https"):
        weights.load_lpips(CPU)
    torch.save({"a": SmallNetwork()}, weights.VGG.path)
    monkeypatch.setattr(weights, "VGG", weights.WeightsFile(weights.VGG.url, ""))
    with pytest.raises(ValueError, match="would run code"):
        weights.load_dists(CPU)


def test_psnr_of_equal_pictures_is_infinite():
    images = from_uint8(pictures(2, (5, 7)))
    other = images.clone()
    other[1, 0, 0, 0] += 1 / 127.5
    found = exact_psnr(other, images)
    assert found[0] == math.inf
    assert found[1].item() == pytest.approx(10 * math.log10(255**2 * 3 * 5 * 7), abs=1e-4)


@pytest.fixture
def nmr(tmp_path):
    """Category 02 with objects a and b, which other lists name in another order."""
    for name in "ab":
        plant(tmp_path / "02" / name)
    for name, words in (("train", "a"), ("test", "b"), ("softras_train", "b"), ("softras_test", "a")):
        (tmp_path / "02" / f"{name}.lst").write_text(f"{words}\n")
    return tmp_path


@pytest.mark.parametrize(
    ("name", "list_", "object_"), [("nmr", "test.lst", "b"), ("nmr_softras", "softras_test.lst", "a")]
)
def test_both_lists_of_nmr_are_protocols(nmr, name, list_, object_):
    protocol = PROTOCOLS[name]
    assert protocol.objects == list_
    objects = open_split(DataConfig(root=str(nmr), layout=protocol.layout, image_size=8), "test")
    task = make_task(objects, 0, protocol, protocol.input_views, None)
    assert (task.name, task.category) == (f"02_{object_}", "02")
    assert (task.sources, task.targets) == ((0,), tuple(range(1, 24)))


def test_input_views_are_read_from_lists_as_pixelnerf_has_them(nmr, tmp_path):
    protocol, path = PROTOCOLS["nmr"], tmp_path / "src_dvr.txt"
    path.write_text("02 a 3\n\n02 b 12 7\n")
    objects = open_split(DataConfig(root=str(nmr), layout="nmr", image_size=8), "test")
    views = read_view_list(path, protocol)
    assert listed_views(objects, 0, views, path) == (12, 7)
    task = make_task(objects, 0, protocol, (12, 7), None)
    assert len(task.targets) == 22
    path.write_text("02 a 3\n")
    with pytest.raises(ValueError, match="does not name 02/b; add a line"):
        listed_views(objects, 0, read_view_list(path, protocol), path)
    path.write_text("a 3\n")
    with pytest.raises(ValueError, match="line 1 is not of the form CATEGORY OBJECT VIEW"):
        read_view_list(path, protocol)
    assert read_view_list(path, PROTOCOLS["srn_cars_1view"]) == {"a": (3,)}


@pytest.mark.parametrize(("name", "sources"), [("srn_cars_1view", (64,)), ("srn_chairs_2view", (64, 104))])
def test_srn_protocols_judge_all_other_views(name, sources, tmp_path, plant_object):
    plant_object(tmp_path / "cars_test" / "a", num_views=251, size=(4, 4))
    objects = open_split(DataConfig(root=str(tmp_path), image_size=4), "test")
    task = make_task(objects, 0, PROTOCOLS[name], PROTOCOLS[name].input_views, None)
    assert task.sources == sources
    assert sorted(task.sources + task.targets) == list(range(251))


def record(name: str, **psnr: list[float | None]) -> Record:
    scores = {method: {"psnr": values} for method, values in psnr.items()}
    return Record(name=name, category="", sources=(0,), views=(1, 2), scores=scores, geometry={})


def test_means_are_over_views_then_objects_then_seeds():
    records = [
        record("a", seed_0=[10.0, 20.0], seed_1=[30.0, None], preview=[1.0, 2.0]),
        record("b", seed_0=[5.0, 7.0], seed_1=[9.0, 10.0], preview=[None, None]),
    ]
    methods = methods_of(records, num_seeds=2, best_of=2)
    sample, best, preview = summarise(records, methods, ["psnr"])
    assert sample.figures["psnr"].mean == pytest.approx(((15 + 6) / 2 + (30 + 9.5) / 2) / 2)
    assert sample.figures["psnr"].over_seeds == pytest.approx(abs(10.5 - 19.75) / math.sqrt(2))
    assert sample.figures["psnr"].over_objects == pytest.approx((22.5 - 7.75) / 2)
    assert sample.figures["psnr"].left_out == 1
    assert best_seeds(records[0], 2) == [1, 1]  # that of equal pictures is the best
    assert best.figures["psnr"].mean == pytest.approx((30 + 9.5) / 2)
    assert (preview.figures["psnr"].mean, preview.figures["psnr"].left_out) == (1.5, 2)
    assert object_mean([None, None]) is None


def test_objects_are_ranked_by_the_psnr_of_their_samples():
    records = [
        record("a", seed_0=[10.0, 20.0]),
        record("b", seed_0=[None, None]),
        record("c", seed_0=[19.0, 12.0]),
    ]
    assert [found.name for found in ranked(records, 1)] == ["b", "c", "a"]


def test_damaged_figures_and_pictures_count_as_none(tmp_path):
    folder = ObjectFolder(tmp_path)
    assert folder.record() is None
    folder.keep(record("a", seed_0=[1.0, None]))
    assert folder.record().scores["seed_0"]["psnr"] == [1.0, None]
    (tmp_path / "figures.json").write_text("[]")
    assert folder.record() is None
    for view in (1, 2):
        folder.write("seed_0", view, torch.rand(3, 9, 8))
    assert folder.is_whole("seed_0", (1, 2))
    assert not folder.is_whole("seed_0", (1, 3))
    path = folder.picture("seed_0", 2)
    path.write_bytes(path.read_bytes()[:-80])
    assert not folder.is_whole("seed_0", (1, 2))
