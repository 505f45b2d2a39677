"""The tiny networks of the Stable Diffusion figures, with weights that follow from their names."""

import json
import zlib
from functools import cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

ARRAYS = np.load(Path(__file__).parent / "stable_diffusion" / "fixture.npz")
SIZES = json.loads(str(ARRAYS["config"]))
GAINED = (".to_q.", ".to_k.", ".controlnet_cond_embedding.")


def published(name: str) -> Tensor:
    """The array of that name."""
    return torch.from_numpy(ARRAYS[name])


def numbers(name: str) -> list:
    """What is stored as the bytes of a JSON text."""
    return json.loads(ARRAYS[name].tobytes().decode())


def randn(name: str, *shape: int) -> Tensor:
    """Standard normal numbers, float32."""
    return torch.from_numpy(_generator(name).randn(*shape).astype(np.float32))


def rand(name: str, *shape: int) -> Tensor:
    """Numbers evenly distributed over [0, 1), float32."""
    return torch.from_numpy(_generator(name).random_sample(shape).astype(np.float32))


def weight(name: str, shape: tuple[int, ...]) -> Tensor:
    """The state-dict entry of that name."""
    z = _generator(name).randn(*shape)
    if name.endswith("embedding.weight"):
        z = 0.5 * z
    elif len(shape) == 1:
        z = 1 + 0.1 * z if name.endswith(".weight") else 0.05 * z
    else:
        z = z * ((2 if any(part in name for part in GAINED) else 1) / np.sqrt(np.prod(shape[1:])))
    return torch.from_numpy(np.asarray(z).astype(np.float32))


def fill(module: nn.Module, network: str) -> nn.Module:
    """Give the module the weights of the rule."""
    for key, value in module.state_dict().items():
        if not key.startswith("controlnet_mid_block"):  # ours alone; it stays zero
            name = f"{network}.{key.removeprefix('text_model.')}"
            with torch.no_grad():
                value.copy_(weight(name, tuple(value.shape)) if value.is_floating_point() else value)
    return module


@cache
def unet() -> nn.Module:
    """The U-Net without a mid block, frozen."""
    from diffusers import UNet2DConditionModel

    network = UNet2DConditionModel(
        sample_size=16,
        in_channels=4,
        out_channels=4,
        down_block_types=("CrossAttnDownBlock2D",) * 3,
        up_block_types=("CrossAttnUpBlock2D",) * 3,
        mid_block_type=None,
        block_out_channels=tuple(SIZES["ch"]),
        layers_per_block=1,
        cross_attention_dim=SIZES["cross"],
        attention_head_dim=SIZES["heads"],
        norm_num_groups=SIZES["groups"],
    )
    return fill(network, "unet").requires_grad_(False)


def control(*, initial: bool = False) -> nn.Module:
    """The ControlNet on 16 channels, in its generic state or as training begins."""
    from models.stable_diffusion.control import control_network

    network = control_network(unet(), channels=16, widths=SIZES["emb"])
    filled = fill(control_network(unet(), channels=16, widths=SIZES["emb"]), "cn")
    if not initial:
        return filled
    state = filled.state_dict()
    kept = {
        k: v for k, v in state.items() if k.startswith("controlnet_cond_embedding") and "conv_out" not in k
    }
    kept["class_embedding.weight"] = state["class_embedding.weight"] * torch.tensor([[0.0], [1.0]])
    network.load_state_dict(network.state_dict() | kept)
    return network


@cache
def vae() -> nn.Module:
    """The VAE, frozen."""
    from diffusers import AutoencoderKL

    network = AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=tuple(SIZES["vae_ch"]),
        layers_per_block=SIZES["vae_layers"],
        latent_channels=4,
        norm_num_groups=SIZES["vae_groups"],
        scaling_factor=0.18215,
    )
    return fill(network, "vae").eval().requires_grad_(False)


def text(name: str, num: int) -> Tensor:
    """`car` or `empty`, once per view: [n, l, w]."""
    return randn(f"text.{name}", SIZES["L"], SIZES["cross"]).expand(num, -1, -1)


def _generator(name: str) -> np.random.RandomState:
    return np.random.RandomState(zlib.crc32(f"g.{name}".encode()))
