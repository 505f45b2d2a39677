"""scripts/benchmark: the yardstick computes the same, times and memory are what they are said to be, and all
sections write their report. No test looks at how long anything took."""

import copy
import json
import re
import subprocess
import sys
from dataclasses import replace
from datetime import date
from pathlib import Path

import pytest
import torch
from torchvision.ops import FrozenBatchNorm2d

from diffusion.samplers import SampleOptions
from models.device import multiplies_bfloat16
from models.training.memory import CLEAR_REFS, peak_extra_bytes
from models.volumes.backbone import FrozenNorm
from nerf.field import FieldConfig
from nerf.renderer import Jitter, RendererConfig, VolumeRenderer
from nerf.volume import FrustumVolume
from scripts.benchmark.baseline import (
    PlainEncoder,
    PlainRenderer,
    plain_denoiser,
    plain_model,
    with_all_photos,
)
from scripts.benchmark.cases.renderer import backend_names, gradients
from scripts.benchmark.cases.sample import PLAIN, sample_figures
from scripts.benchmark.context import Bench
from scripts.benchmark.machine import Ceilings, measure_ceilings, slug
from scripts.benchmark.measure import Figure, Task, Variant, alternate, measure
from scripts.benchmark.program import main
from scripts.benchmark.report import Results, duration, markdown, report_path, table
from scripts.benchmark.roofline import Work, network_work, renderer_work
from tests.memory_cases import CASES
from tests.reference.groups import GROUPS
from tests.scenes import cameras, scene_batch, tiny_model

CPU = torch.device("cpu")
SIZES = {"size": 3, "latent_channels": 4, "coarse": 5, "fine": 4}
MEBIBYTE = 2**20


def volume_and_cameras() -> tuple[FrustumVolume, object]:
    """b=2, s=3 (one is padding in the second scene), t=2, c=5, d=4, h=6, w=7."""
    generator = torch.Generator().manual_seed(4)
    features = 2 * torch.randn(2, 3, 5, 4, 6, 7, generator=generator)
    valid = torch.tensor([[True, True, True], [True, False, True]])
    return FrustumVolume(features, cameras(2, 3, seed=1), valid), cameras(2, 2, seed=2)


def random_jitter() -> Jitter:
    generator = torch.Generator().manual_seed(6)
    draw = lambda num: torch.rand(2, 2 * SIZES["size"] ** 2, num, generator=generator)  # noqa: E731
    return Jitter(draw(SIZES["coarse"]), draw(SIZES["fine"]))


def small_bench(**changes) -> Bench:
    ceilings = Ceilings(1e9, {"float32": 1e9, "bfloat16": 2e9})
    return Bench(
        **{"device": CPU, "size": "small", "repeats": 3, "plain_steps": 2, "ceilings": ceilings} | changes
    )


@pytest.mark.parametrize("outside", ["mask", "clamp"])
@pytest.mark.parametrize("pool", ["before", "after"])
@pytest.mark.parametrize(
    "changes",
    [{}, {"fine": 0}, {"quadrature": "left_edge", "bounds": "cube"}],
    ids=["cells", "one round", "published"],
)
def test_the_plain_renderer_renders_what_the_reference_does(outside, pool, changes):
    torch.manual_seed(8)
    field = FieldConfig(hidden=6, pool=pool, outside=outside, density_scale=3.0)
    config = RendererConfig(**SIZES | changes, field=field, backend="reference")
    reference = VolumeRenderer(config, channels=5)
    plain = PlainRenderer(copy.deepcopy(reference))
    volume, targets = volume_and_cameras()
    for jitter in (None, random_jitter()):
        expected, found = reference(volume, targets, jitter), plain(volume, targets, jitter)
        for name in ("latent", "depth", "opacity"):
            torch.testing.assert_close(getattr(found, name), getattr(expected, name), atol=1e-5, rtol=0)
    assert 0.05 < float(expected.opacity.detach().mean()) < 0.95  # something to see, and to see through

    volume.features.requires_grad_()
    results = [gradients(renderer, volume, targets, jitter) for renderer in (plain, reference)]
    for found, expected in zip(*results, strict=True):
        assert expected.abs().max() > 1e-4
        torch.testing.assert_close(found, expected, atol=1e-5 * float(expected.abs().max()), rtol=1e-4)


def test_the_plain_renderer_leaves_out_volumes_that_nobody_uses():
    renderer = VolumeRenderer(RendererConfig(**SIZES, backend="reference"), channels=5)
    volume, targets = volume_and_cameras()
    unused = replace(volume, valid=volume.valid & torch.tensor([True, True, False]))
    nonsense = unused.features.clone()
    nonsense[:, 2] = float("nan")
    found = PlainRenderer(renderer)(replace(unused, features=nonsense), targets)
    torch.testing.assert_close(found.latent, renderer(unused, targets).latent, atol=1e-5, rtol=0)


def test_the_plain_encoder_encodes_padding_too_and_valid_views_alike():
    encoder = tiny_model().encoder
    source = scene_batch([[True, False, True]]).source
    expected, found = encoder(source), PlainEncoder(copy.deepcopy(encoder))(source)
    assert not expected.features[0, 1].any()
    assert found.features[0, 1].any()
    assert torch.equal(found.valid, source.valid)
    torch.testing.assert_close(found.features[:, [0, 2]], expected.features[:, [0, 2]], atol=1e-5, rtol=1e-4)


def test_the_plain_denoiser_resizes_with_dense_kernels_and_computes_the_same():
    denoiser = tiny_model(denoiser={"dropout": 0.3}).denoiser.eval()
    plain = plain_denoiser(denoiser)
    torch.manual_seed(2)
    noisy, condition, sigma = (
        torch.randn(1, 2, 3, 16, 16),
        torch.randn(1, 2, 4, 16, 16),
        torch.rand(1, 2) + 0.5,
    )
    with torch.no_grad():
        expected, found = denoiser(noisy, sigma, condition), plain(noisy, sigma, condition)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)
    work = [
        network_work(lambda part=part: part(noisy, sigma, condition), part, 0, backward=False)
        for part in (plain, denoiser)
    ]
    assert work[0].flops > 1.1 * work[1].flops


def test_the_plain_model_learns_and_draws_the_same():
    model = tiny_model().eval()
    plain, batch = plain_model(model), scene_batch([[True, False], [True, False]], num_target=1)
    expected, found = model.loss(batch, progress=0.3), plain.loss(with_all_photos(batch), progress=0.3)
    assert expected.keys() == found.keys()
    for name, term in expected.items():
        torch.testing.assert_close(found[name], term, atol=1e-5, rtol=1e-4)
    options, seeds = SampleOptions(steps=2), torch.tensor([[1], [2]])
    drawn = [
        each.sample(batch.source, batch.target.cameras, seeds, options).images for each in (model, plain)
    ]
    torch.testing.assert_close(drawn[1], drawn[0], atol=1e-4, rtol=0)


def test_the_plain_model_is_contiguous_and_normalises_with_torchvisions_layers():
    model = tiny_model().to(memory_format=torch.channels_last)  # as on a GPU
    plain = plain_model(model)
    assert not all(weight.is_contiguous() for weight in model.parameters())
    assert all(weight.is_contiguous() for weight in plain.parameters())
    kinds = [{type(layer) for layer in each.encoder.modules()} for each in (model, plain)]
    assert [FrozenNorm in kind for kind in kinds] == [True, False]
    assert FrozenBatchNorm2d in kinds[1]


def test_variants_take_turns_and_their_medians_are_told():
    calls, durations = [], iter([9.0, 1.0, 2.0, 30.0, 4.0, 20.0])

    def clock(run):
        run()
        return next(durations)

    variants = [
        Variant("plain", lambda: calls.append("p")),
        Variant("ours", lambda: calls.append("o"), count=10),
    ]
    figures = measure(Task("section", "task", variants, Work(2e9, 1e9)), small_bench(), clock=clock)
    assert "".join(calls) == "ppoopopopo"  # warm-up and memory of each, then in turn
    assert [(figure.variant, figure.seconds) for figure in figures] == [("plain", 4.0), ("ours", 2.0)]
    assert [(figure.fastest, figure.slowest) for figure in figures] == [(2.0, 9.0), (0.1, 3.0)]
    assert [figure.floor for figure in figures] == [2.0, 2.0]


def test_only_the_variants_asked_for_are_run():
    calls = []
    variants = [Variant(name, lambda name=name: calls.append(name)) for name in ("plain", "ours")]
    figures = measure(Task("section", "task", variants), small_bench(variants=("ours",), repeats=1))
    assert calls == ["ours"] * 3
    assert [(figure.variant, figure.floor) for figure in figures] == [("ours", None)]


def test_a_variant_that_cannot_be_had_here_is_named_and_the_others_are_measured():
    def fail(error):
        raise error

    bench = small_bench()
    variants = [
        Variant("plain", lambda: fail(torch.OutOfMemoryError("no"))),
        Variant("ours", lambda: None),
        Variant("fused", lambda: fail(ValueError("backend: no Triton"))),
    ]
    assert [figure.variant for figure in measure(Task("section", "task", variants), bench)] == ["ours"]
    assert bench.unmeasured == [
        "section, task, plain: does not fit into memory",
        "section, task, fused: backend: no Triton",
    ]


def test_whose_turn_it_is_is_told_before_the_clock_runs():
    order = []
    clock = lambda run: order.append("clock") or run() or 1.0  # noqa: E731
    alternate({"a": lambda: order.append("run")}, repeats=1, clock=clock, tell=order.append)
    assert order == ["a", "clock", "run"]


@pytest.mark.skipif(not CLEAR_REFS.exists(), reason="the system does not tell")
def test_the_peak_of_memory_is_that_of_known_tensors():
    command = [sys.executable, "-m", "tests.memory_cases"]
    done = subprocess.run(command, cwd=Path(__file__).parents[3], capture_output=True, text=True, check=True)
    peaks = json.loads(done.stdout)
    assert peaks.keys() == CASES.keys()
    for name, (_, expected) in CASES.items():
        assert abs(peaks[name] - expected * MEBIBYTE) < 6 * MEBIBYTE, name


def test_without_the_kernels_count_memory_is_not_known(monkeypatch, tmp_path):
    monkeypatch.setattr("models.training.memory.CLEAR_REFS", tmp_path / "no" / "such")
    calls = []
    assert peak_extra_bytes(lambda: calls.append(1), CPU) is None
    assert calls == [1]
    assert "| not known |" in table([Figure("s", "t", "plain", 1.0, 1.0, 1.0, None, None)])


def test_the_work_of_a_network_is_counted_by_hand():
    layer, images = torch.nn.Conv2d(3, 5, 3, padding=1), torch.rand(2, 3, 7, 9)
    work = network_work(lambda: layer(images), layer, 11, backward=False)
    assert work.flops == 2 * (2 * 7 * 9) * 5 * 3 * 9
    assert work.num_bytes == 4 * (5 * 3 * 9 + 5 + 11)
    both = network_work(lambda: layer(images).sum().backward(), layer, 11, backward=True)
    assert both.flops == 2 * work.flops  # no gradient of the images is asked for
    assert both.num_bytes == 4 * (3 * (5 * 3 * 9 + 5) + 11)


def test_the_work_of_the_renderer_is_counted_by_hand():
    config = RendererConfig(size=2, latent_channels=3, coarse=2, fine=1, field=FieldConfig(hidden=7))
    sizes = {"channels": 5, "voxels": 10**6, "num_source": 2, "num_target": 3}
    work = renderer_work(config, **sizes, backward=False)
    samples = 3 * 4 * 3
    assert work.flops == samples * (2 * 8 * 5 * 2 + 2 * (5 * 7 + 7 * 4))
    # So few samples that not all of the volume can be touched.
    assert work.num_bytes == 4 * (2 * 5 * 8 * samples + 3 * 4 * (3 + 2))
    assert renderer_work(config, **sizes | {"voxels": 6}, backward=False).num_bytes == 4 * (2 * 5 * 6 + 60)
    after = config.model_copy(update={"field": FieldConfig(hidden=7, pool="after")})
    assert renderer_work(after, **sizes, backward=False).flops > work.flops
    assert renderer_work(config, **sizes, backward=True).flops > 2 * work.flops


def test_a_floor_is_the_longer_of_moving_and_calculating():
    ceilings = Ceilings(bandwidth=10.0, flops={"float32": 100.0, "bfloat16": 1000.0})
    assert Work(50.0, 100.0).floor(ceilings, "float32") == 5.0
    assert Work(50.0, 1000.0).floor(ceilings, "float32") == 10.0
    assert Work(50.0, 1000.0).floor(ceilings, "bfloat16") == 5.0


def test_ceilings_are_what_the_fastest_run_did(monkeypatch):
    monkeypatch.setattr("scripts.benchmark.machine.clock_of", lambda device: lambda run: 0.5)
    ceilings = measure_ceilings(CPU, "small")
    flops = 2 * 128**3 / 0.5
    assert ceilings == Ceilings(2 * 2**22 / 0.5, {"float32": flops, "bfloat16": flops})


def test_the_plain_view_is_estimated_from_its_steps_and_says_so(monkeypatch):
    seconds = {"volume and latent image": 1.0, "a view": 7.0}

    def figures_of(task, bench):
        each = seconds[task.name]
        return [Figure("sample", task.name, v.name, each, each, each, None, None) for v in task.variants]

    monkeypatch.setattr("scripts.benchmark.cases.sample.measure", figures_of)
    found = {(figure.task, figure.variant): figure for figure in sample_figures(small_bench(plain_steps=3))}
    plain, ours = found["a view", "plain"], found["a view", "ours"]
    assert (plain.seconds, plain.note) == (1 + 6 * 250 / 3, "estimated from 3 of 250 steps")
    assert (ours.seconds, ours.note) == (7.0, "")
    assert (PLAIN.sampler, PLAIN.steps, PLAIN.stochastic) == ("euler", 250, True)


def test_tables_tell_ratios_to_the_plain_variant_of_the_same_task():
    figures = [
        Figure("s", "one", "plain", 2.0, 1.5, 2.5, 3 * MEBIBYTE, 0.001),
        Figure("s", "one", "ours", 0.5, 0.4, 0.6, MEBIBYTE, 0.001, note="estimated"),
        Figure("s", "two", "ours", 3e-5, 2e-5, 4e-5, None, None),
    ]
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in table(figures).splitlines()[2:]]
    assert rows[0] == ["one", "plain", "2 s", "1.5 s to 2.5 s", "1", "3.0 MiB", "1 ms", "2e+03"]
    assert rows[1][:5] == ["one (estimated)", "ours", "500 ms", "400 ms to 600 ms", "0.25"]
    assert rows[2][2:] == ["30 us", "20 us to 40 us", "", "not known", "", ""]


@pytest.mark.parametrize(
    ("seconds", "text"), [(1234.5, "1234 s"), (61.26, "61.3 s"), (0.25, "250 ms"), (4e-6, "4 us")]
)
def test_durations_have_three_figures_and_a_unit(seconds, text):
    assert duration(seconds) == text


def test_the_report_names_machine_versions_command_and_what_was_not_measured():
    bench = small_bench(unmeasured=["renderer, fused: no GPU", "renderer, fused: no GPU"])
    text = markdown(bench, Results(), ["all", "--repeats", "3"], date(2031, 2, 3), chart="c.png")
    assert text.startswith("# Speed on 2031-02-03, ")
    for part in (torch.__version__, "python -m scripts.benchmark all --repeats 3", "commit ", "cores"):
        assert part in text
    assert text.split("## Not measured")[1].strip() == "* renderer, fused: no GPU"


def test_a_report_never_takes_the_place_of_another(tmp_path):
    paths = []
    for _ in range(3):
        paths.append(report_path(tmp_path, small_bench(), date(2031, 2, 3)))
        paths[-1].touch()
    assert [re.sub(r"_[a-z0-9-]*[a-z-][a-z0-9-]*", "", path.stem) for path in paths] == [
        "2031-02-03",
        "2031-02-03_2",
        "2031-02-03_3",
    ]
    assert slug("Intel(R) Xeon(R) Platinum 8480+, 2 cores") == "intel-xeon-platinum-8480-2-cores"


def test_a_small_run_of_everything_writes_tables_and_chart(tmp_path, capsys):
    arguments = [
        "all",
        "--size",
        "small",
        "--repeats",
        "1",
        "--device",
        "cpu",
        "--output",
        str(tmp_path / "out"),
    ]
    assert main([*arguments, "--steps", "2"]) == 0
    report, chart = sorted((tmp_path / "out").iterdir())
    assert (report.suffix, chart.suffix, report.stem) == (".md", ".png", chart.stem)
    assert chart.read_bytes().startswith(b"\x89PNG")
    text = report.read_text()
    assert f"]({chart.name})" in text
    sections = dict(re.findall(r"^## (\w+)\n(.*?)(?=^## |\Z)", text, flags=re.MULTILINE | re.DOTALL))
    named = ["Renderer", "Encoder", "Denoiser", "Step", "Sample", "Loader", "Mixed_views"]
    assert list(sections)[:7] == named
    variants = {"plain", "ours"} | ({"float32"} if multiplies_bfloat16(CPU) else set())
    others = dict.fromkeys(("Encoder", "Denoiser", "Step", "Sample", "Mixed_views"), variants)
    for name, variants in (others | {"Loader": {"plain", "cached", "packed"}}).items():
        rows = [row.split("|") for row in sections[name].splitlines() if row.startswith("| ")]
        assert {row[2].strip() for row in rows} == {"variant", *variants}
    assert {"forward, 1 source", "forward + backward, 3 source", "outside=mask", "outside=clamp"} <= set(
        re.findall(r"forward[ +a-z]*, \d source|outside=\w+", sections["Renderer"])
    )
    assert "| reference |" in sections["Renderer"]
    assert "estimated from 2 of 250 steps" in sections["Sample"]
    assert "estimated from 2 of 2000 steps" in sections["Mixed_views"]
    assert "8 scenes, 28 views" in sections["Mixed_views"]
    assert "views a second" in sections["Loader"]
    assert "waiting for the loader" in sections["Loader"]
    assert "GPU" in text.split("## Not measured")[1]
    assert str(report) in capsys.readouterr().out


def test_both_precisions_are_measured_in_turn_on_every_machine(tmp_path):
    arguments = [
        "precision",
        "--size",
        "small",
        "--repeats",
        "1",
        "--device",
        "cpu",
        "--output",
        str(tmp_path),
    ]
    assert main(arguments) == 0
    (report,) = tmp_path.iterdir()
    rows = [row.split("|") for row in report.read_text().splitlines() if row.startswith("| ")]
    found = {(row[1].strip(), row[2].strip()) for row in rows if row[1].strip() != "task"}
    tasks = {"forward", "forward + backward", "1 source views", "2 source views", "a view"}
    tasks |= {"volume and latent image"}
    assert found == {(task, name) for task in tasks for name in ("float32", "bfloat16")}
    assert {row[5].strip() for row in rows if row[2].strip() == "float32"} == {"1"}
    assert "times float32" in report.read_text()


def test_a_section_alone_is_reported_alone_and_the_rest_as_not_asked_for(tmp_path):
    arguments = [
        "denoiser",
        "--size",
        "small",
        "--repeats",
        "1",
        "--device",
        "cpu",
        "--output",
        str(tmp_path),
    ]
    assert main([*arguments, "--variant", "ours"]) == 0
    (report,) = tmp_path.iterdir()
    left_out = report.read_text().split("## Not measured")[1]
    for name in ("renderer", "encoder", "step", "sample", "loader", "mixed_views"):
        assert f"section {name}: not asked for" in left_out
    assert "variants other than ours: not asked for" in left_out


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        (["--repeats", "0"], "--repeats"),
        (["--steps", "1"], "--steps"),
        (["--steps", "251"], "--steps"),
        (["--variant", "plain", "quick"], "quick"),
        (["--device", "abacus"], "abacus"),
        (["--output", "FILE"], "FILE"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(changes, named, tmp_path, capsys):
    (tmp_path / "FILE").touch()
    arguments = [str(tmp_path / "FILE") if word == "FILE" else word for word in changes]
    assert main(["loader", "--size", "small", "--output", str(tmp_path / "out"), *arguments]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert named in error


def test_help_explains_every_backend_that_the_renderer_offers(capsys):
    with pytest.raises(SystemExit) as left:
        main(["--help"])
    assert left.value.code == 0
    text = capsys.readouterr().out
    for name in (*backend_names(), "plain", "ours", "parity"):
        assert re.search(rf"^  {name} ", text, flags=re.MULTILINE), name


def test_parity_prints_a_line_for_each_group(monkeypatch, capsys):
    first = dict(list(GROUPS.items())[:1])
    monkeypatch.setattr("tests.reference.groups.GROUPS", first)
    assert main(["parity"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["group", "arrays", "worst", "allowed", "ratio", "array", "seconds"]
    assert [line.startswith(name) for line, name in zip(lines[1:], first, strict=False)] == [True]
    assert lines[-1] == "1 of 1 groups within tolerance"
