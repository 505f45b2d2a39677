"""Files in the published format of a ControlNet: opened, with and without the base, and written back."""

import pytest
import torch

pytest.importorskip("diffusers")

from config.families import family
from config.run import validate_config
from models.checkpoints.format import Checkpoint, checkpoint_path, write_checkpoint
from models.checkpoints.loading import load_model, open_checkpoint
from models.checkpoints.published import CONSTANTS, CUBE
from models.checkpoints.transfer import transfer_weights
from scripts.convert_checkpoint import main as convert
from tests.models.stable_diffusion.tiny_base import require_base
from tests.reference import rule
from tests.scenes import TINY_FAMILIES, tiny_model


@pytest.fixture(scope="module")
def config():
    model = require_base(TINY_FAMILIES["controlnet"])
    return validate_config(
        {"name": "tiny", "model": model, "data": {"root": "data", "image_size": 16}}, "test"
    )


@pytest.fixture(scope="module")
def content(config):
    """A file by rule: each entry follows from its key."""
    model = family("controlnet")(config.model)
    state = {key: torch.tensor(CUBE) for key in CONSTANTS}
    genvs = published_keys(tiny_model())
    for name, value in model.state_dict().items():
        known = genvs.get(name)
        key = f"sd_pipeline.controlnet.{name.removeprefix('control.')}" if known is None else known
        state[key] = rule.weight(key, list(value.shape)) if value.is_floating_point() else value
    return {"optim": None, "model": state, "step": 321, "epoch": 4}


def published_keys(model):
    from models.checkpoints.published import published_names

    return {name: key for key, name in published_names(model).items() if not name.startswith("denoiser.")}


def with_frozen(content):
    frozen = {
        "sd_pipeline.unet.conv_in.weight": torch.ones(8, 4, 3, 3),
        "sd_pipeline.vae.quant_conv.bias": torch.ones(8),
        "sd_pipeline.text_encoder.text_model.embeddings.position_ids": torch.arange(7)[None],
    }
    return content | {"model": frozen | content["model"]}


@pytest.mark.parametrize("frozen", [False, True])
def test_a_file_is_opened_and_exported_bit_for_bit(content, config, tmp_path, frozen):
    path = tmp_path / "genvs_control.pt"
    torch.save(with_frozen(content) if frozen else content, path)
    found = open_checkpoint(path, config=config)
    assert (found.format, found.step) == ("published_control", 321)
    control = {name for name in found.section("model") if name.startswith("control.")}
    assert not [name for name in control if "mid_block" in name]
    key = "controlnet_down_blocks.0.weight"
    assert torch.equal(
        found.section("model")[f"control.{key}"], content["model"][f"sd_pipeline.controlnet.{key}"]
    )

    own = checkpoint_path(tmp_path / "run", 321)
    write_checkpoint(Checkpoint(own, 321, found.config, found.tensors, found.origin))
    model, _, step = load_model(own)
    assert step == 321
    assert {name.split(".")[0] for name in model.state_dict()} == {"encoder", "renderer", "control"}
    assert convert(["--to-published", str(own), str(tmp_path / "back.pt")]) == 0
    back = torch.load(tmp_path / "back.pt", weights_only=True)
    assert (back["step"], back["epoch"], back["optim"]) == (321, 4, None)
    assert back["model"].keys() == content["model"].keys()
    assert all(torch.equal(back["model"][key], content["model"][key]) for key in back["model"])


def test_a_file_becomes_a_run_and_the_start_of_another(content, config, tmp_path, capsys):
    path, settings = tmp_path / "genvs_control.pt", tmp_path / "tiny.json"
    torch.save(content, path)
    settings.write_text(config.model_dump_json())
    words = ["--config", str(settings)]
    assert convert([str(path), str(tmp_path / "runs/published"), *words]) == 0
    assert "optimiser left out" in capsys.readouterr().out
    assert load_model(tmp_path / "runs/published")[2] == 321
    kind = family("multiview")
    joint = kind(kind.Config.model_validate(require_base(TINY_FAMILIES["multiview"])))
    report = transfer_weights(joint, open_checkpoint(path, config=config))
    assert report.startswith(f"transfer: {len(joint.state_dict())} of {len(joint.state_dict())} tensors")


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"sd_pipeline.controlnet.mid_block.resnets.0.conv1.bias": torch.zeros(8)}, "is unknown"),
        ({"sd_pipeline.controlnet.conv_in.bias": torch.zeros(3)}, "has shape"),
        ({"nerf.aabb_train": torch.zeros(6)}, "only renderers of that cube"),
        ({"sd_pipeline.controlnet.conv_in.bias": None}, "is missing"),
    ],
)
def test_other_files_are_refused_in_one_line(content, config, tmp_path, changes, complaint):
    state = {key: value for key, value in (content["model"] | changes).items() if value is not None}
    path = tmp_path / "genvs_control.pt"
    torch.save(content | {"model": state}, path)
    with pytest.raises(ValueError, match=complaint) as caught:
        open_checkpoint(path, config=config)
    assert "\n" not in str(caught.value)
