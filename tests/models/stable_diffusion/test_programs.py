"""Both families on a frozen base, through train.py, sample_views.py and evaluation, on a tiny base."""

import json
import shutil

import pytest
import torch

pytest.importorskip("diffusers")

import sample_views
import train
from models.checkpoints.format import checkpoints_of, load_checkpoint
from scripts.evaluate.__main__ import main as evaluate
from tests.models.stable_diffusion.tiny_base import require_base, write_base
from tests.scenes import TINY_BASE, TINY_FAMILIES

FAMILIES = ("controlnet", "multiview")


def plant(folder, plant_object):
    for number, name in enumerate(("cars_train/a", "cars_train/bb", "cars_val/c", "cars_test/d")):
        plant_object(folder / "data" / name, num_views=4 + number, size=(16, 16))
    return folder


@pytest.fixture
def root(tmp_path, plant_object):
    return plant(tmp_path, plant_object)


@pytest.fixture(scope="module")
def joint(tmp_path_factory, plant_object):
    """A folder with a run of the joint family."""
    folder = plant(tmp_path_factory.mktemp("joint"), plant_object)
    assert trained(folder, document(folder, "multiview", sample={"most_views": 5})) == 0
    return folder


def document(root, family: str, **changes) -> dict:
    """A tiny run, with `changes` by section."""
    found = {
        "name": "tiny",
        "runs": str(root / "runs"),
        "model": require_base(TINY_FAMILIES[family]),
        "data": {"root": str(root / "data"), "image_size": 16, "sources": [1, 2], "workers": 0},
        "train": {"steps": 1, "batch": 1, "preview_every": 0, "device": "cpu", "precision": "float32"},
        "sample": {"steps": 2},
    }
    return {
        key: value | changes.get(key, {}) if isinstance(value, dict) else value
        for key, value in found.items()
    }


def trained(root, given: dict) -> int:
    path = root / "config.json"
    path.write_text(json.dumps(given))
    return train.main([str(path), "train.preflight=false"])


def sampled(root, *words: str, out: str = "out") -> int:
    run = ["--transfer", str(root / "runs/tiny"), "--device", "cpu", "--cond-views", "0"]
    return sample_views.main([*run, "--output", str(root / out), *words])


@pytest.mark.parametrize("family", FAMILIES)
def test_a_run_trains_resumes_samples_and_is_evaluated(root, family, capsys):
    given = document(root, family)
    assert trained(root, given) == 0
    given["train"]["steps"] = 2
    assert trained(root, given) == 0
    held = load_checkpoint(checkpoints_of(root / "runs/tiny")[-1])
    assert held.step == 2
    assert len(held.config["model"]["base"]["fingerprint"]) == 12
    parts = {name.split(".")[1] for name in held.tensors if name.startswith(("model.", "ema."))}
    assert parts == {"encoder", "renderer", "control"}
    flags = ["--cfg", "1.5", "--churn", "1", "--levels", "linear_t", "--guidance-mode", "three_way"]
    assert sampled(root, "--trajectory", "circle", "--views", "3", "--progress", *flags) == 0
    folder = next(path.parent for path in (root / "out").rglob("view_0002.png"))
    assert {"views.mp4", "depth_0000.png", "progress.mp4"} <= {path.name for path in folder.iterdir()}
    with_run = ["--checkpoint", str(root / "runs/tiny"), "--objects", "1", "--views", "2", "--device", "cpu"]
    assert evaluate(with_run) == 0
    assert "sample psnr" in capsys.readouterr().out


def test_a_recipe_begins_with_blurred_targets(root):
    given = document(root, "controlnet")
    given["stages"] = {
        "copy_blur": {
            "model": {"condition": "blurred_target", "loss": {"rgb": 0, "opacity": 0}},
            "optim": {"lr_scale": {"encoder": 0, "renderer": 0}},
        },
        "joint": {},
    }
    assert trained(root, given) == 0
    first, second = (
        load_checkpoint(checkpoints_of(root / "runs/tiny" / name)[-1]).section("model")
        for name in ("1_copy_blur", "2_joint")
    )
    unmoved = [name for name in first if torch.equal(first[name], second[name])]
    assert not [name for name in unmoved if "controlnet_down_blocks" in name]
    assert sampled(root, "--trajectory", "circle", "--views", "1", "--preset", "branch", "--steps", "2") == 0


def test_joint_flags_are_for_joint_models(root, capsys):
    assert trained(root, document(root, "controlnet")) == 0
    assert sampled(root, "--plan", "all") == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert "--plan" in error
    assert "have no such option" in error


@pytest.mark.parametrize(
    "words",
    [
        ["--plan", "chunked", "--chunk", "2", "--chunk-context", "previous"],
        ["--plan", "autoregressive"],
        ["--unconditional", "--cfg", "2"],
        ["--autoregressive"],
    ],
    ids=lambda words: words[0],
)
def test_every_plan_writes_every_view(joint, words):
    out = "".join(words)
    assert sampled(joint, "--trajectory", "circle", "--views", "3", *words, out=out) == 0
    assert len(list((joint / out).rglob("view_000?.png"))) == 3


def test_too_many_joint_views_are_refused_in_one_line(joint, capsys):
    assert sampled(joint, "--trajectory", "circle", "--views", "5", "--plan", "all", out="all") == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert "6 views would see each other" in error
    assert "--plan chunked" in error


def test_another_base_is_refused(root, tmp_path, capsys):
    own = tmp_path / "base"
    require_base(TINY_FAMILIES["controlnet"])
    shutil.copytree(TINY_BASE, own)
    given = document(root, "controlnet", model={"base": {"path": str(own)}})
    assert trained(root, given) == 0
    assert sampled(root, "--trajectory", "circle", "--views", "1") == 0
    shutil.rmtree(own)
    write_base(own, mid_block=False)
    assert sampled(root, "--trajectory", "circle", "--views", "1", out="again") == 2
    assert "give the base that it was trained with" in capsys.readouterr().err
    shutil.rmtree(own)
    assert sampled(root, "--trajectory", "circle", "--views", "1", out="again") == 2
    assert str(own) in capsys.readouterr().err


@pytest.mark.parametrize("kind", ["empty", "narrow text", "pickle", "widths"])
def test_a_base_that_does_not_fit_is_one_line(root, tmp_path, capsys, kind):
    own, control = tmp_path / "base", {}
    if kind == "empty":
        own.mkdir()
    else:
        write_base(own, text_width=16 if kind == "narrow text" else 24)
    if kind == "pickle":
        payload = own / "unet/diffusion_pytorch_model.safetensors"
        payload.unlink()
        payload.with_suffix(".bin").write_bytes(
            b"cos\nsystem\n(S'touch " + str(tmp_path / "run").encode() + b"'\ntR."
        )
    if kind == "widths":
        control = {"widths": [4, 8]}
    given = document(root, "controlnet", model={"base": {"path": str(own)}, "control": control})
    assert trained(root, given) == 2
    error = capsys.readouterr().err.strip().splitlines()
    assert len([line for line in error if "model." in line]) == 1
    assert "Traceback" not in "".join(error)
    assert not (tmp_path / "run").exists()
