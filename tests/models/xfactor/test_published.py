"""The published arrays of XFactor: opened, used and written back."""

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from models.checkpoints.format import Checkpoint, write_checkpoint
from models.checkpoints.loading import load_model, open_checkpoint
from scripts.convert_checkpoint import main as convert
from tests.reference.xfactor_figures import TINY, flax_tree, tiny_model

SIZES = ("width", "heads", "layers", "patch", "pose_size", "pose_tokens")


@pytest.fixture(params=["npz", "safetensors", "params"])
def path(request, tmp_path):
    """The published weights in each kind of file; "params" is the name of flax's collection before each."""
    tree = flax_tree()
    if request.param == "safetensors":
        save_file(tree, tmp_path / "weights.safetensors")
        return tmp_path / "weights.safetensors"
    prefix = "params/" if request.param == "params" else ""
    np.savez(tmp_path / "weights.npz", **{prefix + name: value.numpy() for name, value in tree.items()})
    return tmp_path / "weights.npz"


def test_published_arrays_open_as_the_model_that_they_are(path):
    opened, config, step = load_model(path)
    assert (step, open_checkpoint(path).format) == (0, "xfactor")
    sizes = TINY.model_dump()
    found = config.model.network.model_dump()
    assert [found[name] for name in SIZES] == [sizes[name] for name in SIZES]
    for part in opened.networks():
        for layer in part.layers:
            assert layer.bf16_attention  # as published
            layer.bf16_attention = False
    frames = torch.rand(1, 2, 3, 32, 32) * 2 - 1
    torch.testing.assert_close(opened.poses(frames), tiny_model().poses(frames))


def test_written_back_they_are_the_same_arrays(path, tmp_path):
    checkpoint = open_checkpoint(path)
    ours = tmp_path / "ours.safetensors"
    write_checkpoint(Checkpoint(ours, 3, checkpoint.config, checkpoint.tensors))
    assert convert(["--to-published", str(ours), str(tmp_path / "back.npz")]) == 0
    with np.load(tmp_path / "back.npz") as back:
        tree = flax_tree()
        assert set(back.files) == set(tree)
        assert all(np.array_equal(back[name], tree[name].numpy()) for name in tree)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"PoseEnc/Dense_7/kernel": np.zeros((2, 2), np.float32)},
            "PoseEnc/Dense_7/kernel is not a parameter",
        ),
        ({"Render/LayerNorm_0/bias": np.array(["a"])}, "no array of numbers"),
        ({"Render/LayerNorm_0/bias": np.array([{}])}, "no array of numbers"),
        ({"Render/LayerNorm_0/bias": np.zeros(64)}, "is torch.float64; save plain float32"),
        ({"PoseEnc/global_embed": np.zeros((), np.float32)}, "has not all arrays of both networks"),
    ],
)
def test_other_arrays_are_refused_in_one_line(tmp_path, capsys, change, message):
    arrays = {name: value.numpy() for name, value in flax_tree().items()} | change
    np.savez(tmp_path / "weights.npz", **arrays)
    assert convert(["--to-published", str(tmp_path / "weights.npz"), str(tmp_path / "back.npz")]) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1
    assert message in lines[0]
    assert not (tmp_path / "back.npz").exists()


def test_an_archive_that_is_cut_short_is_refused(tmp_path, capsys):
    np.savez(tmp_path / "whole.npz", **{name: value.numpy() for name, value in flax_tree().items()})
    whole = (tmp_path / "whole.npz").read_bytes()
    (tmp_path / "cut.npz").write_bytes(whole[: len(whole) // 2])
    assert convert(["--to-published", str(tmp_path / "cut.npz"), str(tmp_path / "back.npz")]) == 2
    assert len(capsys.readouterr().err.strip().splitlines()) == 1
