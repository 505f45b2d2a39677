"""XFactor beside figures of the published modules, and with what must hold of any weights."""

import math

import pytest
import torch

from config.run import load_config
from models.checkpoints.xfactor import from_flax, to_flax
from models.training.optimizer import learning_rate_factor
from models.xfactor.layers import rotation
from models.xfactor.masks import Halves, grid_places
from models.xfactor.model import XFactor, XFactorConfig
from tests.reference.xfactor_figures import arrays, flax_tree, rows, tiny_model

CLOSE = {"atol": 1e-5, "rtol": 0}


@pytest.fixture(scope="module")
def model() -> XFactor:
    return tiny_model()


@pytest.fixture(scope="module")
def figures() -> dict[str, torch.Tensor]:
    return arrays()


def halves(figures: dict[str, torch.Tensor]) -> Halves:
    """Of the two scenes that have any; the third has no mask."""
    return Halves(figures["in_mask"][:2].long())


def poses(model: XFactor, frames: torch.Tensor, figures: dict[str, torch.Tensor]) -> torch.Tensor:
    """[b v 2 p], where there is no mask twice the same."""
    divided = model.pose_encoder(frames[:2], halves(figures))
    whole = model.pose_encoder(frames[2:])
    return torch.cat([divided, whole.expand(-1, -1, 2, -1)])


def swapped_render(model: XFactor, figures: dict[str, torch.Tensor]) -> torch.Tensor:
    frames = figures["in_x2"]
    latent = poses(model, frames, figures).flip(2)
    divided = model.renderer(frames[:2, :1], latent[:2, :1], latent[:2, 1], halves(figures))
    return torch.cat([divided, model.renderer(frames[2:, :1], latent[2:, :1, :1], latent[2:, 1, :1])])


def test_the_weights_are_those_of_the_figures():
    tree = flax_tree()
    for row in rows():
        value = tree[row["name"]]
        assert value.flatten()[0].item() == pytest.approx(float(row["first_value"]), rel=1e-6)
        assert value.norm().item() == pytest.approx(float(row["l2"]), rel=1e-5)
    assert sum(value.numel() for value in tree.values()) == 470_552


def test_the_published_tree_goes_there_and_back():
    tree = flax_tree()
    back = to_flax(from_flax(tree))
    assert back.keys() == tree.keys()
    assert all(torch.equal(back[name], tree[name]) for name in tree)
    with pytest.raises(ValueError, match="PoseEnc/Dense_9/kernel is not a parameter"):
        from_flax({"PoseEnc/Dense_9/kernel": torch.zeros(2, 2)})


def test_the_published_size_has_the_published_parameters():
    with torch.device("meta"):
        model = XFactor(XFactorConfig(), init_weights=False)
    counts = {name: sum(p.numel() for p in part.parameters()) for name, part in model.parts().items()}
    assert counts == {"pose_encoder": 148_013_312, "renderer": 157_165_312}


@torch.no_grad()
def test_poses_are_the_published_ones(model, figures):
    found, expected = poses(model, figures["in_x2"], figures), figures["sm_pose_masked"]
    torch.testing.assert_close(found[:2], expected[:2], **CLOSE)
    torch.testing.assert_close(found[2, :, 0], expected[2, :, 0], **CLOSE)  # nothing reads the empty half
    torch.testing.assert_close(found.flip(2), figures["sm_pose_swapped"], **CLOSE)
    whole = model.pose_encoder(figures["in_x2"])[:, :, 0]
    torch.testing.assert_close(whole, figures["sm_pose_full"], **CLOSE)


@torch.no_grad()
def test_pairwise_poses_of_several_frames_are_the_published_ones(model, figures):
    frames, expected = figures["in_xmv"], figures["mv_pose_masked"]
    found = torch.stack([poses(model, frames[:, [0, k]], figures)[:, 1] for k in range(1, 5)], dim=1)
    torch.testing.assert_close(found[:2], expected[:2, 1:], **CLOSE)
    torch.testing.assert_close(found[2, :, 0], expected[2, 1:, 0], **CLOSE)


@torch.no_grad()
def test_renders_are_the_published_ones(model, figures):
    torch.testing.assert_close(swapped_render(model, figures), figures["sm_render"], **CLOSE)
    frames = figures["in_x2"]
    whole = model.pose_encoder(frames)
    drawn = model.renderer(frames[:, :1], whole[:, :1], whole[:, 1])
    torch.testing.assert_close(drawn, figures["sm_render_full"], **CLOSE)


def test_the_gradients_are_the_published_ones(model, figures):
    model.zero_grad()
    loss = (swapped_render(model, figures) - figures["in_x2"][:, 1]).abs().mean()
    torch.testing.assert_close(loss.detach(), figures["sm_l1"].reshape(()), **CLOSE)
    loss.backward()
    gradients = to_flax({name: p.grad for name, p in model.named_parameters()})
    for row in rows():
        expected, found = float(row["grad_l2_of_sm_l1_loss"]), gradients[row["name"]].norm().item()
        assert math.isclose(found, expected, rel_tol=1e-3, abs_tol=1e-7), row["name"]
    tokens = gradients["PoseEnc/global_embed"]
    torch.testing.assert_close(tokens, figures["grad_PoseEnc_global_embed"], atol=1e-6, rtol=1e-4)
    model.zero_grad()


def test_rotary_positions_are_the_published_ones(figures):
    found = rotation(grid_places(4, 4, torch.device("cpu"))[None], 16)
    torch.testing.assert_close(torch.stack([found.cos, found.sin], -1)[0], figures["rope_16_4x4"], **CLOSE)


@pytest.mark.parametrize("name", ["xfactor_stereo", "xfactor_multiview"])
def test_published_recipes_hold_and_the_learning_rate_is_the_published_one(name, figures):
    config = load_config(f"config/{name}.json")
    assert config.train.batch * config.train.accumulate == 256
    assert sum(config.data.sources) // 2 + config.data.targets == (2 if name == "xfactor_stereo" else 6)
    if name == "xfactor_stereo":
        steps = config.train.steps
        for step, expected in zip(figures["lr_step"].tolist(), figures["lr"].tolist(), strict=True):
            found = config.optim.lr * learning_rate_factor(config.optim, step, min(1.0, step / steps))
            assert math.isclose(found, expected, rel_tol=1e-3, abs_tol=1.1e-7), step
