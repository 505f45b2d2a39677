"""One picture that shows what a model makes of held-out views."""

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from data.batch import Views
from data.images import colourise, grid, to_uint8
from models.base import Prediction


def preview_picture(source: Views, prediction: Prediction, truth: Views) -> UInt8[Tensor, "h w 3"]:
    """A row per target view: source, RGB preview, depth, opacity, sample, truth."""
    cameras = truth.cameras
    near, far = cameras.near.min().item(), cameras.far.max().item()
    num_target = truth.images.shape[1]
    columns = [
        to_uint8(source.images[:, :1].expand(-1, num_target, -1, -1, -1)),
        to_uint8(prediction.preview),
        colourise(prediction.depth[:, :, 0], near, far),
        colourise(prediction.opacity[:, :, 0], 0.0, 1.0),
        to_uint8(prediction.images),
        to_uint8(truth.images),
    ]
    tiles = torch.stack([column.flatten(0, 1).cpu() for column in columns], dim=1)
    return grid(tiles.flatten(0, 1), columns=len(columns))


def psnr(
    images: Float[Tensor, "*batch 3 h w"], truth: Float[Tensor, "*batch 3 h w"]
) -> Float[Tensor, "*batch"]:
    """Peak signal-to-noise ratio in dB of each picture; [-1, 1] is first rounded to 8 bits, as if saved."""
    error = (to_uint8(images).float() - to_uint8(truth).float()) / 255
    return -10 * error.square().flatten(-3).mean(dim=-1).clamp_min(1e-10).log10()
