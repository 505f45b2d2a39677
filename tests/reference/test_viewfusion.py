"""ViewFusion's network, composition, diffusion and sampler reproduce the published figures."""

import math

import numpy as np
import pytest
import torch

from config.run import OptimConfig
from diffusion.samplers import sample
from diffusion.vp_schedule import BETAS, VPSchedule, add_noise, denoiser_of
from models.training.optimizer import learning_rate_factor
from models.viewfusion.composition import valid_of
from models.viewfusion.drawing import ViewFusionSampleOptions
from models.viewfusion.model import ViewFusion, ViewFusionConfig
from models.viewfusion.network import sinusoids
from models.viewfusion.published import own_name
from tests.reference.viewfusion_figures import arrays, rows, tiny, weight

CLOSE = {"atol": 1e-4, "rtol": 1e-4}
SAMPLER = {"atol": 5e-4, "rtol": 1e-4}  # of twelve steps


def given(name: str) -> torch.Tensor:
    return arrays()[f"in_{name}"]


def condition() -> torch.Tensor:
    return sinusoids(given("angle"), 16)


def gammas() -> torch.Tensor:
    return VPSchedule().gamma_between(given("t"), given("u")[:, 0].float())


def composed(model: ViewFusion, views=None, valid=None):
    noisy = add_noise(given("y_0"), given("noise"), gammas())
    views = given("y_cond") if views is None else views
    valid = valid_of(given("view_count"), 4) if valid is None else valid
    return model.compose(views, valid, condition(), noisy, gammas())


def error(noise: torch.Tensor) -> torch.Tensor:
    return (noise - given("noise")).square().mean()


@pytest.mark.parametrize("size", ["tiny", "full"])
def test_weights_follow_the_rule(size):
    for row in rows(size)[:: 7 if size == "full" else 1]:
        value = weight(row["name"], tuple(map(int, row["shape"].split("x"))))
        assert float(value.flatten()[0]) == pytest.approx(float(row["first_value"]), abs=1e-6)
        assert float(value.double().norm()) == pytest.approx(float(row["l2"]), rel=1e-6)


@pytest.mark.parametrize(
    ("changes", "count"),
    [({}, 33_947_206), ({"weighting": False}, 33_945_475), ({"angle": {"relative": True}}, 33_948_934)],
)
def test_the_published_network_has_as_many_weights_in_the_same_order(changes, count):
    with torch.device("meta"):
        model = ViewFusion(ViewFusionConfig.model_validate(changes))
    sizes = [value.numel() for value in model.unet.parameters()]
    assert sum(sizes) == count
    if not changes:
        assert sorted(sizes) == sorted(int(row["numel"]) for row in rows("full"))


def test_the_embedding_of_angles_and_noise_levels():
    torch.testing.assert_close(sinusoids(arrays()["posenc_in"], 32)[:, None], arrays()["posenc_out"], **CLOSE)


@torch.no_grad()
def test_the_unet():
    found = arrays()
    features = sinusoids(found["tiny_unet_angle"], 16)
    outputs = tiny().unet(found["tiny_unet_in"], found["tiny_unet_gamma"][:, 0], features)
    torch.testing.assert_close(outputs, found["tiny_unet_out"], **CLOSE)


@torch.no_grad()
def test_noise_levels_of_training_and_the_composition():
    found = composed(tiny())
    torch.testing.assert_close(gammas()[[0, 1, 1, 1, 1, 2, 2]], arrays()["tiny_unet_gamma"][:, 0], **CLOSE)
    torch.testing.assert_close(found.weights, arrays()["tiny_weights"], **CLOSE)
    torch.testing.assert_close(found.prediction, arrays()["tiny_noise_hat"], **CLOSE)
    torch.testing.assert_close(error(found.prediction), arrays()["tiny_loss"], **CLOSE)


def test_gradients():
    model = tiny()
    error(composed(model).prediction).backward()
    own = dict(model.unet.named_parameters())
    norms = torch.tensor([float(own[own_name(row["name"])].grad.double().norm()) for row in rows("tiny")])
    torch.testing.assert_close(norms.double(), arrays()["tiny_grad_norms"], **CLOSE)
    for name, gradient in arrays().items():
        if name.startswith("tiny_grad__"):
            torch.testing.assert_close(
                own[own_name(name.removeprefix("tiny_grad__"))].grad, gradient, **CLOSE
            )


@torch.no_grad()
def test_all_views_and_both_ablations():
    every = torch.ones(3, 4, dtype=torch.bool)
    found = composed(tiny(), valid=every)
    torch.testing.assert_close(error(found.prediction), arrays()["tinyall_loss"], **CLOSE)
    mean = composed(tiny(weighting=False))
    assert mean.weights is None
    torch.testing.assert_close(error(mean.prediction), arrays()["noweight_loss"], **CLOSE)
    relative = composed(tiny(angle={"relative": True}), views=given("y_cond_relative"))
    torch.testing.assert_close(error(relative.prediction), arrays()["relative_loss"], **CLOSE)


def test_the_schedule():
    schedule, found = VPSchedule(), arrays()
    index = found["sched_idx"]
    gamma = schedule.gammas
    before = torch.cat([gamma.new_ones(1), gamma[:-1]])
    ours = {
        "gammas": gamma,
        "sqrt_recip_gammas": gamma.rsqrt(),
        "sqrt_recipm1_gammas": schedule.sigmas,
        "posterior_log_variance_clipped": (schedule.betas * (1 - before) / (1 - gamma))
        .clamp_min(1e-20)
        .log(),
    }
    for name, value in ours.items():
        torch.testing.assert_close(value[index].float(), found[f"sched_{name}"], **CLOSE)
    names = {"linear": "linear", "warmup10": "warmup10", "constant": "const", "cosine": "cosine"}
    for own, theirs in names.items():
        torch.testing.assert_close(
            BETAS[own](20, 1e-6, 1e-2), found[f"betas_{theirs}"], atol=1e-12, rtol=1e-9
        )


@torch.no_grad()
def test_a_step_of_the_ancestral_sampler():
    """The posterior in both variables: mean and variance of y are those of x times sqrt(gamma)."""
    model, schedule, found = tiny(), VPSchedule(), arrays()
    step = found["step_t"]
    gamma = schedule.gammas[step].float()
    before = torch.cat([torch.ones(1, dtype=torch.float64), schedule.gammas])[step].float()
    weights = []

    def predict(noisy, level):
        made = model.compose(given("y_cond"), valid_of(given("view_count"), 4), condition(), noisy, level)
        weights.append(made.weights)
        return made.prediction

    sigma, lower = ((1 - gamma) / gamma).sqrt(), ((1 - before) / before).sqrt()
    noisy = given("y_t") / gamma.sqrt()[:, None, None, None]
    clean = denoiser_of(predict, clip=1.0)(noisy, sigma)
    mean = clean + ((lower / sigma) ** 2)[:, None, None, None] * (noisy - clean)
    mean = mean * before.sqrt()[:, None, None, None]
    variance = lower**2 * (sigma**2 - lower**2) / sigma**2 * before
    torch.testing.assert_close(mean, found["step_mean_clip1"], **CLOSE)
    torch.testing.assert_close(weights[0], found["step_weights"], **CLOSE)
    torch.testing.assert_close(
        variance.clamp_min(1e-20).log(), found["step_logvar"].flatten(), atol=2e-3, rtol=1e-3
    )


@torch.no_grad()
def test_the_ancestral_sampler_on_all_noise_levels_is_the_published_one():
    model = tiny(schedule={"steps": 12, "start": 1e-4, "end": 0.5})
    schedule, saved = model.config.schedule, []
    torch.testing.assert_close(schedule.gammas.float(), arrays()["sample12_gammas"], **CLOSE)
    top = float(schedule.sigmas[-1])

    def noise(seeds, shape, *, stream):
        if stream == "initial":  # y = x / sqrt(1 + sigma^2) has unit variance at the top
            return given("y_t") * math.sqrt(1 + top**2) / top
        number = int(stream.partition(".")[2])
        drawn = torch.from_numpy(np.random.RandomState(100 + number).standard_normal((3, 3, 16, 16)))
        return drawn.float()

    def predict(noisy, gamma):
        return model.compose(
            given("y_cond"), valid_of(given("view_count"), 4), condition(), noisy, gamma
        ).prediction

    options = ViewFusionSampleOptions(sampler="euler_ancestral", steps=12, levels="training")
    images = sample(
        denoiser_of(predict, clip=1.0),
        (3, 16, 16),
        torch.arange(3),
        options,
        sigmas=schedule.sampling_sigmas(12),
        draw=noise,
        callback=lambda step, noisy, _: saved.append((step, noisy)),
    )
    expected = arrays()["sample12_saved"]
    torch.testing.assert_close(saved[0][1] / math.sqrt(1 + top**2), expected[:, 0], **CLOSE)
    for place, step in enumerate((3, 6, 9), start=1):
        gamma = schedule.gammas[11 - step].float()
        torch.testing.assert_close(saved[step][1] * gamma.sqrt(), expected[:, place], **SAMPLER)
    torch.testing.assert_close(images, expected[:, 4], **SAMPLER)


def test_the_learning_rate():
    """Published rates count iterations from 0, at which there is none; ours count updates from 1."""
    optim = OptimConfig(warmup=2500, schedule="exponential", final=0.16, reference_steps=4_000_000)
    for iteration, rate in zip(arrays()["lr_it"].tolist(), arrays()["lr"].tolist(), strict=True):
        if iteration:
            assert 1e-4 * learning_rate_factor(optim, iteration - 1, 0.0) == pytest.approx(rate, rel=1e-6)
