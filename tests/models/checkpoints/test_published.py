"""models/checkpoints/published.py and torch_file.py: names, both directions, hostile files."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from config.run import load_config
from models.checkpoints.building import empty_model
from models.checkpoints.format import Checkpoint, load_checkpoint, write_checkpoint
from models.checkpoints.loading import open_checkpoint
from models.checkpoints.opened_file import CheckpointFile
from models.checkpoints.published import PUBLISHED_CONFIG, pack, published_names, unpack
from models.checkpoints.torch_file import read_torch_file
from tests.published_files import (
    CUBE,
    DOUBLE,
    EPOCH,
    KEPT,
    KEYS,
    STEP,
    assert_same,
    complaint,
    full_published,
    through_disk,
    tiny_config,
    tiny_published,
)
from tests.scenes import tiny_model

EXAMPLE = "nerf.sigma_color_net.net.0.dense.weight"
IN_DENOISER = "proj_in.weight"


@pytest.fixture(scope="module")
def tiny():
    """What a published file of the tiniest model holds, and that model. Tests do not change it."""
    return tiny_published()


def test_the_full_size_model_has_the_published_keys_shapes_and_order_of_parameters():
    model = empty_model(load_config(PUBLISHED_CONFIG).model, PUBLISHED_CONFIG)
    names, own = published_names(model), model.state_dict()
    distinct = [(key, shape) for key, shape, _ in KEYS if not key.startswith("nerf.aabb_")]
    assert [(key, list(own[name].shape)) for key, name in names.items()] == distinct
    trained = {name for name, _ in model.named_parameters()}
    numbered = [key for key, name in names.items() if name in trained]
    assert numbered == [key for key, _, kind in KEYS if kind == "parameter"]
    assert sum(own[names[key]].numel() for key in numbered) == 189_047_173
    assert len(set(names.values())) == len(own) == 556


def test_a_file_of_the_full_size_comes_back_bit_for_bit(tmp_path):
    content, config = full_published(), load_config(PUBLISHED_CONFIG)
    assert len(content["model"]) == 904
    model = empty_model(config.model, PUBLISHED_CONFIG)
    file = CheckpointFile(tmp_path, "file of torch.save", {}, content)
    checkpoint = unpack(file, model, config.model_dump(mode="json"))
    model.load_state_dict(checkpoint.section("model"), assign=True)
    assert all(value.device.type == "cpu" for value in model.state_dict().values())
    tensors = {f"model.{name}": value for name, value in model.state_dict().items()}
    tensors |= {f"optim.{name}": value for name, value in checkpoint.section("optim").items()}
    again = Checkpoint(tmp_path, checkpoint.step, checkpoint.config, tensors, checkpoint.origin)
    back = pack(again, model)
    assert list(back) == list(content)
    assert list(back["model"]) == list(content["model"])
    assert_same(back["model"], content["model"])
    assert back["optim"]["param_groups"] == content["optim"]["param_groups"]
    assert list(back["optim"]["state"]) == list(content["optim"]["state"])
    for i, moments in content["optim"]["state"].items():
        assert_same(back["optim"]["state"][i], moments)
    assert (back["step"], back["epoch"]) == (STEP, EPOCH)


@pytest.mark.parametrize("zipped", [True, False])
def test_a_file_is_our_checkpoint_and_back_from_disk_the_same_file(tiny, tmp_path, zipped):
    content, model = tiny
    checkpoint = through_disk(content, tmp_path, _use_new_zipfile_serialization=zipped)
    assert_same(checkpoint.section("model"), model.state_dict())
    ours = tmp_path / "ours.safetensors"
    write_checkpoint(replace(checkpoint, path=ours))
    back = tmp_path / "back.pt"
    torch.save(pack(load_checkpoint(ours), model), back)
    found = read_torch_file(back)
    assert_same(found["model"], content["model"])
    assert list(found["model"]) == list(content["model"])
    assert (found["step"], found["epoch"]) == (STEP, EPOCH)
    assert found["optim"]["param_groups"] == content["optim"]["param_groups"]
    assert found["optim"]["state"].keys() == content["optim"]["state"].keys()
    for i, moments in content["optim"]["state"].items():
        assert_same(found["optim"]["state"][i], moments)
    # The denoiser is in the file once.
    size = sum(value.nbytes for key, value in content["model"].items() if not key.startswith(DOUBLE))
    moments = sum(value.nbytes for state in content["optim"]["state"].values() for value in state.values())
    assert back.stat().st_size < 1.05 * (size + moments) + 500_000


def _prefixed(*prefixes: str):
    return lambda state: {f"{''.join(prefixes)}{key}": value for key, value in state.items()}


def _strided_otherwise(value: Tensor) -> Tensor:
    return value.mT.contiguous().mT if value.dim() > 1 else value


def _without(prefix: str):
    return lambda state: {key: value for key, value in state.items() if not key.startswith(prefix)}


@pytest.mark.parametrize(
    "change",
    [
        _prefixed("module."),
        _prefixed("_orig_mod."),
        _prefixed("module.", "_orig_mod."),
        _without(DOUBLE),
        _without(KEPT),
        lambda state: dict(reversed(state.items())),
        lambda state: {key: value.clone() for key, value in state.items()},  # doubles not in the same memory
        lambda state: {key: nn.Parameter(value) for key, value in state.items()},
        lambda state: {key: _strided_otherwise(value) for key, value in state.items()},
    ],
)
@pytest.mark.parametrize("bare", [False, True])
def test_spellings_of_the_same_weights_are_the_same(tiny, tmp_path, change, bare):
    content, model = tiny
    state = change(content["model"])
    checkpoint = through_disk(state if bare else content | {"model": state}, tmp_path)
    assert_same(checkpoint.section("model"), model.state_dict())
    assert all(value.is_contiguous() for value in checkpoint.tensors.values())
    assert checkpoint.step == (0 if bare else STEP)
    assert bool(checkpoint.section("optim")) is not bare
    write_checkpoint(replace(checkpoint, path=tmp_path / "ours.safetensors"))


def test_weights_that_are_parts_of_one_piece_of_memory_are_taken_apart(tiny, tmp_path):
    content, model = tiny
    state = dict(content["model"])
    piece = torch.cat([state[EXAMPLE].flatten(), torch.ones(1000)])
    state[EXAMPLE] = piece[: state[EXAMPLE].numel()].view_as(state[EXAMPLE])
    checkpoint = through_disk({"model": state}, tmp_path)
    assert_same(checkpoint.section("model"), model.state_dict())
    assert all(value.untyped_storage().nbytes() == value.nbytes for value in checkpoint.tensors.values())


def test_doubles_that_differ_in_one_bit_are_named(tiny, tmp_path):
    state = dict(tiny[0]["model"])
    for name in (IN_DENOISER, "proj_out.bias"):
        double = state[DOUBLE + name].clone()
        double.view(torch.int32).flatten()[0] ^= 1
        state[DOUBLE + name] = double
    message = complaint({"model": state}, tmp_path)
    assert KEPT + IN_DENOISER in message  # the first of the two
    assert "double" in message


def test_zeros_of_either_sign_differ_and_what_is_no_number_equals_itself(tiny, tmp_path):
    name = "proj_out.bias"
    for value, same in ((0.0, False), (float("nan"), True)):
        state = dict(tiny[0]["model"])
        shape = state[KEPT + name].shape
        state[KEPT + name] = torch.full(shape, value)
        state[DOUBLE + name] = torch.full(shape, -0.0 if value == 0 else value)
        if same:
            found = through_disk({"model": state}, tmp_path).section("model")
            assert found[f"denoiser.inner_model.{name}"].isnan().all()
        else:
            assert name in complaint({"model": state}, tmp_path)


WEIGHT = torch.zeros(7, 2)  # of the shape that EXAMPLE has


@pytest.mark.parametrize(
    ("key", "value", "problem"),
    [
        (EXAMPLE, WEIGHT.double(), "float64"),
        (EXAMPLE, WEIGHT.half(), "float16"),
        (EXAMPLE, WEIGHT.int(), "int32"),
        (EXAMPLE, WEIGHT.mT.contiguous(), "shape [2, 7], but [7, 2]"),
        (EXAMPLE, WEIGHT[0], "shape"),
        (EXAMPLE, torch.zeros(1, 1).expand(7, 2), "fewer numbers are stored"),
        (EXAMPLE, torch.zeros(1, 1).expand(10**9, 10**6), "fewer numbers are stored"),
        (EXAMPLE, WEIGHT.to_sparse(), "no dense tensor"),
        (EXAMPLE, WEIGHT.to("meta"), "no dense tensor"),
        (EXAMPLE, [0.0] * 14, "of type list"),
        (EXAMPLE, None, "of type NoneType"),
        (EXAMPLE, 1.5, "of type float"),
        ("nerf.aabb_train", torch.tensor(CUBE) * 2, "is not [-1.0"),
        ("nerf.aabb_infer", torch.tensor(CUBE)[:3], "shape [3]"),
        ("nerf.density_grid", torch.zeros(3), "unknown"),
        ("nerf.x\ny" + 1000 * "z", torch.zeros(3), "unknown"),
        (3, torch.zeros(3), "unknown"),
        (f"module.{EXAMPLE}", WEIGHT, "twice"),
    ],
    ids=str,
)
def test_an_entry_of_another_kind_is_named_with_a_remedy(tiny, tmp_path, key, value, problem):
    message = complaint({"model": tiny[0]["model"] | {key: value}}, tmp_path)
    assert str(key).partition("\n")[0] in message
    assert problem in message
    assert ";" in message


@pytest.mark.parametrize("key", [EXAMPLE, "nerf.aabb_infer", "input_unet.decoder.up_block1b.conv.bias"])
def test_a_missing_entry_is_named(tiny, tmp_path, key):
    state = {name: value for name, value in tiny[0]["model"].items() if name != key}
    message = complaint({"model": state}, tmp_path)
    assert f"'{key}' is missing" in message
    assert "--config" in message


def test_a_denoiser_that_lacks_a_weight_under_both_names_is_refused(tiny, tmp_path):
    state = {name: value for name, value in tiny[0]["model"].items() if not name.endswith(IN_DENOISER)}
    assert f"'{KEPT}{IN_DENOISER}' is missing" in complaint({"model": state}, tmp_path)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"scheduler": {}}, "'scheduler' is unknown"),
        ({"step": -1}, "'step'"),
        ({"step": 2**63}, "'step'"),
        ({"step": "many"}, "'step'"),
        ({"epoch": True}, "'epoch'"),
        ({"epoch": None}, "'epoch'"),
        ({"model": [1]}, "nor published GeNVS weights"),
        ({"model": {}}, "nor published GeNVS weights"),
        ({"model": {"conv.weight": WEIGHT}}, "nor published GeNVS weights"),
        ({"optim": 3}, "'optim'"),
        ({"optim": {}}, "'optim'"),
        ({"optim": {"state": {}, "param_groups": []}}, "'optim.param_groups'"),
        ({"optim": {"state": {}, "param_groups": [{"lr": 1.0}]}}, "'optim.param_groups'"),
        ({"optim": {"state": {}, "param_groups": 5}}, "'optim.param_groups'"),
    ],
    ids=str,
)
def test_an_outer_entry_that_makes_no_sense_is_named(tiny, tmp_path, change, named):
    assert named in complaint(tiny[0] | change, tmp_path)


class Payload:
    """Executed by whoever unpickles it."""

    def __init__(self, trace: Path):
        self.trace = trace

    def __reduce__(self):
        return Path.touch, (self.trace,)


@pytest.mark.parametrize("place", ["model", "optim", "step", EXAMPLE])
def test_code_in_any_place_is_refused_and_not_executed(tiny, tmp_path, place):
    trace = tmp_path / "executed"
    content = dict(tiny[0])
    if place == EXAMPLE:
        content["model"] = content["model"] | {place: Payload(trace)}
    else:
        content[place] = Payload(trace)
    assert "would run code" in complaint(content, tmp_path)
    assert not trace.exists()


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("share", [0.0005, 0.01, 0.5, 0.99, 0.9999])
def test_a_file_that_is_cut_short_is_one_line(tiny, tmp_path, share, zipped):
    path = tmp_path / "genvs.pt"
    torch.save(tiny[0], path, _use_new_zipfile_serialization=zipped)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(ValueError, match="cut short") as caught:
        open_checkpoint(path, config=tiny_config())
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("size", [3, 30, 300, 5000, 9000, 30_000, 65_000, 70_000, 200_000])
def test_an_archive_of_any_length_that_is_cut_short_is_one_line(tmp_path, size):
    path = tmp_path / "archive.pt"
    torch.save({"first": torch.rand(50_000), "others": {str(i): torch.rand(9) for i in range(99)}}, path)
    whole = path.read_bytes()
    assert len(whole) > size
    path.write_bytes(whole[:size])
    with pytest.raises(ValueError, match=rf"\A{path}: is cut short[^\n]*\Z"):
        read_torch_file(path)


def test_a_model_that_the_format_cannot_hold_is_refused(tiny, tmp_path):
    checkpoint = through_disk(tiny[0], tmp_path)
    deeper = tiny_model()
    deeper.renderer.field.third = nn.Linear(2, 3)
    tensors = {f"model.{name}": value for name, value in deeper.state_dict().items()}
    with pytest.raises(ValueError, match=r"no place for 'renderer\.field\.third\.weight'"):
        pack(Checkpoint(checkpoint.path, 1, {}, tensors), deeper)
    with pytest.raises(ValueError, match="of another model"):
        pack(checkpoint, deeper)
