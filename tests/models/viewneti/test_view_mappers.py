"""View mappers of other runs and published files; nothing in a file runs."""

import os
import shutil
import sys
import types

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

import train
from models.viewneti.mapper import Mapper
from models.viewneti.view_mappers import load_view_mapper, read_view_mapper

SIGMAS = (0.03, 2.0, *[0.5] * 12)


def mapper(width: int = 24, sigmas=SIGMAS, hidden: int = 64) -> Mapper:
    torch.manual_seed(width)
    return Mapper(sigmas, hidden=hidden, width=width, norm=1.0)


def published(path, own: Mapper, monkeypatch, *, name="FourierPositionalEncodingNDims", encoder=None, **cfg):
    """A file as the published code writes it."""
    if encoder is None:
        module = types.ModuleType("models.positional_encoding")
        kind = type(name, (nn.Module,), {"__module__": module.__name__})
        setattr(module, name, kind)
        monkeypatch.setitem(sys.modules, module.__name__, module)
        encoder = kind()
        encoder.w = own.frequencies.clone()
    state = {key: value.detach() for key, value in own.named_parameters()}
    entry = {"state_dict": state, "encoder": encoder, "placeholder_object_token": "dummy_key"}
    torch.save({"cfg": {"model": cfg}, "mappers": {"dummy_key": entry}}, path)
    monkeypatch.delitem(sys.modules, "models.positional_encoding", raising=False)
    return path


@pytest.mark.parametrize("name", ["FourierPositionalEncodingNDims", "FourierPositionalEncoding"])
def test_a_published_file_is_read(tmp_path, monkeypatch, name):
    theirs = mapper()
    found = read_view_mapper(
        str(published(tmp_path / "mapper-steps-9_view.pt", theirs, monkeypatch, name=name))
    )
    ours = mapper(sigmas=SIGMAS)
    with torch.no_grad():
        ours.net[0].weight.zero_()
    load_view_mapper(ours, found, 24, "any")
    inputs = torch.rand(5, 14)
    for one, other in zip(ours(inputs), theirs(inputs), strict=True):
        torch.testing.assert_close(one, other)


class Payload:
    def __init__(self, witness):
        self.witness = witness

    def __reduce__(self):
        return os.mkdir, (str(self.witness),)


def test_nothing_in_a_file_runs(tmp_path, monkeypatch):
    path = published(tmp_path / "bad_view.pt", mapper(), monkeypatch, encoder=Payload(tmp_path / "ran"))
    with pytest.raises(ValueError, match="would run code"):
        read_view_mapper(str(path))
    assert not (tmp_path / "ran").exists()


def test_a_mapper_that_does_not_fit_is_refused(tmp_path, monkeypatch):
    for theirs, width, message in (
        (mapper(32), 24, "width 32, not 24"),
        (mapper(sigmas=(0.03, 2.0, *[2.0] * 12)), 24, "other frequencies"),
        (mapper(sigmas=(0.03, 2.0, 0.5, 0.5)), 24, "other frequencies"),
        (mapper(hidden=128), 24, "other layers"),
    ):
        found = read_view_mapper(str(published(tmp_path / "some_view.pt", theirs, monkeypatch)))
        with pytest.raises(ValueError, match=message) as raised:
            load_view_mapper(mapper(), found, width, None)
        assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    "content", [{"mappers": {}}, {}, [1], {"mappers": {"a": 1}}, {"mappers": {"a": {"state_dict": {}}}}]
)
def test_a_file_of_something_else_is_refused(tmp_path, content):
    torch.save(content, tmp_path / "other_view.pt")
    with pytest.raises(ValueError, match=r"other_view\.pt: "):
        read_view_mapper(str(tmp_path / "other_view.pt"))


def test_a_published_mapper_is_frozen_in_a_run(tmp_path, monkeypatch, arguments):
    path = published(tmp_path / "mapper-steps-9_view.pt", mapper(), monkeypatch)
    assert train.main(arguments("frozen_views", model__view_mapper=str(path))) == 0
    own = read_view_mapper(str(tmp_path / "runs" / "viewneti_frozen_views"))
    for name, value in mapper().named_parameters():
        assert torch.equal(own.weights[name], value)


def test_a_mapper_of_another_base_is_refused(tmp_path, arguments, base_folder, capsys):
    assert train.main(arguments("single_scene")) == 0
    other = tmp_path / "other_base"
    shutil.copytree(base_folder, other)
    (weights,) = (other / "unet").glob("*.safetensors")
    save_file({key: value * 1.01 for key, value in load_file(weights).items()}, weights, {"format": "pt"})
    changes = {
        "model__view_mapper": str(tmp_path / "runs" / "viewneti_single_scene"),
        "model__base__path": str(other),
    }
    assert train.main(arguments("finetune", **changes)) == 2
    assert "another base" in capsys.readouterr().err.strip().splitlines()[-1]
    changes["model__view_mapper"] = str(tmp_path / "runs")
    assert train.main(arguments("finetune", **changes)) == 2
    assert not (tmp_path / "runs" / "viewneti_finetune").exists()
