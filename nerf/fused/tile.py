# ruff: noqa: N803, N806
"""A tile of samples in the fused kernels: its points, the field there, and sums along its rays.

Imported only if Triton is installed; see `nerf.fused.device_functions` for the conventions.
"""

from typing import no_type_check

import triton
import triton.language as tl

from nerf.fused.device_functions import ADD, FRUSTUM, VALID, visit
from nerf.fused.mlp import logits

# A ray terminates at this optical thickness: the transmittance exp(-24) = 4e-11 is far below the rounding of
# a float32 near 1 (6e-8), and scales everything that samples behind add to values and gradients.
OPAQUE = tl.constexpr(24.0)


@triton.jit
@no_type_check
def place(
    origins, directions, distance, width, passed, begun, ray, on_ray, step, num_samples,
    BLOCK_RAYS: tl.constexpr, BLOCK_SAMPLES: tl.constexpr,
):  # fmt: skip
    """Return the points of a tile, their distances and widths, and the rows that can contribute.

    Rays are indexed from the block's first, `begun`: 32-bit offsets take half the registers.
    """
    origins += begun * 3
    directions += begun * 3
    distance += begun * num_samples
    width += begun * num_samples
    at = ray * num_samples + step
    real = on_ray & (step < num_samples)
    far = tl.load(distance + at, mask=real, other=0.0)
    length = tl.load(width + at, mask=real, other=0.0)
    px = tl.load(origins + ray * 3, mask=on_ray, other=0.0)
    py = tl.load(origins + ray * 3 + 1, mask=on_ray, other=0.0)
    pz = tl.load(origins + ray * 3 + 2, mask=on_ray, other=0.0)
    px += far * tl.load(directions + ray * 3, mask=on_ray, other=0.0)
    py += far * tl.load(directions + ray * 3 + 1, mask=on_ray, other=0.0)
    pz += far * tl.load(directions + ray * 3 + 2, mask=on_ray, other=0.0)
    lit = tl.broadcast_to((passed < OPAQUE)[:, None], [BLOCK_RAYS, BLOCK_SAMPLES])
    asked = real & tl.reshape(lit, [BLOCK_RAYS * BLOCK_SAMPLES])
    return px, py, pz, far, length, asked


@triton.jit
@no_type_check
def field(
    features, frusta, px, py, pz, asked, num_source, source_size,
    hidden_weight, hidden_bias, output_weight, output_bias,
    C: tl.constexpr, D: tl.constexpr, H: tl.constexpr, W: tl.constexpr,
    HIDDEN: tl.constexpr, LATENT: tl.constexpr,
    C_PAD: tl.constexpr, HIDDEN_BLOCK: tl.constexpr, LATENT_PAD: tl.constexpr,
    POOL_AFTER: tl.constexpr, MASK: tl.constexpr, ALIGN: tl.constexpr, WIDE: tl.constexpr,
    PRECISION: tl.constexpr, DENSITY_ONLY: tl.constexpr,
):  # fmt: skip
    """Return pooled features, the number of contributing sources, and the logits of density and latent."""
    ROWS: tl.constexpr = px.shape[0]
    united = tl.full([ROWS, C_PAD], 0.0, tl.float32)
    count = tl.full([ROWS], 0.0, tl.float32)
    density = tl.full([ROWS], 0.0, tl.float32)
    latent = tl.full([ROWS, LATENT_PAD], 0.0, tl.float32)

    # Pool features (or, with POOL_AFTER, logits) over the sources that see a point.
    # Advance the pointer per source: an offset from the first may exceed 32 bits.
    volume = features
    for source in range(num_source):
        frustum = frusta + source * FRUSTUM
        if tl.load(frustum + VALID) > 0:
            found, heard = visit(
                volume, frustum, px, py, pz, asked, 0.0, C, D, H, W, C_PAD, MASK, ALIGN, WIDE, False
            )
            say = heard.to(tl.float32)
            count += say
            if POOL_AFTER:
                one_density, one_latent = logits(
                    found, hidden_weight, hidden_bias, output_weight,
                    C, HIDDEN, LATENT, C_PAD, HIDDEN_BLOCK, LATENT_PAD, PRECISION, DENSITY_ONLY,
                )  # fmt: skip
                density += one_density * say
                latent += one_latent * say[:, None]
            else:
                united += found
        volume += source_size

    # Means over these sources; the MLP of pooled features.
    share = 1.0 / tl.maximum(count, 1.0)
    if POOL_AFTER:
        density *= share
        latent *= share[:, None]
    else:
        united *= share[:, None]
        if tl.reduce(count, 0, ADD) > 0:
            density, latent = logits(
                united, hidden_weight, hidden_bias, output_weight,
                C, HIDDEN, LATENT, C_PAD, HIDDEN_BLOCK, LATENT_PAD, PRECISION, DENSITY_ONLY,
            )  # fmt: skip

    # Biases, which are not pooled.
    column = tl.arange(0, LATENT_PAD)
    density += tl.load(output_bias)
    latent += tl.load(output_bias + 1 + column, mask=column < LATENT, other=0.0)[None, :]
    return united, count, density, latent


@triton.jit
@no_type_check
def before(amount, passed, INCLUSIVE: tl.constexpr, BLOCK_RAYS: tl.constexpr, BLOCK_SAMPLES: tl.constexpr):
    """Return prefix sums of `amount` [rows] along each ray, and the sum including the whole tile [rays].

    Exclusive sums are computed directly, not by subtracting each sample from the inclusive sum, which would
    cancel the terms before an opaque sample.
    """
    amounts = tl.reshape(amount, [BLOCK_RAYS, BLOCK_SAMPLES])
    first, second = tl.arange(0, BLOCK_SAMPLES)[:, None], tl.arange(0, BLOCK_SAMPLES)[None, :]
    earlier = second <= first if INCLUSIVE else second < first
    partial = tl.reduce(tl.where(earlier[None, :, :], amounts[:, None, :], 0.0), 2, ADD)
    up_to = tl.reshape(partial + passed[:, None], [BLOCK_RAYS * BLOCK_SAMPLES])
    return up_to, passed + tl.reduce(amounts, 1, ADD)
