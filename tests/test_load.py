"""models.load: every family, ready for use; and what docs/library.md says runs as it stands."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image

from config.families import FAMILIES
from config.run import validate_config
from data.images.files import read_picture
from diffusion.samplers import SampleOptions
from models import load
from models.checkpoints.format import checkpoints_of, load_checkpoint, write_checkpoint
from models.checkpoints.loading import load_model
from models.device import place
from scripts.common.shapes_set import ShapesOptions
from scripts.common.shapes_videos import make_videos
from tests.models.stable_diffusion.tiny_base import require_base
from tests.scenes import TINY_FAMILIES, cameras, views
from tests.tiny_run import save_tiny_run, tiny_config

ROOT = Path(__file__).resolve().parents[1]
LIBRARY = (ROOT / "docs" / "library.md").read_text(encoding="utf-8")


def tiny_run(family: str, folder: Path, **changes) -> Path:
    document = tiny_config(folder / "nowhere", folder / "runs").model_dump(mode="json")
    chosen = require_base(TINY_FAMILIES[family])
    config = validate_config(document | {"model": chosen} | changes, "test")
    return save_tiny_run(config)


def with_config(run: Path, out: Path, change) -> Path:
    """The run's checkpoint with a changed config."""
    checkpoint = load_checkpoint(checkpoints_of(run)[-1])
    change(checkpoint.config)
    write_checkpoint(type(checkpoint)(out, checkpoint.step, checkpoint.config, checkpoint.tensors))
    return out


def save_follower(folder: Path) -> None:
    """A run of a model of video, and two held-out videos, where the document has them."""
    root = folder / "sets" / "shapes_videos"
    make_videos(root, ShapesOptions(1, 5, 32, 2, 0), kind="shifts", workers=1)
    document = tiny_config(root, Path("runs")).model_dump(mode="json")
    changes = {"name": "xfactor_shapes", "model": TINY_FAMILIES["xfactor"]}
    save_tiny_run(validate_config(document | changes, "test"))


def complaint(path: Path | str, device: str = "cpu") -> str:
    with pytest.raises(ValueError) as caught:  # noqa: PT011 (its text is what the caller looks at)
        load(path, device)
    message = str(caught.value)
    assert "\n" not in message
    assert str(path) in message or device != "cpu"
    return message


@pytest.mark.parametrize("family", FAMILIES)
def test_any_family_is_ready_to_sample_as_its_run_does(family, tmp_path):
    run = tiny_run(family, tmp_path)
    model, (expected, config, _) = load(run, "cpu"), load_model(run)
    assert type(model) is type(expected)
    assert not model.training
    assert not any(parameter.requires_grad for parameter in model.parameters())
    assert model.device == torch.device("cpu")
    for other in (model, expected):
        assert other.options == config.sample != SampleOptions()
        assert other.trained_on == config.data
    source, seeds = views(1, 2), torch.tensor([[1, 2]])
    targets = model.read_targets(views(1, 2, seed=6))
    found = model.sample(source, targets, seeds, model.options)
    place(expected, model.device)
    assert torch.equal(found.images, expected.sample(source, targets, seeds, config.sample).images)
    again = model.draw(model.encode(source), targets, seeds, model.options)
    assert torch.equal(found.images, again.images)
    assert not found.images.requires_grad
    checkpoint = load(checkpoints_of(run)[-1], "cpu")
    assert torch.equal(checkpoint.sample(source, targets, seeds, model.options).images, found.images)


def test_averaged_weights_are_loaded_and_the_machine_they_come_from_does_not_matter(tmp_path):
    run = tiny_run("pixelnerf", tmp_path)
    path = checkpoints_of(run)[-1]
    checkpoint = load_checkpoint(path)
    average = {key: value + 1 for key, value in checkpoint.tensors.items() if key.startswith("ema.")}
    checkpoint.config["model"]["renderer"]["backend"] = "fused"  # which runs on no CPU
    tensors = checkpoint.tensors | average
    write_checkpoint(type(checkpoint)(path, checkpoint.step, checkpoint.config, tensors))
    model = load(run, "cpu")
    for name, value in model.named_parameters():
        assert torch.equal(value, average[f"ema.{name}"])
    model.render(model.encode(views(1, 1)), cameras(1, 1))


def test_what_cannot_be_loaded_is_one_line(tmp_path):
    run = tiny_run("pixelnerf", tmp_path)
    assert "no such run or checkpoint" in complaint(tmp_path / "nothing")
    torch.save({"model": {}}, tmp_path / "genvs.pt")
    assert "nor published GeNVS weights" in complaint(tmp_path / "genvs.pt")
    (tmp_path / "text.safetensors").write_text("no checkpoint at all")
    assert "no safetensors file" in complaint(tmp_path / "text.safetensors")
    assert "device: 'gpu' is not a device" in complaint(run, "gpu")
    for change, words in (
        (lambda config: config["model"].update(family="gan"), "no model family 'gan'"),
        (lambda config: config["model"].update(surprise=1), "model.surprise"),
        (
            lambda config: config.update(model=None),
            "its config does not suit this version",
        ),
        (lambda config: config["sample"].update(steps=0), "sample.steps"),
        (lambda config: config["data"].pop("root"), "data.root"),
        (lambda config: config["model"]["encoder"].update(channels=3), "is of another model"),
    ):
        assert words in complaint(with_config(run, tmp_path / "changed.safetensors", change))


def test_importing_models_is_light():
    code = "import sys, models; print(sorted({'torch', 'pydantic'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_code_of_the_library_document_runs(tmp_path, monkeypatch, plant_object):
    car = plant_object(tmp_path / "set" / "cars_val" / "car", num_views=3, size=(9, 9))
    shutil.copy(car / "rgb/000001.png", tmp_path / "photo.png")
    shutil.copy(car / "pose/000001.txt", tmp_path / "pose.txt")
    monkeypatch.chdir(tmp_path)
    document = tiny_config(tmp_path / "set", Path("runs")).model_dump(mode="json") | {"name": "quickstart"}
    save_tiny_run(validate_config(document, "test"))
    blocks = re.findall(r"^```python\n(.*?)^```", LIBRARY, flags=re.MULTILINE | re.DOTALL)
    assert len(blocks) == 7
    save_follower(tmp_path)
    first = [line for line in blocks[0].splitlines() if line and "import" not in line]
    assert len(first) == 5
    Path("document.py").write_text(
        "\n".join(blocks) + "\nprint(guess.images.shape, view.images.shape)\n"
        "print(latents.shape, latents[:, 0].any().item())\n"
    )
    done = subprocess.run(
        [sys.executable, "document.py"],
        env={"PYTHONPATH": str(ROOT), "PATH": "", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("torch.Size([1, 1, 3, 32, 32])") == 2
    assert read_picture(Path("view.png")).shape == (32, 32, 3)
    for name in ("colours.png", "channel.png"):
        assert Image.open(name).size == (8, 8)
    for name in ("depth.png", "opacity.png"):
        assert Image.open(name).size == (32, 32)
    assert done.stdout.splitlines()[-1] == "torch.Size([1, 4, 6]) False"
    for name in ("orbit.mp4", "consistent.mp4", "moved.mp4"):
        assert Path(name).stat().st_size > 500


def test_the_document_names_every_family_that_renders():
    named = re.search(r"Models with volumes \((.*?)\)", LIBRARY)[1]
    from config.families import family

    assert re.findall(r"`(\w+)`", named) == [name for name in FAMILIES if hasattr(family(name), "render")]
