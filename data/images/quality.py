"""PSNR and SSIM of images in [-1, 1]."""

from functools import partial
from importlib import import_module
from types import ModuleType

import torch
from jaxtyping import Float
from torch import Tensor

from data.images.pixels import to_uint8


def psnr(
    images: Float[Tensor, "*batch 3 h w"], truth: Float[Tensor, "*batch 3 h w"]
) -> Float[Tensor, "*batch"]:
    """Peak signal-to-noise ratio in dB of each image, after rounding to 8 bits as if saved."""
    error = (to_uint8(images).float() - to_uint8(truth).float()) / 255
    return -10 * error.square().flatten(-3).mean(dim=-1).clamp_min(1e-10).log10()


SSIM_WINDOW, SSIM_SIGMA = 11, 1.5  # pixels


INSTALL = "pip install -r requirements-metrics.txt"


UNIFORM_WINDOW = 7  # pixels


def ssim(
    images: Float[Tensor, "*batch 3 h w"], truth: Float[Tensor, "*batch 3 h w"]
) -> Float[Tensor, "*batch"]:
    """Structural similarity of each image, 1 if equal, by torchmetrics in float64.

    Wang et al. 2004 per colour channel: 8-bit pixels (data range 255), a Gaussian window of 11 pixels and
    sigma 1.5, K1 = 0.01, K2 = 0.03, averaged where the window is within the image. Raises ValueError if the
    image is smaller than the window, or torchmetrics is missing.
    """
    if min(images.shape[-2:]) < SSIM_WINDOW:
        raise ValueError(
            f"images of {_size(images)} are smaller than SSIM's window; use {SSIM_WINDOW} or more"
        )
    function = extra("torchmetrics.functional.image").structural_similarity_index_measure
    pictures = [to_uint8(part).movedim(-1, -3).flatten(0, -4).double() for part in (images, truth)]
    options = {"kernel_size": SSIM_WINDOW, "sigma": SSIM_SIGMA, "data_range": 255.0, "reduction": "none"}
    _, everywhere = function(*pictures, **options, return_full_image=True)
    # Near the border torchmetrics pads by reflection, and versions differ in whether that is averaged.
    margin = SSIM_WINDOW // 2
    inside = everywhere[..., margin:-margin, margin:-margin]
    return inside.mean(dim=(1, 2, 3)).reshape(images.shape[:-3]).float()


def uniform_ssim(
    images: Float[Tensor, "*batch 3 h w"], truth: Float[Tensor, "*batch 3 h w"]
) -> Float[Tensor, "*batch"]:
    """Structural similarity of each image with scikit-image's defaults, in float64.

    Used by pixelNeRF's evaluation and its successors: 8-bit pixels, per colour channel, a uniform window of 7
    x 7 pixels within the image, sample covariances, K1 = 0.01, K2 = 0.03. Raises ValueError if the image is
    smaller than the window.
    """
    if min(images.shape[-2:]) < UNIFORM_WINDOW:
        raise ValueError(
            f"images of {_size(images)} are smaller than SSIM's window; use {UNIFORM_WINDOW} or more"
        )
    x, y = (to_uint8(part).movedim(-1, -3).flatten(0, -4).double() for part in (images, truth))
    local_mean = partial(torch.nn.functional.avg_pool2d, kernel_size=UNIFORM_WINDOW, stride=1)
    mean_x, mean_y = local_mean(x), local_mean(y)
    sample = UNIFORM_WINDOW**2 / (UNIFORM_WINDOW**2 - 1)
    spread = sample * (local_mean(x * x + y * y) - mean_x**2 - mean_y**2)
    covariance = sample * (local_mean(x * y) - mean_x * mean_y)
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    luminance = (2 * mean_x * mean_y + c1) / (mean_x**2 + mean_y**2 + c1)
    similarity = luminance * (2 * covariance + c2) / (spread + c2)
    return similarity.mean(dim=(1, 2, 3)).reshape(images.shape[:-3]).float()


def extra(name: str) -> ModuleType:
    """Import a module used only for metrics. Raises ValueError with the remedy if it is not installed."""
    try:
        return import_module(name)
    except ImportError as error:
        raise ValueError(f"{error.name or name} is not installed; {INSTALL}") from error


def _size(images: Tensor) -> str:
    return f"{images.shape[-2]} x {images.shape[-1]}"
