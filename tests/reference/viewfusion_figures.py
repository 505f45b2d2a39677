"""ViewFusion's published modules with weights by a rule, as figures (tests/reference/viewfusion)."""

import csv
import math
import zlib
from functools import cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from models.viewfusion.model import ViewFusion, ViewFusionConfig
from models.viewfusion.published import own_name

FOLDER = Path(__file__).parent / "viewfusion"
TINY = {"channels": 32, "multipliers": [1, 2], "blocks": 1, "attention": [False, True], "groups": 8}


@cache
def arrays() -> dict[str, Tensor]:
    """The published arrays by name."""
    with np.load(FOLDER / "fixture.npz") as file:
        return {name: torch.from_numpy(file[name]) for name in file.files}


def rows(size: str) -> list[dict[str, str]]:
    """Name, shape and checks of each parameter, in the order of the published modules."""
    with (FOLDER / f"params_{size}.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def weight(name: str, shape: tuple[int, ...]) -> Tensor:
    """The value of the published parameter `name`."""
    numbers = np.random.RandomState(zlib.crc32(name.encode())).standard_normal(shape)
    if len(shape) > 1:
        numbers = numbers / math.sqrt(math.prod(shape[1:]))
    elif name.endswith(".weight"):
        numbers = 1 + 0.1 * numbers
    else:
        numbers = 0.1 * numbers
    return torch.from_numpy(numbers.astype(np.float32))


def load_weights(unet: nn.Module, size: str) -> None:
    """Give a U-Net the weights of the rule, in the shapes that it has."""
    own = unet.state_dict()
    names = {own_name(row["name"]): row["name"] for row in rows(size)}
    unet.load_state_dict({name: weight(names[name], tuple(own[name].shape)) for name in own})


def tiny(**changes) -> ViewFusion:
    """The small model of the arrays; unlike ours, the published code has angle 0 at azimuth 0."""
    config = {"unet": TINY, "image_range": "unit", "target_among_sources": 0.0} | changes
    model = ViewFusion(ViewFusionConfig.model_validate(config))
    load_weights(model.unet, "tiny")
    return model
