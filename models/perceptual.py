"""Perceptual distances between images. PSNR and SSIM are in `data.images.quality`.

All take images in [-1, 1] and round them to 8 bits first, as if saved. Their extra dependencies are in
requirements-metrics.txt and imported on first use.
"""

from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

from data.images.pixels import from_uint8, to_uint8
from data.images.quality import INSTALL, _size, extra
from models.checkpoints.torch_file import read_torch_file

# Images and truth [n 3 h w] -> [n]
Distance = Callable[[Tensor, Tensor], Tensor]
SMALLEST_PERCEIVED = 32  # pixels: smaller images vanish in the deepest layers of stLPIPS


def load_stlpips_network() -> nn.Module:
    """The network of `load_stlpips`, on the CPU: images and truth [n 3 h w] in [-1, 1] -> [n 1 1 1].

    Raises ValueError where the package is missing or damaged.
    """
    package = extra("stlpips_pytorch.stlpips")
    # Loaded here, not by the package, which neither checks the keys nor loads safely.
    network = package.LPIPS(net="alex", variant="shift_tolerant", pretrained=False, verbose=False)
    path = Path(package.__file__).parent / "weights" / "vST0.0" / "alex_shift_tolerant.pth"
    missing, surplus = network.load_state_dict(read_torch_file(path), strict=False)
    # The layers `lin0`, `lin1` ... are also in a list `lins`.
    if surplus or any(not name.startswith("lins.") for name in missing):
        raise ValueError(f"{path}: does not fit stlpips-pytorch; {INSTALL}")
    return network.eval().requires_grad_(False)


def load_stlpips(device: torch.device) -> Distance:
    """stLPIPS, a perceptual distance by the features of a network: 0 for equal images.

    LPIPS (Zhang et al. 2018, arXiv:1801.03924) on the AlexNet of Ghildyal and Liu 2022 (arXiv:2207.13686),
    which tolerates small shifts, with the weights of the package stlpips-pytorch: its figures are not those
    of other versions of LPIPS. Raises ValueError if the package is missing or damaged; the returned
    function raises it if images have less than 32 pixels on a side.
    """
    network = load_stlpips_network().to(device)

    def distance(images: Tensor, truth: Tensor) -> Tensor:
        if min(images.shape[-2:]) < SMALLEST_PERCEIVED:
            raise ValueError(f"images of {_size(images)} are too small for stLPIPS; use 32 x 32 or more")
        return network(*(from_uint8(to_uint8(part)) for part in (images, truth))).flatten()

    return distance
