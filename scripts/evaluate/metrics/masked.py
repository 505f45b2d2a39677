"""Metrics of DTU evaluations: with the object's mask, and without, at 400 x 300 pixels.

As published (RegNeRF: Niemeyer et al. 2022, arXiv:2112.00724, and ViewNeTI: Burgess et al. 2024): the true
picture is resized to 768 x 576 by Pillow's bicubic filter; it and the drawn picture are resized to 400 x 300
by torchvision's in 8 bits, without antialiasing or with. Masks are resized like the true picture, and say
which pixels belong to the object: those above 0.01. Pictures that were padded below lose their padding first.
"""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, UInt8
from PIL import Image
from torch import Tensor
from torchvision.transforms.functional import InterpolationMode, resize

from data.images.quality import uniform_ssim
from data.scenes.objects import Objects
from models.perceptual import Distance
from scripts.evaluate.metrics.metrics import METRICS, Metric, judge_pictures
from scripts.evaluate.metrics.weights import load_lpips

MEASURED = (300, 400)  # pixels, height and width
FIRST = (576, 768)  # to which true pictures are resized before
COVERED = 0.01  # of a mask's range: more belongs to the object
PADDED = 400 / 1200  # rows below, as a fraction of the picture without them

MASKED_METRICS = {
    "masked_psnr": Metric("PSNR masked", lambda device: _psnr, True, 2),
    "masked_ssim": Metric("SSIM masked", lambda device: uniform_ssim, True, 4),
    "masked_lpips": Metric("LPIPS masked", load_lpips, False, 4),
    "whole_psnr": Metric("PSNR unmasked", lambda device: _psnr, True, 2),
    "whole_ssim": Metric("SSIM unmasked", lambda device: uniform_ssim, True, 4),
    "whole_lpips": Metric("LPIPS unmasked", load_lpips, False, 4),
}
PAIR_METRICS = {**METRICS, **MASKED_METRICS}


@dataclass(frozen=True)
class MaskedTruth:
    """True pictures in [0, 1] and masks, as they are measured."""

    pictures: Float[Tensor, "n 3 k l"]
    masks: Bool[Tensor, "n k l"]


@dataclass(frozen=True)
class MaskedJudges:
    """The metrics that are available, by name."""

    judges: dict[str, Distance]
    padded: bool  # whether pictures have padding below
    antialias: bool  # of the last resizing
    missing: str  # "stop", or "white": all of a view without a mask is the object

    def truth(self, objects: Objects, index: int, views: tuple[int, ...]) -> MaskedTruth:
        """Read the true pictures and masks of views. Raises ValueError where one is missing or empty."""
        pictures, masks = [], []
        for view in views:
            picture = self._cut(objects.raw.picture(index, view))
            mask = objects.raw.mask(index, view)
            if mask is None and self.missing == "stop":
                raise ValueError(
                    f"{objects.raw.place(index)}: view {view} has no mask; give a data set with masks, or "
                    "--missing-masks white to count all of such a picture as the object"
                )
            mask = picture.new_full(picture.shape[:2], 255) if mask is None else self._cut(mask)
            pictures.append(_bicubic(picture, FIRST))
            masks.append(_bicubic(mask, FIRST))
        seen = self._measured(torch.stack(masks)[..., None].expand(-1, -1, -1, 3))[:, 0] > COVERED
        if empty := [view for view, mask in zip(views, seen, strict=True) if not mask.any()]:
            raise ValueError(f"{objects.raw.place(index)}: the mask of view {empty[0]} is empty; restore it")
        return MaskedTruth(self._measured(torch.stack(pictures)), seen)

    def figures(self, metric: str, pictures: UInt8[Tensor, "n h w 3"], truth: MaskedTruth) -> list[float]:
        """The figures of drawn pictures."""
        drawn = self._measured(self._cut(pictures.movedim(0, 2)).movedim(2, 0))
        if metric == "masked_psnr":
            return masked_psnr(drawn, truth.pictures.to(drawn), truth.masks.to(drawn.device)).tolist()
        shown = (truth.masks[:, None] if metric.startswith("masked") else torch.ones(())).to(drawn)
        pair = (2 * shown * part - 1 for part in (drawn, truth.pictures.to(drawn)))
        return judge_pictures(self.judges[metric], *pair)

    def _measured(self, pictures: UInt8[Tensor, "n h w 3"]) -> Float[Tensor, "n 3 k l"]:
        small = resize(
            pictures.movedim(-1, 1), list(MEASURED), InterpolationMode.BICUBIC, antialias=self.antialias
        )
        return small.float() / 255

    def _cut(self, pixels: UInt8[Tensor, "h w *c"]) -> UInt8[Tensor, "k w *c"]:
        return pixels[: round(len(pixels) / (1 + PADDED))] if self.padded else pixels


def masked_psnr(
    images: Float[Tensor, "n 3 h w"], truth: Float[Tensor, "n 3 h w"], masks: Bool[Tensor, "n h w"]
) -> Float[Tensor, "n"]:
    """PSNR in dB over the pixels in the masks, of images in [0, 1]; infinite for equal ones."""
    error = (images - truth).square() * masks[:, None]
    return -10 * (error.sum((1, 2, 3)) / (3 * masks.sum((1, 2)))).log10()


def load_masked_judges(
    device: torch.device, *, padded: bool, antialias: bool, missing: str
) -> tuple[MaskedJudges, list[str]]:
    """The metrics that are available, and a note for each of the others."""
    judges: dict[str, Distance] = {}
    notes = []
    for name, metric in MASKED_METRICS.items():
        try:
            judges[name] = metric.load(device)
        except ValueError as error:
            notes.append(f"{metric.title} is left out: {error}")
    return MaskedJudges(judges, padded, antialias, missing), notes


def _psnr(images: Float[Tensor, "n 3 h w"], truth: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n"]:
    """PSNR in dB of images in [-1, 1]."""
    everywhere = torch.ones_like(truth[:, 0], dtype=torch.bool)
    return masked_psnr(images / 2, truth / 2, everywhere)


def _bicubic(pixels: UInt8[Tensor, "h w *c"], size: tuple[int, int]) -> UInt8[Tensor, "k l *c"]:
    image = Image.fromarray(pixels.numpy()).resize(size[::-1], Image.Resampling.BICUBIC)
    return torch.from_numpy(np.array(image))
