"""Metrics of pairs of images. Distances of sets are in `fid` and `kid`."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from data.images.pixels import to_uint8
from data.images.quality import psnr, ssim, uniform_ssim
from models.perceptual import Distance, load_stlpips
from scripts.evaluate.metrics.weights import load_dists, load_lpips

PICTURES_AT_ONCE = 25  # batch size of a network


@dataclass(frozen=True)
class Metric:
    """A metric of an image and the ground truth."""

    title: str
    load: Callable[[torch.device], Distance]
    more_is_better: bool
    digits: int  # after the decimal point, in tables


def exact_psnr(images: Tensor, truth: Tensor) -> Tensor:
    """`data.images.quality.psnr` of 8-bit images [n 3 h w] -> [n], infinite for equal images."""
    equal = (to_uint8(images) == to_uint8(truth)).flatten(1).all(dim=1)
    return psnr(images, truth).masked_fill(equal, torch.inf)


def _load_ssim(device: torch.device) -> Distance:
    # Raises now if the package is missing; the image must be larger than the window.
    ssim(torch.zeros(1, 3, 12, 12), torch.zeros(1, 3, 12, 12))
    return ssim


METRICS = {
    "psnr": Metric("PSNR (dB)", lambda device: exact_psnr, True, 2),
    "ssim": Metric("SSIM", _load_ssim, True, 4),
    "ssim_7x7": Metric("SSIM 7x7", lambda device: uniform_ssim, True, 4),
    "stlpips": Metric("stLPIPS", load_stlpips, False, 4),
    "lpips_vgg": Metric("LPIPS-VGG", load_lpips, False, 4),
    "dists": Metric("DISTS", load_dists, False, 4),
}


def load_judges(device: torch.device, size: tuple[int, int]) -> tuple[dict[str, Distance], list[str]]:
    """The metrics that are available for images of this size (height, width), and a note for each other."""
    judges: dict[str, Distance] = {}
    notes = []
    trial = torch.zeros(2, 3, *size, device=device)
    for name, metric in METRICS.items():
        try:
            judge = metric.load(device)
            judge(trial, trial)
        except ValueError as error:
            notes.append(f"{metric.title} is left out: {error}")
        else:
            judges[name] = judge
    return judges, notes


def judge_pictures(judge: Distance, images: Tensor, truth: Tensor) -> list[float]:
    """The figures of images [n 3 h w] in [-1, 1], in batches."""
    with torch.no_grad():
        parts = zip(images.split(PICTURES_AT_ONCE), truth.split(PICTURES_AT_ONCE), strict=True)
        return torch.cat([judge(*pair) for pair in parts]).tolist()
