"""The small denoiser of denoiser_tiny.npz, its weights and its inputs."""

from pathlib import Path

import numpy as np
import torch
from reference import rule
from torch import Tensor

from diffusion.denoiser import DenoiserConfig, EDMDenoiser

CONFIG = DenoiserConfig(
    channels=(32, 64), depths=(1, 2), self_attention=(False, True), mapping_width=64, dropout=0.05
)


def arrays(name: str) -> dict[str, Tensor]:
    """The numeric arrays of tests/reference/NAME.npz."""
    with np.load(Path(__file__).parent / f"{name}.npz") as stored:
        return {key: torch.from_numpy(stored[key]) for key in stored.files if stored[key].dtype.kind == "f"}


def tiny_denoiser() -> EDMDenoiser:
    """In evaluation mode, with the reference's weights."""
    denoiser = EDMDenoiser(CONFIG, condition_channels=16).eval()
    rule.load_weights(denoiser, "tiny.")
    return denoiser


def tiny_inputs() -> dict[str, Tensor]:
    """Arguments of `EDMDenoiser.loss`: one scene with two views of 16 x 16 pixels."""
    return {
        "clean": 0.5 + 0.25 * rule.randn("tiny.x0", (2, 3, 16, 16))[None],
        "noise": rule.randn("tiny.noise", (2, 3, 16, 16))[None],
        "sigma": torch.tensor([[0.7, 12.0]]),
        "condition": rule.rand("tiny.cond", (2, 16, 16, 16))[None],
        "augmentation": 0.3 * rule.randn("tiny.aug", (2, 9))[None],
    }
