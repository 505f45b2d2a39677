"""The contract of models/base.py, for every family that models/__init__.py names."""

import inspect
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from config.families import FAMILIES, family
from data.scenes.batch import Views, concatenate
from diffusion.samplers import SampleOptions
from models.base import NVSModel, Targets
from tests.models.stable_diffusion.tiny_base import require_base
from tests.scenes import TINY_FAMILIES, scene, scene_batch, views

OPTIONS = SampleOptions(steps=2)


@pytest.fixture(scope="module", params=FAMILIES)
def model(request) -> NVSModel:
    chosen = family(request.param)
    torch.manual_seed(0)
    made = chosen(chosen.Config.model_validate(require_base(TINY_FAMILIES[request.param])))
    with torch.no_grad():
        for parameter in made.parameters():
            if not parameter.any():
                parameter.normal_(std=0.05)
    return made


@torch.no_grad()
def targets(model: NVSModel) -> Targets:
    return model.read_targets(views(2, 2, seed=6))


@torch.no_grad()
def draw(model: NVSModel, source: Views, **changes):
    arguments = {
        "cameras": targets(model),
        "seeds": torch.tensor([[1, 2], [3, 4]]),
        "options": OPTIONS,
    }
    model.eval()
    prediction = model.sample(source, **arguments | changes)
    model.train()
    return prediction


def test_an_unknown_family_is_named():
    with pytest.raises(ValueError, match="no model family 'gan'; choose one of genvs"):
        family("gan")


@pytest.mark.parametrize("name", FAMILIES)
def test_a_family_is_a_model_with_a_strict_config_that_names_it(name):
    chosen = family(name)
    assert issubclass(chosen, NVSModel)
    assert chosen.Config.model_config["extra"] == "forbid"
    assert chosen.Config.model_config["frozen"]
    assert chosen.Config.model_validate(TINY_FAMILIES[name]).family == name
    assert list(inspect.signature(chosen).parameters) == ["config", "init_weights"]


def test_loss_terms_are_finite_scalars_that_can_be_minimised(model):
    terms = model(scene_batch([[True, True], [True, False]], num_target=2), 0.3)
    assert terms
    for value in terms.values():
        assert isinstance(value, Tensor)
        assert value.shape == ()
        assert value.isfinite()
        assert value.requires_grad


def test_the_loss_of_a_batch_is_the_mean_over_its_scenes(model):
    batch = scene_batch([[True, True], [True, False], [True, True]])
    alone = [model.loss(scene(batch, i), progress=0.1) for i in range(3)]
    for name, value in model.loss(batch, progress=0.1).items():
        mean = torch.stack([terms[name] for terms in alone]).mean()
        torch.testing.assert_close(value, mean, atol=1e-6, rtol=1e-4)


def test_the_loss_follows_from_the_seeds(model):
    batch = scene_batch([[True, True], [True, False]])
    first, again = (sum(model.loss(batch, progress=0.1).values()) for _ in range(2))
    other = sum(model.loss(replace(batch, seeds=batch.seeds + 5), progress=0.1).values())
    assert first == again
    assert first != other


def test_what_padding_views_hold_does_not_matter(model):
    batch = scene_batch([[True, False], [True, False]])
    images = batch.source.images.clone()
    images[:, 1] = 0.7
    other = replace(batch, source=Views(images, batch.source.cameras, batch.source.valid))
    for name, value in model.loss(batch, progress=0.1).items():
        torch.testing.assert_close(model.loss(other, progress=0.1)[name], value)
    torch.testing.assert_close(draw(model, other.source).images, draw(model, batch.source).images)


def test_the_parts_hold_every_trained_weight_once(model):
    held = [id(p) for part in model.parts().values() for p in part.parameters()]
    assert len(held) == len(set(held))
    assert set(held) == {id(p) for p in model.parameters()}


def test_every_trained_weight_has_a_gradient_as_data_parallel_training_needs(model):
    model.zero_grad()
    sum(model.loss(scene_batch([[True, False]]), progress=0.1).values()).backward()
    assert [name for name, p in model.named_parameters() if p.grad is None] == []
    model.zero_grad()


def test_a_config_without_schedules_reports_none(model):
    assert model.scheduled(0.0) == model.scheduled(1.0) == {}


def test_predictions_have_the_promised_shapes_and_ranges(model):
    found = draw(model, views(2, 2, size=(16, 24)))
    shapes = {"images": (2, 2, 3, 16, 24), "preview": (2, 2, 3, 16, 24)}
    shapes |= {"depth": (2, 2, 1, 16, 24), "opacity": (2, 2, 1, 16, 24)}
    shapes |= {"weights": (2, 2, 2, 3, 16, 24)}
    ranges = {
        "weights": (0, 1),
        "images": (-1, 1),
        "preview": (-1, 1),
        "depth": (1e-6, torch.inf),
        "opacity": (0, 1),
    }
    known = {name: part for name in shapes if (part := getattr(found, name)) is not None}
    assert "images" in known
    for name, part in known.items():
        assert part.shape == shapes[name], name
        assert ((part >= ranges[name][0]) & (part <= ranges[name][1])).all(), name


def test_a_view_depends_on_its_own_seed_alone(model):
    source = views(2, 2)
    together = draw(model, source)
    alone = draw(
        model,
        source.apply(lambda tensor: tensor[1:]),
        cameras=targets(model).apply(lambda tensor: tensor[1:, 1:]),
        seeds=torch.tensor([[4]]),
    )
    torch.testing.assert_close(alone.images[0, 0], together.images[1, 1], atol=2e-4, rtol=1e-4)
    changed = draw(model, source, seeds=torch.tensor([[1, 2], [3, 5]]))
    moved = (changed.images - together.images).abs().flatten(2).amax(dim=2)
    assert (moved > 1e-3).tolist() == [[False, False], [False, not model.deterministic]]


def test_views_may_be_encoded_one_by_one_and_joined(model):
    source = views(2, 3)
    with torch.no_grad():
        model.eval()
        one_by_one = [model.encode(source.apply(lambda tensor, s=s: tensor[:, s : s + 1])) for s in range(3)]
        scene_of_three = concatenate(one_by_one, 1)
        arguments = (targets(model), torch.tensor([[1, 2], [3, 4]]), OPTIONS)
        found = model.draw(scene_of_three, *arguments).images
        model.train()
    torch.testing.assert_close(found, draw(model, source).images, atol=2e-4, rtol=1e-4)


def test_sampling_cannot_be_given_the_truth(model):
    """Neither the signature has room for target images, nor do the cameras carry any.

    Only `draw` has, for views that it has drawn before and draws again from under a little noise.
    """
    parameters = list(inspect.signature(model.sample).parameters)
    assert parameters == ["source", "cameras", "seeds", "options", "callback"]
    drawing = list(inspect.signature(model.draw).parameters)
    assert drawing == ["scene", "cameras", "seeds", "options", "init_images", "callback"]


def test_sampling_leaves_the_model_and_the_global_generator_alone(model):
    before = {name: value.clone() for name, value in model.state_dict().items()}
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    draw(model, views(2, 1))
    assert torch.equal(torch.rand(3), expected)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_a_model_whose_weights_will_be_loaded_needs_no_memory_for_others(model):
    with torch.device("meta"):
        other = type(model)(model.config, init_weights=False)
    other.load_state_dict(model.state_dict(), assign=True)
    assert not any(tensor.is_meta for tensor in (*other.parameters(), *other.buffers()))
    torch.testing.assert_close(draw(other, views(2, 1)).images, draw(model, views(2, 1)).images)


@torch.no_grad()
def test_a_model_that_diagnoses_itself_does_so_in_shares_and_leaves_no_trace(model):
    before = {name: value.clone() for name, value in model.state_dict().items()}
    source, seeds = views(2, 2), torch.tensor([[1, 2], [3, 4]])
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    model.eval()
    one, two = (model.diagnose(model.encode(source), views(2, 2, seed=6), seeds) for _ in range(2))
    model.train()
    assert one == two
    assert all(name.startswith("health/") and 0 <= value <= 1 for name, value in one.items())
    assert torch.equal(torch.rand(3), expected)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
