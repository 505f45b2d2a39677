"""A base is loaded from a diffusers folder, frozen; what cannot be loaded is named in one line."""

import os
import shutil
import sys

import pytest
import torch
from safetensors.torch import load_file, save_file

pytest.importorskip("diffusers")

from models.stable_diffusion.base import encode_text, load_base
from models.stable_diffusion.control import control_network
from models.stable_diffusion.denoiser import Condition, LatentDenoiser
from tests.models.stable_diffusion.tiny_base import write_base


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_base(tmp_path_factory.mktemp("base"))


class Payload:
    def __init__(self, witness):
        self.witness = witness

    def __reduce__(self):
        return os.mkdir, (str(self.witness),)


def one_line(path, match) -> str:
    with pytest.raises(ValueError, match=match) as raised:
        load_base(str(path))
    assert "\n" not in str(raised.value)
    assert str(path) in str(raised.value)
    return str(raised.value)


def test_a_base_is_frozen_and_its_text_means_something(folder):
    base = load_base(str(folder))
    for module in (base.unet, base.vae, base.text_encoder):
        assert not any(parameter.requires_grad for parameter in module.parameters())
        assert not module.training
    car, empty, again = encode_text(base, ["a car", "", "a car"])
    torch.testing.assert_close(car, again)
    assert (car - empty).abs().max() > 0.1
    assert float(base.table.sigmas[-1]) == pytest.approx(14.6146, abs=1e-4)


@pytest.mark.parametrize("mid_block", [False, True])
def test_an_untrained_control_changes_nothing_with_and_without_a_mid_block(tmp_path, mid_block, recwarn):
    base = load_base(str(write_base(tmp_path, mid_block=mid_block)))
    model = LatentDenoiser(base.unet, control_network(base.unet, channels=5, widths=(4, 8, 12)), base.table)
    text = encode_text(base, ["a car", ""])
    seen = Condition(text, torch.rand(2, 5, 32, 32), torch.tensor([0, 1]))
    noisy, sigma = torch.randn(2, 4, 8, 8), torch.tensor([0.3, 9.0])
    assert torch.equal(model.denoise(noisy, sigma, seen), model.denoise(noisy, sigma, Condition(text)))
    assert not [warning for warning in recwarn if "mid_block" in str(warning.message)]


def test_weights_in_bin_files_are_loaded(tmp_path, folder):
    base = load_base(str(write_base(tmp_path, safe=False)))
    assert list(tmp_path.glob("unet/*.bin"))
    state = load_base(str(folder)).unet.state_dict()
    assert all(torch.equal(value, state[key]) for key, value in base.unet.state_dict().items())


def test_a_payload_in_a_bin_file_is_not_run(tmp_path):
    path, witness = write_base(tmp_path / "base", safe=False), tmp_path / "witness"
    torch.save({"conv_in.weight": Payload(witness)}, path / "unet" / "diffusion_pytorch_model.bin")
    one_line(path, "unet cannot be loaded")
    assert not witness.exists()


def test_a_folder_that_is_no_base(tmp_path, folder):
    one_line(tmp_path, "lacks unet, vae")
    copy = shutil.copytree(folder, tmp_path / "copy")
    shutil.rmtree(copy / "tokenizer")
    one_line(copy, "lacks tokenizer")
    (copy / "tokenizer").mkdir()
    one_line(copy, "tokenizer has . words")


@pytest.mark.parametrize("part", ["unet", "vae", "text_encoder"])
def test_weights_that_are_missing_or_torn(tmp_path, folder, part):
    copy = shutil.copytree(folder, tmp_path / "copy")
    (weights,) = (copy / part).glob("*.safetensors")
    weights.write_bytes(weights.read_bytes()[:100])
    one_line(copy, f"{part} cannot be loaded")
    weights.unlink()
    one_line(copy, f"{part} cannot be loaded")


@pytest.mark.parametrize("part", ["unet", "vae", "text_encoder"])
def test_one_weight_that_is_missing(tmp_path, folder, part):
    copy = shutil.copytree(folder, tmp_path / "copy")
    (file,) = (copy / part).glob("*.safetensors")
    weights = load_file(file)
    lost = max(weights)
    save_file({key: value.clone() for key, value in weights.items() if key != lost}, file, {"format": "pt"})
    one_line(copy, f"{part} cannot be loaded .*{lost.removeprefix('text_model.')}")


def test_a_file_in_place_of_a_folder(tmp_path):
    (tmp_path / "weights.safetensors").write_bytes(b"")
    one_line(tmp_path / "weights.safetensors", "lacks unet")


def test_a_name_that_is_not_in_the_cache(monkeypatch, tmp_path):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(ValueError, match="put the folders unet, vae, text_encoder, tokenizer, scheduler"):
        load_base("nobody/no-such-base")


def test_a_text_encoder_of_another_width(tmp_path):
    one_line(write_base(tmp_path, text_width=16), "has width 16, the text of the U-Net 24")


def test_the_extra_is_named_where_it_is_missing(monkeypatch, folder):
    monkeypatch.setitem(sys.modules, "diffusers", None)
    one_line(folder, "requirements-stable-diffusion.txt")
