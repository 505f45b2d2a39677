"""Updates of XFactor: batches in parts, and what decays."""

import torch

from config.run import OptimConfig
from data.scenes.batch import SceneBatch
from models.training.optimizer import make_optimizer
from models.xfactor.model import XFactor, XFactorConfig
from tests.scenes import TINY_FAMILIES, scene_batch


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
