"""What must hold of XFactor with any weights: who may see whom."""

import pytest
import torch

from models.xfactor.config import NetworkConfig
from models.xfactor.masks import PATTERNS, Halves, patchify, quadrant_halves, unpatchify
from models.xfactor.model import XFactor, XFactorConfig
from models.xfactor.objective import draw_choices

NETWORK = NetworkConfig(width=24, heads=3, layers=2, patch=4, pose_size=5, pose_tokens=3)
CLOSE = {"atol": 2e-6, "rtol": 0}


@pytest.fixture(scope="module")
def model() -> XFactor:
    torch.manual_seed(0)
    made = XFactor(XFactorConfig(network=NETWORK, loss={"perceptual": 0})).eval().requires_grad_(False)
    for name, parameter in made.named_parameters():
        if name.endswith("_scale.gain"):
            parameter.fill_(0.7)  # so that layers matter
    return made


def frames(*batch: int, seed: int = 1) -> torch.Tensor:
    return 2 * torch.rand(*batch, 3, 16, 24, generator=torch.Generator().manual_seed(seed)) - 1


def halves(*patterns: int) -> Halves:
    return quadrant_halves(torch.tensor(patterns), 4, 6)


def pixels(ids: torch.Tensor) -> torch.Tensor:
    """1 where a pixel is in half 1, [b 1 1 h w]."""
    grid = ids.unflatten(1, (4, 6)).repeat_interleave(4, dim=1).repeat_interleave(4, dim=2)
    return grid[:, None, None].float()


def test_patches_go_there_and_back():
    images = frames(2, 1)
    torch.testing.assert_close(unpatchify(patchify(images, 4)[:, 0], 4, 6), images[:, 0])


def test_halves_are_two_quadrants_and_divide_and_unite_undo_each_other():
    found = halves(*range(6))
    assert found.ids.sum(dim=1).tolist() == [12] * 6
    assert found.ids.unflatten(1, (4, 6))[:, ::2, ::3].flatten(1).tolist() == [list(row) for row in PATTERNS]
    tokens = torch.rand(6, 3, 24, 2)
    assert torch.equal(found.unite(found.divide(tokens)), tokens)
    with pytest.raises(ValueError, match="3 x 4 patches has no equal quadrants"):
        quadrant_halves(torch.tensor([0]), 3, 4)


@pytest.mark.parametrize("masked", [False, True])
def test_the_pose_of_the_reference_and_of_an_equal_frame_is_zero(model, masked):
    images = frames(2, 1).expand(-1, 3, -1, -1, -1)
    found = model.pose_encoder(images, halves(1, 2) if masked else None)
    assert found.shape == (2, 3, 2 if masked else 1, 5)
    assert not found[:, 0].any()
    torch.testing.assert_close(found, torch.zeros_like(found), **CLOSE)


def test_a_pose_sees_its_own_half_alone(model):
    images, divided = frames(2, 2), halves(0, 4)
    inside = pixels(divided.ids)
    changed = images * (1 - inside) + frames(2, 2, seed=9) * inside
    before, after = (model.pose_encoder(part, divided) for part in (images, changed))
    assert torch.equal(before[:, :, 0], after[:, :, 0])
    assert (before[:, 1, 1] - after[:, 1, 1]).abs().max() > 1e-3


def test_a_half_is_drawn_from_its_own_half_and_its_own_pose_alone(model):
    images, divided, poses = frames(2, 3), halves(0, 4), torch.randn(2, 4, 2, 5)
    inside = pixels(divided.ids)
    changed, moved = images * (1 - inside) + frames(2, 3, seed=9) * inside, poses.clone()
    moved[:, :, 1] += 1
    before = model.renderer(images, poses[:, :-1], poses[:, -1], divided)
    for given, latent in ((changed, poses), (images, moved)):
        after = model.renderer(given, latent[:, :-1], latent[:, -1], divided)
        differs = (before - after).abs().amax(dim=1, keepdim=True)[:, None]
        assert differs[(inside == 0).expand_as(differs)].max() == 0
        assert differs[(inside == 1).expand_as(differs)].max() > 1e-3


def test_what_a_half_shows_the_pose_encoder_does_not_reach_that_half_of_the_swapped_render(model):
    images, divided = frames(2, 2), halves(3, 5)
    inside = pixels(divided.ids)
    changed = images * (1 - inside) + frames(2, 2, seed=9) * inside
    drawn = []
    for seen in (images, changed):
        poses = model.pose_encoder(seen, divided).flip(2)
        drawn.append(model.renderer(images[:, :1], poses[:, :1], poses[:, 1], divided))
    differs = (drawn[0] - drawn[1]).abs().amax(dim=1, keepdim=True)[:, None]
    assert differs[(inside == 1).expand_as(differs)].max() == 0
    assert differs[(inside == 0).expand_as(differs)].max() > 1e-5


def test_given_frames_have_no_order_beside_their_poses(model):
    images, poses = frames(2, 3), torch.randn(2, 4, 1, 5)
    order = [2, 0, 1]
    drawn = model.renderer(images, poses[:, :3], poses[:, 3])
    together = model.renderer(images[:, order], poses[:, order], poses[:, 3])
    torch.testing.assert_close(together, drawn, **CLOSE)
    alone = model.renderer(images[:, order], poses[:, :3], poses[:, 3])
    assert (alone - drawn).abs().max() > 1e-3


def test_frames_after_the_reference_have_no_order(model):
    images, order = frames(2, 4), [0, 3, 1, 2]
    found = model.pose_encoder(images)
    torch.testing.assert_close(model.pose_encoder(images[:, order]), found[:, order], **CLOSE)


def test_halves_as_sequences_compute_what_one_mask_over_all_patches_does(model):
    """The half-0 poses of a picture whose other half is cut away by hand: patches chosen, one sequence."""
    images, divided = frames(1, 2), halves(0)
    network = model.pose_encoder
    found = network(images, divided)[0, 1]
    for half in (0, 1):
        other = network(images, divided.inverse)[0, 1, 1 - half]
        torch.testing.assert_close(found[half], other, **CLOSE)


def test_masks_and_replaced_targets_have_their_shares():
    config = XFactorConfig().loss
    draws = draw_choices(torch.arange(4000), [[0, 1]] * 4000, config)
    assert abs(len(draws.whole) / 4000 - 0.05) < 0.015
    assert abs(sum(place >= 0 for place in draws.targets) / 4000 - 0.05) < 0.015
    shares = torch.bincount(draws.patterns, minlength=6) / 4000
    assert ((shares - 1 / 6).abs() < 0.03).all()


def test_activation_checkpoints_change_no_gradient(model):
    gradients = []
    for checkpoint in (False, True):
        network = NETWORK.model_copy(update={"checkpoint": checkpoint})
        other = XFactor(XFactorConfig(network=network, loss={"perceptual": 0}))
        other.load_state_dict(model.state_dict())
        poses = other.pose_encoder(frames(2, 2))
        other.renderer(frames(2, 1), poses[:, :1], poses[:, 1]).square().mean().backward()
        gradients.append([p.grad for p in other.parameters()])
    for first, second in zip(*gradients, strict=True):
        torch.testing.assert_close(first, second)
