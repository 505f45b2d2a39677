"""What drawing views costs: what is worked out once does not depend on the number of denoising steps."""

from collections import Counter

import pytest
import torch

from diffusion.samplers import SampleOptions, num_evaluations
from models.sampling.autoregressive import sample_in_batches
from tests.scenes import cameras, tiny_model, views


@pytest.fixture
def counted(monkeypatch):
    """A model, what it did how often, and how many views the denoiser had each time."""
    model, did, at_once = tiny_model().eval(), Counter(), []
    for name, part in model.parts().items():
        part.register_forward_hook(lambda *_, name=name: did.update([name]))
    model.denoiser.inner_model.register_forward_hook(lambda _, inputs, output: at_once.append(len(inputs[0])))
    condition = type(model).condition
    monkeypatch.setattr(
        type(model), "condition", lambda *given: did.update(["condition"]) or condition(*given)
    )
    return model, did, at_once


@torch.no_grad()
@pytest.mark.parametrize(
    ("options", "evaluations"),
    [
        (SampleOptions(steps=5), 5),
        (SampleOptions(sampler="heun", steps=4), 7),
        (SampleOptions(sampler="euler", stochastic=True, steps=3, guidance=2.0), 6),
        (SampleOptions(steps=4, unconditional=True), 4),
    ],
)
def test_latents_are_rendered_and_upsampled_once_a_draw_whatever_the_steps(counted, options, evaluations):
    model, did, at_once = counted
    scene = model.encode(views(2, 1, seed=5))
    did.clear()
    model.draw(scene, cameras(2, 3, seed=6), torch.arange(6).reshape(2, 3), options)
    assert did == {"renderer": 1, "condition": 1, "denoiser": evaluations}
    assert evaluations == num_evaluations(options)
    assert at_once == [2 * 3] * evaluations  # all views of all scenes


@torch.no_grad()
def test_a_trajectory_encodes_its_sources_once_and_draws_its_views_in_batches(counted):
    model, did, at_once = counted
    seeds = torch.arange(10).reshape(2, 5)
    given = (model, views(2, 1, seed=5), cameras(2, 5, seed=6), seeds, SampleOptions(steps=2))
    assert [part.images.shape[1] for part in sample_in_batches(*given, batch=2)] == [2, 2, 1]
    assert did == {"encoder": 1, "renderer": 3, "condition": 3, "denoiser": 3 * 2}
    assert at_once == [4, 4, 4, 4, 2, 2]
