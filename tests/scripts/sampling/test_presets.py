"""Settings of the published read-me and code, by name."""

import pytest

from diffusion.samplers import SampleOptions
from models.stable_diffusion.noise_table import churn_gamma
from models.stable_diffusion.settings import ControlledSampleOptions, as_options
from scripts.evaluate.arguments import evaluate_request
from scripts.evaluate.arguments import make_parser as evaluate_parser
from scripts.sampling.arguments import make_parser, sample_request


def options(*words: str) -> ControlledSampleOptions:
    request = sample_request(make_parser().parse_args(["--transfer", "run", *words]))
    document = SampleOptions().model_dump() | request.options | {"stochastic": request.stochastic}
    return ControlledSampleOptions.model_validate(document)


@pytest.mark.parametrize(
    ("preset", "steps", "levels", "gamma"),
    [("readme", 100, "karras", 40 / 250), ("branch", 50, "linear_t", 40 / 256)],
)
def test_presets_are_the_published_settings(preset, steps, levels, gamma):
    found = options("--preset", preset)
    assert (found.sampler, found.steps, found.levels, found.guidance) == ("euler", steps, levels, 2)
    assert found.strength == 0
    churned = options("--preset", preset, "--stochastic")
    assert churn_gamma(churned.strength) == pytest.approx(gamma, rel=1e-12)


def test_flags_take_precedence_over_presets():
    words = ("--preset", "readme", "--stochastic", "--steps", "7", "--cfg", "3", "--churn", "0.5")
    found = options(*words, "--unconditional")
    assert (found.steps, found.guidance, found.strength, found.levels) == (7, 3, 0.5, "karras")
    assert options("--preset", "branch", "--unconditional").guidance == 2


def test_presets_are_known_to_evaluation_and_no_preset_changes_nothing():
    words = ["--checkpoint", "run", "--protocol", "srn_cars_1view", "--preset", "branch"]
    request = evaluate_request(evaluate_parser().parse_args(words))
    assert request.options == {"sampler": "euler", "steps": 50, "levels": "linear_t", "guidance": 2.0}
    assert sample_request(make_parser().parse_args(["--transfer", "run"])).options == {}
    assert as_options(SampleOptions(), ControlledSampleOptions).steps == 50
