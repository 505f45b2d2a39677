"""Changes to the frames that poses are read off, so that poses do not tell colours and sharpness apart."""

import torch
from jaxtyping import Float
from torch import Tensor
from torchvision.transforms import functional as tv

from models.xfactor.config import AugmentationConfig

TAPS = 7  # of the blur, in pixels
GREY = (0.299, 0.587, 0.114)


def augment(
    frames: Float[Tensor, "v 3 h w"], config: AugmentationConfig, generator: torch.Generator
) -> Float[Tensor, "v 3 h w"]:
    """All frames in [-1, 1] changed in the same way: colours in random order, then blur."""
    chance, colours = torch.rand(2, generator=generator), frames / 2 + 0.5
    most = torch.tensor([config.brightness, config.contrast, config.saturation, config.hue])
    drawn = ((2 * torch.rand(4, generator=generator) - 1) * most).tolist()
    order = torch.randperm(4, generator=generator).tolist()
    low, high = config.blur_sigma
    sigma = low + (high - low) * torch.rand((), generator=generator).item()
    if chance[0] < config.jitter_prob:
        for number in order:
            colours = CHANGES[number](colours, drawn[number])
        colours = colours.clamp(0, 1)
    if chance[1] < config.blur_prob:
        colours = tv.gaussian_blur(colours, [TAPS, TAPS], [sigma, sigma])
    return 2 * colours - 1


def _brighter(colours: Tensor, amount: float) -> Tensor:
    return colours + amount


def _contrast(colours: Tensor, amount: float) -> Tensor:
    mean = colours.mean(dim=(-2, -1), keepdim=True)
    return mean + (1 + amount) * (colours - mean)


def _saturation(colours: Tensor, amount: float) -> Tensor:
    weights = torch.tensor(GREY, device=colours.device)[:, None, None]
    grey = (colours * weights).sum(dim=-3, keepdim=True)
    return grey + (1 + amount) * (colours - grey)


def _hue(colours: Tensor, amount: float) -> Tensor:
    return tv.adjust_hue(colours.clamp(0, 1), amount)


CHANGES = (_brighter, _contrast, _saturation, _hue)
