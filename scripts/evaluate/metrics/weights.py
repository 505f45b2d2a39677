"""Load the networks of metrics whose weights are in no package.

Nothing is downloaded. A file is used only if its hash is the one that its publisher states.
"""

import hashlib
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from data.images.pixels import from_uint8, to_uint8
from data.images.quality import extra
from models.checkpoints.torch_file import read_torch_file
from models.perceptual import Distance


@dataclass(frozen=True)
class WeightsFile:
    """A published file of weights."""

    url: str
    sha256: str  # or its prefix, if the publisher states no more

    @property
    def path(self) -> Path:
        """Its path in torch's cache."""
        return Path(torch.hub.get_dir()) / "checkpoints" / self.url.rpartition("/")[2]

    def check(self) -> Path:
        """Return its path. Raises ValueError, with instructions, if it is missing or not the right file."""
        path = self.path
        if not path.is_file():
            raise ValueError(f"{path} is missing; put {self.url} there")
        with path.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
        if not found.startswith(self.sha256):
            raise ValueError(f"{path}: is not the published file (SHA-256 {found}); fetch {self.url} again")
        return path


VGG = WeightsFile("https://download.pytorch.org/models/vgg16-397923af.pth", "397923af")
INCEPTION = WeightsFile(
    "https://nvlabs-fi-cdn.nvidia.com/stylegan2-ada-pytorch/pretrained/metrics/inception-2015-12-05.pt",
    "f58cb9b6ec323ed63459aa4fb441fe750cfe39fafad6da5cb504a16f19e958f4",
)


def load_lpips(device: torch.device) -> Distance:
    """LPIPS-VGG (Zhang et al. 2018, arXiv:1801.03924, version 0.1) by torchmetrics: 0 for equal images.

    Raises ValueError if torchmetrics or VGG's weights are missing.
    """
    package = extra("torchmetrics.image.lpip")
    _check_vgg()
    metric = package.LearnedPerceptualImagePatchSimilarity(net_type="vgg", reduction="none").to(device)

    def distance(images: Tensor, truth: Tensor) -> Tensor:
        metric.reset()
        metric.update(*(from_uint8(to_uint8(part)) for part in (images, truth)))
        return metric.compute().reshape(-1)

    return distance


def load_dists(device: torch.device) -> Distance:
    """DISTS (Ding et al. 2020, arXiv:2004.07728) by torchmetrics: 0 for equal images.

    Raises ValueError if torchmetrics or VGG's weights are missing.
    """
    package = extra("torchmetrics.functional.image.dists")
    _check_vgg()
    network = package.DISTSNetwork().to(device).eval()

    def distance(images: Tensor, truth: Tensor) -> Tensor:
        return network(*((from_uint8(to_uint8(part)) + 1) / 2 for part in (images, truth))).reshape(-1)

    return distance


def load_inception(device: torch.device) -> Callable[[Tensor], Tensor]:
    """clean-fid's network: features [n, 2048] of images [n, 3, 299, 299] in [0, 255].

    Raises ValueError if the package or the weights are missing.
    """
    package = extra("cleanfid.inception_torchscript")
    path = INCEPTION.check()
    with warnings.catch_warnings(action="ignore"):  # torch.jit, the format of the file, is deprecated
        network: nn.Module = package.InceptionV3W(str(path.parent), download=False)
    return network.to(device).eval()


def _check_vgg() -> None:
    """Check the file without executing it: torchvision, used by the packages, loads it by pickle."""
    read_torch_file(VGG.check())
