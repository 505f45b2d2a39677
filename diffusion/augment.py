"""Paired augmentation that cannot leak into samples (Karras et al. 2022, appendix F.2, without colours).

Target and condition are transformed alike, and the denoiser is conditioned on 9 numbers that describe the
transform; with zeros, as in sampling, it generates images without augmentation.

Parameters per view, a0 .. a7: flip in x (0 or 1), flip in y (0 or 1), log scale in units of ln(2)/5, rotation
in radians, direction (radians) and log scale (ln(2)/5) of an anisotropic scaling, translation in x and y in
eighths of the image. All zeros are the identity.
"""

import math
from functools import reduce

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from pydantic import BaseModel
from torch import Tensor

from data.schedule import Probability
from data.seeds import normal, uniform

LN_SCALE = 0.2 * math.log(2)  # per unit of a2 and a5
SHIFT = 1 / 8  # image sizes per unit of a6 and a7


class AugmentConfig(BaseModel, frozen=True, extra="forbid"):
    """Flips in x and y, scale, rotation, anisotropy and translation are each enabled with probability `prob`.

    An enabled flip happens half of the time; EDM trains with 0.12.
    """

    prob: Probability = 0.0


def draw_parameters(prob: float, seeds: Int[Tensor, "n"]) -> Float[Tensor, "n 8"]:
    """Draw parameters a0 .. a7 for each seed, independent of the batch; each is enabled with `prob`."""
    tried = (uniform(seeds, (6,), stream="augment.tried") < prob).float()
    even = uniform(seeds, (4,), stream="augment.uniform")
    gaussian = normal(seeds, (4,), stream="augment.normal")
    mirrors = (even[:, :2] < 0.5).float()
    angles = math.pi * (2 * even[:, 2:] - 1)
    scale, stretch, shift = gaussian[:, :1], gaussian[:, 1:2], gaussian[:, 2:]
    values = torch.cat([mirrors, scale, angles, stretch, shift], dim=-1)
    return values * tried[:, [0, 1, 2, 3, 4, 4, 5, 5]]


def conditioning(parameters: Float[Tensor, "n 8"]) -> Float[Tensor, "n 9"]:
    """Return the 9 conditioning numbers of the denoiser, zeros for the identity (EDM appendix F.2)."""
    mirror_x, mirror_y, scale, angle, direction, stretch, shift_x, shift_y = parameters.unbind(-1)
    turned = [angle.cos() - 1, angle.sin()]
    stretched = [stretch * direction.cos(), stretch * direction.sin()]
    return torch.stack([mirror_x, mirror_y, scale, *turned, *stretched, shift_x, shift_y], dim=-1)


def matrices(parameters: Float[Tensor, "n 8"], height: int, width: int) -> Float[Tensor, "n 3 3"]:
    """Return the transforms of homogeneous pixel coordinates, integer at pixel centres, as float64.

    Independent of the resolution: rotations are about the image centre, and translations are fractions of its
    size.
    """
    # Float64 also avoids autocast and TF32, which would be inaccurate by fractions of a pixel.
    mirror_x, mirror_y, scale, angle, direction, stretch, shift_x, shift_y = parameters.double().unbind(-1)
    zoom, squeeze = (LN_SCALE * scale).exp(), (LN_SCALE * stretch).exp()
    centre_x, centre_y = torch.full_like(zoom, (width - 1) / 2), torch.full_like(zoom, (height - 1) / 2)
    factors = [
        _translation(centre_x, centre_y),
        _scaling(1 - 2 * mirror_x, 1 - 2 * mirror_y),
        _scaling(zoom, zoom),
        _rotation(-angle),
        _rotation(direction) @ _scaling(squeeze, 1 / squeeze) @ _rotation(-direction),
        _translation(SHIFT * width * shift_x, SHIFT * height * shift_y),
        _translation(-centre_x, -centre_y),
    ]
    return reduce(torch.matmul, factors)


def warp(images: Float[Tensor, "n c h w"], matrix: Float[Tensor, "n 3 3"]) -> Float[Tensor, "n c h w"]:
    """Transform images by `matrix` (see `matrices`).

    Bilinear, differentiable with respect to the images, with reflection padding about the centres of the
    outermost pixels. The identity returns the image bit for bit.
    """
    height, width = images.shape[-2:]
    # Source position of each output pixel, normalised to grid_sample's range.
    # `inv` would synchronise with the GPU to check for errors.
    origin = torch.linalg.inv_ex(matrix.double()).inverse
    still = (matrix == torch.eye(3).to(matrix)).flatten(1).all(dim=1)
    pin = images.is_cuda and not matrix.is_cuda  # pinned memory allows an asynchronous copy
    origin, still = (
        (tensor.pin_memory() if pin else tensor).to(images.device, non_blocking=True)
        for tensor in (origin, still)
    )
    x, y = (torch.arange(size, device=images.device, dtype=origin.dtype) for size in (width, height))
    y, x = torch.meshgrid(y, x, indexing="ij")
    asked = torch.einsum("nij,hwj->nhwi", origin[:, :2], torch.stack([x, y, torch.ones_like(x)], dim=-1))
    sides = zip(asked.unbind(-1), (width, height), strict=True)
    grid = torch.stack([2 * places / max(side - 1, 1) - 1 for places, side in sides], dim=-1)
    grid = grid.to(images.dtype)
    moved = F.grid_sample(images, grid, mode="bilinear", padding_mode="reflection", align_corners=True)
    return torch.where(still[:, None, None, None], images, moved)


def augment_pair(
    target: Float[Tensor, "n c h w"], condition: Float[Tensor, "n f k l"], parameters: Float[Tensor, "n 8"]
) -> tuple[Float[Tensor, "n c h w"], Float[Tensor, "n f k l"]]:
    """Apply the same augmentation to target and condition, which may differ in resolution only."""
    (height, width), (rows, columns) = target.shape[-2:], condition.shape[-2:]
    assert height * columns == width * rows, "target and condition show the same picture"
    return (
        warp(target, matrices(parameters, height, width)),
        warp(condition, matrices(parameters, rows, columns)),
    )


def _translation(x: Tensor, y: Tensor) -> Tensor:
    one, zero = torch.ones_like(x), torch.zeros_like(x)
    return _matrix([one, zero, x], [zero, one, y], [zero, zero, one])


def _scaling(x: Tensor, y: Tensor) -> Tensor:
    one, zero = torch.ones_like(x), torch.zeros_like(x)
    return _matrix([x, zero, zero], [zero, y, zero], [zero, zero, one])


def _rotation(angle: Tensor) -> Tensor:
    cos, sin, one, zero = angle.cos(), angle.sin(), torch.ones_like(angle), torch.zeros_like(angle)
    return _matrix([cos, -sin, zero], [sin, cos, zero], [zero, zero, one])


def _matrix(*rows: list[Tensor]) -> Tensor:
    return torch.stack([torch.stack(row, dim=-1) for row in rows], dim=-2)
