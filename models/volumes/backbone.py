"""Image encoders of segmentation-models-pytorch, with pretrained weights and frozen batch norm."""

import logging
import socket
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from torchvision.ops import FrozenBatchNorm2d

from data.files import first_line
from models.volumes.packaged_weights import load_packaged_weights

STRIDE = 16  # input pixels per pixel of the deepest features
DEPTH = 5  # stages; six feature maps including the input
HUB = "huggingface.co"  # host of segmentation-models-pytorch's weights

WeightSource = Literal["imagenet", "imagenet-if-available", "imagenet-package"]


class FrozenNorm(FrozenBatchNorm2d):
    """torchvision's frozen batch norm, in one pass over the activations and in their dtype.

    torchvision's would convert bfloat16 activations under autocast, and all that follow, back to float32.
    """

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c h w"]:
        """Scale and shift each channel."""
        return F.batch_norm(
            x, self.running_mean, self.running_var, self.weight, self.bias, training=False, eps=self.eps
        )


def make_backbone(
    name: str, weights: WeightSource | None, *, init_weights: bool = True
) -> tuple[nn.Module, str | None]:
    """Build an encoder of output stride 16 with frozen batch norm, and a notice if weights are unavailable.

    Without `init_weights`, no weights are fetched or prepared, since all will be loaded. Raises ValueError if
    the name is unknown, the encoder lacks one of its six feature maps, or required weights are not available.
    """
    weights = weights if init_weights else None
    backbone, notice = None, None
    if weights == "imagenet-package":
        backbone = _make(name, None)
        load_packaged_weights(backbone)
    elif weights:
        try:
            with _cache_only_when_offline():
                backbone = _make(name, "imagenet")
        # Hub, network, certificate and cache problems raise exceptions of many unrelated libraries.
        except (OSError, RuntimeError, KeyError) as error:
            reason = f"{type(error).__name__}: {first_line(error)}".split(". ")[0]
            notice = f"ImageNet weights for {name} are not available ({reason})"
            if weights == "imagenet":
                raise ValueError(
                    f"model.encoder.weights: {notice}; go online, or set model.encoder.weights=null"
                ) from error
    if backbone is None:
        backbone = _make(name, None)
        if init_weights:
            _measure_statistics(backbone)
    return _freeze_batch_norm(backbone), notice


def _make(name: str, weights: str | None) -> nn.Module:
    from segmentation_models_pytorch.encoders import encoders, get_encoder  # takes seconds to import
    from timm import is_model

    if name not in encoders and not (name.startswith("tu-") and is_model(name.removeprefix("tu-"))):
        raise ValueError(
            f"model.encoder.backbone: segmentation-models-pytorch has no encoder '{name}'; "
            "resnet18, resnet34 and resnet50 are safe choices"
        )
    try:
        backbone = get_encoder(name, in_channels=3, depth=DEPTH, weights=weights, output_stride=STRIDE)
    except (ValueError, TypeError, NotImplementedError) as error:  # some encoders cannot be dilated
        raise ValueError(f"model.encoder.backbone: '{name}': {error}; choose a ResNet") from error
    if len(backbone.out_channels) != DEPTH + 1 or 0 in backbone.out_channels:
        raise ValueError(
            f"model.encoder.backbone: '{name}' lacks features at one of the strides 2 to 16; choose a ResNet"
        )
    return backbone


@contextmanager
def _cache_only_when_offline() -> Iterator[None]:
    """Use only the local cache if there is no network, where the hub would retry for a long time."""
    from huggingface_hub import constants

    before = constants.HF_HUB_OFFLINE
    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)
    constants.HF_HUB_OFFLINE = before or not _hub_has_address()
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = before


def _hub_has_address() -> bool:
    if urllib.request.getproxies():
        return True  # the proxy resolves names
    try:
        return bool(socket.getaddrinfo(HUB, 443))
    except OSError:
        return False


def _measure_statistics(backbone: nn.Module) -> None:
    """Set the statistics of the batch norms from smooth noise.

    Frozen at (0, 1), a random network would be unnormalised, and its activation variance would double with
    every residual block.
    """
    generator = torch.Generator().manual_seed(0)
    blobs = torch.randn(8, 3, 16, 16, generator=generator)
    for module in backbone.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 1.0
    backbone.train()
    with torch.no_grad():
        backbone(F.interpolate(blobs, scale_factor=4, mode="bilinear"))


def _freeze_batch_norm(module: nn.Module) -> nn.Module:
    """Replace every batch norm below `module` by a fixed scale and shift."""
    for name, child in module.named_children():
        if isinstance(child, nn.BatchNorm2d):
            frozen = FrozenNorm(child.num_features, eps=child.eps)
            state = {key: value for key, value in child.state_dict().items() if key != "num_batches_tracked"}
            frozen.load_state_dict(state)
            # timm's BatchNormAct2d includes an activation, which must be kept.
            activation = getattr(child, "act", None)
            setattr(module, name, nn.Sequential(frozen, activation) if activation else frozen)
        else:
            _freeze_batch_norm(child)
    return module
