"""The fused kernels as PyTorch operators, for autograd and torch.compile.

Operators take contiguous tensors, volumes channels last [b s d h w c], and modify none of them. The kernels
are imported when an operator first runs.
"""

from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

# Precision of float32 matrix products on tensor cores, by the volume's dtype. "tf32x3" splits each number in
# two and is about as accurate as float32; "tf32" keeps ten bits of mantissa, no fewer than such a volume has.
DOT_PRECISION = {torch.float32: "tf32x3", torch.bfloat16: "tf32", torch.float16: "tf32"}
COPIES = 32  # of the weights' gradients, distributed over programs
ROWS = 64  # samples in a tile; fewer if there are many channels
BLOCK_SAMPLES = 16  # samples of one ray in a tile: fewer terminate opaque rays earlier
WIDEST = 256  # most channels of the volume or latent image that fit a tile's registers and shared memory
LARGEST_INDEX = 2**31 - 1
OPTIONS = {"enable_fp_fusion": True}  # Triton compiler options: allow fused multiply-add
NUM_INPUTS = 11  # tensor arguments of `render`; the last NUM_WEIGHTS are the field's
NUM_WEIGHTS = 4


@dataclass(frozen=True)
class Tiles:
    """Tiling of a problem: sizes padded for tensor cores, rows, and warps."""

    C_PAD: int
    HIDDEN_BLOCK: int
    LATENT_PAD: int
    BLOCK_RAYS: int
    BLOCK_SAMPLES: int
    num_warps: int


def tiles(channels: int, hidden: int, latent: int) -> Tiles:
    """Choose tiles that fit into registers and shared memory for these sizes of the field."""
    channels, hidden, latent = (max(16, 1 << (size - 1).bit_length()) for size in (channels, hidden, latent))
    widest = max(channels, latent)
    rows = ROWS if widest <= 32 else 32 if widest <= 128 else 16
    hidden_block = min(hidden, 64 if widest <= 32 else 32 if widest <= 128 else 16)
    return Tiles(
        channels, hidden_block, latent, rows // BLOCK_SAMPLES, BLOCK_SAMPLES, 4 if widest <= 64 else 8
    )


@torch.library.custom_op("genvs::render_fused", mutates_args=())
def render(
    features: Tensor,
    frusta: Tensor,
    origins: Tensor,
    directions: Tensor,
    cosine: Tensor,
    distance: Tensor,
    width: Tensor,
    hidden_weight: Tensor,
    hidden_bias: Tensor,
    output_weight: Tensor,
    output_bias: Tensor,
    density_scale: float,
    pool_after: bool,
    mask_outside: bool,
    align_corners: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """Render latent [b r f], depth [b r] and opacity [b r] of rays."""
    from nerf.fused.kernels import render_kernel

    inputs = (features, frusta, origins, directions, cosine, distance, width)
    weights = (hidden_weight, hidden_bias, output_weight, output_bias)
    outputs = _empty(origins, output_bias)
    rules = (pool_after, mask_outside, align_corners)
    _launch(render_kernel, inputs, weights, (*outputs, outputs[0]), density_scale, rules, DENSITY_ONLY=False)
    return outputs


@torch.library.custom_op("genvs::fused_density", mutates_args=())
def density(
    features: Tensor,
    frusta: Tensor,
    origins: Tensor,
    directions: Tensor,
    cosine: Tensor,
    distance: Tensor,
    width: Tensor,
    hidden_weight: Tensor,
    hidden_bias: Tensor,
    output_weight: Tensor,
    output_bias: Tensor,
    density_scale: float,
    pool_after: bool,
    mask_outside: bool,
    align_corners: bool,
) -> Tensor:
    """Evaluate density [b r n] at the samples, zero behind opaque ones."""
    from nerf.fused.kernels import render_kernel

    inputs = (features, frusta, origins, directions, cosine, distance, width)
    weights = (hidden_weight, hidden_bias, output_weight, output_bias)
    found = torch.zeros_like(distance)
    rules = (pool_after, mask_outside, align_corners)
    _launch(
        render_kernel, inputs, weights, (found, found, found, found), density_scale, rules, DENSITY_ONLY=True
    )
    return found


@torch.library.custom_op("genvs::render_fused_backward", mutates_args=())
def render_backward(
    d_latent: Tensor,
    d_depth: Tensor,
    d_opacity: Tensor,
    latent: Tensor,
    depth: Tensor,
    opacity: Tensor,
    features: Tensor,
    frusta: Tensor,
    origins: Tensor,
    directions: Tensor,
    cosine: Tensor,
    distance: Tensor,
    width: Tensor,
    hidden_weight: Tensor,
    hidden_bias: Tensor,
    output_weight: Tensor,
    output_bias: Tensor,
    density_scale: float,
    pool_after: bool,
    mask_outside: bool,
    align_corners: bool,
    scatter: bool,
) -> tuple[Tensor, Tensor]:
    """Return gradients of the volume (empty unless `scatter`), and of the four weights, concatenated."""
    from nerf.fused.kernels import backward_kernel

    inputs = (features, frusta, origins, directions, cosine, distance, width)
    weights = (hidden_weight, hidden_bias, output_weight, output_bias)
    d_features = torch.zeros(features.shape if scatter else 0, dtype=torch.float32, device=features.device)
    d_weights = hidden_weight.new_zeros(COPIES, sum(weight.numel() for weight in weights))
    changes = [change.contiguous() for change in (d_latent, d_depth, d_opacity)]
    outputs = (latent, depth, opacity, *changes, d_features, d_weights)
    rules = (pool_after, mask_outside, align_corners)
    _launch(backward_kernel, inputs, weights, outputs, density_scale, rules, SCATTER=scatter, COPIES=COPIES)
    return d_features.to(features.dtype), d_weights.sum(dim=0)


@render.register_fake
def _(features, frusta, origins, *others):
    return _empty(origins, others[-5])


@density.register_fake
def _(features, frusta, origins, directions, cosine, distance, *others):
    return torch.empty_like(distance)


@render_backward.register_fake
def _(d_latent, d_depth, d_opacity, latent, depth, opacity, features, *others):
    weights, scatter = others[6:10], others[-1]
    return (
        features.new_empty(features.shape if scatter else 0),
        d_latent.new_empty(sum(weight.numel() for weight in weights)),
    )


def _remember(ctx: Any, inputs: tuple, output: tuple) -> None:
    ctx.save_for_backward(*output, *inputs[:NUM_INPUTS])
    ctx.rules = inputs[NUM_INPUTS:]


def _differentiate(ctx: Any, *changes: Tensor) -> tuple:
    scatter = ctx.needs_input_grad[0]
    d_features, flat = render_backward(*changes, *ctx.saved_tensors, *ctx.rules, scatter)
    weights = ctx.saved_tensors[-NUM_WEIGHTS:]
    parts = flat.split([weight.numel() for weight in weights])
    d_weights = [part.view_as(weight) for part, weight in zip(parts, weights, strict=True)]
    between = [None] * (NUM_INPUTS - 1 - NUM_WEIGHTS)
    return d_features if scatter else None, *between, *d_weights, *[None] * len(ctx.rules)


def _refuse(ctx: Any, *changes: Tensor) -> None:
    raise ValueError(
        "model.renderer.backend: fused kernels have no second derivative; "
        "use model.renderer.backend=reference"
    )


render.register_autograd(_differentiate, setup_context=_remember)
render_backward.register_autograd(_refuse)


def _empty(origins: Tensor, output_bias: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Allocate latent, depth and opacity."""
    b, r, _ = origins.shape
    latent = origins.new_empty(b, r, output_bias.shape[0] - 1)
    return latent, origins.new_empty(b, r), origins.new_empty(b, r)


def _launch(
    kernel: Any,
    inputs: tuple[Tensor, ...],
    weights: tuple[Tensor, ...],
    outputs: tuple[Tensor, ...],
    density_scale: float,
    rules: tuple[bool, bool, bool],
    **flags: int,
) -> None:
    """Launch a kernel over blocks of rays and scenes."""
    features, distance = inputs[0], inputs[5]
    b, s, d, h, w, c = features.shape
    _, r, n = distance.shape
    hidden, latent = weights[0].shape[0], weights[3].shape[0] - 1
    cut = tiles(c, hidden, latent)
    sizes = (c, d, h, w, hidden, latent)
    constants = dict(zip(("C", "D", "H", "W", "HIDDEN", "LATENT"), sizes, strict=True)) | asdict(cut) | flags
    constants |= dict(zip(("POOL_AFTER", "MASK", "ALIGN"), rules, strict=True))
    constants |= {"WIDE": d * h * w * c > LARGEST_INDEX, "PRECISION": DOT_PRECISION[features.dtype]}
    if b * r == 0:
        return
    with torch.cuda.device_of(features):
        kernel[(-(-r // cut.BLOCK_RAYS), b)](
            *inputs, *weights, *outputs, s, r, n, d * h * w * c, density_scale, **constants, **OPTIONS
        )
