"""ViewFusion as a family: what it learns from, how it draws, and what bad input is told."""

import json
import shutil
from dataclasses import replace

import pytest
import torch

import train
from config.run import validate_config
from data.scenes.batch import SceneBatch, Views
from diffusion.vp_schedule import VPSchedule
from models.sampling.autoregressive import sample_autoregressive
from models.sampling.conditioning import make_policy
from models.viewfusion.drawing import ViewFusionSampleOptions
from models.viewfusion.model import ViewFusion, ViewFusionConfig
from scripts.evaluate import __main__ as evaluate
from scripts.make_shapes import main as make_shapes
from scripts.pack import main as pack
from tests.scenes import TINY_FAMILIES, cameras, scene_batch, views

FEW = ViewFusionSampleOptions(steps=3)


def model(**changes) -> ViewFusion:
    torch.manual_seed(0)
    document = TINY_FAMILIES["viewfusion"] | {"target_among_sources": 0.0} | changes
    return ViewFusion(ViewFusionConfig.model_validate(document)).eval()


def sampled(made: ViewFusion, source: Views, options: ViewFusionSampleOptions = FEW):
    with torch.no_grad():
        return made.sample(source, cameras(2, 3, seed=6), torch.arange(6).reshape(2, 3), options)


def test_weights_of_a_prediction_are_shares_of_the_views_that_are_there():
    source = views(2, 4)
    valid = torch.tensor([[True, True, False, True], [True, False, False, False]])
    found = sampled(model(), replace(source, valid=valid)).weights
    assert found.shape == (2, 3, 4, 3, *source.images.shape[-2:])
    torch.testing.assert_close(found.sum(dim=2), torch.ones_like(found[:, :, 0]))
    assert (found[~valid[:, None].expand(-1, 3, -1)] == 0).all()
    assert sampled(model(weighting=False), source).weights is None


def test_the_order_of_views_does_not_matter_but_in_relative_mode_which_is_first():
    source, order = views(2, 3), torch.tensor([2, 0, 1])
    permuted = source.apply(lambda tensor: tensor[:, order])
    made = model()
    torch.testing.assert_close(
        sampled(made, permuted).images, sampled(made, source).images, atol=1e-4, rtol=1e-4
    )
    relative = model(angle={"encoding": "harmonics", "relative": True})
    assert (sampled(relative, permuted).images - sampled(relative, source).images).abs().max() > 1e-3


def test_source_cameras_are_not_looked_at():
    source, made = views(2, 3), model()
    moved = replace(source, cameras=cameras(2, 3, seed=40))
    assert torch.equal(sampled(made, moved).images, sampled(made, source).images)


def test_the_loss_is_the_mean_over_targets_however_many_views_they_have():
    """Packed passes must not weigh a scene by the number of its views."""
    made = model()
    batch = scene_batch([[True, True, True], [True, False, False]], num_target=2)
    alone = [
        replace(batch.apply(lambda tensor, b=b: tensor[b : b + 1]), seeds=batch.seeds[b : b + 1])
        for b in range(2)
    ]
    parts = torch.stack([made.loss(scene, progress=0.0)["diffusion"] for scene in alone])
    torch.testing.assert_close(made.loss(batch, progress=0.0)["diffusion"], parts.mean())


def share_replaced(made: ViewFusion, valid: list[list[bool]], seeds: int) -> torch.Tensor:
    """How often each source view is the target itself."""
    batch: SceneBatch = scene_batch(valid, num_target=1)
    count = torch.zeros(len(valid), len(valid[0]))
    found, mask = made._views_of_each_target(batch.source, 1)
    for seed in range(seeds):
        numbers = torch.arange(len(valid)) + 1000 * seed
        mixed = made._with_targets_among(found, mask, batch.target, numbers)
        count += (mixed != found).flatten(2).any(dim=2)
    return count / seeds


def test_targets_take_the_place_of_sources_that_are_there_as_often_as_asked():
    valid = [[True, True, False, True], [True, False, False, False]]
    always = share_replaced(model(target_among_sources=1.0), valid, 300)
    torch.testing.assert_close(always.sum(dim=1), torch.ones(2))
    assert always[0, 2] == 0
    assert always[0, [0, 1, 3]].min() > 0.2
    published = share_replaced(model(target_among_sources="published"), [[True] * 6], 4000)
    assert 0.015 < float(published.sum()) < 0.036  # 0.1 * 6 / 24, five standard errors to either side


def test_training_levels_give_the_published_sampler_and_fewer_of_them():
    schedule = VPSchedule()
    every = schedule.sampling_sigmas(2000)
    torch.testing.assert_close(every[:-1], schedule.sigmas.flip(0).float())
    few = schedule.sampling_sigmas(5)
    assert few[0] == every[0]
    assert few[-2:].tolist() == [every[-2].item(), 0]
    assert len(few) == 6
    with pytest.raises(ValueError, match="raise it"):
        schedule.sampling_sigmas(5, largest=1e-5)


@pytest.mark.parametrize(
    "options",
    [{"sampler": "euler"}, {"sampler": "dpmpp_sde"}, {"sampler": "euler_ancestral", "levels": "training"}],
)
def test_every_kind_of_sampler_draws_the_same_views_from_the_same_seeds(options):
    chosen = ViewFusionSampleOptions(steps=3, **options)
    one, two = (sampled(model(), views(2, 2), chosen).images for _ in range(2))
    assert torch.equal(one, two)
    assert one.isfinite().all()


@torch.no_grad()
def test_views_that_were_generated_join_those_that_are_given():
    made = model()
    source, asked = views(1, 1), []
    made.unet.register_forward_hook(lambda _, inputs, __: asked.append(len(inputs[0])))
    given = (made, source, cameras(1, 23, seed=6), torch.arange(23)[None], FEW)
    drawn = list(sample_autoregressive(*given, policy=make_policy("all")))
    assert len(drawn) == 23
    assert all(prediction.images.isfinite().all() for prediction in drawn)
    assert sorted(set(asked)) == list(range(1, 24))  # one pass more for each view


@pytest.fixture(scope="module")
def shapes(tmp_path_factory):
    root = tmp_path_factory.mktemp("shapes") / "set"
    sizes = ["--objects", "3", "--val", "1", "--size", "16", "--workers", "1"]
    assert make_shapes(["--layout", "nmr", "--root", str(root), *sizes]) == 0
    return root


def fresh(root, runs, **changes) -> dict:
    """The config of a tiny run, with `changes` by section."""
    found = {
        "name": "tiny",
        "runs": str(runs),
        "model": {"family": "viewfusion", "unet": TINY_FAMILIES["viewfusion"]["unet"]},
        "data": {"root": str(root), "image_size": 16, "sources": [1, 3]},
        "train": {"steps": 2, "batch": 2, "preview_every": 0, "device": "cpu", "precision": "float32"},
        "sample": {"steps": 2},
    }
    return {
        key: value | changes.get(key, {}) if isinstance(value, dict) else value
        for key, value in found.items()
    }


def trained(tmp_path, document: dict) -> int:
    path = tmp_path / "config.json"
    path.write_text(json.dumps(document))
    return train.main([str(path), "train.preflight=false"])


def test_a_run_learns_the_turn_of_its_data_and_resumes(shapes, tmp_path):
    document = fresh(shapes, tmp_path)
    assert trained(tmp_path, document) == 0
    saved = json.loads((tmp_path / "tiny/config.json").read_text())
    assert saved["model"]["angle"]["offset_rad"] == 0
    assert saved["model"]["angle"]["direction"] == 1
    document["train"]["steps"] = 3
    assert trained(tmp_path, document) == 0
    assert (tmp_path / "tiny/checkpoints/step-00000003.safetensors").is_file()


def test_a_random_target_is_judged_with_as_many_random_inputs(shapes, tmp_path, capsys):
    assert trained(tmp_path, fresh(shapes, tmp_path)) == 0
    run = str(tmp_path / "tiny")
    seen = []
    for num in (1, 3):
        assert (
            evaluate.main(["--checkpoint", run, "--protocol", f"nmr_random_{num}view", "--device", "cpu"])
            == 0
        )
        results = json.loads((tmp_path / f"tiny/evaluation/nmr_random_{num}view/results.json").read_text())
        seen.append(str(results))
    assert "1 at random" in seen[0]
    assert "3 at random" in seen[1]


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda folder: (folder / "cameras.npz").unlink(), "cameras.npz: is missing"),
        (
            lambda folder: (folder / "cameras.npz").write_bytes(b"PK\3\4cut"),
            "cameras.npz: is missing or not a complete",
        ),
    ],
)
def test_cameras_that_cannot_be_read_are_named_in_one_line(shapes, tmp_path, capsys, damage, message):
    shutil.copytree(shapes, tmp_path / "set")
    for folder in (tmp_path / "set").glob("*/0*"):
        damage(folder)
    assert trained(tmp_path, fresh(tmp_path / "set", tmp_path)) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert message in lines[-1]


def test_more_views_than_there_are_is_one_line(shapes, tmp_path, capsys):
    assert trained(tmp_path, fresh(shapes, tmp_path, data={"sources": [24, 24]})) == 2
    assert "has 24 views, but 24 source and 1 target views are needed" in capsys.readouterr().err


def test_a_category_that_does_not_exist_is_one_line(shapes, tmp_path, capsys):
    arguments = [str(shapes), "--output", str(tmp_path / "packed"), "--workers", "1", "--without"]
    assert pack([*arguments, "boat"]) == 2
    assert "there is no such category to train on; there are: car" in capsys.readouterr().err
    assert pack([*arguments, "car"]) == 2
    assert "no object is left" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"unet": {"channels": 30}}, "multiple of"),
        ({"unet": {"multipliers": [1, 2]}}, "attention has 4 entries for 2 levels"),
        ({"angle": {"elevation": True}}, "elevation needs encoding=harmonics"),
        ({"target_among_sources": 2}, "target_among_sources"),
        ({"schedule": {"kind": "harmonic"}}, "nothing is left of the image"),
    ],
)
def test_a_config_that_makes_no_sense_is_named(change, message):
    found = {"name": "a", "model": {"family": "viewfusion"} | change, "data": {"root": "somewhere"}}
    with pytest.raises(ValueError, match=message) as caught:
        validate_config(found, "test")
    assert "\n" not in str(caught.value)


def test_guidance_is_no_option_of_it():
    with pytest.raises(ValueError, match="guidance"):
        ViewFusionSampleOptions(guidance=2.0)
