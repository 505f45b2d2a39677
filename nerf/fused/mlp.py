# ruff: noqa: N803
"""The field's MLP in the fused kernels, forward and backward, in blocks of hidden units.

The second layer is split into its first output, the density, and the latent ones: the density alone needs no
matrix product. Imported only if Triton is installed; see `nerf.fused.device_functions` for the conventions.
"""

from typing import no_type_check

import triton
import triton.language as tl

from nerf.fused.device_functions import ADD, soften


@triton.jit
@no_type_check
def layers(
    hidden_weight, hidden_bias, output_weight, begin,
    C: tl.constexpr, HIDDEN: tl.constexpr, LATENT: tl.constexpr,
    C_PAD: tl.constexpr, HIDDEN_BLOCK: tl.constexpr, LATENT_PAD: tl.constexpr,
):  # fmt: skip
    """Load the weights of a block of hidden units, zero-padded: of the first layer [c, hidden] and [hidden],
    of the second [hidden] and [hidden, latent].
    """
    unit = begin + tl.arange(0, HIDDEN_BLOCK)
    channel, latent = tl.arange(0, C_PAD), tl.arange(0, LATENT_PAD)
    real = unit < HIDDEN
    first = tl.load(
        hidden_weight + unit[None, :] * C + channel[:, None],
        mask=real[None, :] & (channel < C)[:, None], other=0.0,
    )  # fmt: skip
    bias = tl.load(hidden_bias + unit, mask=real, other=0.0)
    to_density = tl.load(output_weight + unit, mask=real, other=0.0)
    to_latent = tl.load(
        output_weight + (1 + latent)[None, :] * HIDDEN + unit[:, None],
        mask=real[:, None] & (latent < LATENT)[None, :], other=0.0,
    )  # fmt: skip
    return first, bias, to_density, to_latent


@triton.jit
@no_type_check
def logits(
    features, hidden_weight, hidden_bias, output_weight,
    C: tl.constexpr, HIDDEN: tl.constexpr, LATENT: tl.constexpr,
    C_PAD: tl.constexpr, HIDDEN_BLOCK: tl.constexpr, LATENT_PAD: tl.constexpr,
    PRECISION: tl.constexpr, DENSITY_ONLY: tl.constexpr,
):  # fmt: skip
    """Return the MLP's outputs without bias: density [rows], latent [rows, latent].

    Weights are reloaded for every tile: cache reads cost less than keeping them in registers.
    """
    density = tl.full([features.shape[0]], 0.0, tl.float32)
    latent = tl.full([features.shape[0], LATENT_PAD], 0.0, tl.float32)
    for begin in range(0, HIDDEN, HIDDEN_BLOCK):
        first, bias, to_density, to_latent = layers(
            hidden_weight,
            hidden_bias,
            output_weight,
            begin,
            C,
            HIDDEN,
            LATENT,
            C_PAD,
            HIDDEN_BLOCK,
            LATENT_PAD,
        )
        hidden, _ = soften(tl.dot(features, first, input_precision=PRECISION) + bias[None, :])
        density += tl.reduce(hidden * to_density[None, :], 1, ADD)
        if not DENSITY_ONLY:
            latent = tl.dot(hidden, to_latent, latent, input_precision=PRECISION)
    return density, latent


@triton.jit
@no_type_check
def backward(
    features, d_density, d_latent, d_first, d_to_latent,
    hidden_weight, hidden_bias, output_weight, gradients,
    C: tl.constexpr, HIDDEN: tl.constexpr, LATENT: tl.constexpr,
    C_PAD: tl.constexpr, HIDDEN_BLOCK: tl.constexpr, LATENT_PAD: tl.constexpr,
    PRECISION: tl.constexpr,
):  # fmt: skip
    """Return the gradient of the features from that of `logits`; gradients of the weights are accumulated.

    `gradients` is a buffer for hidden.weight, hidden.bias, output.weight and output.bias, concatenated.
    Vectors are added to it immediately. Matrices are accumulated in registers over all tiles, in `d_first`
    and `d_to_latent`, if there is a single block of hidden units; otherwise they are added immediately, too.
    """
    d_features = tl.full([features.shape[0], C_PAD], 0.0, tl.float32)
    for begin in range(0, HIDDEN, HIDDEN_BLOCK):
        first, bias, to_density, to_latent = layers(
            hidden_weight,
            hidden_bias,
            output_weight,
            begin,
            C,
            HIDDEN,
            LATENT,
            C_PAD,
            HIDDEN_BLOCK,
            LATENT_PAD,
        )
        if HIDDEN > HIDDEN_BLOCK:
            d_first = tl.full([HIDDEN_BLOCK, C_PAD], 0.0, tl.float32)
            d_to_latent = tl.full([HIDDEN_BLOCK, LATENT_PAD], 0.0, tl.float32)
        unit = begin + tl.arange(0, HIDDEN_BLOCK)
        real = unit < HIDDEN
        hidden, slope = soften(tl.dot(features, first, input_precision=PRECISION) + bias[None, :])
        change = tl.reduce(hidden * d_density[:, None], 0, ADD)
        tl.atomic_add(gradients + HIDDEN * C + HIDDEN + unit, change, mask=real, sem="relaxed")
        d_to_latent = tl.dot(tl.trans(hidden), d_latent, d_to_latent, input_precision=PRECISION)
        d_hidden = tl.dot(d_latent, tl.trans(to_latent), input_precision=PRECISION)
        d_before = (d_hidden + d_density[:, None] * to_density[None, :]) * slope
        change = tl.reduce(d_before, 0, ADD)
        tl.atomic_add(gradients + HIDDEN * C + unit, change, mask=real, sem="relaxed")
        d_first = tl.dot(tl.trans(d_before), features, d_first, input_precision=PRECISION)
        d_features = tl.dot(d_before, tl.trans(first), d_features, input_precision=PRECISION)
        if HIDDEN > HIDDEN_BLOCK:
            add_matrices(
                gradients, begin, d_first, d_to_latent, C, HIDDEN, LATENT, C_PAD, HIDDEN_BLOCK, LATENT_PAD
            )
    return d_features, d_first, d_to_latent


@triton.jit
@no_type_check
def add_matrices(
    gradients, begin, d_first, d_to_latent,
    C: tl.constexpr, HIDDEN: tl.constexpr, LATENT: tl.constexpr,
    C_PAD: tl.constexpr, HIDDEN_BLOCK: tl.constexpr, LATENT_PAD: tl.constexpr,
):  # fmt: skip
    """Add the gradients of a block's matrices, [hidden, c] and [hidden, latent], to `gradients`, in the
    layout of `backward`.
    """
    unit = begin + tl.arange(0, HIDDEN_BLOCK)
    channel, latent = tl.arange(0, C_PAD), tl.arange(0, LATENT_PAD)
    real = unit < HIDDEN
    tl.atomic_add(
        gradients + unit[:, None] * C + channel[None, :], d_first,
        mask=real[:, None] & (channel < C)[None, :], sem="relaxed",
    )  # fmt: skip
    tl.atomic_add(
        gradients + HIDDEN * C + HIDDEN + (1 + latent)[None, :] * HIDDEN + unit[:, None], d_to_latent,
        mask=real[:, None] & (latent < LATENT)[None, :], sem="relaxed",
    )  # fmt: skip
