# ruff: noqa: N803, SIM108
"""Device functions of the fused kernels: softplus, frustum coordinates, trilinear reads and writes.

Imported only if Triton is installed. One row is one sample of one ray; the rows of a tile are the rows of its
matrix products. Names in capitals are compile-time constants (sizes: c, d, h, w, hidden units, latent
channels); `*_PAD` are sizes padded to powers of two, at least 16.

`no_type_check` excludes compiled functions from the run-time shape checks installed by tests.
"""

from typing import no_type_check

import triton
import triton.language as tl

from nerf.volume import SMALLEST_DEPTH

NEAREST = tl.constexpr(SMALLEST_DEPTH)
FRUSTUM = tl.constexpr(21)  # numbers that describe a source: see `nerf.fused.render._frusta`
NEAR, FAR, VALID = tl.constexpr(18), tl.constexpr(19), tl.constexpr(20)
# This exact function: Triton's interpreter recognises it and sums all at once instead of one by one.
ADD = tl.standard._sum_combine


@triton.jit
@no_type_check
def soften(x):
    """Return softplus(x) and its derivative. Beyond 20 they are x and 1 in float32."""
    small = tl.exp(-tl.abs(x))
    slope = tl.where(x >= 0, 1.0, small) / (1.0 + small)
    return tl.maximum(x, 0.0) + tl.log(1.0 + small), slope


@triton.jit
@no_type_check
def soften_exactly(x):
    """As `soften`, with a small relative error also for tiny results, which may be scaled up.

    log(1 + e) is 2 atanh(e / (2 + e)), whose argument is at most 1/3: seven terms of its series.
    """
    small = tl.exp(-tl.abs(x))
    slope = tl.where(x >= 0, 1.0, small) / (1.0 + small)
    ratio = small / (2.0 + small)
    square = ratio * ratio
    series = 1.0 / 11 + square * (1.0 / 13 + square * (1.0 / 15))
    series = 1.0 + square * (
        1.0 / 3 + square * (1.0 / 5 + square * (1.0 / 7 + square * (1.0 / 9 + square * series)))
    )
    return tl.maximum(x, 0.0) + 2.0 * ratio * series, slope


@triton.jit
@no_type_check
def absorbed(thickness):
    """Return 1 - exp(-thickness), also if tiny: the series below one half is accurate to 2e-9."""
    x = tl.minimum(thickness, 0.5)
    series = 1.0 / 120 - x * (1.0 / 720 - x * (1.0 / 5040 - x * (1.0 / 40320 - x * (1.0 / 362880))))
    series = x * (1.0 - x * (0.5 - x * (1.0 / 6 - x * (1.0 / 24 - x * series))))
    return tl.where(thickness < 0.5, series, 1.0 - tl.exp(-thickness))


@triton.jit
@no_type_check
def edges(at, SIZE: tl.constexpr, SCALE: tl.constexpr, ALIGN: tl.constexpr):
    """Return the two texels around a coordinate (-1 to 1), clamped to the border; the second's weight."""
    if ALIGN:
        place = (at + 1.0) * (0.5 * (SIZE - 1))
    else:
        place = ((at * SCALE + 1.0) * SIZE - 1.0) * 0.5
    place = tl.minimum(tl.maximum(place, 0.0), SIZE - 1.0)
    low = tl.floor(place)
    texel = low.to(tl.int32)
    return texel, tl.minimum(texel + 1, SIZE - 1), place - low


@triton.jit
@no_type_check
def locate(frustum, px, py, pz):
    """Project world points to a source's frustum, from -1 to 1, as `FrustumVolume.coordinates`."""
    rx, ry, rz = px - tl.load(frustum), py - tl.load(frustum + 1), pz - tl.load(frustum + 2)
    x = rx * tl.load(frustum + 3) + ry * tl.load(frustum + 6) + rz * tl.load(frustum + 9)
    y = rx * tl.load(frustum + 4) + ry * tl.load(frustum + 7) + rz * tl.load(frustum + 10)
    depth = rx * tl.load(frustum + 5) + ry * tl.load(frustum + 8) + rz * tl.load(frustum + 11)
    safe = tl.maximum(depth, NEAREST)
    x, y = x / safe, y / safe
    u = x * tl.load(frustum + 12) + y * tl.load(frustum + 13) + tl.load(frustum + 14)
    v = x * tl.load(frustum + 15) + y * tl.load(frustum + 16) + tl.load(frustum + 17)
    near, far = tl.load(frustum + NEAR), tl.load(frustum + FAR)
    return 2.0 * u - 1.0, 2.0 * v - 1.0, 2.0 * (depth - near) / (far - near) - 1.0


@triton.jit
@no_type_check
def visit(
    volume, frustum, px, py, pz, asked, change,
    C: tl.constexpr, D: tl.constexpr, H: tl.constexpr, W: tl.constexpr, C_PAD: tl.constexpr,
    MASK: tl.constexpr, ALIGN: tl.constexpr, WIDE: tl.constexpr, SCATTER: tl.constexpr,
):  # fmt: skip
    """Return trilinear features [rows, channels] of a source at the points, and which points it sees.

    With SCATTER, the transpose: `change` [rows, channels] is added to `volume`, the gradient, where features
    would be read; otherwise it is unused. With MASK, points outside the frustum have no weight.
    """
    u, v, z = locate(frustum, px, py, pz)
    if MASK:
        asked = asked & (tl.maximum(tl.abs(u), tl.maximum(tl.abs(v), tl.abs(z))) <= 1.0)
    features = tl.full([px.shape[0], C_PAD], 0.0, tl.float32)
    if tl.reduce(asked.to(tl.int32), 0, ADD) > 0:
        left, right, to_right = edges(u, W, 1.0, ALIGN)
        upper, lower, to_lower = edges(v, H, 1.0, ALIGN)
        front, back, to_back = edges(z, D, (D - 1.0) / D, ALIGN)
        channel = tl.arange(0, C_PAD)[None, :]
        wanted = asked[:, None] & (channel < C)
        for corner in tl.static_range(8):
            plane, share = (back, to_back) if corner // 4 else (front, 1.0 - to_back)
            row, part = (lower, to_lower) if corner // 2 % 2 else (upper, 1.0 - to_lower)
            column, piece = (right, to_right) if corner % 2 else (left, 1.0 - to_right)
            texel = (plane * H + row) * W + column
            if WIDE:
                texel = texel.to(tl.int64)
            share = (share * part * piece)[:, None]
            at = volume + (texel * C)[:, None] + channel
            if SCATTER:
                tl.atomic_add(at, change * share, mask=wanted, sem="relaxed")
            else:
                features += tl.load(at, mask=wanted, other=0.0).to(tl.float32) * share
    return features, asked
