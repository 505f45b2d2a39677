# ruff: noqa: N803, N806
"""The kernels of `nerf.fused`: a program walks front to back along the rays of a block, a tile of samples at
a time, and keeps everything about a sample in registers.

Imported only where Triton is; see `nerf.fused_device` for the conventions.
"""

from typing import no_type_check

import triton
import triton.language as tl

from nerf.composite import BACKGROUND
from nerf.fused_device import ADD, FRUSTUM, VALID, absorbed, soften_exactly, visit
from nerf.fused_network import add_matrices, backward
from nerf.fused_tile import OPAQUE, before, field, place

WHITE = tl.constexpr(BACKGROUND)


@triton.jit
@no_type_check
def render_kernel(
    features, frusta, origins, directions, cosine, distance, width,
    hidden_weight, hidden_bias, output_weight, output_bias,
    latent_out, depth_out, opacity_out, density_out,
    num_source, num_rays, num_samples, source_size, density_scale,
    C: tl.constexpr, D: tl.constexpr, H: tl.constexpr, W: tl.constexpr,
    HIDDEN: tl.constexpr, LATENT: tl.constexpr,
    C_PAD: tl.constexpr, HIDDEN_BLOCK: tl.constexpr, LATENT_PAD: tl.constexpr,
    POOL_AFTER: tl.constexpr, MASK: tl.constexpr, ALIGN: tl.constexpr, WIDE: tl.constexpr,
    PRECISION: tl.constexpr, BLOCK_RAYS: tl.constexpr, BLOCK_SAMPLES: tl.constexpr,
    DENSITY_ONLY: tl.constexpr,
):  # fmt: skip
    """Latent, depth and opacity of a block of rays; or, with DENSITY_ONLY, the density of their samples."""
    ROWS: tl.constexpr = BLOCK_RAYS * BLOCK_SAMPLES
    # From here on, rays are counted within the block: offsets of 32 bits take half the registers.
    scene, block = tl.program_id(1).to(tl.int64), tl.program_id(0) * BLOCK_RAYS
    begun = scene * num_rays + block
    num_rays = tl.minimum(num_rays - block, BLOCK_RAYS)
    origins += begun * 3
    directions += begun * 3
    cosine += begun
    distance += begun * num_samples
    width += begun * num_samples
    latent_out += begun * LATENT
    depth_out += begun
    opacity_out += begun
    density_out += begun * num_samples
    features += scene * num_source * source_size
    frusta += scene * num_source * FRUSTUM
    row = tl.arange(0, ROWS)
    ray, step = row // BLOCK_SAMPLES, row % BLOCK_SAMPLES
    on_ray = ray < num_rays
    mine = tl.arange(0, BLOCK_RAYS)
    # Sums per row of the tiles; a ray's rows are added up once, at the end.
    blended = tl.full([ROWS, LATENT_PAD], 0.0, tl.float32)
    reached = tl.full([ROWS], 0.0, tl.float32)
    stopped = tl.full([ROWS], 0.0, tl.float32)
    passed = tl.full([BLOCK_RAYS], 0.0, tl.float32)  # optical thickness in front of the tile
    begin = 0
    lit = 1
    while (begin < num_samples) & (lit > 0):
        px, py, pz, far, length, asked = place(
            origins, directions, distance, width, passed, ray, on_ray, begin + step, num_samples,
            BLOCK_RAYS, BLOCK_SAMPLES,
        )  # fmt: skip
        _, count, density, latent = field(
            features, frusta, px, py, pz, asked, num_source, source_size,
            hidden_weight, hidden_bias, output_weight, output_bias,
            C, D, H, W, HIDDEN, LATENT, C_PAD, HIDDEN_BLOCK, LATENT_PAD,
            POOL_AFTER, MASK, ALIGN, WIDE, PRECISION, DENSITY_ONLY,
        )  # fmt: skip
        dense, _ = soften_exactly(density)
        dense = tl.where(count > 0, density_scale * dense, 0.0)
        thickness = dense * length
        in_front, passed = before(thickness, passed, False, BLOCK_RAYS, BLOCK_SAMPLES)
        if DENSITY_ONLY:
            tl.store(density_out + ray * num_samples + begin + step, dense, mask=asked)
        else:
            weight = tl.exp(-in_front) * absorbed(thickness)
            blended += weight[:, None] / (1.0 + tl.exp(-latent))
            reached += weight * far
            stopped += weight
        lit = tl.reduce(((passed < OPAQUE) & (mine < num_rays)).to(tl.int32), 0, ADD)
        begin += BLOCK_SAMPLES
    if not DENSITY_ONLY:
        opacity = tl.reduce(tl.reshape(stopped, [BLOCK_RAYS, BLOCK_SAMPLES]), 1, ADD)
        depth = tl.reduce(tl.reshape(reached, [BLOCK_RAYS, BLOCK_SAMPLES]), 1, ADD)
        colour = tl.reduce(tl.reshape(blended, [BLOCK_RAYS, BLOCK_SAMPLES, LATENT_PAD]), 1, ADD)
        colour += ((1.0 - opacity) * WHITE)[:, None]
        real = mine < num_rays
        column = tl.arange(0, LATENT_PAD)
        tl.store(opacity_out + mine, opacity, mask=real)
        tl.store(depth_out + mine, depth * tl.load(cosine + mine, mask=real, other=0.0), mask=real)
        tl.store(
            latent_out + mine[:, None] * LATENT + column[None, :], colour,
            mask=real[:, None] & (column < LATENT)[None, :],
        )  # fmt: skip


@triton.jit
@no_type_check
def backward_kernel(
    features, frusta, origins, directions, cosine, distance, width,
    hidden_weight, hidden_bias, output_weight, output_bias,
    latent_out, depth_out, opacity_out, d_latent_out, d_depth_out, d_opacity_out, d_features, d_weights,
    num_source, num_rays, num_samples, source_size, density_scale,
    C: tl.constexpr, D: tl.constexpr, H: tl.constexpr, W: tl.constexpr,
    HIDDEN: tl.constexpr, LATENT: tl.constexpr,
    C_PAD: tl.constexpr, HIDDEN_BLOCK: tl.constexpr, LATENT_PAD: tl.constexpr,
    POOL_AFTER: tl.constexpr, MASK: tl.constexpr, ALIGN: tl.constexpr, WIDE: tl.constexpr,
    PRECISION: tl.constexpr, BLOCK_RAYS: tl.constexpr, BLOCK_SAMPLES: tl.constexpr,
    SCATTER: tl.constexpr, COPIES: tl.constexpr,
):  # fmt: skip
    """Gradients of the volume (where SCATTER) and of the weights, from those of latent, depth and opacity.

    With q = d_latent . (colour - white) + d_depth * depth + d_opacity of a sample, the loss changes with its
    thickness by q times the light left behind it, less the sum of weight * q of all samples behind it. That
    sum over the whole ray follows from the ray's outputs; what lies in front is taken off on the way.
    """
    ROWS: tl.constexpr = BLOCK_RAYS * BLOCK_SAMPLES
    # From here on, rays are counted within the block: offsets of 32 bits take half the registers.
    scene, block = tl.program_id(1).to(tl.int64), tl.program_id(0) * BLOCK_RAYS
    begun = scene * num_rays + block
    num_rays = tl.minimum(num_rays - block, BLOCK_RAYS)
    origins += begun * 3
    directions += begun * 3
    cosine += begun
    distance += begun * num_samples
    width += begun * num_samples
    latent_out += begun * LATENT
    depth_out += begun
    opacity_out += begun
    d_latent_out += begun * LATENT
    d_depth_out += begun
    d_opacity_out += begun
    features += scene * num_source * source_size
    d_features += scene * num_source * source_size
    frusta += scene * num_source * FRUSTUM
    # Programs share a few copies of the weights' gradients, so that they seldom wait for one another.
    copy = (tl.program_id(1) * tl.num_programs(0) + tl.program_id(0)) % COPIES
    d_weights += copy * (HIDDEN * C + HIDDEN + (1 + LATENT) * (HIDDEN + 1))
    column = tl.arange(0, LATENT_PAD)
    row = tl.arange(0, ROWS)
    ray, step = row // BLOCK_SAMPLES, row % BLOCK_SAMPLES
    on_ray = ray < num_rays
    mine = tl.arange(0, BLOCK_RAYS)
    d_first = tl.full([HIDDEN_BLOCK, C_PAD], 0.0, tl.float32)
    d_to_latent = tl.full([HIDDEN_BLOCK, LATENT_PAD], 0.0, tl.float32)
    d_density_sum = tl.full([ROWS], 0.0, tl.float32)
    d_latent_sum = tl.full([ROWS, LATENT_PAD], 0.0, tl.float32)

    real = on_ray[:, None] & (column < LATENT)[None, :]
    to_colour = tl.load(d_latent_out + ray[:, None] * LATENT + column[None, :], mask=real, other=0.0)
    colour = tl.load(latent_out + ray[:, None] * LATENT + column[None, :], mask=real, other=0.0)
    to_depth = tl.load(d_depth_out + ray, mask=on_ray, other=0.0)
    to_opacity = tl.load(d_opacity_out + ray, mask=on_ray, other=0.0)
    total = tl.reduce(to_colour * (colour - WHITE), 1, ADD)
    total += to_depth * tl.load(depth_out + ray, mask=on_ray, other=0.0)
    total += to_opacity * tl.load(opacity_out + ray, mask=on_ray, other=0.0)
    to_depth *= tl.load(cosine + ray, mask=on_ray, other=0.0)

    passed = tl.full([BLOCK_RAYS], 0.0, tl.float32)
    taken = tl.full([BLOCK_RAYS], 0.0, tl.float32)  # of `total`, in front of the tile
    begin = 0
    lit = 1
    while (begin < num_samples) & (lit > 0):
        px, py, pz, far, length, asked = place(
            origins, directions, distance, width, passed, ray, on_ray, begin + step, num_samples,
            BLOCK_RAYS, BLOCK_SAMPLES,
        )  # fmt: skip
        united, count, density, latent = field(
            features, frusta, px, py, pz, asked, num_source, source_size,
            hidden_weight, hidden_bias, output_weight, output_bias,
            C, D, H, W, HIDDEN, LATENT, C_PAD, HIDDEN_BLOCK, LATENT_PAD,
            POOL_AFTER, MASK, ALIGN, WIDE, PRECISION, False,
        )  # fmt: skip
        dense, slope = soften_exactly(density)
        thickness = tl.where(count > 0, density_scale * dense, 0.0) * length
        in_front, passed = before(thickness, passed, False, BLOCK_RAYS, BLOCK_SAMPLES)
        weight = tl.exp(-in_front) * absorbed(thickness)
        shown = 1.0 / (1.0 + tl.exp(-latent))
        worth = tl.reduce(to_colour * (shown - WHITE), 1, ADD) + to_depth * far + to_opacity
        up_to, taken = before(weight * worth, taken, True, BLOCK_RAYS, BLOCK_SAMPLES)
        d_thickness = worth * tl.exp(-in_front - thickness) - (total - up_to)
        known = asked & (count > 0)
        d_density = tl.where(known, d_thickness * length * density_scale * slope, 0.0)
        d_latent = tl.where(known[:, None], weight[:, None] * to_colour * shown * (1.0 - shown), 0.0)
        d_density_sum += d_density
        d_latent_sum += d_latent
        if tl.reduce(known.to(tl.int32), 0, ADD) > 0:
            share = 1.0 / tl.maximum(count, 1.0)
            d_united = tl.full([ROWS, C_PAD], 0.0, tl.float32)
            if not POOL_AFTER:
                d_united, d_first, d_to_latent = backward(
                    united, d_density, d_latent, d_first, d_to_latent,
                    hidden_weight, hidden_bias, output_weight, d_weights,
                    C, HIDDEN, LATENT, C_PAD, HIDDEN_BLOCK, LATENT_PAD, PRECISION,
                )  # fmt: skip
            for source in range(num_source):
                frustum = frusta + source * FRUSTUM
                if tl.load(frustum + VALID) > 0:
                    d_source = d_united * share[:, None]
                    if POOL_AFTER:
                        found, heard = visit(
                            features + source * source_size, frustum, px, py, pz, known, 0.0,
                            C, D, H, W, C_PAD, MASK, ALIGN, WIDE, False,
                        )  # fmt: skip
                        say = tl.where(heard, share, 0.0)
                        d_source, d_first, d_to_latent = backward(
                            found, d_density * say, d_latent * say[:, None],
                            d_first, d_to_latent,
                            hidden_weight, hidden_bias, output_weight, d_weights,
                            C, HIDDEN, LATENT, C_PAD, HIDDEN_BLOCK, LATENT_PAD, PRECISION,
                        )  # fmt: skip
                    if SCATTER:
                        visit(
                            d_features + source * source_size, frustum, px, py, pz, known, d_source,
                            C, D, H, W, C_PAD, MASK, ALIGN, WIDE, True,
                        )  # fmt: skip
        lit = tl.reduce(((passed < OPAQUE) & (mine < num_rays)).to(tl.int32), 0, ADD)
        begin += BLOCK_SAMPLES
    output_gradient = d_weights + HIDDEN * C + HIDDEN + (1 + LATENT) * HIDDEN
    tl.atomic_add(output_gradient, tl.reduce(d_density_sum, 0, ADD), sem="relaxed")
    tl.atomic_add(
        output_gradient + 1 + column, tl.reduce(d_latent_sum, 0, ADD), mask=column < LATENT, sem="relaxed"
    )
    if HIDDEN <= HIDDEN_BLOCK:
        add_matrices(
            d_weights, 0, d_first, d_to_latent,
            C, HIDDEN, LATENT, C_PAD, HIDDEN_BLOCK, LATENT_PAD,
        )  # fmt: skip
