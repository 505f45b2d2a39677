"""Published weights: whatever their prefixes, and whichever variant they are, they open as the same model."""

import pytest
import torch

from models.checkpoints.loading import load_model
from models.viewfusion.model import ViewFusion, ViewFusionConfig
from models.viewfusion.published import load, own_name, recognises
from tests.reference.viewfusion_figures import TINY, rows, weight

WIDE = TINY | {"groups": 32}  # published files do not say how many groups; the code has 32
VARIANTS = {
    "weighted": {},
    "unweighted": {"weighting": False},
    "relative": {"angle": {"encoding": "radians", "relative": True}},
}


def made(**changes) -> ViewFusion:
    torch.manual_seed(1)
    return ViewFusion(ViewFusionConfig.model_validate({"unet": WIDE, "image_range": "unit"} | changes))


def published(model: ViewFusion, prefix: str = "") -> dict[str, torch.Tensor]:
    """Its U-Net by the published names."""
    own = model.unet.state_dict()
    return {prefix + row["name"]: own[own_name(row["name"])] for row in rows("tiny")}


def test_our_names_are_those_of_the_modules_and_each_once():
    names = [own_name(row["name"]) for row in rows("full")]
    with torch.device("meta"):
        unet = ViewFusion(ViewFusionConfig()).unet
    assert sorted(names) == sorted(unet.state_dict())
    shapes = {own_name(row["name"]): tuple(map(int, row["shape"].split("x"))) for row in rows("full")}
    assert {name: tuple(value.shape) for name, value in unet.state_dict().items()} == shapes


@pytest.mark.parametrize("prefix", ["", "denoise_fn.", "module.", "module.denoise_fn.", "model.denoise_fn."])
@pytest.mark.parametrize("variant", VARIANTS)
def test_a_file_opens_as_the_model_that_it_is_of(prefix, variant):
    model = made(**VARIANTS[variant])
    tensors = published(model, prefix) | {f"{prefix.removesuffix('denoise_fn.')}gammas": torch.ones(2000)}
    assert recognises(set(tensors))
    config, weights = load(tensors)
    again = ViewFusion(ViewFusionConfig.model_validate(config))
    again.load_state_dict(weights)
    assert again.config.unet == model.config.unet
    assert (again.config.weighting, again.config.angle.relative) == (
        model.config.weighting,
        model.config.angle.relative,
    )
    assert again.config.image_range == "unit"
    for name, value in model.state_dict().items():
        assert torch.equal(again.state_dict()[name], value)


def test_the_published_network_is_told_from_its_weights():
    tensors = {
        row["name"]: torch.empty(*map(int, row["shape"].split("x")), device="meta") for row in rows("full")
    }
    config, weights = load(tensors)
    assert ViewFusionConfig.model_validate(config).unet == ViewFusionConfig().unet
    assert len(weights) == 400


@pytest.mark.parametrize(
    "wrapped", [lambda state: state, lambda state: {"model": state, "iteration": 710001}]
)
@pytest.mark.parametrize("prefix", ["", "denoise_fn.", "module.denoise_fn."])
def test_a_file_is_a_model_that_draws(tmp_path, wrapped, prefix):
    model, path = made(), tmp_path / "published.pt"
    torch.save(wrapped(published(model, prefix)), path)
    opened, config, _ = load_model(path)
    assert config.data.layout == "nmr"
    assert not opened.training
    for name, value in model.state_dict().items():
        assert torch.equal(opened.state_dict()[name], value)


def test_other_files_are_not_taken_for_it():
    assert not recognises({"unet.down.0.weight", "proj_in.weight"})
    with pytest.raises(ValueError, match="is no network of ViewFusion"):
        load({"noise_level_mlp.0.weight": torch.ones(2, 2)})
    odd = published(made())
    odd["downs.0.weight"] = weight("downs.0.weight", (32, 7, 3, 3))
    with pytest.raises(ValueError, match="takes 7 channels"):
        load(odd)
