"""What views of the two families depend on, and what they are trained on."""

import pytest
import torch

pytest.importorskip("diffusers")

from config.families import family
from models.base import own_state
from models.stable_diffusion.denoiser import LatentDenoiser
from models.stable_diffusion.settings import ControlledSampleOptions, JointSampleOptions
from tests.models.stable_diffusion.tiny_base import require_base
from tests.scenes import TINY_FAMILIES, cameras, scene_batch, tiny_model, views

SEEDS = torch.tensor([[1, 2, 3]])


def made(name: str, **changes):
    torch.manual_seed(0)
    kind = family(name)
    model = kind(kind.Config.model_validate(require_base(TINY_FAMILIES[name]) | changes)).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if not parameter.any():
                parameter.normal_(std=0.05)
    return model


@pytest.fixture(scope="module")
def single():
    return made("controlnet")


@pytest.fixture(scope="module")
def joint():
    return made("multiview")


def draw(model, *, source_seed=0, seeds=SEEDS, **options):
    chosen = model.SampleConfig(**{"steps": 2} | options)
    given = views(1, 2, seed=source_seed), cameras(1, 3, seed=6), seeds
    return model.sample(*given, chosen).images


def moved(one, other):
    return [float(difference.abs().max()) > 1e-4 for difference in (one - other)[0]]


def test_chunks_of_independent_views_are_the_views(single):
    whole = draw(single)
    alone = [
        single.sample(
            views(1, 2), cameras(1, 3, seed=6)[:, view : view + 1], SEEDS[:, view : view + 1],
            ControlledSampleOptions(steps=2),
        ).images
        for view in range(3)
    ]  # fmt: skip
    torch.testing.assert_close(torch.cat(alone, dim=1), whole, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"plan": "all"}, [True, True, True]),
        ({"plan": "groups", "chunk": 2}, [True, True, False]),
        ({"plan": "chunked", "chunk": 1, "chunk_context": "previous"}, [True, True, True]),
        ({"plan": "chunked", "chunk": 2, "chunk_context": "input+previous"}, [True, True, True]),
        ({"plan": "autoregressive"}, [True, True, True]),
    ],
)
def test_views_follow_those_that_they_see(joint, options, expected):
    """The first view is drawn with other noise."""
    changed = draw(joint, seeds=torch.tensor([[9, 2, 3]]), guidance=1.0, **options)
    assert moved(draw(joint, guidance=1.0, **options), changed) == expected


def test_photos_are_seen_as_latents_beside_their_volumes(joint):
    with torch.no_grad():
        scene = joint.encode(views(1, 2))
    changed = type(scene)(
        **{**vars(scene), "photos": scene.photos + 1.0}  # the volumes stay
    )
    given = cameras(1, 3, seed=6), SEEDS
    for options, expected in (("input", True), ("previous", False)):
        chosen = JointSampleOptions(steps=2, guidance=1.0, chunk_context=options)
        with torch.no_grad():
            before, after = (joint.draw(one, *given, chosen).images for one in (scene, changed))
        assert moved(before, after) == [expected] * 3


@pytest.mark.parametrize("name", ["controlnet", "multiview"])
def test_unconditional_views_do_not_depend_on_the_photos(name, single, joint):
    model = single if name == "controlnet" else joint
    one, other = (draw(model, source_seed=seed, unconditional=True) for seed in (0, 1))
    assert torch.equal(one, other)
    assert not torch.equal(draw(model), draw(model, source_seed=1))


@pytest.mark.parametrize("options", [{"churn": 1.0}, {"stochastic": True}, {"levels": "linear_t"}])
def test_options_change_the_views_and_churn_of_one_is_stochastic(single, options):
    assert all(moved(draw(single, steps=3), draw(single, steps=3, **options)))
    assert torch.equal(draw(single, churn=1.0), draw(single, stochastic=True))


def test_churn_is_refused_where_a_sampler_has_none():
    with pytest.raises(ValueError, match="cannot be churned"):
        ControlledSampleOptions(sampler="dpmpp_2m", churn=1)


@pytest.mark.parametrize("name", ["controlnet", "multiview"])
def test_views_of_a_scene_share_the_time_only_if_they_see_each_other(name, monkeypatch):
    model, seen = made(name, drop_condition_prob=0.5), []
    real = LatentDenoiser.predict

    def spy(self, noisy, time, condition, **ways):
        seen.append((time, condition.labels, ways["num_views"]))
        return real(self, noisy, time, condition, **ways)

    monkeypatch.setattr(LatentDenoiser, "predict", spy)
    model.loss(scene_batch([[True, True]] * 4, num_target=3), progress=0.0)
    (time, labels, num_views), per_scene = seen[0], 4 if name == "multiview" else 3
    scenes = time.unflatten(0, (4, per_scene))
    assert num_views == (4 if name == "multiview" else 1)
    assert (scenes == scenes[:, :1]).all() == (name == "multiview")
    assert len(set(time.tolist())) > 1
    assert set(labels.tolist()) == {0, 1}
    assert any(len(set(row.tolist())) == 2 for row in labels.unflatten(0, (4, per_scene)))


def test_volumes_of_a_genvs_run_are_taken_over_and_its_denoiser_is_left_out(single):
    given, notes = single.adapt(own_state(tiny_model()))
    assert {name.split(".")[0] for name in given} == {"encoder", "renderer"}
    assert len(notes) == 1
    assert set(given) <= set(own_state(single))


def test_the_base_is_in_no_state(single):
    assert set(single.reference_modules()) == {"unet", "vae", "text_encoder"}
    assert {name.split(".")[0] for name in single.state_dict()} == {"encoder", "renderer", "control"}
    held = {id(parameter) for parameter in single.parameters()}
    for module in single.reference_modules().values():
        assert not any(id(p) in held or p.requires_grad for p in module.parameters())
