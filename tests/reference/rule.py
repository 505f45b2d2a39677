"""The rule by which the reference arrays' weights and inputs were made: everything follows from its name.

numpy's legacy generator, seeded with the CRC-32 of the name, gives the same numbers in every numpy version.
"""

import zlib
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

GAINS = {"proj_out": 0.3}  # by the name of the layer; anything else: by the part of the model it belongs to


def randn(name: str, shape: Sequence[int]) -> Tensor:
    """Standard normal numbers, float32."""
    return torch.from_numpy(_generator(name).randn(*shape).astype(np.float32))


def rand(name: str, shape: Sequence[int]) -> Tensor:
    """Numbers evenly distributed over [0, 1), float32."""
    return torch.from_numpy(_generator(name).random_sample(shape).astype(np.float32))


def weight(key: str, shape: Sequence[int]) -> Tensor:
    """The state-dict entry `key` of that shape, float32. Fixed entries (`*.kernel`) are not drawn so."""
    layer, entry = ("." + key).split(".")[-2:]
    generator = _generator(key)
    if key.startswith("input_unet.encoder.") and len(shape) == 1:
        numbers = _frozen_norm(generator, entry, shape)
    elif layer == "timestep_embed":
        numbers = generator.randn(*shape)
    elif len(shape) == 1:
        numbers = 0.05 * generator.randn(*shape)
    else:
        numbers = generator.randn(*shape) * (_gain(key, layer) / np.sqrt(np.prod(shape[1:])))
    return torch.from_numpy(np.asarray(numbers, dtype=np.float64).astype(np.float32))


def volume(num_views: int, channels: int, planes: int, height: int, width: int, *, tag: int) -> Tensor:
    """Features [v, channels * planes, h, w] in closed form; a channel's planes follow one another."""
    sizes = (num_views, channels, planes, height, width)
    v, c, z, y, x = np.meshgrid(*map(np.arange, sizes), indexing="ij")
    across, down, away = x / (width - 1), y / (height - 1), z / (planes - 1)
    wave = np.sin(0.7 * (c + 1) + 1.3 * v + 5.0 * across + 3.0 * down + 4.0 * away + 0.9 * tag)
    wave *= np.cos((c % 5 + 1) * (across - 0.5 * down) + away * (v + 1))
    checks = 0.3 * (((7 * x + 13 * y + 5 * z + 3 * c + 11 * v) % 8) - 3.5) / 3.5
    return torch.from_numpy((wave + checks).reshape(num_views, -1, height, width).astype(np.float32))


def load_weights(module: nn.Module, prefix: str) -> None:
    """Give every entry of the module's state dict its value; entries are named `prefix` + their own key."""
    drawn = {
        key: value if key.endswith(".kernel") else weight(prefix + key, value.shape)
        for key, value in module.state_dict().items()
    }
    module.load_state_dict(drawn)


def _generator(name: str) -> np.random.RandomState:
    return np.random.RandomState(zlib.crc32(name.encode()))


def _frozen_norm(generator: np.random.RandomState, entry: str, shape: Sequence[int]) -> np.ndarray:
    if entry in ("running_mean", "bias"):
        return 0.1 * generator.randn(*shape)
    if entry == "running_var":
        return 0.75 + 0.5 * generator.random_sample(shape)
    return 0.5 + 0.5 * generator.random_sample(shape)


def _gain(key: str, layer: str) -> float:
    if layer in GAINS:
        return GAINS[layer]
    return 1.3 if key.startswith("input_unet.") else 2.0 if key.startswith("nerf.") else 1.0
