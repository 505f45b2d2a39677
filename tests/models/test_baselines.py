"""PixelNeRF and image diffusion: what each keeps of GeNVS, and what it does instead."""

import json
from dataclasses import replace
from math import isfinite
from pathlib import Path

import pytest
import torch

import sample_views
import train
from config.run import load_config, validate_config
from data.cameras.pinhole import Cameras
from data.cameras.poses import orbit
from data.images.files import read_picture
from data.scenes.batch import Geometry, Views
from diffusion.samplers import SampleOptions
from models.checkpoints.published import published_names
from models.image_diffusion.model import ImageDiffusion, ImageDiffusionConfig, ray_map
from models.pixelnerf.model import PixelNeRF, PixelNeRFConfig
from scripts.evaluate import __main__ as evaluate
from tests.scenes import (
    TINY_FAMILIES,
    cameras,
    ready_batch,
    reconfigured,
    run_document,
    scene_batch,
    tiny_model,
    views,
)

ROOT = Path(__file__).resolve().parents[2]
OPTIONS = SampleOptions(steps=2)
ALL_TERMS = {
    "rgb": 2.0,
    "rgb_source": 0.5,
    "opacity": 0.1,
    "depth": 0.3,
    "depth_supervised": 0.7,
    "opacity_supervised": 0.2,
    "depth_consistency": 0.4,
    "opacity_consistency": 0.6,
}


@pytest.fixture(scope="module")
def regression() -> PixelNeRF:
    """Without noise on the photos, and with every loss."""
    torch.manual_seed(3)
    return PixelNeRF(PixelNeRFConfig.model_validate(TINY_FAMILIES["pixelnerf"] | {"loss": ALL_TERMS}))


@pytest.fixture(scope="module")
def diffusion() -> ImageDiffusion:
    """No weight is left at zero, so that every input matters."""
    document = TINY_FAMILIES["image_diffusion"] | {"drop_condition_prob": 0.0}
    torch.manual_seed(3)
    model = ImageDiffusion(ImageDiffusionConfig.model_validate(document))
    with torch.no_grad():
        for parameter in model.parameters():
            if not parameter.any():
                parameter.normal_(std=0.05)
    return model.eval()


def with_geometry(taken: Views) -> Views:
    generator = torch.Generator().manual_seed(7)
    shape = (*taken.valid.shape, *taken.images.shape[-2:])
    depth, alpha = 0.8 + torch.rand(shape, generator=generator), torch.ones(shape)
    alpha[..., 9:] = 0
    return replace(taken, geometry=Geometry(depth, alpha))


def test_regression_is_the_volume_of_genvs_with_colours_for_a_latent_image(regression):
    """The same weights learn the same, and what GeNVS previews is what is drawn."""
    genvs = tiny_model(renderer={"latent_channels": 3}, loss=ALL_TERMS)
    weights = regression.state_dict()
    assert {name for name in genvs.state_dict() if not name.startswith("denoiser.")} == set(weights)
    genvs.load_state_dict(weights, strict=False)
    batch = ready_batch([[True, True], [True, False]], num_target=2)
    batch = replace(batch, source=with_geometry(batch.source), target=with_geometry(batch.target))
    assert "geometry" in regression.requires
    found, beside = regression.loss(batch, progress=0.0), genvs.loss(batch, progress=0.0)
    assert set(found) == set(beside) - {"diffusion"} == set(ALL_TERMS)
    for name, value in found.items():
        assert torch.equal(value, beside[name]), name
    arguments = (views(2, 2, size=(12, 20)), cameras(2, 3, seed=6), torch.arange(6).reshape(2, 3), OPTIONS)
    with torch.no_grad():
        drawn, previewed = regression.sample(*arguments), genvs.sample(*arguments)
    assert torch.equal(drawn.images, drawn.preview)
    assert torch.equal(drawn.preview, previewed.preview)
    assert torch.equal(drawn.depth, previewed.depth)
    assert torch.equal(drawn.opacity, previewed.opacity)


def test_regression_knows_no_denoiser():
    for change, words in (
        ({"denoiser": {}}, "unknown key 'model.denoiser'; did you mean 'model.encoder'"),
        ({"encodr": {}}, "unknown key 'model.encodr'; did you mean 'model.encoder'"),
        ({"loss": {"diffusion": 1.0}}, "unknown key 'model.loss.diffusion'"),
        ({"renderer": {"latent_channels": 16}}, "model.renderer.latent_channels: must be 3, but is 16"),
        ({"loss": {"rgb": 0, "opacity": 0}}, "every weight is 0"),
    ):
        document = {"name": "a", "model": {"family": "pixelnerf"} | change, "data": {"root": "somewhere"}}
        with pytest.raises(ValueError, match=words) as caught:
            validate_config(document, "test")
        assert "\n" not in str(caught.value)


def test_baselines_have_no_published_format(regression, diffusion):
    with pytest.raises(ValueError, match=r"needs 'denoiser\.inner_model', which this model has not"):
        published_names(regression)
    with pytest.raises(ValueError, match=r"needs 'encoder\.backbone'"):
        published_names(diffusion)


def test_points_on_a_ray_have_its_moment_in_the_axes_of_the_source():
    one, other = cameras(2, 3, seed=4), cameras(2, 3, seed=5)
    found = ray_map(other, one, (5, 7)).flatten(-2).movedim(-1, -2)
    rays = other.rays(5, 7)
    for distance in (0.0, 1.7):
        points = one.to_camera(rays.origins + distance * rays.directions)
        moment = torch.linalg.cross(points, found[..., :3])
        torch.testing.assert_close(moment, found[..., 3:], atol=1e-5, rtol=1e-5)
    ahead = one.to_camera(rays.origins + rays.directions) - one.to_camera(rays.origins)
    torch.testing.assert_close(ahead, found[..., :3], atol=1e-5, rtol=1e-5)
    assert ray_map(one, one, (5, 7))[:, :, 3:].abs().max() < 1e-5


@torch.no_grad()
def test_moving_the_world_changes_nothing_and_moving_one_camera_does(diffusion):
    source, targets, seeds = views(2, 2), cameras(2, 2, seed=6), torch.tensor([[1, 2], [3, 4]])
    motion = orbit(torch.tensor(0.7), torch.tensor(0.4), 2.1)

    def moved(taken: Cameras) -> Cameras:
        return replace(taken, cam_to_world=motion @ taken.cam_to_world)

    before = diffusion.sample(source, targets, seeds, OPTIONS)
    shifted = replace(source, cameras=moved(source.cameras))
    after = diffusion.sample(shifted, moved(targets), seeds, OPTIONS)
    torch.testing.assert_close(after.images, before.images, atol=1e-3, rtol=1e-3)
    astray = diffusion.sample(shifted, targets, seeds, OPTIONS)
    assert (astray.images - before.images).abs().max() > 0.01


@torch.no_grad()
def test_the_order_of_the_sources_does_not_matter_but_each_of_them_does(diffusion):
    source, targets = views(2, 3), cameras(2, 2, seed=6)
    told = diffusion.condition(source, targets)
    assert told.shape == (2, 2, 5, 16, 16)
    assert told.min() > 0
    assert told.max() < 1
    turned = source.apply(lambda tensor: tensor.roll(1, dims=1))
    torch.testing.assert_close(diffusion.condition(turned, targets), told)
    for number in range(3):
        images = source.images.clone()
        images[:, number] *= -1
        assert (diffusion.condition(replace(source, images=images), targets) - told).abs().max() > 0.01
    # The mean, view by view.
    one_by_one = [
        diffusion.condition(source.apply(lambda tensor, s=s: tensor[:, s : s + 1]), targets) for s in range(3)
    ]
    torch.testing.assert_close(torch.stack(one_by_one).mean(dim=0), told)


@torch.no_grad()
def test_without_a_volume_there_are_images_alone(diffusion):
    found = diffusion.sample(views(2, 3), cameras(2, 2, seed=6), torch.tensor([[1, 2], [3, 4]]), OPTIONS)
    assert found.images.shape == (2, 2, 3, 16, 16)
    assert found.preview is found.depth is found.opacity is None


@torch.no_grad()
def test_without_condition_image_diffusion_does_not_see_the_sources(diffusion):
    batch = scene_batch([[True], [True]], num_target=2)
    other = replace(batch, source=views(2, 1, seed=77))
    blind = reconfigured(diffusion, drop_condition_prob=1.0)
    assert blind.loss(batch, progress=0.0)["diffusion"] == blind.loss(other, progress=0.0)["diffusion"]
    assert (
        diffusion.loss(batch, progress=0.0)["diffusion"] != diffusion.loss(other, progress=0.0)["diffusion"]
    )
    some = reconfigured(diffusion, denoised_targets=1).loss(batch, progress=0.0)
    first = replace(batch, target=batch.target.apply(lambda tensor: tensor[:, :1]))
    assert torch.equal(some["diffusion"], diffusion.loss(first, progress=0.0)["diffusion"])


@pytest.mark.parametrize("family", ["pixelnerf", "image_diffusion"])
def test_a_baseline_is_trained_sampled_and_judged_by_the_same_programs(family, tmp_path, plant_object):
    for name in ("cars_train/a", "cars_train/bb", "cars_val/ccc"):
        plant_object(tmp_path / "data" / name, num_views=4, size=(16, 16))
    document = run_document(
        tmp_path / "data", tmp_path / "runs", train={"steps": 2, "preview_every": 2}, data={"sources": [1, 1]}
    )
    path = tmp_path / "tiny.json"
    path.write_text(json.dumps(document | {"model": TINY_FAMILIES[family]}))
    run, out = tmp_path / "runs" / "tiny", tmp_path / "out"
    assert train.main([str(path)]) == 0
    last = json.loads((run / "log.jsonl").read_text().splitlines()[-1])
    has_volume = family == "pixelnerf"
    assert {"loss", "held_out_sample_psnr"} <= set(last)
    assert ("held_out_preview_psnr" in last) is has_volume
    columns = 6 if has_volume else 3  # without preview, depth and opacity
    assert read_picture(run / "samples" / "step-00000002.png").shape == (16, columns * 18 - 2, 3)
    given = ["--transfer", str(run), "--views", "3", "--device", "cpu"]
    for number, flags in enumerate(([], ["--autoregressive", "--progress"])):
        folder = out / str(number)
        assert sample_views.main([*given, "--output", str(folder), *flags]) == 0
        drawn, previews = (sorted(folder.glob(f"{name}_*.png")) for name in ("view", "preview"))
        assert len(drawn) == 3
        assert len(previews) == 3 * has_volume
        if has_volume:
            assert [path.read_bytes() for path in drawn] == [path.read_bytes() for path in previews]
        assert {path.name for path in folder.iterdir()} >= {"views.mp4", "sheet.png", "transforms.json"}
    arguments = ["--transfer", str(run), "--views", "2", "--device", "cpu", "--output", str(out / "a.json")]
    assert evaluate.main(arguments) == 0
    figures = json.loads((out / "a.json").read_text())
    assert all(isfinite(value) for value in figures.values())
    if has_volume:
        assert figures["sample_psnr"] == figures["preview_psnr"] != figures["copy_input_psnr"]
    else:
        assert "preview_psnr" not in figures


@pytest.mark.parametrize(
    ("name", "parent"),
    [
        ("pixelnerf_srn_cars", "srn_cars_128"),
        ("image_diffusion_srn_cars", "srn_cars_128"),
        ("pixelnerf_small", "quickstart_plain"),
        ("image_diffusion_small", "quickstart_plain"),
    ],
)
def test_a_baseline_differs_from_the_model_it_is_compared_with_in_nothing_but_what_it_lacks(name, parent):
    ours, theirs = (
        load_config(ROOT / "config" / path).model_dump()
        for path in (f"baselines/{name}.json", f"{parent}.json")
    )
    assert ours["name"] == name
    for section in ("data", "train", "sample"):
        assert ours[section] == theirs[section]
    parts = {"encoder", "renderer", "denoiser"} & set(ours["model"]) | {"embedding"}
    for optim in (ours["optim"], theirs["optim"]):
        optim["lr_scale"] = {part: scale for part, scale in optim["lr_scale"].items() if part in parts}
    assert ours["optim"] == theirs["optim"]
    mine, whole = ours["model"], theirs["model"]
    for lacking in ("renderer", "loss"):
        whole[lacking] = {key: value for key, value in whole[lacking].items() if key in mine.get(lacking, {})}
    differing = {key for key in set(mine) & set(whole) if mine[key] != whole[key]}
    assert differing <= {"family", "renderer"}
    if "renderer" in mine:
        assert mine["renderer"] == whole["renderer"] | {"latent_channels": 3}
    else:
        assert (
            mine["condition_channels"]
            == load_config(ROOT / f"config/{parent}.json").model.renderer.latent_channels
        )
