"""A learned 2x upsampling fused with the following convolution.

A 2x2 transposed convolution with stride 2 followed directly by a 3x3 convolution is a 4x4 transposed
convolution with stride 2, whose kernel is the polynomial product of both. The result is the same up to
rounding; a large image takes 2.5 times fewer multiplications, and the intermediate image is never in memory.
Axes: i input channels, m intermediate, o output.
"""

from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn.grad import conv2d_weight

from models.device import to_device_of

# Polynomials of three and two coefficients are multiplied by their values at 0, 1, -1 and infinity (Toom
# 1963, Cook 1966): four products instead of six per axis, sixteen instead of thirty-six in total.
OF_THREE = ((1.0, 0.0, 0.0), (1.0, 1.0, 1.0), (1.0, -1.0, 1.0), (0.0, 0.0, 1.0))
OF_TWO = ((1.0, 0.0), (1.0, 1.0), (1.0, -1.0), (0.0, 1.0))
TO_FOUR = ((1.0, 0.0, 0.0, 0.0), (0.0, 0.5, -0.5, -1.0), (-1.0, 0.5, 0.5, 0.0), (0.0, 0.0, 0.0, 1.0))


def worthwhile(x: Float[Tensor, "n i h w"]) -> bool:
    """Whether the fused operation on `x` saves more than multiplying the kernels costs.

    With equal channels i, m and o, and p pixels, it takes 16 (p + i) i^2 multiplications instead of 40 p i^2:
    fewer from p = 0.7 i. It was measured to be faster on a CPU from about twice that. Decided by the size of
    one image, so that an image's result does not depend on its batch.
    """
    return x.shape[2] * x.shape[3] >= 2 * x.shape[1]


def double(
    x: Float[Tensor, "n i h w"],
    up: Float[Tensor, "i m 2 2"],
    up_bias: Float[Tensor, "m"],
    convolution: Float[Tensor, "o m 3 3"],
) -> Float[Tensor, "n o 2*h 2*w"]:
    """Compute conv2d(conv_transpose2d(x, up, up_bias, stride=2), convolution, padding=1).

    On a CPU, only first-order gradients are supported.
    """
    dtype = _precision(x)
    rounded = not x.is_cuda and dtype.itemsize < up.dtype.itemsize
    with torch.autocast(x.device.type, enabled=False):  # the product needs more precision than its factors
        kernel = product(up, convolution, gradient_dtype=dtype if rounded else None)
        # The bias is a channel of ones: it is zero beyond the border, like the padding.
        bias_kernel = torch.einsum("omyx,m->oyx", convolution.flip(2, 3), up_bias)
        bias_kernel = F.conv_transpose2d(x.new_ones(1, 1, 2, 2, dtype=up.dtype), bias_kernel[None])
        if rounded:
            bias = _tiled(_of_ones(2, 2, bias_kernel), x.shape[2:], dtype)
        else:
            bias = _of_ones(*x.shape[2:], bias_kernel).to(dtype)
        grow = _grow if x.is_cuda else _Grow.apply
        return grow(x.to(dtype), kernel.to(dtype)) + bias


def _of_ones(height: int, width: int, kernel: Float[Tensor, "1 o 4 4"]) -> Float[Tensor, "1 o h2 w2"]:
    """`_grow` of one channel of ones."""
    return F.conv_transpose2d(kernel.new_ones(1, 1, height, width), kernel, stride=2, padding=1)


def _tiled(
    corners: Float[Tensor, "1 o 4 4"], size: tuple[int, int], dtype: torch.dtype
) -> Float[Tensor, "1 o h2 w2"]:
    """Expand `_of_ones` of 2x2 to any `size`, in lower precision: its inner rows and columns repeat.

    An exact matrix product with ones and zeros, channels last: ten times faster for a large image.
    """
    rows, columns = (_repeats(length).to(corners.device) for length in size)
    places = torch.kron(rows, columns).to(dtype)
    tiled = places @ corners[0].flatten(1).T.to(dtype)
    return tiled.unflatten(0, (len(rows), len(columns))).permute(2, 0, 1)[None]


def _repeats(length: int) -> Float[Tensor, "l2 4"]:
    """One-hot matrix that repeats four rows to `2 * length`: 0, 1, 2, 1, 2, ..., 1, 2, 3."""
    return torch.eye(4)[[0, *[1, 2] * (length - 1), 3]]


def _precision(x: Tensor) -> torch.dtype:
    """Return the dtype in which a convolution of `x` is computed."""
    device = x.device.type
    # Not torch.amp.is_autocast_available, which the compiler of torch 2.11 cannot follow.
    casts = device != "meta" and torch.is_autocast_enabled(device)
    casts = casts and x.dtype != torch.float64  # which autocast ignores
    return torch.get_autocast_dtype(device) if casts else x.dtype


def _grow(x: Float[Tensor, "n i h w"], kernel: Float[Tensor, "i o 4 4"]) -> Float[Tensor, "n o 2*h 2*w"]:
    return F.conv_transpose2d(x, kernel, stride=2, padding=1)


class _Grow(torch.autograd.Function):
    """`_grow` for the CPU, where in float32 the kernel's gradient takes two thirds of the time with channels
    first: worth permuting channels-last tensors. Not so in bfloat16.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, kernel: Tensor) -> Tensor:
        ctx.save_for_backward(x, kernel)
        return _grow(x, kernel)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None]:
        x, kernel = ctx.saved_tensors
        of_x = of_kernel = None
        with torch.autocast("cpu", enabled=False):
            if ctx.needs_input_grad[0]:
                of_x = F.conv2d(gradient, kernel, stride=2, padding=1)
            if ctx.needs_input_grad[1]:
                if x.dtype != torch.bfloat16:
                    gradient, x = _channels_first(gradient), _channels_first(x)
                of_kernel = conv2d_weight(gradient, kernel.shape, x, stride=2, padding=1)
        return of_x, of_kernel


def _channels_first(x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c h w"]:
    if x.is_contiguous():
        return x
    turned = torch.empty_like(x, memory_format=torch.contiguous_format)
    for image, there in zip(x, turned, strict=True):
        there.flatten(1).copy_(image.flatten(1))  # three times faster on matrices
    return turned


def product(
    up: Float[Tensor, "i m 2 2"],
    convolution: Float[Tensor, "o m 3 3"],
    *,
    gradient_dtype: torch.dtype | None = None,
) -> Float[Tensor, "i o 4 4"]:
    """Return the kernel of the fused transposed convolution.

    With `gradient_dtype`, gradients are multiplied in that lower precision, like those of other layers.
    """
    three, two, four = (_both_axes(rows, like=up) for rows in (OF_THREE, OF_TWO, TO_FOUR))
    # A convolution's kernel is flipped relative to a transposed convolution's.
    entering = two @ up.permute(2, 3, 0, 1).flatten(0, 1).flatten(1)
    leaving = three @ convolution.flip(2, 3).permute(2, 3, 1, 0).flatten(0, 1).flatten(1)
    i, m, o = *up.shape[:2], len(convolution)
    factors = entering.unflatten(1, (i, m)), leaving.unflatten(1, (m, o))
    values = _RoundedBackward.apply(*factors, gradient_dtype) if gradient_dtype else torch.bmm(*factors)
    return (four @ values.flatten(1)).unflatten(1, (i, o)).unflatten(0, (4, 4)).permute(2, 3, 0, 1)


class _RoundedBackward(torch.autograd.Function):
    """torch.bmm whose gradients are multiplied in a lower precision, and returned in that of the inputs."""

    @staticmethod
    def forward(ctx: Any, left: Tensor, right: Tensor, dtype: torch.dtype) -> Tensor:
        ctx.dtype = dtype
        ctx.save_for_backward(left, right)
        return torch.bmm(left, right)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        of_left = of_right = None
        # No generator expression: torch.compile cannot follow one here.
        left, right = ctx.saved_tensors
        given, left, right = gradient.to(ctx.dtype), left.to(ctx.dtype), right.to(ctx.dtype)
        with torch.autocast("cpu", enabled=False):
            if ctx.needs_input_grad[0]:
                of_left = torch.bmm(given, right.mT).to(gradient.dtype)
            if ctx.needs_input_grad[1]:
                of_right = torch.bmm(left.mT, given).to(gradient.dtype)
        return of_left, of_right, None


def _both_axes(rows: tuple[tuple[float, ...], ...], *, like: Tensor) -> Float[Tensor, "16 k"]:
    """Apply `rows` along both axes (Kronecker product)."""
    along = torch.tensor(rows)
    return to_device_of(like, torch.kron(along, along))
