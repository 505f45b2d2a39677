"""models/checkpoints/published.py: the state of AdamW between numbers and names."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from config.run import OptimConfig, validate_config
from models.checkpoints.format import checkpoint_path, load_checkpoint, write_checkpoint
from models.checkpoints.published import pack, published_names
from models.training.ema import EMA
from models.training.optimizer import make_optimizer
from models.training.run_directory import RunFolder
from tests.published_files import PARTS, STEP, assert_same, complaint, through_disk, tiny_published
from tests.scenes import run_document, scene_batch, tiny_model


@pytest.fixture(scope="module")
def tiny():
    """What a published file of the tiniest model holds, and that model. Tests do not change it."""
    return tiny_published()


@pytest.mark.parametrize(
    ("index", "state", "problem"),
    [
        (9999, {"step": torch.tensor(1.0)}, "unknown parameters"),
        ("1", {}, "unknown parameters"),
        (1, [], "no dict of tensors"),
        (1, {"a b": torch.tensor(1.0)}, "no dict of tensors"),
        (1, {"step": 3}, "of type int"),
        (1, {"exp_avg": torch.zeros(5, 5, 5)}, "unlike its weight"),
        (1, {"exp_avg": torch.tensor(1.0, dtype=torch.float64)}, "float64"),
        (1, {"exp_avg": torch.zeros(1).expand(10**12)}, "fewer numbers"),
    ],
    ids=str,
)
def test_a_state_of_the_optimiser_that_makes_no_sense_is_named(tiny, tmp_path, index, state, problem):
    optim = tiny[0]["optim"]
    message = complaint(tiny[0] | {"optim": optim | {"state": optim["state"] | {index: state}}}, tmp_path)
    assert "'optim.state" in message
    assert problem in message


def test_groups_that_number_in_another_order_are_refused(tiny, tmp_path):
    optim = tiny[0]["optim"]
    first, *others = optim["param_groups"]
    first = first | {"params": first["params"][::-1]}
    message = complaint(tiny[0] | {"optim": optim | {"param_groups": [first, *others]}}, tmp_path)
    assert "'optim.param_groups'" in message


def test_without_an_optimiser_there_is_none_in_the_checkpoint_nor_back_in_the_file(tiny, tmp_path):
    content, model = tiny
    for changed in (content | {"optim": None}, {key: content[key] for key in ("model", "step")}):
        checkpoint = through_disk(changed, tmp_path)
        assert checkpoint.section("optim") == {}
        assert pack(checkpoint, model)["optim"] is None


def test_the_optimiser_goes_on_where_it_was_left(tiny, tmp_path):
    """Two routes to the next weights: the published numbering, and a run resumed from the checkpoint."""
    content, published = tiny
    names = published_names(published)
    trained = dict(published.named_parameters())
    theirs = {
        name: nn.Parameter(trained[name].detach().clone()) for name in names.values() if name in trained
    }
    parts = [
        [value for name, value in theirs.items() if name.startswith(part)]
        for part in ("encoder.", "renderer.", "denoiser.")
    ]
    optimizer = torch.optim.AdamW([{"params": part} for part in parts])
    optimizer.load_state_dict(content["optim"])

    folder = RunFolder(validate_config(run_document("data", tmp_path), "test"))
    checkpoint = through_disk(content, tmp_path)
    path = checkpoint_path(folder.path, checkpoint.step)
    write_checkpoint(replace(checkpoint, path=path))
    torch.manual_seed(8)
    model = tiny_model()
    with torch.no_grad():
        for value in model.parameters():
            value.add_(1)
    own, ema = make_optimizer(model, OptimConfig()), EMA(model, 0.9)
    step, message = folder.start(model, ema, own)
    assert step == STEP
    assert "resuming" in message
    assert_same(ema.shadow, {name: value.detach() for name, value in model.named_parameters()})

    for group, reference in zip(own.param_groups, optimizer.param_groups, strict=True):
        group |= {key: reference[key] for key in ("lr", "betas", "weight_decay", "eps")}
    for name, value in model.named_parameters():
        value.grad = torch.randn_like(value)
        theirs[name].grad = value.grad.clone()
    untouched = next(iter(theirs))  # has no state, in the file as well
    theirs[untouched].grad = dict(model.named_parameters())[untouched].grad = None
    own.step()
    optimizer.step()
    for name, value in model.named_parameters():
        torch.testing.assert_close(value, theirs[name], atol=1e-7, rtol=1e-6)


def test_of_a_run_the_average_is_published_or_the_raw_weights_with_their_optimiser(tmp_path):
    model = tiny_model()
    optimizer, ema = make_optimizer(model, OptimConfig(lr=1e-3, betas=(0.8, 0.95))), EMA(model, 0.9)
    for step in (1, 2):
        sum(model.loss(scene_batch([[True]]), progress=step / 10).values()).backward()
        optimizer.step()
        ema.update(model, step)
    folder = RunFolder(validate_config(run_document("d", tmp_path, optim={"betas": [0.8, 0.95]}), "test"))
    folder.save(model, ema, optimizer, 2)
    checkpoint = load_checkpoint(checkpoint_path(folder.path, 2))
    names, own = published_names(model), model.state_dict()

    averaged, raw = pack(checkpoint, model), pack(checkpoint, model, raw=True)
    assert averaged["optim"] is None
    for key, name in names.items():
        assert torch.equal(raw["model"][key], own[name])
        assert torch.equal(averaged["model"][key], ema.shadow.get(name, own[name]))
    # An AdamW of their making takes the state up: same groups, same order, same shapes.
    theirs = {key: nn.Parameter(raw["model"][key]) for key, name in names.items() if name in ema.shadow}
    parts = [[value for key, value in theirs.items() if key.startswith(part)] for part in PARTS]
    restored = torch.optim.AdamW([{"params": part} for part in parts])
    restored.load_state_dict(raw["optim"])
    assert restored.param_groups[2]["betas"] == (0.8, 0.95)
    ours = dict(model.named_parameters())
    for key, value in theirs.items():
        for entry, moment in optimizer.state[ours[names[key]]].items():
            assert torch.equal(restored.state[value][entry], moment), (key, entry)
