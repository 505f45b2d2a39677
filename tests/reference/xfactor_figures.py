"""The published modules of XFactor at a tiny size: weights by rule, inputs and what comes out."""

import csv
import zlib
from functools import cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from models.checkpoints.xfactor import from_flax
from models.xfactor.config import NetworkConfig
from models.xfactor.model import XFactor, XFactorConfig

FOLDER = Path(__file__).parent / "xfactor"
TINY = NetworkConfig(width=64, heads=4, layers=2, patch=8, pose_size=24, pose_tokens=8)


@cache
def rows() -> tuple[dict[str, str], ...]:
    """Name, flax shape, kind and figures of every parameter."""
    with (FOLDER / "params_tiny.csv").open() as file:
        return tuple(csv.DictReader(file))


def flax_tree() -> dict[str, Tensor]:
    """The weights that the figures were made with."""
    return {row["name"]: torch.from_numpy(_weights(row)) for row in rows()}


def _weights(row: dict[str, str]) -> np.ndarray:
    shape = tuple(int(size) for size in row["shape_flax"].split("x"))
    drawn = np.random.RandomState(zlib.crc32(row["name"].encode()) & 0xFFFFFFFF).standard_normal(shape)
    scaled = {
        "kernel": drawn / np.sqrt(shape[0]),
        "gain": 1 + 0.1 * drawn,
        "bias": 0.1 * drawn,
        "embed": drawn,
    }
    return scaled[row["kind"]].astype(np.float32)


def tiny_model() -> XFactor:
    """A model with those weights."""
    model = XFactor(XFactorConfig(network=TINY), init_weights=False)
    model.load_state_dict(from_flax(flax_tree()))
    return model.eval()


def arrays() -> dict[str, Tensor]:
    """Inputs and expected results; pictures [.. 3 h w]."""
    with np.load(FOLDER / "fixture.npz") as file:
        found = {name: torch.from_numpy(file[name]) for name in file.files}
    pictures = ("in_x2", "in_xmv", "sm_render", "sm_render_full")
    return {name: part.movedim(-1, -3) if name in pictures else part for name, part in found.items()}
