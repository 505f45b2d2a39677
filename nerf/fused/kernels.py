# ruff: noqa: N803
"""The kernels of `nerf.fused.render`: a program marches front to back along the rays of a block, one tile of
samples at a time, and keeps samples in registers.

Imported only if Triton is installed; see `nerf.fused.device_functions` for the conventions.
"""

from typing import no_type_check

import triton
import triton.language as tl

from nerf.fused.device_functions import ADD, FRUSTUM, absorbed, soften_exactly
from nerf.fused.gradient import WHITE, balance, claims, spread
from nerf.fused.mlp import add_matrices
from nerf.fused.tile import OPAQUE, before, field, place


@triton.jit
@no_type_check
def render_kernel(
    features, frusta, origins, directions, cosine, distance, width,
    hidden_weight, hidden_bias, output_weight, output_bias, latent_out, depth_out, opacity_out, density_out,
    num_source, num_rays, num_samples, source_size, density_scale,
    C: tl.constexpr, D: tl.constexpr, H: tl.constexpr, W: tl.constexpr, HIDDEN: tl.constexpr,
    LATENT: tl.constexpr, C_PAD: tl.constexpr, HIDDEN_BLOCK: tl.constexpr, LATENT_PAD: tl.constexpr,
    POOL_AFTER: tl.constexpr, MASK: tl.constexpr, ALIGN: tl.constexpr, WIDE: tl.constexpr,
    PRECISION: tl.constexpr, BLOCK_RAYS: tl.constexpr, BLOCK_SAMPLES: tl.constexpr,
    DENSITY_ONLY: tl.constexpr,
):  # fmt: skip
    """Render latent, depth and opacity of a block of rays; with DENSITY_ONLY, density at the samples."""
    features, frusta, begun, left, ray, step = start(
        features, frusta, num_source, num_rays, source_size, BLOCK_RAYS, BLOCK_SAMPLES
    )
    mine, on_ray = tl.arange(0, BLOCK_RAYS), ray < left

    # Accumulators.
    # Sums per row of the tiles; rows are reduced per ray once, at the end.
    blended = tl.full([BLOCK_RAYS * BLOCK_SAMPLES, LATENT_PAD], 0.0, tl.float32)
    reached = tl.full([BLOCK_RAYS * BLOCK_SAMPLES], 0.0, tl.float32)
    stopped = tl.full([BLOCK_RAYS * BLOCK_SAMPLES], 0.0, tl.float32)
    passed = tl.full([BLOCK_RAYS], 0.0, tl.float32)  # optical thickness in front of the tile

    # Loop over tiles along the rays, until all rays are opaque.
    begin = 0
    lit = 1
    while (begin < num_samples) & (lit > 0):
        px, py, pz, far, length, asked = place(
            origins, directions, distance, width, passed, begun, ray, on_ray, begin + step, num_samples,
            BLOCK_RAYS, BLOCK_SAMPLES,
        )  # fmt: skip
        _, count, density, latent = field(
            features, frusta, px, py, pz, asked, num_source, source_size,
            hidden_weight, hidden_bias, output_weight, output_bias, C, D, H, W, HIDDEN, LATENT,
            C_PAD, HIDDEN_BLOCK, LATENT_PAD, POOL_AFTER, MASK, ALIGN, WIDE, PRECISION, DENSITY_ONLY,
        )  # fmt: skip
        dense, _ = soften_exactly(density)
        dense = tl.where(count > 0, density_scale * dense, 0.0)
        in_front, passed = before(dense * length, passed, False, BLOCK_RAYS, BLOCK_SAMPLES)
        if DENSITY_ONLY:
            tl.store(density_out + begun * num_samples + ray * num_samples + begin + step, dense, mask=asked)
        else:
            weight = tl.exp(-in_front) * absorbed(dense * length)
            blended += weight[:, None] / (1.0 + tl.exp(-latent))
            reached += weight * far
            stopped += weight
        lit = tl.reduce(((passed < OPAQUE) & (mine < left)).to(tl.int32), 0, ADD)
        begin += BLOCK_SAMPLES
    if not DENSITY_ONLY:
        finish(
            blended, reached, stopped, cosine + begun, latent_out + begun * LATENT, depth_out + begun,
            opacity_out + begun, left, LATENT, LATENT_PAD, BLOCK_RAYS, BLOCK_SAMPLES,
        )  # fmt: skip


@triton.jit
@no_type_check
def backward_kernel(
    features, frusta, origins, directions, cosine, distance, width,
    hidden_weight, hidden_bias, output_weight, output_bias,
    latent_out, depth_out, opacity_out, d_latent_out, d_depth_out, d_opacity_out, d_features, d_weights,
    num_source, num_rays, num_samples, source_size, density_scale,
    C: tl.constexpr, D: tl.constexpr, H: tl.constexpr, W: tl.constexpr, HIDDEN: tl.constexpr,
    LATENT: tl.constexpr, C_PAD: tl.constexpr, HIDDEN_BLOCK: tl.constexpr, LATENT_PAD: tl.constexpr,
    POOL_AFTER: tl.constexpr, MASK: tl.constexpr, ALIGN: tl.constexpr, WIDE: tl.constexpr,
    PRECISION: tl.constexpr, BLOCK_RAYS: tl.constexpr, BLOCK_SAMPLES: tl.constexpr,
    SCATTER: tl.constexpr, COPIES: tl.constexpr,
):  # fmt: skip
    """Gradients of the weights and, with SCATTER, of the volume, from those of latent, depth and opacity."""
    features, frusta, begun, left, ray, step = start(
        features, frusta, num_source, num_rays, source_size, BLOCK_RAYS, BLOCK_SAMPLES
    )

    # This program's gradient buffer, and the balance of each ray.
    d_features += tl.program_id(1).to(tl.int64) * num_source * source_size
    d_weights += copy(COPIES) * (HIDDEN * C + HIDDEN + (1 + LATENT) * (HIDDEN + 1))
    mine, on_ray = tl.arange(0, BLOCK_RAYS), ray < left
    to_colour, to_depth, to_opacity, total = balance(
        latent_out, depth_out, opacity_out, d_latent_out, d_depth_out, d_opacity_out, cosine, begun + ray,
        on_ray, LATENT, LATENT_PAD,
    )  # fmt: skip

    # Accumulators.
    d_first = tl.full([HIDDEN_BLOCK, C_PAD], 0.0, tl.float32)
    d_to_latent = tl.full([HIDDEN_BLOCK, LATENT_PAD], 0.0, tl.float32)
    d_density_sum = tl.full([BLOCK_RAYS * BLOCK_SAMPLES], 0.0, tl.float32)
    d_latent_sum = tl.full([BLOCK_RAYS * BLOCK_SAMPLES, LATENT_PAD], 0.0, tl.float32)
    passed = tl.full([BLOCK_RAYS], 0.0, tl.float32)
    taken = tl.full([BLOCK_RAYS], 0.0, tl.float32)  # of the balance, in front of the tile

    # Evaluate each tile again, then propagate from its samples to weights and volume.
    begin = 0
    lit = 1
    while (begin < num_samples) & (lit > 0):
        px, py, pz, far, length, asked = place(
            origins, directions, distance, width, passed, begun, ray, on_ray, begin + step, num_samples,
            BLOCK_RAYS, BLOCK_SAMPLES,
        )  # fmt: skip
        united, count, density, latent = field(
            features, frusta, px, py, pz, asked, num_source, source_size,
            hidden_weight, hidden_bias, output_weight, output_bias, C, D, H, W, HIDDEN, LATENT,
            C_PAD, HIDDEN_BLOCK, LATENT_PAD, POOL_AFTER, MASK, ALIGN, WIDE, PRECISION, False,
        )  # fmt: skip
        known = asked & (count > 0)
        d_density, d_latent, passed, taken = claims(
            density, latent, count, known, far, length, density_scale, passed, taken,
            to_colour, to_depth, to_opacity, total, BLOCK_RAYS, BLOCK_SAMPLES,
        )  # fmt: skip
        d_density_sum += d_density
        d_latent_sum += d_latent
        if tl.reduce(known.to(tl.int32), 0, ADD) > 0:
            d_first, d_to_latent = spread(
                d_density, d_latent, d_first, d_to_latent, united, count, px, py, pz, known, features, frusta,
                d_features, num_source, source_size, hidden_weight, hidden_bias, output_weight, d_weights,
                C, D, H, W, HIDDEN, LATENT, C_PAD, HIDDEN_BLOCK, LATENT_PAD,
                POOL_AFTER, MASK, ALIGN, WIDE, PRECISION, SCATTER,
            )  # fmt: skip
        lit = tl.reduce(((passed < OPAQUE) & (mine < left)).to(tl.int32), 0, ADD)
        begin += BLOCK_SAMPLES
    add_rest(
        d_weights, d_density_sum, d_latent_sum, d_first, d_to_latent,
        C, HIDDEN, LATENT, C_PAD, HIDDEN_BLOCK, LATENT_PAD,
    )  # fmt: skip


@triton.jit
@no_type_check
def start(
    features, frusta, num_source, num_rays, source_size, BLOCK_RAYS: tl.constexpr, BLOCK_SAMPLES: tl.constexpr
):
    """Return the scene's volumes and frusta; the block's first ray among all scenes, and its number of rays;
    for each row, its ray within the block and its step within the tile.
    """
    scene, block = tl.program_id(1).to(tl.int64), tl.program_id(0) * BLOCK_RAYS
    row = tl.arange(0, BLOCK_RAYS * BLOCK_SAMPLES)
    left = tl.minimum(num_rays - block, BLOCK_RAYS)
    features += scene * num_source * source_size
    frusta += scene * num_source * FRUSTUM
    return features, frusta, scene * num_rays + block, left, row // BLOCK_SAMPLES, row % BLOCK_SAMPLES


@triton.jit
@no_type_check
def finish(
    blended, reached, stopped, cosine, latent_out, depth_out, opacity_out, left,
    LATENT: tl.constexpr, LATENT_PAD: tl.constexpr, BLOCK_RAYS: tl.constexpr, BLOCK_SAMPLES: tl.constexpr,
):  # fmt: skip
    """Reduce the rows of each ray and write its latent, on white, depth and opacity."""
    opacity = tl.reduce(tl.reshape(stopped, [BLOCK_RAYS, BLOCK_SAMPLES]), 1, ADD)
    depth = tl.reduce(tl.reshape(reached, [BLOCK_RAYS, BLOCK_SAMPLES]), 1, ADD)
    colour = tl.reduce(tl.reshape(blended, [BLOCK_RAYS, BLOCK_SAMPLES, LATENT_PAD]), 1, ADD)
    colour += ((1.0 - opacity) * WHITE)[:, None]
    mine, column = tl.arange(0, BLOCK_RAYS), tl.arange(0, LATENT_PAD)[None, :]
    real = mine < left
    tl.store(opacity_out + mine, opacity, mask=real)
    tl.store(depth_out + mine, depth * tl.load(cosine + mine, mask=real, other=0.0), mask=real)
    tl.store(latent_out + mine[:, None] * LATENT + column, colour, mask=real[:, None] & (column < LATENT))


@triton.jit
@no_type_check
def copy(COPIES: tl.constexpr):
    """Return the index of this program's copy of the weights' gradients; several copies reduce contention."""
    return (tl.program_id(1) * tl.num_programs(0) + tl.program_id(0)) % COPIES


@triton.jit
@no_type_check
def add_rest(
    d_weights, d_density_sum, d_latent_sum, d_first, d_to_latent,
    C: tl.constexpr, HIDDEN: tl.constexpr, LATENT: tl.constexpr,
    C_PAD: tl.constexpr, HIDDEN_BLOCK: tl.constexpr, LATENT_PAD: tl.constexpr,
):  # fmt: skip
    """Add the register accumulators to `d_weights`: the last bias, and matrices of a single block."""
    column = tl.arange(0, LATENT_PAD)
    last = d_weights + HIDDEN * C + HIDDEN + (1 + LATENT) * HIDDEN
    tl.atomic_add(last, tl.reduce(d_density_sum, 0, ADD), sem="relaxed")
    tl.atomic_add(last + 1 + column, tl.reduce(d_latent_sum, 0, ADD), mask=column < LATENT, sem="relaxed")
    if HIDDEN <= HIDDEN_BLOCK:
        add_matrices(d_weights, 0, d_first, d_to_latent, C, HIDDEN, LATENT, C_PAD, HIDDEN_BLOCK, LATENT_PAD)
