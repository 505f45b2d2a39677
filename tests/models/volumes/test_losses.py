"""models/volumes/losses.py: each term against a loop, and what must not change it."""

from dataclasses import replace

import pytest
import torch

from data.scenes.batch import Geometry
from models.volumes import losses
from nerf.renderer import LatentImages
from tests.scenes import cameras

B, S, T, F, H, W = 2, 3, 2, 5, 3, 4


def draw(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


def rendering() -> LatentImages:
    opacity = draw(B, T, 1, H, W, seed=1)
    return LatentImages(draw(B, T, F, H, W), opacity * (0.5 + draw(B, T, 1, H, W, seed=2)), opacity)


def test_rgb_compares_every_view_with_its_own_picture():
    latent, images = draw(B, T, F, H, W), 2 * draw(B, T, 3, H, W, seed=3) - 1
    each = [
        (latent[b, t, c] - (images[b, t, c] + 1) / 2).square().mean()
        for b in range(B)
        for t in range(T)
        for c in range(3)
    ]
    torch.testing.assert_close(losses.rgb(latent, images), torch.stack(each).mean())


def test_rgb_is_zero_for_the_right_pictures_and_not_for_those_of_another_scene():
    latent = draw(B, T, F, H, W)
    right = 2 * latent[:, :, :3] - 1
    assert losses.rgb(latent, right) < 1e-12
    assert losses.rgb(latent, right.flip(0)) > 0.05
    assert losses.rgb(latent, right.flip(1)) > 0.05


def test_rgb_does_not_see_the_other_channels():
    latent, images = draw(B, T, F, H, W), 2 * draw(B, T, 3, H, W, seed=3) - 1
    other = torch.cat([latent[:, :, :3], 100 * latent[:, :, 3:]], dim=2)
    assert losses.rgb(other, images) == losses.rgb(latent, images)


def test_the_depth_prior_weighs_squared_distance_from_the_middle_by_opacity():
    shown, seen_by = rendering(), cameras(B, T)
    total = 0.0
    for b in range(B):
        for t in range(T):
            middle = (seen_by.near[b, t] + seen_by.far[b, t]).item() / 2
            for depth, opacity in zip(
                shown.depth[b, t].flatten().tolist(), shown.opacity[b, t].flatten().tolist(), strict=True
            ):
                total += opacity * (depth / (opacity + 1e-6) - middle) ** 2
    found = losses.depth_prior(shown, seen_by).item()
    assert found == pytest.approx(total / (B * T * H * W), rel=1e-4)


def test_surfaces_in_the_middle_of_the_working_volume_cost_nothing():
    shown, seen_by = rendering(), cameras(B, T)
    middle = ((seen_by.near + seen_by.far) / 2)[:, :, None, None, None]
    assert losses.depth_prior(replace(shown, depth=shown.opacity * middle), seen_by) < 1e-6
    empty = LatentImages(shown.latent, *torch.zeros(2, B, T, 1, H, W).unbind())
    assert losses.depth_prior(empty, seen_by) == 0


def test_opacity_is_its_mean():
    shown = rendering()
    assert losses.opacity(shown).item() == pytest.approx(
        sum(shown.opacity.flatten().tolist()) / (B * T * H * W)
    )


def consistency_inputs() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    opacity = 0.1 + 0.9 * draw(B, S, T, 1, H, W)
    return opacity * (1 + draw(B, S, T, 1, H, W, seed=5)), opacity, torch.ones(B, S, dtype=torch.bool)


def test_consistency_is_the_variance_over_the_valid_sources():
    depth, opacity, valid = consistency_inputs()
    valid[1, 2] = False
    found = losses.consistency(depth, opacity, valid)
    in_depth, in_opacity = [], []
    for b, count in ((0, 3), (1, 2)):
        surfaces = depth[b, :count] / (opacity[b, :count] + 1e-6)
        in_depth.append(opacity[b, :count].amin(0) * surfaces.var(dim=0, correction=0))
        in_opacity.append(opacity[b, :count].var(dim=0, correction=0))
    torch.testing.assert_close(found["depth_consistency"], torch.stack(in_depth).mean())
    torch.testing.assert_close(found["opacity_consistency"], torch.stack(in_opacity).mean())


def test_sources_that_agree_cost_nothing():
    depth, opacity, valid = consistency_inputs()
    same = [tensor[:, :1].expand(-1, S, -1, -1, -1, -1) for tensor in (depth, opacity)]
    assert all(value < 1e-12 for value in losses.consistency(*same, valid).values())
    assert all(value > 1e-3 for value in losses.consistency(depth, opacity, valid).values())


@pytest.mark.parametrize("count", [0, 1])
def test_one_source_or_none_has_nobody_to_disagree_with(count):
    depth, opacity, _ = consistency_inputs()
    valid = (torch.arange(S) < count).expand(B, S)
    assert all(value == 0 for value in losses.consistency(depth, opacity, valid).values())


def test_padding_sources_change_nothing():
    depth, opacity, valid = consistency_inputs()
    valid[:, 1] = False
    expected = losses.consistency(depth, opacity, valid)
    wild = losses.consistency(
        depth.index_fill(1, torch.tensor(1), 9.0), opacity.index_fill(1, torch.tensor(1), 0.2), valid
    )
    assert expected == wild


def geometry() -> Geometry:
    """Twice as fine as `rendering`; a third of the coarse pixels are covered in part."""
    alpha = torch.ones(B, T, 2 * H, 2 * W)
    alpha[..., :2, 1::3] = draw(B, T, 2, len(range(1, 2 * W, 3)), seed=4)
    depth = 0.8 + draw(B, T, 2 * H, 2 * W, seed=5)
    depth[0, 0, 3, 4] = 0  # a hole through which a ray found its way
    return Geometry(depth, alpha)


def test_supervised_depth_weighs_squared_distance_from_the_truth_by_opacity_where_a_pixel_is_covered_whole():
    shown, truth, total, count = rendering(), geometry(), 0.0, 0
    for b in range(B):
        for t in range(T):
            for y in range(H):
                for x in range(W):
                    block = (b, t, slice(2 * y, 2 * y + 2), slice(2 * x, 2 * x + 2))
                    if truth.alpha[block].min() < 1 or truth.depth[block].min() == 0:
                        continue
                    count += 1
                    opacity = shown.opacity[b, t, 0, y, x].item()
                    surface = shown.depth[b, t, 0, y, x].item() / (opacity + 1e-6)
                    total += opacity * (surface - truth.depth[block].mean().item()) ** 2
    assert 0 < count < B * T * H * W
    found = losses.depth_supervised(shown, truth).item()
    assert found == pytest.approx(total / (B * T * H * W), rel=1e-4)


def test_supervised_depth_is_zero_for_the_right_depth_and_not_for_that_of_another_view():
    shown = rendering()
    surface = (shown.depth / (shown.opacity + losses.EPSILON))[:, :, 0]
    right = Geometry(surface, torch.ones_like(surface))
    assert losses.depth_supervised(shown, right) < 1e-12
    assert losses.depth_supervised(shown, right.apply(lambda tensor: tensor.flip(1))) > 0.01


def test_supervised_depth_does_not_fade_surfaces_that_are_in_the_wrong_place():
    shown = rendering()
    opacity = shown.opacity.requires_grad_()
    # Surfaces a unit behind the true ones, whatever their opacity.
    wrong = LatentImages(shown.latent, opacity * 2.0, opacity)
    truth = Geometry(torch.ones(B, T, H, W), torch.ones(B, T, H, W))
    (change,) = torch.autograd.grad(losses.depth_supervised(wrong, truth), opacity)
    assert change.abs().max() < 1e-5


def test_supervised_opacity_compares_with_the_covered_share_of_each_pixel():
    shown, truth = rendering(), geometry()
    share = truth.alpha.unflatten(-1, (W, 2)).unflatten(-3, (H, 2)).mean(dim=(-3, -1))
    expected = (shown.opacity[:, :, 0] - share).square().mean()
    torch.testing.assert_close(losses.opacity_supervised(shown, truth), expected)
