"""diffusion/samplers.py, on a Gaussian whose denoiser is known, and against stored trajectories."""

import inspect
import itertools
import math

import pytest
import torch
from pydantic import ValidationError

from data.seeds import derived_seed, normal
from diffusion.k_diffusion import k_diffusion
from diffusion.samplers import (
    CHURN_GAMMA,
    CHURN_NOISE,
    SAMPLERS,
    SampleOptions,
    guided,
    karras_sigmas,
    num_evaluations,
    sample,
)

MEAN, STD = 0.3, 0.5  # of the clean images, every pixel by itself
CHURNING = [name for name, source in SAMPLERS.items() if source == "churn"]
DETERMINISTIC = [name for name, source in SAMPLERS.items() if source in ("churn", "none")]


def gaussian_denoiser(noisy, sigma):
    """E[clean | noisy] where clean pixels are normally distributed."""
    variance = sigma.square()[:, None, None, None]
    return (STD**2 * noisy + variance * MEAN) / (STD**2 + variance)


def probability_flow(noisy, sigma):
    """Where the ODE of EDM eq. 1 takes the pixels of that Gaussian from noise level `sigma` down to 0."""
    return MEAN + (noisy - MEAN) * STD / math.sqrt(STD**2 + sigma**2)


def test_the_noise_levels_follow_equation_5():
    sigmas = karras_sigmas(SampleOptions(steps=7, sigma_min=0.02, sigma_max=30, rho=3))
    expected = [(30 ** (1 / 3) + i / 6 * (0.02 ** (1 / 3) - 30 ** (1 / 3))) ** 3 for i in range(7)]
    torch.testing.assert_close(sigmas, torch.tensor([*expected, 0.0]), atol=1e-6, rtol=1e-5)


def test_every_sampler_of_k_diffusion_with_a_fixed_schedule_is_known():
    functions = inspect.getmembers(k_diffusion().sampling, inspect.isfunction)
    theirs = {
        name.removeprefix("sample_")
        for name, function in functions
        if name.startswith("sample_") and "sigmas" in inspect.signature(function).parameters
    }
    assert theirs == set(SAMPLERS)


@pytest.mark.parametrize(
    ("sampler", "stochastic"), [*((name, False) for name in SAMPLERS), ("heun", True), ("dpm_2", True)]
)
def test_samples_have_the_mean_and_std_of_the_images(sampler, stochastic):
    steps = 250 if "euler" in sampler else 60  # of first order
    options = SampleOptions(sampler=sampler, stochastic=stochastic, steps=steps)
    images = sample(gaussian_denoiser, (1, 50, 40), torch.arange(4), options)
    assert images.mean() == pytest.approx(MEAN, abs=0.02)  # four standard errors
    assert images.std() == pytest.approx(STD, rel=0.06)


def test_churned_euler_steps_have_the_spread_that_their_recursion_predicts():
    # Churn keeps renewing the error of a first-order method: however many the steps, the spread is too small.
    options = SampleOptions(sampler="euler", stochastic=True, steps=40)
    sigmas = karras_sigmas(options).tolist()
    variance = sigmas[0] ** 2
    for sigma, sigma_next in itertools.pairwise(sigmas):
        sigma_hat = sigma * (1 + CHURN_GAMMA)
        variance += CHURN_NOISE**2 * (sigma_hat**2 - sigma**2)
        variance *= (1 + (sigma_next - sigma_hat) * sigma_hat / (STD**2 + sigma_hat**2)) ** 2
    images = sample(gaussian_denoiser, (1, 80, 100), torch.arange(3), options)
    assert images.std() == pytest.approx(math.sqrt(variance), rel=0.02)
    assert images.mean() == pytest.approx(MEAN, abs=0.02)


@pytest.mark.parametrize("sampler", DETERMINISTIC)
def test_deterministic_samplers_follow_the_probability_flow(sampler):
    options = SampleOptions(sampler=sampler, steps=80)
    seeds = torch.tensor([5, 9])
    images = sample(gaussian_denoiser, (3, 5, 7), seeds, options)
    expected = probability_flow(80.0 * normal(seeds, (3, 5, 7), stream="initial"), 80.0)
    tolerance = 0.06 if sampler == "euler" else 0.004
    torch.testing.assert_close(images, expected, atol=tolerance, rtol=0)


@pytest.mark.parametrize(("sampler", "order"), [("euler", 1), ("heun", 2)])
def test_halving_the_steps_shows_the_order_of_the_method(sampler, order):
    seeds = torch.arange(2)

    def error(steps):
        options = SampleOptions(sampler=sampler, steps=steps, sigma_min=0.002)
        expected = probability_flow(80.0 * normal(seeds, (1, 8, 8), stream="initial"), 80.0)
        return (sample(gaussian_denoiser, (1, 8, 8), seeds, options) - expected).square().mean().sqrt()

    measured = math.log2(error(40) / error(80))
    assert measured == pytest.approx(order, abs=0.2)


@pytest.mark.parametrize(
    ("sampler", "stochastic"), [(name, False) for name in SAMPLERS] + [(name, True) for name in CHURNING]
)
def test_a_view_does_not_depend_on_its_batch(sampler, stochastic):
    options = SampleOptions(sampler=sampler, stochastic=stochastic, steps=5)
    seeds = torch.tensor([7, 2**33, 8])
    together = sample(gaussian_denoiser, (2, 3, 5), seeds, options)
    for index in (2, 0, 1):
        alone = sample(gaussian_denoiser, (2, 3, 5), seeds[index : index + 1], options)
        assert torch.equal(alone[0], together[index])
    assert (together[0] - together[2]).abs().max() > 0.01


def _same_initial_noise(seeds, shape, *, stream):
    return normal(seeds if stream != "initial" else torch.zeros_like(seeds), shape, stream=stream)


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_only_stochastic_samplers_draw_noise_on_the_way(sampler):
    for stochastic in (False, True) if sampler in CHURNING else (False,):
        options = SampleOptions(sampler=sampler, steps=6, stochastic=stochastic)
        images = sample(gaussian_denoiser, (1, 4, 4), torch.tensor([1, 2]), options, draw=_same_initial_noise)
        assert torch.equal(images[0], images[1]) == (sampler in DETERMINISTIC and not stochastic)


@pytest.mark.parametrize("sampler", CHURNING)
def test_churn_is_that_of_k_diffusion(sampler, monkeypatch):
    options = SampleOptions(sampler=sampler, steps=6, stochastic=True)
    seeds, drawn = torch.tensor([3, 4]), 0

    def known_noise(like):
        nonlocal drawn
        drawn += 1
        return normal(seeds, like.shape[1:], stream=f"churn.{drawn - 1}")

    ours = sample(gaussian_denoiser, (1, 4, 5), seeds, options)
    monkeypatch.setattr(torch, "randn_like", known_noise)
    function = getattr(k_diffusion().sampling, f"sample_{sampler}")
    initial = 80.0 * normal(seeds, (1, 4, 5), stream="initial")
    sigmas = karras_sigmas(options)
    churn = {"s_churn": CHURN_GAMMA * options.steps, "s_noise": CHURN_NOISE}
    theirs = function(gaussian_denoiser, initial, sigmas, disable=True, **churn)
    assert drawn == 6
    torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_noise_levels_on_the_host_change_nothing(sampler):
    options, seeds, step = SampleOptions(sampler=sampler, steps=7), torch.tensor([3, 4]), iter(range(99))
    ours = sample(gaussian_denoiser, (2, 4, 5), seeds, options)
    sampling = k_diffusion().sampling
    noise = {}
    if SAMPLERS[sampler] == "ancestral":
        noise["noise_sampler"] = lambda *_: normal(seeds, (2, 4, 5), stream=f"ancestral.{next(step)}")
    if SAMPLERS[sampler] == "brownian":
        tree_seeds = [derived_seed(seed, "brownian") for seed in seeds.tolist()]
        noise["noise_sampler"] = sampling.BrownianTreeNoiseSampler(
            torch.zeros(2, 2, 4, 5), 0.99 * options.sigma_min, 1.01 * options.sigma_max, seed=tree_seeds
        )
    levels = karras_sigmas(options)
    initial = levels[0] * normal(seeds, (2, 4, 5), stream="initial")
    function = getattr(sampling, f"sample_{sampler}")
    assert torch.equal(ours, function(gaussian_denoiser, initial, levels, disable=True, **noise))


@pytest.mark.parametrize(
    "sampler", [name for name in SAMPLERS if SAMPLERS[name] in ("ancestral", "brownian")]
)
def test_a_brownian_path_is_kept_where_noise_of_overlapping_intervals_is_asked_for(sampler):
    asked = []

    def noise(sigma, sigma_next):
        asked.append((float(sigma), float(sigma_next)))
        return torch.zeros(1, 1, 2, 2)

    function = getattr(k_diffusion().sampling, f"sample_{sampler}")
    levels = karras_sigmas(SampleOptions(sampler=sampler, steps=6))
    function(gaussian_denoiser, torch.zeros(1, 1, 2, 2), levels, noise_sampler=noise, disable=True)
    overlapping = any(later[0] > 1.001 * earlier[1] for earlier, later in itertools.pairwise(asked))
    assert len(asked) >= 5
    assert overlapping == (SAMPLERS[sampler] == "brownian")


@pytest.mark.parametrize(
    ("sampler", "stochastic"), [(name, False) for name in SAMPLERS] + [(name, True) for name in CHURNING]
)
def test_no_step_waits_for_the_device(sampler, stochastic, monkeypatch):
    # Tensors on the device "meta" have no values: reading one raises, as mixing devices does.
    monkeypatch.setattr("diffusion.samplers._on_device", lambda noise, _: noise.to("meta"))
    options = SampleOptions(sampler=sampler, stochastic=stochastic, steps=4)
    images = sample(gaussian_denoiser, (1, 3, 5), torch.arange(2), options)
    assert images.device.type == "meta"
    assert images.shape == (2, 1, 3, 5)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
@pytest.mark.parametrize(
    ("sampler", "stochastic"), [(name, False) for name in SAMPLERS] + [(name, True) for name in CHURNING]
)
def test_no_step_waits_for_a_gpu_whose_views_are_those_of_the_cpu(sampler, stochastic):
    options = SampleOptions(sampler=sampler, stochastic=stochastic, steps=6)
    seeds, calls = torch.arange(3, device="cuda"), 0

    def denoise(noisy, sigma):
        nonlocal calls
        calls += 1
        # From the first evaluation on, so that what is done once is left out.
        torch.cuda.set_sync_debug_mode("error" if calls < num_evaluations(options) else "default")
        return gaussian_denoiser(noisy, sigma)

    try:
        images = sample(denoise, (2, 3, 5), seeds, options)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    expected = sample(gaussian_denoiser, (2, 3, 5), seeds.cpu(), options)
    torch.testing.assert_close(images.cpu(), expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("guidance", [1.0, 0.0, 2.5])
@pytest.mark.parametrize("sampler", SAMPLERS)
def test_evaluations_are_one_a_step_or_two_but_for_the_last(sampler, guidance):
    twice = sampler in {"heun", "dpm_2", "dpm_2_ancestral", "dpmpp_2s_ancestral", "dpmpp_sde"}
    for stochastic in (False, True) if sampler in CHURNING else (False,):
        options = SampleOptions(sampler=sampler, steps=9, guidance=guidance, stochastic=stochastic)
        assert num_evaluations(options) == (17 if twice else 9) * (2 if guidance == 2.5 else 1)


def test_evaluations_are_counted_where_rounding_saves_one():
    # From 80 to 0.01: the first step goes to sqrt(0.01^2 - up^2), which is 0, so there is no second half.
    assert num_evaluations(SampleOptions(sampler="dpm_2_ancestral", steps=2)) == 2
    assert num_evaluations(SampleOptions(sampler="dpm_2_ancestral", steps=2, sigma_min=30)) == 3


def test_random_numbers_of_the_denoiser_are_its_own():
    seen = []

    def random_denoiser(noisy, sigma):
        seen.append(torch.randn_like(noisy))
        return gaussian_denoiser(noisy, sigma)

    options = SampleOptions(sampler="euler", stochastic=True, steps=3)
    images = sample(random_denoiser, (1, 4, 4), torch.tensor([1]), options)
    assert not torch.equal(seen[0], seen[1])
    assert all(
        not torch.equal(noise[0], normal(torch.tensor([1]), (1, 4, 4), stream="churn.0")[0]) for noise in seen
    )
    assert torch.equal(images, sample(gaussian_denoiser, (1, 4, 4), torch.tensor([1]), options))


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_the_callback_hears_every_step_and_nothing_is_printed(sampler, capfd):
    heard = []
    options = SampleOptions(sampler=sampler, steps=4)
    sample(gaussian_denoiser, (1, 2, 3), torch.arange(2), options, callback=lambda *args: heard.append(args))
    assert [step for step, _, _ in heard] == [0, 1, 2, 3]
    assert all(noisy.shape == denoised.shape == (2, 1, 2, 3) for _, noisy, denoised in heard)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_two_steps_are_enough_for_every_sampler(sampler):
    options = SampleOptions(sampler=sampler, steps=2)
    assert sample(gaussian_denoiser, (1, 2, 2), torch.arange(1), options).isfinite().all()


def test_guidance_extrapolates_from_the_unconditional_to_the_conditional_denoiser():
    noisy, sigma = torch.randn(2, 1, 3, 4), torch.ones(2)
    denoise = guided(lambda x, sigma: 3 * x, lambda x, sigma: x + 1, 2.5)
    expected = (noisy + 1) + 2.5 * (3 * noisy - (noisy + 1))
    torch.testing.assert_close(denoise(noisy, sigma), expected)


@pytest.mark.parametrize(("guidance", "expected"), [(1.0, "conditional"), (0.0, "unconditional")])
def test_without_guidance_only_one_denoiser_is_evaluated(guidance, expected):
    calls = []
    conditional, unconditional = (
        lambda x, sigma, name=name: calls.append(name) or x for name in ("conditional", "unconditional")
    )
    guided(conditional, unconditional, guidance)(torch.zeros(1, 1, 2, 2), torch.ones(1))
    assert calls == [expected]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"sampler": "huen"},
            r"no sampler 'huen' \(did you mean 'heun'\?\); choose one of euler, .*dpmpp_3m_sde",
        ),
        ({"sigma_min": 5, "sigma_max": 2}, "sigma_min 5.* below sigma_max 2"),
        ({"sampler": "dpmpp_2m", "stochastic": True}, "dpmpp_2m cannot be stochastic.*euler, heun"),
        ({"unconditional": True, "guidance": 3}, "guidance 3.* no meaning"),
        ({"steps": 1}, "steps"),
        ({"eta": 1}, "eta"),
    ],
)
def test_wrong_options_are_named(changes, message):
    with pytest.raises(ValidationError, match=message):
        SampleOptions(**changes)
