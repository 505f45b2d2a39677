# ruff: noqa: N803
"""Gradients of a tile of samples in the fused kernels: from a ray's outputs to its samples, the weights and
the volume.

With q = d_latent . (colour - white) + d_depth * depth + d_opacity of a sample, the gradient of its optical
thickness is q times the transmittance behind it, minus the sum of weight * q of all samples behind it. That
sum over the whole ray, its balance, follows from the ray's outputs; the part in front is subtracted on the
way, so that one front-to-back pass suffices. Imported only if Triton is installed; see
`nerf.fused.device_functions` for the conventions.
"""

from typing import no_type_check

import triton
import triton.language as tl

from nerf.composite import BACKGROUND
from nerf.fused.device_functions import ADD, FRUSTUM, VALID, absorbed, soften_exactly, visit
from nerf.fused.mlp import backward
from nerf.fused.tile import before

WHITE = tl.constexpr(BACKGROUND)


@triton.jit
@no_type_check
def balance(
    latent_out, depth_out, opacity_out, d_latent_out, d_depth_out, d_opacity_out, cosine, at, on_ray,
    LATENT: tl.constexpr, LATENT_PAD: tl.constexpr,
):  # fmt: skip
    """For the ray of each row, at `at`: gradients with respect to colour, distance and opacity of a sample
    with full transmittance, and the balance over all samples.
    """
    column = tl.arange(0, LATENT_PAD)[None, :]
    at_colour, real = at[:, None] * LATENT + column, on_ray[:, None] & (column < LATENT)
    to_colour = tl.load(d_latent_out + at_colour, mask=real, other=0.0)
    to_depth = tl.load(d_depth_out + at, mask=on_ray, other=0.0)
    to_opacity = tl.load(d_opacity_out + at, mask=on_ray, other=0.0)
    total = tl.reduce(to_colour * (tl.load(latent_out + at_colour, mask=real, other=0.0) - WHITE), 1, ADD)
    total += to_depth * tl.load(depth_out + at, mask=on_ray, other=0.0)
    total += to_opacity * tl.load(opacity_out + at, mask=on_ray, other=0.0)
    return to_colour, to_depth * tl.load(cosine + at, mask=on_ray, other=0.0), to_opacity, total


@triton.jit
@no_type_check
def claims(
    density, latent, count, known, far, length, density_scale, passed, taken,
    to_colour, to_depth, to_opacity, total, BLOCK_RAYS: tl.constexpr, BLOCK_SAMPLES: tl.constexpr,
):  # fmt: skip
    """Return gradients of the logits of density [rows] and latent [rows, latent], and for each ray the
    thickness and the part of its balance up to the end of the tile.
    """
    dense, slope = soften_exactly(density)
    thickness = tl.where(count > 0, density_scale * dense, 0.0) * length
    in_front, passed = before(thickness, passed, False, BLOCK_RAYS, BLOCK_SAMPLES)
    weight = tl.exp(-in_front) * absorbed(thickness)
    shown = 1.0 / (1.0 + tl.exp(-latent))
    worth = tl.reduce(to_colour * (shown - WHITE), 1, ADD) + to_depth * far + to_opacity
    up_to, taken = before(weight * worth, taken, True, BLOCK_RAYS, BLOCK_SAMPLES)
    d_thickness = worth * tl.exp(-in_front - thickness) - (total - up_to)
    d_density = tl.where(known, d_thickness * length * density_scale * slope, 0.0)
    d_latent = tl.where(known[:, None], weight[:, None] * to_colour * shown * (1.0 - shown), 0.0)
    return d_density, d_latent, passed, taken


@triton.jit
@no_type_check
def spread(
    d_density, d_latent, d_first, d_to_latent, united, count, px, py, pz, known,
    features, frusta, d_features, num_source, source_size,
    hidden_weight, hidden_bias, output_weight, d_weights,
    C: tl.constexpr, D: tl.constexpr, H: tl.constexpr, W: tl.constexpr, HIDDEN: tl.constexpr,
    LATENT: tl.constexpr, C_PAD: tl.constexpr, HIDDEN_BLOCK: tl.constexpr, LATENT_PAD: tl.constexpr,
    POOL_AFTER: tl.constexpr, MASK: tl.constexpr, ALIGN: tl.constexpr, WIDE: tl.constexpr,
    PRECISION: tl.constexpr, SCATTER: tl.constexpr,
):  # fmt: skip
    """Propagate gradients of the logits to the weights and, with SCATTER, to the volume."""
    # Pooled before the MLP: one backward pass, whose gradient is distributed to the sources.
    share = 1.0 / tl.maximum(count, 1.0)
    d_source = united
    if not POOL_AFTER:
        d_united, d_first, d_to_latent = backward(
            united, d_density, d_latent, d_first, d_to_latent, hidden_weight, hidden_bias, output_weight,
            d_weights, C, HIDDEN, LATENT, C_PAD, HIDDEN_BLOCK, LATENT_PAD, PRECISION,
        )  # fmt: skip
        d_source = d_united * share[:, None]

    # Per source: a backward pass each if pooled after the MLP, then the volume.
    # Advance pointers per source: an offset from the first may exceed 32 bits.
    volume, d_volume = features, d_features
    for source in range(num_source):
        frustum = frusta + source * FRUSTUM
        if tl.load(frustum + VALID) > 0:
            change = d_source
            if POOL_AFTER:
                found, heard = visit(
                    volume,
                    frustum,
                    px,
                    py,
                    pz,
                    known,
                    0.0,
                    C,
                    D,
                    H,
                    W,
                    C_PAD,
                    MASK,
                    ALIGN,
                    WIDE,
                    False,
                )
                say = tl.where(heard, share, 0.0)
                change, d_first, d_to_latent = backward(
                    found, d_density * say, d_latent * say[:, None], d_first, d_to_latent,
                    hidden_weight, hidden_bias, output_weight, d_weights,
                    C, HIDDEN, LATENT, C_PAD, HIDDEN_BLOCK, LATENT_PAD, PRECISION,
                )  # fmt: skip
            if SCATTER:
                visit(
                    d_volume, frustum, px, py, pz, known, change,
                    C, D, H, W, C_PAD, MASK, ALIGN, WIDE, True,
                )  # fmt: skip
        volume += source_size
        d_volume += source_size
    return d_first, d_to_latent
