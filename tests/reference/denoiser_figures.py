"""The denoiser, its samplers and its augmentation: published figures beside ours."""

from collections.abc import Iterator
from functools import partial

import torch
from torch import Tensor

from diffusion.augment import conditioning, matrices, warp
from diffusion.denoiser import DenoiserConfig, EDMDenoiser
from diffusion.samplers import SampleOptions, karras_sigmas, sample
from tests.reference import rule
from tests.reference.conventions import arrays, names, published_model
from tests.reference.figure import Figure

OUTPUT, TRAJECTORY, LOSS = 2e-5, 1e-4, 1e-4
TINY = DenoiserConfig(
    channels=(32, 64), depths=(1, 2), self_attention=(False, True), mapping_width=64, dropout=0.05
)
SCHEDULES = {"mid": (0.03, 50.0), "lowhigh": (0.01, 80.0)}


def tiny_denoiser() -> EDMDenoiser:
    """The small network of the figures, in evaluation mode."""
    denoiser = EDMDenoiser(TINY, condition_channels=16).eval()
    rule.load_weights(denoiser, "tiny.")
    return denoiser


def full_denoiser() -> EDMDenoiser:
    """The published network of 115 million weights, in evaluation mode."""
    denoiser = EDMDenoiser(published_model().denoiser, condition_channels=16).eval()
    rule.load_weights(denoiser, "ddpm_pipeline.inner_model.")
    return denoiser


def inputs(prefix: str, size: int) -> dict[str, Tensor]:
    """Arguments of `EDMDenoiser.loss`: one scene with two views."""
    shape = (2, 3, size, size)
    return {
        "clean": 0.5 + 0.25 * rule.randn(f"{prefix}.x0", shape)[None],
        "noise": rule.randn(f"{prefix}.noise", shape)[None],
        "sigma": torch.tensor([[0.7, 12.0]]),
        "condition": rule.rand(f"{prefix}.cond", (2, 16, size, size))[None],
        "augmentation": 0.3 * rule.randn(f"{prefix}.aug", (2, 9))[None],
    }


def denoise(denoiser: EDMDenoiser, given: dict[str, Tensor], *, told: bool = True) -> Tensor:
    """The denoised images [v, 3, h, w], with or without being told of the augmentation."""
    noisy = given["clean"] + given["sigma"][..., None, None, None] * given["noise"]
    augmentation = given["augmentation"] if told else None
    with torch.no_grad():
        return denoiser(noisy, given["sigma"], given["condition"], augmentation)[0]


def tiny() -> Iterator[Figure]:
    """The small network: outputs, losses and every gradient."""
    stored, denoiser, given = arrays("denoiser_tiny"), tiny_denoiser(), inputs("tiny", 16)
    for name, scaling in zip(("c_skip", "c_out", "c_in"), denoiser._scalings(given["sigma"][0]), strict=True):
        yield Figure(name, scaling.flatten(), stored[name], 1e-6)
    noisy = given["clean"] + given["sigma"][..., None, None, None] * given["noise"]
    scaled = denoiser._scalings(given["sigma"])[2] * noisy
    with torch.no_grad():
        output, log_variance = denoiser._network(
            scaled, given["sigma"], given["condition"], given["augmentation"]
        )
    yield Figure("F", output[0], stored["F"], OUTPUT)
    yield Figure("logvar", log_variance[0], stored["logvar"], OUTPUT)
    yield Figure("denoised", denoise(denoiser, given), stored["denoised"], OUTPUT)
    untold = denoise(denoiser, given, told=False)
    yield Figure("denoised without augmentation", untold, stored["denoised_noaug"], OUTPUT)
    losses = backward(denoiser, given)
    yield Figure("losses", losses, stored["losses"], LOSS)
    yield Figure("gradient of the condition", given["condition"].grad[0], stored["grad_cond"], 1e-6)
    yield gradient_norms(denoiser, "denoiser_tiny", stored["grad_norms"])
    weights = dict(denoiser.named_parameters())
    for key in (key for key in stored if key.startswith("grad:")):
        yield Figure(key, weights[key.removeprefix("grad:")].grad, stored[key], 1e-5)


def full() -> Iterator[Figure]:
    """The published network at 64 x 64 pixels: outputs, losses and every gradient."""
    stored, denoiser, given = arrays("denoiser"), full_denoiser(), inputs("den64", 64)
    denoised = denoise(denoiser, given)
    yield Figure("denoised", denoised, stored["s64_denoised"], OUTPUT)
    untold = denoise(denoiser, given, told=False)[:, :, ::4, ::4]
    yield Figure("denoised without augmentation", untold, stored["s64_denoised_noaug_slice"], OUTPUT)
    losses = backward(denoiser, given)
    yield Figure("losses", losses, stored["s64_losses"], LOSS)
    gradient = given["condition"].grad[0]
    yield Figure("gradient of the condition", gradient[:, :, ::8, ::8], stored["s64_grad_cond_slice"], 1e-6)
    yield Figure("its norm", gradient.norm(), stored["s64_grad_cond_norm"], 1e-6)
    yield gradient_norms(denoiser, "denoiser", stored["s64_grad_norms"])


def backward(denoiser: EDMDenoiser, given: dict[str, Tensor]) -> Tensor:
    """Losses of the views, after the gradients of their mean were worked out."""
    given["condition"].requires_grad_()
    losses = denoiser.loss(**given)[0]
    losses.mean().backward()
    return losses


def gradient_norms(denoiser: EDMDenoiser, file: str, theirs: Tensor) -> Figure:
    """Norm of the gradient of every parameter, in units of the largest."""
    weights = {name: weight.grad.norm() for name, weight in denoiser.named_parameters()}
    keys = names(file, "param_names")
    assert sorted(keys) == sorted(weights)
    ours = torch.stack([weights[key] for key in keys])
    return Figure("gradient norms", ours / theirs.max(), theirs / theirs.max(), 1e-5)


def trajectory(prefix: str, *, stochastic: bool = False) -> Iterator[Figure]:
    """Ten Euler steps; `stochastic` adds noise before each."""
    tiny = prefix == "tiny"
    stored, size = (arrays("denoiser_tiny"), 16) if tiny else (arrays("denoiser"), 64)
    denoiser = tiny_denoiser() if tiny else full_denoiser()
    condition = rule.rand(f"{prefix}.traj.cond", (1, 16, size, size))
    low, high = SCHEDULES["mid"]
    options = SampleOptions(sampler="euler", steps=10, sigma_min=low, sigma_max=high, stochastic=stochastic)
    noisy, denoised = [], []

    def record(_: int, before: Tensor, clean: Tensor) -> None:
        noisy.append(before)
        denoised.append(clean)

    with torch.no_grad():
        end = sample(
            lambda x, sigma: denoiser(x[None], sigma[None], condition[None])[0],
            (3, size, size),
            torch.tensor([0]),
            options,
            callback=record,
            draw=partial(noise_of, prefix),
        )
    name, suffix, every = ("stoch" if stochastic else "traj"), ("" if tiny else "_slice"), (1 if tiny else 4)
    yield Figure("sigmas", karras_sigmas(options), stored["traj_sigmas"], 1e-5)
    x = torch.stack([*noisy, end])[..., ::every, ::every]
    # The first is 50 times normal noise: the tolerance is for numbers about 1.
    size_of_x = stored[f"{name}_x{suffix}"].abs().amax(dim=(1, 2, 3, 4), keepdim=True).clamp_min(1)
    yield Figure("x", x / size_of_x, stored[f"{name}_x{suffix}"] / size_of_x, TRAJECTORY)
    clean = torch.stack(denoised)[..., ::every, ::every]
    yield Figure("denoised", clean, stored[f"{name}_denoised{suffix}"], TRAJECTORY)
    if not tiny:
        yield Figure("end", end, stored["traj_final"], TRAJECTORY)


def noise_of(prefix: str, seeds: Tensor, shape: tuple[int, ...], *, stream: str) -> Tensor:
    """The noise of the stored trajectories, by the names of our streams."""
    name = "xT" if stream == "initial" else f"eps.{stream.removeprefix('churn.')}"
    return rule.randn(f"{prefix}.traj.{name}", (1, *shape))


def schedules() -> Iterator[Figure]:
    """Noise levels of sampling."""
    stored = arrays("sigmas_aug")
    for name, (low, high) in SCHEDULES.items():
        for steps in (10, 18, 250):
            ours = karras_sigmas(SampleOptions(steps=steps, sigma_min=low, sigma_max=high))
            yield Figure(f"{name}, {steps} steps", ours, stored[f"{name}_{steps}"], 1e-5)


def augmentation() -> Iterator[Figure]:
    """Matrices, the numbers that describe them, and a warped picture."""
    stored = arrays("sigmas_aug")
    parameters = stored["aug_params"].clone()
    parameters[:, :2] = parameters[0, :2]  # the published code mirrors the whole batch as its first picture
    matrix = matrices(parameters, 32, 32)
    yield Figure("matrices", matrix.float(), stored["aug_mat"], 1e-5)
    yield Figure("description", conditioning(stored["aug_params"]), stored["aug_cond"], 1e-6)
    warped = warp(rule.rand("aug.image", (8, 3, 32, 32)), matrix)
    yield Figure("pictures", warped, stored["aug_out"], 3e-5)
