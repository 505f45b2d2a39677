"""Updates of XFactor: batches in parts, and what decays."""

import json
from pathlib import Path

import pytest
import torch

import train
from config.run import OptimConfig
from data.scenes.batch import SceneBatch
from models.checkpoints.format import checkpoints_of, load_checkpoint
from models.training.optimizer import make_optimizer
from models.xfactor.model import XFactor, XFactorConfig
from scripts.common.shapes_set import ShapesOptions
from scripts.common.shapes_videos import make_videos
from tests.scenes import TINY_FAMILIES, scene_batch

CONFIGS = Path(__file__).parents[3] / "config"


def model() -> XFactor:
    torch.manual_seed(0)
    return XFactor(XFactorConfig.model_validate(TINY_FAMILIES["xfactor"]))


def part(batch: SceneBatch, first: int) -> SceneBatch:
    chosen = batch.apply(lambda tensor: tensor[first : first + 2])
    scenes = slice(first, first + 2)
    return SceneBatch(chosen.source, chosen.target, batch.scene_ids[scenes], batch.seeds[scenes])


def test_two_passes_of_half_a_batch_are_one_of_the_whole():
    whole, halved, batch = model(), model(), scene_batch([[True], [True], [True], [True]])
    sum(whole.loss(batch, progress=0.0).values()).backward()
    for first in (0, 2):
        (sum(halved.loss(part(batch, first), progress=0.0).values()) / 2).backward()
    for ours, theirs in zip(whole.parameters(), halved.parameters(), strict=True):
        torch.testing.assert_close(ours.grad, theirs.grad, atol=1e-6, rtol=1e-4)


def test_only_matrices_of_layers_decay():
    made = model()
    optimizer = make_optimizer(made, OptimConfig(weight_decay=0.1, decay="matrices"))
    names = {parameter: name for name, parameter in made.named_parameters()}
    decaying = {names[p] for g in optimizer.param_groups if g["weight_decay"] for p in g["params"]}
    everything = {names[p] for g in optimizer.param_groups for p in g["params"]}
    assert everything == set(names.values())
    assert "pose_encoder.transformer.layers.0.project.weight" in decaying
    left = everything - decaying
    assert {"pose_encoder.pose_tokens", "renderer.norm.weight", "renderer.head.0.bias"} <= left
    assert all(name.endswith(("bias", "gain", "norm.weight", "pose_tokens")) for name in left)


@pytest.mark.parametrize("recipe", ["xfactor_stereo", "xfactor_multiview"])
def test_a_recipe_in_small_batches_makes_the_update_of_one_large_batch(recipe, tmp_path):
    """As the published ones are accumulated, with their masks, changed colours and numbers of frames."""
    options = ShapesOptions(6, 7, 16, 1, 0)  # videos of 7 frames of 16 x 16 pixels
    make_videos(tmp_path / "set", options, kind="shifts", workers=1)
    network = {"width": 16, "heads": 2, "layers": 1, "patch": 4, "pose_size": 6, "pose_tokens": 2}
    loss = {"perceptual": 0, "unmasked_prob": 0.3, "reference_target_prob": 0.3}
    changes = {"data.root": tmp_path / "set", "data.image_size": 16, "data.window": 7, "runs": tmp_path}
    changes |= {"model.network": json.dumps(network), "model.loss": json.dumps(loss), "train.steps": 1}
    changes |= {"train.preflight": "false", "train.device": "cpu"}
    found = []
    for batch, passes in ((6, 1), (3, 2), (1, 6)):
        own = changes | {"name": f"{batch}", "train.batch": batch, "train.accumulate": passes}
        words = [f"{key}={value}" for key, value in own.items()]
        assert train.main([str(CONFIGS / f"{recipe}.json"), *words]) == 0
        tensors = load_checkpoint(checkpoints_of(tmp_path / f"{batch}")[-1]).tensors
        # The mean gradient after clipping. AdamW would blow up rounding errors of almost zero gradients.
        found.append({name: value for name, value in tensors.items() if name.endswith(".exp_avg")})
    assert len(found[0]) > 40
    assert max(value.abs().max() for value in found[0].values()) > 1e-4
    for other in found[1:]:
        assert set(other) == set(found[0])
        for name, value in found[0].items():
            torch.testing.assert_close(other[name], value, atol=1e-6, rtol=0)
