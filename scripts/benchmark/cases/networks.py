"""The two networks, encoder and denoiser: one photo encoded, one view denoised."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from models.device import autocast
from scripts.benchmark.context import Bench, model_variants
from scripts.benchmark.measure import Figure, Task, Variant, measure
from scripts.benchmark.roofline import Work, network_work

Pass = Callable[[], Tensor]


def encoder_figures(bench: Bench) -> list[Figure]:
    """One photo to one volume, without and with the gradients of the weights."""
    return _figures(bench, "encoder")


def denoiser_figures(bench: Bench) -> list[Figure]:
    """One view denoised, and the diffusion loss of one view with the gradients of the weights."""
    return _figures(bench, "denoiser")


def part_work(bench: Bench, part: str, *, backward: bool) -> Work:
    """The least work of a part for one photo or view; a pass is carried out, once, to count operations."""
    if (part, backward) not in bench.counted:
        network = bench.model().parts()[part]
        for kind in (False, True):
            run = _run(network, PASSES[part](network, bench, kind), "float32", bench, kind)
            work = network_work(run, network, _num_ends(bench, part), backward=kind)
            bench.counted[part, kind] = work
    return bench.counted[part, backward]


def _encoding(encoder: nn.Module, bench: Bench, backward: bool) -> Pass:
    views = bench.views(1)
    return lambda: encoder(views).features


def _denoising(denoiser: nn.Module, bench: Bench, backward: bool) -> Pass:
    side, channels = bench.config.data.image_size, bench.config.model.renderer.latent_channels
    view, condition = bench.uniform(1, 1, 3, side, side), bench.uniform(1, 1, channels, side, side)
    sigma = torch.ones(1, 1, device=bench.device)
    if backward:
        return lambda: denoiser.loss(view, view, sigma, condition)
    return lambda: denoiser(view, sigma, condition)


PASSES = {"encoder": _encoding, "denoiser": _denoising}


def _num_ends(bench: Bench, part: str) -> int:
    """Numbers that go in and come out: photo and volume; noisy view, condition and view."""
    model = bench.config.model
    channels = {
        "encoder": 3 + model.encoder.channels * model.encoder.planes,
        "denoiser": 3 + model.renderer.latent_channels + 3,
    }
    return channels[part] * bench.config.data.image_size**2


def _figures(bench: Bench, part: str) -> list[Figure]:
    found: list[Figure] = []
    compared = list(model_variants(bench))
    for backward in (False, True) if compared else ():
        variants = []
        for variant in compared:
            network = variant.model.parts()[part].train(backward)  # dropout is a part of training
            run = _run(network, PASSES[part](network, bench, backward), variant.autocast, bench, backward)
            variants.append(Variant(variant.name, run, variant.precision))
        name = "forward + backward" if backward else "forward"
        found += measure(Task(part, name, variants, part_work(bench, part, backward=backward)), bench)
    return found


def _run(
    network: nn.Module, compute: Pass, precision: str, bench: Bench, backward: bool
) -> Callable[[], object]:
    """The pass; `backward` with the gradients of the weights for an arbitrary function of its result."""
    weights = list(network.parameters())

    def run() -> object:
        with autocast(precision, bench.device), torch.set_grad_enabled(backward):
            result = compute()
        return torch.autograd.grad(result.square().mean(), weights) if backward else result

    return run
