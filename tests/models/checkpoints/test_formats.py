"""models/checkpoints/formats.py: which format a file is of, and one way from any of them to a model."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from models import load
from models.checkpoints import formats, opened_file, published
from models.checkpoints.format import Checkpoint, checkpoint_path, write_checkpoint
from models.checkpoints.formats import FORMATS, Format
from models.checkpoints.loading import load_model, open_checkpoint
from models.checkpoints.opened_file import CheckpointFile, opened
from models.device import place
from tests.published_files import KEPT, tiny_config, tiny_published
from tests.scenes import cameras, tiny_model, views


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> dict[str, Path]:
    """A file of every format, by the format's name; a published one as torch.save and as safetensors."""
    folder = tmp_path_factory.mktemp("files")
    content = tiny_published()[0]
    state = content["model"]
    ours = {f"model.{name}": value for name, value in tiny_model().state_dict().items()}
    ours |= {"optim.a": torch.zeros(2), "ema.b": torch.zeros(3)}
    config = tiny_config().model_dump(mode="json")
    paths = {"own": checkpoint_path(folder / "run", 7)}
    paths |= {name: folder / name for name in ("published", "published safetensors", "k_diffusion")}
    write_checkpoint(Checkpoint(paths["own"], 7, config, ours))
    torch.save(content, paths["published"])
    save_file({key: value.clone() for key, value in state.items()}, paths["published safetensors"])
    denoiser = {key.removeprefix(KEPT): value for key, value in state.items() if key.startswith(KEPT)}
    torch.save({"model": denoiser, "step": 3}, paths["k_diffusion"])
    return paths


def test_own_comes_first_and_every_file_is_of_one_format(files):
    assert [kind.name for kind in FORMATS] == [
        "own",
        "published_control",
        "published",
        "k_diffusion",
        "viewfusion",
        "xfactor",
    ]
    for name, path in files.items():
        with opened(path) as file:
            assert [kind.name for kind in FORMATS if kind.recognises(file)] == [name.split()[0]]
        assert open_checkpoint(path, config=tiny_config()).format == name.split()[0]


@pytest.mark.parametrize("name", ["own", "published", "published safetensors", "k_diffusion"])
def test_a_file_is_opened_once(files, name, monkeypatch):
    calls = []
    for function in ("safe_open", "read_torch_file"):
        original = getattr(opened_file, function)
        monkeypatch.setattr(
            opened_file,
            function,
            lambda *given, original=original, function=function, **named: (
                calls.append(function) or original(*given, **named)
            ),
        )
    open_checkpoint(files[name], config=tiny_config())
    stored = "safetensors" in name or name == "own"
    assert calls == (["safe_open"] if stored else ["safe_open", "read_torch_file"])


def test_only_the_sections_that_are_wanted_are_read(files, monkeypatch):
    read = []
    original = opened_file.StoredTensors.__getitem__
    monkeypatch.setattr(
        opened_file.StoredTensors, "__getitem__", lambda self, name: read.append(name) or original(self, name)
    )
    assert open_checkpoint(files["own"], sections=()).step == 7
    assert read == []
    assert set(open_checkpoint(files["own"], sections=("ema",)).tensors) == set(read) == {"ema.b"}


def test_shapes_are_known_before_tensors_are_read(files, monkeypatch):
    expected = {name: value.shape for name, value in tiny_published()[0]["model"].items()}
    monkeypatch.delattr(opened_file.StoredTensors, "__getitem__")
    for name in ("published", "published safetensors"):
        with opened(files[name]) as file:
            weights = file.weights("model")
            assert {key: weights.shape(key) for key in weights} == expected


def test_models_load_opens_what_the_programs_open(files, monkeypatch, tmp_path):
    path = tmp_path / "published.json"
    path.write_text(tiny_config().model_dump_json())
    monkeypatch.setattr(published, "PUBLISHED_CONFIG", path)
    given = views(1, 2, size=(16, 16)), cameras(1, 2, seed=6), torch.tensor([[1, 2]])
    model, expected = load(files["published"], "cpu"), load_model(files["published"])[0]
    place(expected, model.device)  # which may change the order of sums
    with torch.no_grad():
        assert torch.equal(*(it.sample(*given, it.options).images for it in (model, expected)))
    with pytest.raises(ValueError, match="denoiser alone"):
        load(files["k_diffusion"], "cpu")


def test_a_bare_state_dict_of_another_network_needs_one_entry(files, tmp_path, monkeypatch):
    """Names with a prefix of their own stand for some published network."""
    own = tiny_model().state_dict()
    path = tmp_path / "theirs.pth"
    torch.save({"module.net_" + name: value for name, value in own.items()}, path)

    def load_theirs(file: CheckpointFile, wanted: formats.Wanted) -> Checkpoint:
        tensors = {f"model.{name[4:]}": value for name, value in file.weights().items()}
        return Checkpoint(file.path, 0, tiny_config().model_dump(mode="json"), tensors)

    with pytest.raises(ValueError, match=r"theirs\.pth: is a file of torch\.save, but no checkpoint of this"):
        load_model(path)
    theirs = Format("theirs", "their network (net_*)", lambda file: "net_x" in file.names(), load_theirs)
    monkeypatch.setattr(formats, "FORMATS", (*FORMATS, theirs))
    with pytest.raises(ValueError, match=r"nor their network \(net_\*\) \(it holds 'net_denoiser") as caught:
        load_model(path)
    assert "\n" not in str(caught.value)
    theirs = Format(
        "theirs", "their network", lambda file: any("net_" in name for name in file.names()), load_theirs
    )
    monkeypatch.setattr(formats, "FORMATS", (*FORMATS, theirs))
    model, config, step = load_model(path)
    assert (step, config.name) == (0, tiny_config().name)
    assert all(torch.equal(value, own[name]) for name, value in model.state_dict().items())


@pytest.mark.parametrize(
    "content",
    [[1], 3, None, {}, {"a\nb" * 500: 1}, {3: {"x": 1}}],
    ids=["list", "number", "none", "nothing", "long name", "no names"],
)
def test_what_is_no_weights_is_one_short_line(content, tmp_path):
    torch.save(content, tmp_path / "x.pt")
    with pytest.raises(ValueError, match="no checkpoint of this project") as caught:
        open_checkpoint(tmp_path / "x.pt")
    message = str(caught.value)
    assert message.startswith(f"{tmp_path / 'x.pt'}: ")
    assert "\n" not in message
    assert len(message) < 500


def test_a_config_in_a_header_that_is_no_json_is_named(files, tmp_path):
    denoiser = torch.load(files["k_diffusion"], weights_only=True)["model"]
    path = tmp_path / "net.safetensors"
    save_file({key: value.clone() for key, value in denoiser.items()}, path, {"config": "{"})
    with pytest.raises(ValueError, match=r"net\.safetensors: 'config' in its header is no JSON; "):
        open_checkpoint(path)


def test_what_cannot_be_read_is_one_line(tmp_path):
    for path in (tmp_path, tmp_path / "gone"):
        with pytest.raises(ValueError, match=r"cannot be read \([^\n]*\); give the path of a checkpoint\Z"):
            open_checkpoint(path)


def test_own_checkpoints_without_checksums_are_still_own(tmp_path, files):
    with opened(files["own"]) as file:
        tensors, header = dict(file.content), dict(file.header)
    bare = {key: value for key, value in header.items() if not key.startswith("checksum")}
    save_file(tensors, tmp_path / "old.safetensors", bare)
    assert open_checkpoint(tmp_path / "old.safetensors").format == "own"
