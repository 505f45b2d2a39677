"""models/volumes/diagnostics.py: planted collapses show in the figures, and what is well does not."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from data.scenes.batch import SceneBatch
from diffusion.denoiser import DenoiserConfig, EDMDenoiser
from models.base import NVSModel
from models.denoising.diagnostics import denoiser_figures
from models.training.sanity_checks import SanityChecks
from models.volumes.diagnostics import latent_figures, volume_figures
from nerf.renderer import LatentImages
from tests.scenes import reconfigured, scene_batch, tiny_model

B, T, F, H, W = 2, 3, 5, 5, 7


@pytest.fixture
def model() -> NVSModel:
    return tiny_model().eval()


@pytest.fixture(scope="module")
def batch() -> SceneBatch:
    """Three scenes seen again from where they were photographed; the left half of a picture is background."""
    made = scene_batch([[True], [True], [True]])
    images = made.source.images.clone()
    images[..., :8] = 1.0
    return replace(made, target=replace(made.source, images=images))


def diagnose(model: NVSModel, batch: SceneBatch) -> dict[str, float]:
    with torch.no_grad():
        return model.diagnose(model.encode(batch.source), batch.target, batch.seeds[:, None])


def warnings(figures: dict[str, float]) -> str:
    alarm = SanityChecks()
    return "; ".join(alarm.update(figures) + alarm.update(figures))


def test_an_untrained_model_is_no_patient(model, batch):
    renderings = []
    hook = model.renderer.register_forward_hook(lambda *_: renderings.append(1))
    figures = diagnose(model, batch)
    hook.remove()
    assert len(renderings) == 1
    assert all(0 <= value <= 1 for value in figures.values())
    assert {"health/opacity_background", "health/near_plane", "health/denoiser_error"} <= set(figures)
    assert warnings(figures) == ""


@pytest.mark.parametrize(("bias", "words"), [(-1000.0, "volumes are empty"), (1000.0, "volumes are full")])
def test_empty_and_full_volumes_are_noticed(model, batch, bias, words):
    with torch.no_grad():
        model.renderer.field.output.bias[0] = bias
    figures = diagnose(model, batch)
    assert figures["health/opacity"] == pytest.approx(float(bias > 0), abs=1e-3)
    assert words in warnings(figures)
    # Where all is opaque, only the first samples are seen.
    assert ("near plane" in warnings(figures)) == (bias > 0)


def test_saturated_and_flat_latent_channels_are_noticed(model, batch):
    layer = model.renderer.field.output
    with torch.no_grad():
        layer.bias[0] = 1000.0
        layer.bias[4:] = 50.0
        assert "latent channels are saturated (100%" in warnings(diagnose(model, batch))
        layer.bias[4:] = 0.0
        layer.weight[4:] = 0.0
    said = warnings(diagnose(model, batch))
    assert "look the same everywhere (100%" in said
    assert "saturated" not in said


def test_what_is_not_taught_is_not_judged(model, batch):
    volumes_alone = diagnose(reconfigured(model, loss={"diffusion": 0.0}), batch)
    assert set(volumes_alone) == {
        f"health/{name}" for name in ("opacity", "opacity_object", "opacity_background", "near_plane")
    }
    blind = reconfigured(model, drop_condition_prob=1.0)
    assert diagnose(blind, batch) == volumes_alone
    assert diagnose(reconfigured(blind, loss={"rgb": 0.0}), batch) == {}


def rendering(seed: int = 0) -> tuple[LatentImages, Tensor]:
    """A made-up rendering, and the places of its surfaces between near (0) and far (1)."""
    generator = torch.Generator().manual_seed(seed)
    opacity, place = (torch.rand(B, T, 1, H, W, generator=generator) for _ in range(2))
    latent = torch.rand(B, T, F, H, W, generator=generator)
    near, far = (getattr(target_cameras(), name)[:, :, None, None, None] for name in ("near", "far"))
    return LatentImages(latent, (near + (far - near) * place) * opacity, opacity), place


def target_cameras():
    return scene_batch([[True]] * B, num_target=T).target.cameras


def test_volume_figures_are_those_of_loops_over_pixels():
    found, place = rendering()
    generator = torch.Generator().manual_seed(3)
    images = torch.rand(B, T, 3, 2 * H, 3 * W, generator=generator)
    images[:, :, :, :3] = 1.0  # the border lies within pixels of the rendering
    rays = target_cameras().rays(H, W)
    figures = volume_figures(found, rays, images, num_samples=4)

    sums = {"all": [], "object": [], "background": []}
    glued = 0.0
    for b, t, y, x in ((b, t, y, x) for b in range(B) for t in range(T) for y in range(H) for x in range(W)):
        opacity = found.opacity[b, t, 0, y, x].item()
        seen = images[b, t, :, 2 * y : 2 * y + 2, 3 * x : 3 * x + 3]
        white = [bool(pixel.min() > 0.98) for pixel in seen.flatten(1).T]
        sums["all"].append(opacity)
        if all(white):
            sums["background"].append(opacity)
        if not any(white):
            sums["object"].append(opacity)
        glued += opacity * (place[b, t, 0, y, x].item() < 1 / 4)
    mean = {name: sum(values) / len(values) for name, values in sums.items()}
    assert len(sums["object"]) + len(sums["background"]) == B * T * (H - 1) * W
    assert figures["health/opacity"] == pytest.approx(mean["all"], rel=1e-4)
    assert figures["health/opacity_object"] == pytest.approx(mean["object"], rel=1e-4)
    assert figures["health/opacity_background"] == pytest.approx(mean["background"], rel=1e-4)
    assert figures["health/near_plane"] == pytest.approx(glued / sum(sums["all"]), rel=1e-3)


def test_surfaces_on_the_near_plane_are_noticed_and_others_are_not():
    found, _ = rendering()
    near, far = (getattr(target_cameras(), name)[:, :, None, None, None] for name in ("near", "far"))
    images, rays = torch.zeros(B, T, 3, H, W), target_cameras().rays(H, W)
    shares = []
    for place in (0.0, 0.03, 0.1, 0.9):
        glued = replace(found, depth=found.opacity * (near + place * (far - near)))
        figures = volume_figures(glued, rays, images, num_samples=64)
        shares.append(figures["health/near_plane"])
        assert ("near plane" in warnings(figures)) == (place < 0.05)
    assert shares == pytest.approx([1, 1, 0, 0], abs=1e-5)


def test_nothing_is_said_of_the_near_plane_or_of_latents_where_nothing_is_seen():
    found, _ = rendering()
    air = replace(found, opacity=0 * found.opacity, depth=0 * found.depth)
    figures = volume_figures(air, target_cameras().rays(H, W), torch.zeros(B, T, 3, H, W), num_samples=4)
    assert figures == {"health/opacity": 0.0, "health/opacity_object": 0.0}
    assert latent_figures(air) == {}


def test_latent_figures_are_those_of_the_surfaces_without_the_background():
    found, _ = rendering()
    colour = found.latent.clone()
    colour[:, :, 3] = 0.4  # flat
    colour[:, :, 4, :, :3] = 0.005  # at an end in three columns of seven
    solid = (torch.arange(W) % 2 == 0).expand(B, T, 1, H, W)
    opacity = torch.where(solid, 0.8, 0.2)
    blended = opacity * colour + (1 - opacity)
    figures = latent_figures(LatentImages(blended, found.depth, opacity))
    # Solid are four columns, of which two are at the end; a few random numbers are, too.
    at_end = (colour[:, :, 3:] < 0.01) | (colour[:, :, 3:] > 0.99)
    share = at_end[..., ::2].float().mean().item()
    assert 1 / 4 <= share < 0.27
    assert figures == {
        "health/latent_saturated": pytest.approx(share),
        "health/latent_flat": pytest.approx(1 / 2),
    }
    rgb_alone = LatentImages(blended[:, :, :3], found.depth, opacity)
    assert latent_figures(rgb_alone) == {}


SEEDS = torch.arange(40, 46).reshape(2, 3)


def pictures() -> Tensor:
    """Two scenes of smooth, asymmetric pictures."""
    ramp = torch.linspace(-1, 1, 8)
    red = torch.stack([ramp.expand(8, 8), -ramp[:, None].expand(8, 8), torch.zeros(8, 8)])
    return torch.stack([red, red.flip(0).flip(1) * 0.7])[:, None].expand(2, 3, 3, 8, 8).clone()


def test_the_gain_of_a_condition_is_the_share_of_the_error_that_it_saves():
    clean = pictures()
    condition = torch.cat([clean, torch.zeros(2, 3, 1, 8, 8)], dim=2)
    faithful = denoiser_figures(lambda noisy, sigma, given: 0.8 * given[:, :, :3], clean, condition, SEEDS)
    own = (0.2 * clean).square().mean()
    others = (0.8 * clean.flip(0) - clean).square().mean()
    assert without_noise_left(faithful) == {
        "health/denoiser_error": pytest.approx((own / clean.var(correction=0)).item(), rel=1e-4),
        "health/condition_gain": pytest.approx((1 - own / others).item(), rel=1e-4),
    }
    assert warnings(faithful) == ""
    deaf = denoiser_figures(lambda noisy, sigma, given: noisy / 100, clean, condition, SEEDS)
    assert deaf["health/condition_gain"] == 0
    assert "ignores its condition" in warnings(deaf)


def without_noise_left(figures: dict[str, float]) -> dict[str, float]:
    """The figures of the high noise level."""
    return {name: value for name, value in figures.items() if name != "health/noise_left"}


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_the_noise_that_a_denoiser_leaves_is_found_whatever_else_it_gets_wrong(share):
    clean, smooth = pictures(), pictures().flip(-1) / 50

    def leaving(noisy: Tensor, sigma: Tensor, given: Tensor) -> Tensor:
        return given + share * (noisy - given) + smooth

    assert denoiser_figures(leaving, clean, clean, SEEDS)["health/noise_left"] == pytest.approx(
        share, abs=0.02
    )


def test_without_other_scenes_or_before_it_has_learnt_a_denoiser_is_not_judged():
    clean = pictures()
    alone = denoiser_figures(lambda noisy, sigma, given: 0.9 * given, clean[:1], clean[:1], SEEDS[:1])
    assert set(without_noise_left(alone)) == {"health/denoiser_error"}
    clueless = denoiser_figures(lambda noisy, sigma, given: noisy, clean, clean, SEEDS)
    assert clueless == {"health/denoiser_error": 1.0, "health/noise_left": pytest.approx(1)}


@pytest.mark.parametrize("deaf", [False, True])
def test_a_denoiser_that_learns_without_the_weights_of_its_condition_is_noticed(deaf):
    torch.manual_seed(0)
    config = DenoiserConfig(channels=(32,), depths=(1,), self_attention=(False,), mapping_width=16)
    denoiser, clean = EDMDenoiser(config, condition_channels=4), pictures()
    condition = torch.cat([(clean + 1) / 2, torch.zeros(2, 3, 1, 8, 8)], dim=2)
    optimizer = torch.optim.Adam(denoiser.parameters(), lr=1e-2)
    weight = denoiser.inner_model.proj_in.weight
    for step in range(40):
        with torch.no_grad():
            weight[:, 3:] *= not deaf
        noise = torch.randn(clean.shape, generator=torch.Generator().manual_seed(step))
        sigma = torch.full((2, 3), 5.0)
        denoiser.loss(clean, noise, sigma, condition).mean().backward()
        optimizer.step()
        optimizer.zero_grad()
    with torch.no_grad():
        weight[:, 3:] *= not deaf
        figures = denoiser_figures(denoiser.eval(), clean, condition, SEEDS)
    assert figures["health/denoiser_error"] < 0.8
    assert ("ignores its condition" in warnings(figures)) == deaf
    assert deaf or figures["health/condition_gain"] > 0.1
