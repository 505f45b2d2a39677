"""diffusion/noise.py: the distributions of noise levels, and noise by seed."""

import pytest
import torch
from pydantic import ValidationError

from data.seeds import derived_seed, normal, uniform
from diffusion.noise import LEVELS, NoiseConfig, NoiseLevel, level_at, sigma_from_normal


def test_the_named_levels_are_the_published_ones():
    published = {"low": (-1.2, 1.2), "mid": (0.5, 1.4), "high": (1.0, 1.4)}
    assert {name: (level.mean, level.std) for name, level in LEVELS.items()} == published


@pytest.mark.parametrize("name", ["low", "mid", "high"])
def test_without_an_end_the_level_stays(name):
    config = NoiseConfig(start=name)
    assert level_at(config, 0.0) == level_at(config, 0.5) == level_at(config, 1.0) == LEVELS[name]
    assert config.changing_at(0.5) == {}


def test_the_schedule_runs_straight_from_start_to_end_and_stays_there():
    config = NoiseConfig(start="high", end="low", begin=0.1, until=0.5)
    assert level_at(config, 0.0) == level_at(config, 0.1) == LEVELS["high"]
    quarter = level_at(config, 0.2)
    assert quarter.mean == pytest.approx(1.0 - 0.25 * 2.2)
    assert quarter.std == pytest.approx(1.4 - 0.25 * 0.2)
    assert level_at(config, 0.5) == level_at(config, 0.51) == level_at(config, 1.0) == LEVELS["low"]
    means = [level_at(config, moment / 50).mean for moment in range(51)]
    assert means == sorted(means, reverse=True)


def test_levels_may_be_numbers():
    numbers = {"mean": 1.0, "std": 1.4}
    named, given = (NoiseConfig(start=start, end={"mean": -2.0, "std": 1.4}) for start in ("high", numbers))
    for progress in (0.0, 0.3, 1.0):
        assert level_at(named, progress) == level_at(given, progress)
        assert named.changing_at(progress) == {"_mean": pytest.approx(1.0 - 3 * progress)}
    assert NoiseConfig.model_validate_json(given.model_dump_json()) == given
    assert named.model_dump(mode="json")["start"] == "high"


@pytest.mark.parametrize(
    "changes",
    [
        {"start": "medium"},
        {"end": "hi"},
        {"start": 3},
        {"start": {"mean": 1.0}},
        {"end": {"mean": 1.0, "std": 0.0}},
        {"until": 2.0},
        {"until": 0.2, "begin": 0.3},
        {"stop": "low"},
    ],
)
def test_wrong_settings_are_named(changes):
    with pytest.raises(ValidationError, match=next(iter(changes))):
        NoiseConfig(**changes)


def test_the_logarithm_of_sigma_has_the_mean_and_std_of_its_level():
    numbers = normal(torch.arange(5), (4000,), stream="sigma")
    log_sigma = sigma_from_normal(numbers, NoiseLevel(mean=0.5, std=1.4)).log()
    assert log_sigma.mean() == pytest.approx(0.5, abs=0.04)  # standard error 0.01
    assert log_sigma.std() == pytest.approx(1.4, abs=0.04)


def test_normal_and_uniform_numbers_have_the_right_moments_and_range():
    gaussian, even = normal(torch.arange(7), (5000,), stream=0), uniform(torch.arange(7), (5000,), stream=0)
    assert gaussian.mean().abs() < 0.02
    assert gaussian.std() == pytest.approx(1, abs=0.02)
    assert even.min() >= 0
    assert even.max() < 1
    assert even.mean() == pytest.approx(0.5, abs=0.01)
    assert even.std() == pytest.approx(12**-0.5, abs=0.01)


@pytest.mark.parametrize("draw", [normal, uniform])
def test_a_view_does_not_depend_on_its_batch_or_on_what_was_drawn_before(draw):
    seeds = torch.tensor([3, -1, 2**40, 0])
    together = draw(seeds, (2, 5), stream="initial")
    torch.randn(3)
    for index in (2, 0, 3, 1):
        assert torch.equal(draw(seeds[index : index + 1], (2, 5), stream="initial")[0], together[index])
    assert together.shape == (4, 2, 5)


def test_drawing_leaves_the_global_generator_alone():
    before = torch.get_rng_state()
    normal(torch.arange(3), (4,), stream=1)
    assert torch.equal(torch.get_rng_state(), before)


def test_neighbouring_seeds_and_streams_are_unrelated():
    seeds, streams = torch.arange(6), ("initial", "augment", 0, 1, 2, 3)
    drawn = torch.cat([normal(seeds, (4000,), stream=stream) for stream in streams])
    correlation = torch.corrcoef(drawn) - torch.eye(36)
    assert correlation.abs().max() < 0.08  # five standard errors


def test_seeds_are_derived_by_splitmix64():
    first = 0xE220A8397B1DCDAF  # published first output of splitmix64 for the seed 0
    assert derived_seed(-first, 0) == first >> 1
    assert derived_seed(0, 0) != derived_seed(0, "0")
    assert all(0 <= derived_seed(seed, "x") < 2**63 for seed in range(-50, 50))


def test_no_seeds_give_no_noise():
    assert normal(torch.arange(0), (2, 3), stream=0).shape == (0, 2, 3)
