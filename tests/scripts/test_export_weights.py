"""python -m scripts.export_weights: one small file that samples and begins other runs."""

from dataclasses import replace

import pytest
import torch
from safetensors import safe_open

from models.checkpoints.format import find_checkpoint, load_checkpoint, write_checkpoint
from models.checkpoints.loading import load_model
from scripts.export_weights import main
from tests.tiny_run import save_tiny_run, tiny_config


@pytest.fixture
def run(tmp_path):
    """A run directory with one checkpoint, whose average differs from its weights."""
    folder = save_tiny_run(tiny_config(tmp_path / "data", tmp_path / "runs"))
    trained = load_checkpoint(find_checkpoint(folder))
    average = {name: 1.5 * value for name, value in trained.tensors.items() if name.startswith("ema.")}
    write_checkpoint(replace(trained, tensors=trained.tensors | average))
    return folder


def stored(path):
    with safe_open(path, framework="pt") as file:
        return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no dict)


def test_what_is_exported_is_the_average_rounded_to_sixteen_bits(run, tmp_path, capsys):
    output = tmp_path / "deep" / "small.safetensors"
    assert main([str(run), str(output)]) == 0
    original = load_checkpoint(find_checkpoint(run))
    best, small = original.best_weights(), stored(output)
    assert {name.removeprefix("model.") for name in small} == set(best)
    assert {value.dtype for value in small.values() if value.is_floating_point()} == {torch.bfloat16}
    model, config, step = load_model(output)
    assert (step, config.model) == (7, load_model(run)[1].model)
    for name, value in model.state_dict().items():
        assert value.dtype == best[name].dtype
        torch.testing.assert_close(value, best[name], atol=0, rtol=2**-8)
    assert "step 7" in capsys.readouterr().out
    assert output.stat().st_size < 0.3 * find_checkpoint(run).stat().st_size


def test_a_full_export_keeps_every_bit(run, tmp_path):
    output = tmp_path / "full.safetensors"
    assert main([str(run), str(output), "--full"]) == 0
    theirs = load_model(run)[0].state_dict()
    assert all(torch.equal(value, theirs[name]) for name, value in load_model(output)[0].state_dict().items())


def test_an_export_is_checked_for_damage_like_any_checkpoint(run, tmp_path):
    output = tmp_path / "small.safetensors"
    assert main([str(run), str(output)]) == 0
    content = bytearray(output.read_bytes())
    content[-100] ^= 1
    output.write_bytes(content)
    with pytest.raises(ValueError, match="is not what was written"):
        load_model(output)


@pytest.mark.parametrize(
    ("output", "words"),
    [
        ("small.pt", "does not end in .safetensors"),
        ("runs/tiny/checkpoints/step-00000007.safetensors", "is the checkpoint itself"),
    ],
)
def test_wrong_outputs_are_one_line(run, tmp_path, capsys, output, words):
    before = stored(find_checkpoint(run))
    assert main([str(run), str(tmp_path / output)]) == 2
    said = capsys.readouterr().err
    assert said.startswith("export_weights: ")
    assert said.count("\n") == 1
    assert words in said
    assert stored(find_checkpoint(run)).keys() == before.keys()


def test_a_run_that_is_not_there_is_one_line(tmp_path, capsys):
    assert main([str(tmp_path / "none"), str(tmp_path / "x.safetensors")]) == 2
    assert "no such run" in capsys.readouterr().err
