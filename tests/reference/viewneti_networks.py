"""The tiny networks of ViewNeTI's figures, with weights that follow from their names."""

import json
from functools import cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from models.viewneti.mapper import Mapper
from tests.reference.rule import _generator

ARRAYS = np.load(Path(__file__).parent / "viewneti" / "fixture.npz")
SIZES = json.loads(str(ARRAYS["config"]))
LAYERS = 16
OBJECT, VIEW = (0.03, 2.0), (0.03, 2.0, *[0.5] * 12)


def published(name: str) -> Tensor:
    """The array of that name."""
    return torch.from_numpy(ARRAYS[name])


def integers(name: str, low: int, high: int, shape: tuple[int, ...]) -> Tensor:
    """Whole numbers from `low` to below `high`."""
    return torch.from_numpy(_generator(name).randint(low, high, size=shape).astype(np.int64))


def weight(name: str, shape: tuple[int, ...]) -> Tensor:
    """The state-dict entry of that name."""
    z = _generator(name).randn(*shape)
    if len(shape) == 1:
        z = 0.05 * z
        z = 1 + 2 * z if name.endswith(".weight") else z
    elif "token_embedding" in name or "position_embedding" in name:
        z = z * (0.3 if "token_embedding" in name else 0.1)
    else:
        z = z * ((2 if ".to_q." in name or ".to_k." in name else 1.2) / np.sqrt(np.prod(shape[1:])))
    return torch.from_numpy(np.asarray(z).astype(np.float32))


def fill(module: nn.Module, prefix: str) -> nn.Module:
    """Give the module's parameters the weights of the rule."""
    with torch.no_grad():
        for key, value in module.named_parameters():
            value.copy_(weight(prefix + key, tuple(value.shape)))
    return module


@cache
def text_encoder() -> nn.Module:
    """The text encoder, frozen."""
    from transformers import CLIPTextConfig, CLIPTextModel

    config = CLIPTextConfig(
        vocab_size=49408,
        hidden_size=SIZES["text_width"],
        intermediate_size=SIZES["text_ffn"],
        num_hidden_layers=SIZES["text_layers"],
        num_attention_heads=SIZES["text_heads"],
        hidden_act=SIZES["text_act"],
    )
    return fill(CLIPTextModel(config), "g.text.").eval().requires_grad_(False)


@cache
def unet() -> nn.Module:
    """The U-Net, frozen."""
    from diffusers import UNet2DConditionModel

    network = UNet2DConditionModel(
        sample_size=16,
        down_block_types=("CrossAttnDownBlock2D",) * 3 + ("DownBlock2D",),
        up_block_types=("UpBlock2D",) + ("CrossAttnUpBlock2D",) * 3,
        block_out_channels=tuple(SIZES["unet_channels"]),
        layers_per_block=2,
        cross_attention_dim=SIZES["text_width"],
        attention_head_dim=SIZES["unet_heads"],
        use_linear_projection=SIZES["unet_linear_projection"],
        norm_num_groups=SIZES["unet_norm_groups"],
    )
    return fill(network, "g.unet.").eval().requires_grad_(False)


def mapper(name: str, *, norm: bool = True) -> Mapper:
    """`view`, or the object mapper of a token such as <object>."""
    sigmas, key = (VIEW, "view") if name == "view" else (OBJECT, "object")
    length = float(ARRAYS[f"C_norm_{key}"]) if norm else None
    found = Mapper(sigmas, hidden=64, width=SIZES["text_width"], norm=length)
    return fill(found, "g.view." if name == "view" else f"g.object.{name}.")
