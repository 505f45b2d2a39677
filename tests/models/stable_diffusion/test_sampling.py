"""Sampling over a base's noise levels agrees with the library, and with Karras's algorithm by hand."""

import numpy as np
import pytest
import torch

pytest.importorskip("diffusers")

from diffusion.samplers import SampleOptions, sample
from models.stable_diffusion.control import control_network, widen_condition
from models.stable_diffusion.noise_table import NoiseTable, churn_gamma
from tests.models.stable_diffusion.tiny_base import write_base

SETTINGS = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}


def scheduler(**changes):
    from diffusers import EulerDiscreteScheduler

    return EulerDiscreteScheduler(**SETTINGS, timestep_spacing="linspace", **changes)


@pytest.fixture(scope="module")
def table():
    from diffusers import DDPMScheduler

    return NoiseTable(DDPMScheduler(**SETTINGS).alphas_cumprod)


def gaussian(noisy, sigma):
    """The exact denoiser of normal numbers of standard deviation 0.5."""
    return noisy * (0.25 / (0.25 + sigma**2)).reshape(-1, 1, 1, 1)


def sampled(table, levels, steps, *, churn=0.0):
    options = SampleOptions(sampler="euler", steps=steps, stochastic=churn > 0)
    ways = {"sigmas": table.sampling_sigmas(steps, levels), "churn": (churn_gamma(churn), 1.0)}
    return sample(gaussian, (2, 3, 5), torch.arange(4), options, draw=draw, **ways)


def draw(seeds, shape, *, stream):
    step = 0 if stream == "initial" else 1 + int(stream.split(".")[1])
    return torch.from_numpy(np.random.RandomState(step).randn(len(seeds), *shape).astype(np.float32))


def test_ends_of_the_table_and_times_there_and_back(table):
    sigmas = table.sampling_sigmas(9, "karras")
    assert [float(sigmas[0]), float(sigmas[-2])] == pytest.approx([14.6146, 0.0291675], rel=1e-5)
    times = torch.linspace(0, 999, 41)
    torch.testing.assert_close(table.time_of(table.sigma_of(times)), times, atol=2e-3, rtol=0)
    assert table.time_of(torch.tensor([1e-4, 80.0])).tolist() == [0, 999]


@pytest.mark.parametrize(("levels", "karras"), [("karras", True), ("linear_t", False)])
def test_euler_without_churn_is_the_librarys(table, levels, karras):
    theirs = scheduler(use_karras_sigmas=karras)
    theirs.set_timesteps(11)
    noisy = theirs.sigmas[0] * draw(range(4), (2, 3, 5), stream="initial")
    for time, sigma in zip(theirs.timesteps, theirs.sigmas, strict=False):
        noise = (noisy - gaussian(noisy, sigma)) / sigma
        noisy = theirs.step(noise, time, noisy).prev_sample
    torch.testing.assert_close(sampled(table, levels, 11), noisy, atol=2e-5, rtol=0)


def test_noise_is_added_before_the_network_is_evaluated(table):
    ours, sigmas = sampled(table, "karras", 7, churn=1.0), table.sampling_sigmas(7, "karras").double().numpy()
    x = sigmas[0] * draw(range(4), (2, 3, 5), stream="initial").double().numpy()
    for step in range(7):
        raised = sigmas[step] * (1 + 40 / 256)
        added = np.sqrt(raised**2 - sigmas[step] ** 2)
        x = x + added * draw(range(4), (2, 3, 5), stream=f"churn.{step}").double().numpy()
        x = x + (x - x * 0.25 / (0.25 + raised**2)) / raised * (sigmas[step + 1] - raised)
    np.testing.assert_allclose(ours.numpy(), x, atol=2e-5)


def test_churn_rises_no_more_than_the_algorithm_allows():
    assert churn_gamma(1.0) == 0.15625
    assert churn_gamma(9.0) == 2**0.5 - 1


def unet(folder):
    from models.stable_diffusion.base import load_base

    return load_base(str(write_base(folder))).unet


def test_a_control_is_the_same_from_its_weights(tmp_path):
    base = unet(tmp_path)
    control = control_network(base, channels=5, widths=(4, 8, 12))
    torch.manual_seed(3)
    for parameter in control.parameters():
        parameter.data.normal_()
    other = control_network(base, channels=5, widths=(4, 8, 12))
    other.load_state_dict(control.state_dict())
    assert other.mid_block is None
    assert not [key for key in other.state_dict() if key.startswith("mid_block")]
    inputs = (
        torch.randn(2, 4, 8, 8),
        torch.tensor([3, 900]),
        torch.randn(2, 7, 24),
        torch.rand(2, 5, 32, 32),
    )
    labels = torch.tensor([0, 1])
    pairs = [net(*inputs, class_labels=labels, return_dict=False)[0] for net in (control, other)]
    assert all(torch.equal(*pair) for pair in zip(*pairs, strict=True))


def test_channels_that_are_new_are_not_looked_at_and_fewer_are_refused(tmp_path):
    base = unet(tmp_path)
    narrow = control_network(base, channels=3, widths=(4, 8, 12)).state_dict()
    wide = control_network(base, channels=5, widths=(4, 8, 12))
    wide.load_state_dict(widen_condition(narrow, 5))
    features = torch.rand(2, 5, 32, 32)
    other = torch.cat([features[:, :3], torch.rand(2, 2, 32, 32)], dim=1)
    first = wide.controlnet_cond_embedding.conv_in
    assert torch.equal(first(features), first(other))
    with pytest.raises(ValueError, match="3 channels, more than the 2"):
        widen_condition(narrow, 2)
