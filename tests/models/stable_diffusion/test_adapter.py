"""A T2I-Adapter in the place of the ControlNet."""

import pytest
import torch

pytest.importorskip("diffusers")

from config.families import family
from models.checkpoints.format import checkpoints_of, load_checkpoint
from models.stable_diffusion.base import load_base
from models.stable_diffusion.control import Adapter, ignore_condition_beyond
from models.stable_diffusion.denoiser import Condition, LatentDenoiser
from tests.models.stable_diffusion.test_programs import document, plant, sampled, trained
from tests.models.stable_diffusion.tiny_base import require_base, write_base
from tests.scenes import TINY_FAMILIES

FAMILIES = ("controlnet", "multiview")


def parts(folder, *, mid_block):
    base = load_base(str(write_base(folder, mid_block=mid_block)))
    torch.manual_seed(1)
    adapter = Adapter(base.unet, channels=5, factor=4)
    return base, adapter, LatentDenoiser(base.unet, adapter, base.table)


def inputs(num=2):
    noisy, time = torch.randn(num, 4, 8, 8), torch.tensor([20, 700])
    return noisy, time, torch.randn(num, 6, 24), torch.rand(num, 5, 32, 32)


@pytest.mark.parametrize("mid_block", [False, True])
@torch.no_grad()
def test_it_is_the_librarys_own_and_views_without_condition_are_the_bases(tmp_path, mid_block, recwarn):
    base, adapter, model = parts(tmp_path, mid_block=mid_block)
    noisy, time, text, features = inputs()
    found = model.predict(noisy, time, Condition(text, features, torch.tensor([0, 1])))
    plain = model.predict(noisy, time, Condition(text))
    torch.testing.assert_close(found[1], plain[1])
    added = [residual[:1] for residual in adapter.adapter(features)]
    ways = {"down_intrablock_additional_residuals": added}
    expected = base.unet(noisy[:1], time[:1], text[:1], **ways).sample
    torch.testing.assert_close(found[:1], expected)
    assert float((found[0] - plain[0]).abs().max()) > 1e-3
    off = model.predict(noisy, time, Condition(text, features, torch.tensor([0, 0])), scale=0.0)
    torch.testing.assert_close(off, plain)
    assert not [warning for warning in recwarn if "deprecat" in str(warning.message).lower()]


@torch.no_grad()
def test_channels_that_are_to_come_have_no_effect(tmp_path):
    _, adapter, _ = parts(tmp_path, mid_block=False)
    features = inputs()[3]
    other = torch.cat([features[:, :3], torch.rand(2, 2, 32, 32)], dim=1)
    seen = torch.tensor([True, True])
    assert not torch.equal(adapter(features, seen)[0], adapter(other, seen)[0])
    ignore_condition_beyond(adapter, 3)
    assert torch.equal(adapter(features, seen)[0], adapter(other, seen)[0])


@pytest.mark.parametrize("name", FAMILIES)
def test_a_run_trains_it_and_draws(tmp_path, plant_object, name):
    plant(tmp_path, plant_object)
    changes = {"control": {"t2i_adapter": True, "checkpointing": True}}
    assert trained(tmp_path, document(tmp_path, name, model=changes)) == 0
    held = load_checkpoint(checkpoints_of(tmp_path / "runs/tiny")[-1]).section("model")
    assert any(key.startswith("control.adapter.adapter.body.") for key in held)
    words = ["--guidance-mode", "class_null", "--cfg", "2"]
    assert sampled(tmp_path, "--trajectory", "circle", "--views", "3", *words) == 0


@pytest.mark.parametrize("setting", [{"widths": [4, 8, 8]}, {"mid_residual": True}, {"photo": True}])
def test_settings_of_a_controlnet_are_refused(setting):
    model = require_base(TINY_FAMILIES["controlnet"]) | {"control": {"t2i_adapter": True} | setting}
    with pytest.raises(ValueError, match="a t2i_adapter has no widths"):
        family("controlnet").Config.model_validate(model)
