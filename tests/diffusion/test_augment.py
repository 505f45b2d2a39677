"""diffusion/augment.py: the same warp for target and condition, and the numbers that describe it."""

import pytest
import torch
import torch.nn.functional as F
from pydantic import ValidationError

from diffusion.augment import AugmentConfig, augment_pair, conditioning, draw_parameters, matrices, warp


def parameters(**values):
    """Parameters of one view, zero where not given: parameters(a2=1.0)."""
    return torch.tensor([[values.get(f"a{index}", 0.0) for index in range(8)]])


def some_parameters(num=4):
    return draw_parameters(1.0, torch.arange(num))


def test_zero_parameters_give_the_images_back_to_the_last_bit():
    images, nothing = torch.rand(2, 3, 5, 7), torch.zeros(2, 8)
    assert torch.equal(warp(images, matrices(nothing, 5, 7)), images)
    assert torch.equal(conditioning(nothing), torch.zeros(2, 9))


def test_with_probability_zero_nothing_happens():
    drawn = draw_parameters(0.0, torch.arange(200))
    assert torch.equal(drawn, torch.zeros(200, 8))


def test_each_change_is_tried_with_its_own_probability():
    drawn = draw_parameters(0.3, torch.arange(4000))
    happened = (drawn != 0).float()
    rates = torch.tensor([0.15, 0.15, 0.3, 0.3, 0.3, 0.3, 0.3, 0.3])
    torch.testing.assert_close(happened.mean(dim=0), rates, atol=0.03, rtol=0)
    # The direction and strength of the stretch come together, and so do both shifts; the rest is independent.
    assert torch.equal(happened[:, 4], happened[:, 5])
    assert torch.equal(happened[:, 6], happened[:, 7])
    correlation = torch.corrcoef(happened[:, [0, 1, 2, 3, 4, 6]].T) - torch.eye(6)
    assert correlation.abs().max() < 0.08


def test_parameters_have_the_distributions_of_edm():
    drawn = draw_parameters(1.0, torch.arange(4000))
    assert set(drawn[:, :2].unique().tolist()) == {0.0, 1.0}
    expected = torch.tensor([0.5, 0.5, 1.0, 3**-0.5 * torch.pi, 3**-0.5 * torch.pi, 1.0, 1.0, 1.0])
    torch.testing.assert_close(drawn.std(dim=0), expected, atol=0.06, rtol=0)
    assert drawn[:, 3:5].abs().max() <= torch.pi
    assert drawn[:, 2:].mean(dim=0).abs().max() < 0.15


def test_parameters_of_a_view_do_not_depend_on_its_batch():
    seeds = torch.tensor([4, 2**41, 17])
    together = draw_parameters(0.5, seeds)
    for index in range(3):
        assert torch.equal(draw_parameters(0.5, seeds[index : index + 1])[0], together[index])


def test_mirrors_are_flips():
    images = torch.rand(1, 3, 5, 8)
    left_right = warp(images, matrices(parameters(a0=1.0), 5, 8))
    up_down = warp(images, matrices(parameters(a1=1.0), 5, 8))
    torch.testing.assert_close(left_right, images.flip(-1))
    torch.testing.assert_close(up_down, images.flip(-2))


def test_a_shift_moves_pixels_by_eighths_of_the_image_and_reflects_at_the_edge():
    images = torch.rand(1, 2, 8, 16)
    moved = warp(images, matrices(parameters(a6=1.0, a7=-2.0), 8, 16))  # 2 pixels right, 2 pixels up
    torch.testing.assert_close(moved[..., :6, 2:], images[..., 2:, :14])
    torch.testing.assert_close(
        moved[..., :6, 1], images[..., 2:, 1]
    )  # its source, -1, is the mirror image of 1


def test_a_quarter_turn_is_a_quarter_turn():
    images = torch.rand(1, 2, 6, 6)
    turned = warp(images, matrices(parameters(a3=torch.pi / 2), 6, 6))
    torch.testing.assert_close(turned, images.rot90(1, (-2, -1)), atol=1e-5, rtol=0)


def test_five_units_of_scale_double_the_picture_about_its_middle():
    images = torch.rand(1, 1, 9, 9)
    doubled = warp(images, matrices(parameters(a2=5.0), 9, 9))
    torch.testing.assert_close(doubled[..., ::2, ::2], images[..., 2:7, 2:7], atol=1e-5, rtol=0)


def test_a_stretch_keeps_the_area():
    matrix = matrices(parameters(a4=0.4, a5=1.7), 5, 7)
    assert torch.linalg.det(matrix[0]) == pytest.approx(1)
    stretched = torch.linalg.svdvals(matrix[0, :2, :2])
    assert stretched[0] == pytest.approx(2 ** (0.2 * 1.7))


def test_target_and_condition_of_different_resolution_are_moved_alike():
    # A plane is reproduced exactly by bilinear sampling, so that any disagreement comes from the maps.
    plane = 0.2 * torch.arange(24)[:, None] - 0.1 * torch.arange(40) + 3.0
    target = plane.expand(4, 1, 24, 40)
    condition = F.avg_pool2d(target, 4)
    values = some_parameters() * 0.2  # gentle, so that part of the picture comes from inside it
    inside = warp(
        torch.ones_like(target), matrices(values, 24, 40)
    )  # all ones: reflection is everywhere defined
    warped_target, warped_condition = augment_pair(target, condition, values)
    pooled = F.avg_pool2d(warped_target, 4)
    centre = (..., slice(2, 4), slice(4, 6))
    torch.testing.assert_close(pooled[centre], warped_condition[centre], atol=1e-4, rtol=0)
    assert (pooled - condition)[centre].abs().amin(dim=(1, 2, 3)).max() > 0.1
    torch.testing.assert_close(inside, torch.ones_like(target))


def test_pixels_of_both_resolutions_go_to_the_same_place():
    values = some_parameters()
    fine, coarse = matrices(values, 12, 20), matrices(values, 3, 5)
    # (x + 1/2) / width is the place in the picture that pixel x has at any resolution.
    to_fine = torch.tensor([[4.0, 0.0, 1.5], [0.0, 4.0, 1.5], [0.0, 0.0, 1.0]], dtype=torch.float64)
    torch.testing.assert_close(fine @ to_fine, to_fine @ coarse)


def test_pictures_of_another_shape_are_refused():
    with pytest.raises(AssertionError, match="same picture"):
        augment_pair(torch.rand(1, 3, 8, 8), torch.rand(1, 2, 4, 8), torch.zeros(1, 8))


def test_gradients_pass_through_the_warp():
    images = torch.rand(2, 1, 4, 5, dtype=torch.float64, requires_grad=True)
    matrix = matrices(torch.cat([some_parameters(1), torch.zeros(1, 8)]), 4, 5)
    assert torch.autograd.gradcheck(lambda pixels: warp(pixels, matrix), images)


def test_autocast_does_not_blur_positions():
    images, values = torch.rand(4, 2, 31, 33), some_parameters()
    exact = warp(images, matrices(values, 31, 33))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        torch.testing.assert_close(warp(images, matrices(values, 31, 33)), exact)


@pytest.mark.parametrize("changes", [{"prob": 1.5}, {"prob": -0.1}, {"probability": 0.1}])
def test_wrong_settings_are_named(changes):
    with pytest.raises(ValidationError, match=next(iter(changes))):
        AugmentConfig(**changes)
