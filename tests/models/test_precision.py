"""In which precision networks compute: what auto asks the hardware, and which numbers stay in float32."""

import json

import pytest
import torch
import torch.nn.functional as F

import sample_views
import train
from diffusion.samplers import SampleOptions
from models.device import BFLOAT16_CHECKS, autocast, choose_precision, multiplies_bfloat16
from models.volumes import upsampling
from nerf.backends import BACKENDS
from tests.scenes import cameras, ready_batch, run_document, tiny_model

CPU = torch.device("cpu")


@pytest.fixture
def cpu_with(monkeypatch):
    """cpu_with(avx512=False, amx=False, onednn=True): pretend that the CPU has some instructions."""

    def pretend(*, avx512: bool = False, amx: bool = False, onednn: bool = True) -> None:
        for name, present in zip(BFLOAT16_CHECKS, (avx512, amx), strict=True):
            monkeypatch.setattr(torch.cpu, name, lambda present=present: present, raising=False)
        monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: onednn)

    return pretend


@pytest.mark.parametrize(
    ("has", "chosen"),
    [
        ({}, "float32"),  # AVX512 without the instructions, too, which oneDNN would emulate
        ({"avx512": True}, "bfloat16"),
        ({"amx": True}, "bfloat16"),
        ({"avx512": True, "amx": True}, "bfloat16"),
        ({"avx512": True, "onednn": False}, "float32"),
    ],
)
def test_auto_is_bfloat16_on_cpus_that_multiply_in_it(cpu_with, has, chosen):
    cpu_with(**has)
    assert choose_precision("auto", CPU) == chosen
    with autocast("auto", CPU):
        assert F.linear(torch.ones(2, 3), torch.ones(5, 3)).dtype == getattr(torch, chosen)


def test_a_torch_that_cannot_be_asked_counts_as_a_cpu_without_the_instructions(monkeypatch):
    for name in BFLOAT16_CHECKS:
        monkeypatch.delattr(torch.cpu, name, raising=False)
    assert not multiplies_bfloat16(CPU)


def test_an_explicit_choice_wins_over_what_the_hardware_has(cpu_with):
    for present in (False, True):
        cpu_with(avx512=present)
        for name in ("float32", "bfloat16"):
            assert choose_precision(name, CPU) == name
            with autocast(name, CPU):
                assert torch.is_autocast_enabled("cpu") == (name == "bfloat16")


@pytest.fixture
def dtypes(monkeypatch):
    """What reaches and leaves the parts of a model, noted as it computes."""
    seen: dict[str, set[torch.dtype]] = {}

    def note(name: str, *tensors: torch.Tensor) -> None:
        kinds = {tensor.dtype for tensor in tensors if torch.is_tensor(tensor) and tensor.is_floating_point()}
        seen.setdefault(name, set()).update(kinds)

    def watch(model: torch.nn.Module) -> None:
        for name, part in model.named_modules():
            if type(part) is torch.nn.Conv2d:
                network = "encoder convolutions" if name.startswith("encoder") else "denoiser convolutions"
                part.register_forward_hook(lambda _, given, out, network=network: note(network, out))
            elif name == "denoiser.inner_model.timestep_embed":
                part.register_forward_hook(lambda _, given, out: note("noise level", *given, out))
        denoiser = model.denoiser
        denoiser.register_forward_pre_hook(lambda _, given: note("sampler", *given))
        denoiser.register_forward_hook(lambda _, given, out: note("denoised", out))
        network = denoiser._network
        monkeypatch.setattr(
            denoiser, "_network", lambda *given: note("scaled", *given) or _noted(network(*given))
        )

    def _noted(result):
        note("raw output", *result)
        return result

    for name, render in BACKENDS.items():

        def noted(volume, field, rays, samples, refinement=None, *, render=render):
            note("volumes", volume.features)
            note("rays", rays.origins, rays.directions, samples.distance)
            rendering = render(volume, field, rays, samples, refinement)
            note("rendering", rendering.latent, rendering.depth, rendering.opacity)
            return rendering

        monkeypatch.setitem(BACKENDS, name, noted)
    return seen, watch


@pytest.mark.parametrize(("present", "low"), [(True, torch.bfloat16), (False, torch.float32)])
def test_networks_alone_compute_in_what_auto_chooses(cpu_with, dtypes, present, low):
    cpu_with(avx512=present)
    seen, watch = dtypes
    model, batch = tiny_model(), ready_batch([[True, False], [True, True]])
    watch(model)
    with autocast("auto", CPU):
        losses = model.loss(batch, progress=0.0)
    sum(losses.values()).backward()
    with torch.no_grad(), autocast("auto", CPU):
        scene = model.encode(batch.source)
        drawn = model.draw(scene, cameras(2, 1, seed=3), torch.tensor([[4], [5]]), SampleOptions(steps=2))
    for part in ("encoder convolutions", "denoiser convolutions"):
        assert seen.pop(part) == {low}
    parts = {"noise level", "sampler", "denoised", "scaled", "raw output", "volumes", "rays", "rendering"}
    assert seen == {part: {torch.float32} for part in parts}
    others = [*losses.values(), *(weight.grad for weight in model.parameters() if weight.grad is not None)]
    assert {tensor.dtype for tensor in [*others, drawn.images, drawn.depth, drawn.opacity]} == {torch.float32}
    assert {weight.dtype for weight in model.parameters()} == {torch.float32}


def test_float32_is_what_there_is_without_autocast_to_the_last_bit(cpu_with):
    cpu_with(avx512=True)
    results = []
    for chosen in (False, True):
        model, batch = tiny_model(), ready_batch([[True, False]])
        with autocast("float32", CPU) if chosen else torch.enable_grad():
            losses = model.loss(batch, progress=0.0)
        sum(losses.values()).backward()
        gradients = [weight.grad for weight in model.parameters() if weight.grad is not None]
        results.append([*losses.values(), *gradients])
    torch.testing.assert_close(*results, rtol=0, atol=0)


def test_training_and_sampling_follow_the_rule(cpu_with, srn_root, tmp_path_factory, monkeypatch):
    computed: dict[str, set[torch.dtype]] = {}
    convolve = torch.nn.Conv2d.forward

    def noted(layer, images):
        result = convolve(layer, images)
        computed.setdefault(program, set()).add(result.dtype)
        return result

    monkeypatch.setattr(torch.nn.Conv2d, "forward", noted)
    monkeypatch.setattr(
        "models.volumes.backbone._measure_statistics", lambda backbone: None
    )  # in float32, at first
    there = tmp_path_factory.mktemp("runs")  # views are a data set too, which training would find
    path, folder = there / "tiny.json", there / "tiny"
    settings = {"steps": 1, "preview_every": 1, "previews": 1, "precision": "auto", "preflight": False}
    path.write_text(json.dumps(run_document(srn_root, there, train=settings)))
    flags = ["--transfer", str(folder), "--views", "1", "--device", "cpu", "--output"]
    for present, dtype in ((True, torch.bfloat16), (False, torch.float32)):
        cpu_with(avx512=present)
        program = "train"
        assert train.main([str(path), f"name=tiny_{present}", "train.device=cpu"]) == 0
        flags[1] = str(folder.with_name(f"tiny_{present}"))
        program = "sample"
        assert sample_views.main([*flags, str(there / f"views_{present}")]) == 0
        assert computed == {"train": {dtype}, "sample": {dtype}}
        computed.clear()


@pytest.mark.parametrize("size", [(1, 1), (1, 4), (2, 2), (5, 3)])
def test_the_tiled_bias_is_the_one_at_full_size(size):
    kernel = torch.randn(1, 3, 4, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    kernel.requires_grad_()
    expected = upsampling._of_ones(*size, kernel)
    found = upsampling._tiled(upsampling._of_ones(2, 2, kernel), size, torch.float64)
    torch.testing.assert_close(found, expected, atol=1e-14, rtol=0)
    weight = torch.randn_like(expected)
    gradients = [torch.autograd.grad((image * weight).sum(), kernel)[0] for image in (found, expected)]
    torch.testing.assert_close(*gradients, atol=1e-12, rtol=0)


def test_gradients_of_the_enlargement_are_as_close_as_its_activations():
    generator = torch.Generator().manual_seed(1)
    shapes = [(2, 5, 9, 7), (5, 6, 2, 2), (6,), (4, 6, 3, 3)]
    inputs = [torch.randn(shape, generator=generator).requires_grad_() for shape in shapes]
    given = torch.randn(2, 4, 18, 14, generator=generator)
    exact = torch.autograd.grad(upsampling.double(*inputs), inputs, given)
    with torch.autocast("cpu", torch.bfloat16):
        found = upsampling.double(*inputs)
    assert found.dtype == torch.bfloat16
    for gradient, reference in zip(torch.autograd.grad(found, inputs, given.bfloat16()), exact, strict=True):
        assert gradient.dtype == torch.float32
        # 2^-9 is the rounding of one factor; a gradient passes a few. Worst seen: 0.006.
        assert (gradient - reference).norm() < 0.02 * reference.norm()
