"""models/genvs/model.py with a tiny model: pairing of scenes, randomness by seed, gradients, shapes."""

from dataclasses import replace

import pytest
import torch

from config.run import OptimConfig
from data.scenes.batch import Views
from diffusion.samplers import SampleOptions
from models.denoising.conditional_denoising import no_condition
from models.genvs.model import GeNVS, GeNVSConfig
from models.training.optimizer import make_optimizer
from tests.scenes import cameras, reconfigured, scene, scene_batch, tiny_model, views

ALL_TERMS = {
    "diffusion": 1.0,
    "rgb": 2.0,
    "rgb_source": 0.5,
    "opacity": 0.1,
    "depth": 0.3,
    "depth_consistency": 0.4,
    "opacity_consistency": 0.6,
}
OPTIONS = SampleOptions(steps=2)


@pytest.fixture(scope="module")
def model():
    return tiny_model(loss=ALL_TERMS, source_noise=0.2, drop_condition_prob=0.5, augment={"prob": 0.5})


@pytest.mark.parametrize(
    "valid",
    [
        [[True, False], [True, False]],
        [[True, True], [True, True]],
        [[True, True], [True, False], [True, True]],
    ],
)
def test_every_term_of_a_batch_is_the_mean_of_the_terms_of_its_scenes(model, valid):
    batch = scene_batch(valid, num_target=2)
    together = model.loss(batch, progress=0.7)
    alone = [model.loss(scene(batch, i), progress=0.7) for i in range(len(valid))]
    assert set(together) == set(ALL_TERMS)
    for name, value in together.items():
        each = torch.stack([terms[name] for terms in alone])
        torch.testing.assert_close(value, each.mean(), atol=1e-6, rtol=1e-4)
        if name != "opacity" and not (name.endswith("consistency") and not valid[0][1]):
            assert each.std() > 1e-5 * each.mean().abs()  # the scenes do differ


def test_exchanging_the_targets_of_two_scenes_changes_the_rgb_loss(model):
    batch = scene_batch([[True], [True]])
    pictures = batch.target.images.flip(0)
    exchanged = replace(batch, target=Views(pictures, batch.target.cameras, batch.target.valid))
    before, after = (model.loss(b, progress=0.0)["rgb"].item() for b in (batch, exchanged))
    assert before != pytest.approx(after, rel=1e-4)


@torch.no_grad()
def test_a_weight_scales_its_term_and_zero_leaves_it_out(model):
    batch = scene_batch([[True, True], [True, False]])
    single = model.loss(batch, progress=0.0)
    twice = reconfigured(model, loss={name: 2 * value for name, value in ALL_TERMS.items()})
    for name, value in twice.loss(batch, progress=0.0).items():
        torch.testing.assert_close(value, 2 * single[name])
    for name in ALL_TERMS:
        terms = reconfigured(model, loss={name: 0}).loss(batch, progress=0.0)
        assert set(terms) == set(ALL_TERMS) - {name}
        torch.testing.assert_close(terms.get("rgb", single["rgb"]), single["rgb"], rtol=0.1, atol=0.1)


def test_sources_that_are_the_same_agree_and_different_ones_do_not(model):
    batch = scene_batch([[True, True]])
    same = replace(
        batch,
        source=batch.source.apply(lambda tensor: torch.cat([tensor[:, :1], tensor[:, :1]], dim=1)),
    )
    quiet = reconfigured(model, source_noise=0.0)
    for name in ("depth_consistency", "opacity_consistency"):
        assert quiet.loss(same, progress=0.0)[name] < 1e-10
        assert quiet.loss(batch, progress=0.0)[name] > 1e-9


def test_the_loss_teaches_every_weight_of_every_part(model):
    model.zero_grad()
    sum(model.loss(scene_batch([[True, True], [True, False]]), progress=0.3).values()).backward()
    trained = [parameter for part in model.parts().values() for parameter in part.parameters()]
    assert {id(p) for p in trained} == {id(p) for p in model.parameters()}
    assert len(trained) == len({id(p) for p in trained})
    silent = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.isfinite().all()]
    assert silent == []
    zero = [name for name, p in model.named_parameters() if not p.grad.any()]
    assert zero == []


def test_the_diffusion_loss_alone_teaches_the_encoder(model):
    model.zero_grad()
    seeing = reconfigured(model, drop_condition_prob=0.0)
    seeing.loss(scene_batch([[True]]), progress=0.0)["diffusion"].backward()
    for part in ("encoder", "renderer"):
        assert any(p.grad.any() for p in model.parts()[part].parameters())


@torch.no_grad()
def test_without_condition_the_diffusion_loss_does_not_see_the_sources(model):
    batch = scene_batch([[True], [True]])
    other = replace(batch, source=views(2, 1, seed=77))
    blind, seeing = (reconfigured(model, drop_condition_prob=prob) for prob in (1.0, 0.0))
    assert blind.loss(batch, progress=0.0)["diffusion"] == blind.loss(other, progress=0.0)["diffusion"]
    assert seeing.loss(batch, progress=0.0)["diffusion"] != seeing.loss(other, progress=0.0)["diffusion"]


def test_a_denoiser_that_learns_alone_learns_the_same_without_volumes():
    about = {"drop_condition_prob": 1.0, "augment": {"prob": 0.5}}
    alone = tiny_model(loss={"rgb": 0.0, "opacity": 0.0}, **about)
    beside = tiny_model(loss={"rgb": 1.0, "opacity": 0.0}, **about)
    run = []
    for part in (alone.encoder, alone.renderer, beside.encoder, beside.renderer):
        part.register_forward_pre_hook(lambda part, _: run.append(part))
    batch = scene_batch([[True, True], [True, False]], num_target=2)
    found, expected = (model.loss(batch, progress=0.3) for model in (alone, beside))
    assert run == [beside.encoder, beside.renderer]
    assert set(found) == {"diffusion"}
    assert torch.equal(found["diffusion"], expected["diffusion"])
    for terms in (found, expected):
        terms["diffusion"].backward()
    for name, weight in alone.denoiser.named_parameters():
        assert torch.equal(weight.grad, beside.denoiser.get_parameter(name).grad), name
    # As data-parallel training needs: what gets no gradient wants none.
    assert [name for name, p in alone.named_parameters() if p.requires_grad and p.grad is None] == []
    assert {p for group in make_optimizer(alone, OptimConfig()).param_groups for p in group["params"]} == set(
        alone.denoiser.parameters()
    )


@pytest.mark.parametrize(
    ("drop", "loss"), [(0.9, {"rgb": 0.0, "opacity": 0.0}), (1.0, {"rgb": 0.0, "opacity": 1e-3})]
)
def test_a_volume_that_something_looks_at_is_computed(drop, loss):
    model = tiny_model(loss=loss, drop_condition_prob=drop)
    sum(model.loss(scene_batch([[True]]), progress=0.0).values()).backward()
    assert [name for name, p in model.named_parameters() if p.grad is None] == []


@torch.no_grad()
def test_the_condition_is_dropped_with_the_given_probability(model):
    changed = []
    for seed in range(8):
        batch = replace(scene_batch([[True]]), seeds=torch.tensor([seed]))
        other = replace(batch, source=views(1, 1, seed=77))
        changed.append(
            bool(model.loss(batch, progress=0.0)["diffusion"] != model.loss(other, progress=0.0)["diffusion"])
        )
    assert 0 < sum(changed) < 8


def test_the_loss_follows_from_the_seeds_whatever_was_drawn_before(model):
    batch = scene_batch([[True, True], [True, False]])
    first = model.loss(batch, progress=0.0)
    torch.rand(17)
    second = model.loss(batch, progress=0.0)
    assert all(torch.equal(first[name], second[name]) for name in first)
    reseeded = model.loss(replace(batch, seeds=batch.seeds + 1), progress=0.0)
    assert all(first[name] != reseeded[name] for name in ("diffusion", "rgb", "depth"))


@torch.no_grad()
def test_the_noise_level_moves_with_the_step(model):
    moving = reconfigured(model, noise={"start": "low", "end": "high", "until": 0.5})
    batch = scene_batch([[True]])
    terms = [moving.loss(batch, progress=moment)["diffusion"].item() for moment in (0.0, 0.25, 0.5, 1.0)]
    assert len(set(terms[:3])) == 3
    assert terms[2] == terms[3]


RAMP = {"start": 0.8, "end": 0.2}


@torch.no_grad()
@pytest.mark.parametrize(
    "wanted",
    [
        lambda value: {"loss": ALL_TERMS | {"depth": value, "depth_consistency": value}},
        lambda value: {"augment": {"prob": value}},
        lambda value: {"drop_condition_prob": value},
        lambda value: {"source_noise": value},
    ],
)
def test_a_ramp_is_at_every_moment_the_model_with_its_value_there(model, wanted):
    batch = scene_batch([[True, True], [True, False]])
    moving = reconfigured(model, **wanted(RAMP))
    for progress, value in ((0.0, 0.8), (0.5, 0.5), (1.0, 0.2)):
        terms = moving.loss(batch, progress=progress)
        still = reconfigured(model, **wanted(value)).loss(batch, progress=progress)
        assert terms.keys() == still.keys()
        for name in terms:
            torch.testing.assert_close(terms[name], still[name])
        assert all(found == pytest.approx(value) for found in moving.scheduled(progress).values())
    assert moving.scheduled(0.5)
    assert model.scheduled(0.5) == {}


def test_a_term_whose_weight_is_zero_for_a_while_still_gives_every_weight_a_gradient(model):
    config = model.config.model_dump(mode="json")
    terms = dict.fromkeys(ALL_TERMS, 0.0) | {"diffusion": {"start": 0, "end": 1, "begin": 0.5}, "rgb": 1.0}
    rising = GeNVS(model.config.model_validate(config | {"loss": config["loss"] | terms}))
    losses = rising.loss(scene_batch([[True, False]]), progress=0.2)
    assert losses["diffusion"] == 0
    sum(losses.values()).backward()
    assert not [name for name, p in rising.named_parameters() if p.grad is None]
    assert not any(p.grad.any() for p in rising.denoiser.parameters())
    assert any(p.grad.any() for p in rising.encoder.parameters())
    never = config["loss"] | terms | {"diffusion": {"start": 0, "end": 0}}
    without = GeNVS(model.config.model_validate(config | {"loss": never}))
    assert set(without.loss(scene_batch([[True]]), progress=0.2)) == {"rgb"}
    assert not any(p.requires_grad for p in without.denoiser.parameters())


@pytest.mark.parametrize(
    ("loss", "wanted"),
    [({}, False), ({"depth_supervised": {"start": 0, "end": 1}}, True), ({"opacity_supervised": 1}, True)],
)
def test_depth_and_alpha_are_needed_where_they_count_at_any_time(model, loss, wanted):
    assert ("geometry" in reconfigured(model, loss=loss).requires) is wanted


def test_autocast_to_bfloat16_changes_the_loss_a_little(model):
    batch = scene_batch([[True, True], [True, False]])
    exact = model.loss(batch, progress=0.0)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rounded = model.loss(batch, progress=0.0)
    for name, value in rounded.items():
        assert value.dtype == torch.float32
        assert value.item() == pytest.approx(exact[name].item(), rel=0.3, abs=1e-3)
    sum(rounded.values()).backward()
    model.zero_grad()


@torch.no_grad()
def test_only_the_first_targets_train_the_denoiser_if_so_wanted(model):
    batch = scene_batch([[True], [True]], num_target=3)
    some = reconfigured(model, denoised_targets=2).loss(batch, progress=0.0)
    first = replace(batch, target=batch.target.apply(lambda tensor: tensor[:, :2]))
    torch.testing.assert_close(
        some["diffusion"], model.loss(first, progress=0.0)["diffusion"], rtol=0.05, atol=0
    )
    torch.testing.assert_close(some["rgb"], model.loss(batch, progress=0.0)["rgb"])


@torch.no_grad()
def test_samples_have_the_promised_shapes_and_ranges(model):
    source, targets = views(2, 2, size=(12, 20), seed=5), cameras(2, 3, seed=6)
    found = model.eval().sample(source, targets, torch.arange(6).reshape(2, 3), OPTIONS)
    model.train()
    assert found.images.shape == found.preview.shape == (2, 3, 3, 12, 20)
    assert found.depth.shape == found.opacity.shape == (2, 3, 1, 12, 20)
    for images in (found.images, found.preview):
        assert images.min() >= -1
        assert images.max() <= 1
    near, far = (getattr(targets, name)[:, :, None, None, None] for name in ("near", "far"))
    assert ((found.depth > 0.99 * near) & (found.depth < 1.01 * far)).all()
    assert ((found.opacity >= 0) & (found.opacity <= 1)).all()


@torch.no_grad()
@pytest.mark.parametrize(
    "options",
    [
        SampleOptions(steps=2),
        SampleOptions(steps=2, sampler="euler", stochastic=True),
        SampleOptions(steps=2, guidance=2.0),
        SampleOptions(steps=2, unconditional=True),
        SampleOptions(steps=2, sampler="dpmpp_2m_sde"),
    ],
)
def test_a_view_does_not_depend_on_its_batch(model, options):
    source, targets = views(2, 2, seed=5), cameras(2, 3, seed=6)
    seeds = torch.arange(50, 56).reshape(2, 3)
    together = model.eval().sample(source, targets, seeds, options)
    alone = model.sample(source.apply(lambda tensor: tensor[1:]), targets[1:, 2:], seeds[1:, 2:], options)
    for name in ("images", "preview", "depth", "opacity"):
        torch.testing.assert_close(
            getattr(alone, name)[0, 0], getattr(together, name)[1, 2], atol=2e-4, rtol=1e-4
        )
    other = model.sample(source.apply(lambda t: t[1:]), targets[1:, 2:], seeds[1:, 2:] + 9, options)
    model.train()
    assert (other.images - alone.images).abs().max() > 0.01
    assert torch.equal(other.preview, alone.preview)


@torch.no_grad()
def test_unconditional_samples_do_not_see_the_sources(model):
    targets, seeds = cameras(1, 1, seed=6), torch.tensor([[4]])
    blind = SampleOptions(steps=2, unconditional=True)
    model.eval()
    one, two = (model.sample(views(1, 1, seed=seed), targets, seeds, blind) for seed in (1, 2))
    assert torch.equal(one.images, two.images)
    assert not torch.equal(one.preview, two.preview)
    one, two = (model.sample(views(1, 1, seed=seed), targets, seeds, OPTIONS) for seed in (1, 2))
    model.train()
    assert not torch.equal(one.images, two.images)


@torch.no_grad()
def test_the_callback_sees_every_step_in_the_shape_of_the_views(model):
    seen = []
    model.eval().sample(
        views(2, 1),
        cameras(2, 3, seed=6),
        torch.arange(6).reshape(2, 3),
        SampleOptions(steps=3),
        callback=lambda step, clean: seen.append((step, tuple(clean.shape))),
    )
    model.train()
    assert seen == [(step, (2, 3, 3, 16, 16)) for step in range(3)]


def test_the_full_model_has_as_many_weights_as_the_published_one():
    with torch.device("meta"):
        model = GeNVS(GeNVSConfig(), init_weights=False)
    assert sum(parameter.numel() for parameter in model.renderer.parameters()) == 2_193
    assert sum(parameter.numel() for parameter in model.parameters()) == 189_047_173


CENTRED = {"denoiser": {"centre": "condition"}}


@torch.no_grad()
def test_sampling_of_a_centred_denoiser_begins_with_the_preview():
    model = tiny_model(**CENTRED)
    for weight in model.denoiser.parameters():
        weight.zero_()
    options = SampleOptions(sampler="euler", steps=2, sigma_min=1e-4, sigma_max=1e-3)
    source, target = views(2, 2), cameras(2, 3, seed=5)
    drawn = model.draw(model.encode(source), target, torch.arange(6).view(2, 3), options)
    torch.testing.assert_close(drawn.images, drawn.preview, atol=5e-3, rtol=0)


@torch.no_grad()
def test_without_a_condition_a_centred_denoiser_is_centred_on_grey():
    model = tiny_model(**CENTRED)
    condition, seeds = torch.rand(2, 16, 4, 6), torch.arange(2)
    nothing = no_condition(condition, seeds, model.denoiser)
    assert (model.denoiser.centre(nothing[:, None]) == 0).all()
    assert no_condition(condition, seeds, tiny_model().denoiser).std() > 0.2


def test_a_centre_needs_images_of_its_range():
    with pytest.raises(ValueError, match="centre: condition needs image_range symmetric"):
        GeNVSConfig(image_range="unit", **CENTRED)


@torch.no_grad()
@pytest.mark.parametrize("frame", ["world", "first_source"])
def test_the_mirrored_camera_of_a_symmetric_scene_sees_the_mirrored_view(frame):
    model = tiny_model(mirror="y", frame=frame)
    source, target = views(2, 2), cameras(2, 1, seed=5)
    scene = model.encode(source)
    assert scene.valid.shape == (2, 4)
    seen, mirrored = model.render(scene, target), model.render(scene, target.mirrored("y"))
    torch.testing.assert_close(mirrored.latent, seen.latent.flip(-1), atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(mirrored.depth, seen.depth.flip(-1), atol=1e-5, rtol=1e-4)
    assert (seen.latent - seen.latent.flip(-1)).abs().max() > 1e-3


def test_a_loss_is_that_of_a_model_told_the_mirrored_photos_volumes():
    model = tiny_model(mirror="x")
    batch = scene_batch([[True, False], [True, True]])
    model.loss(batch, progress=0.5)["rgb"].backward()
    assert all(p.grad is not None for p in model.encoder.parameters() if p.requires_grad)
    alone = reconfigured(model, mirror=None).loss(batch, progress=0.5)
    assert alone["rgb"].item() != pytest.approx(model.loss(batch, progress=0.5)["rgb"].item(), rel=1e-4)
