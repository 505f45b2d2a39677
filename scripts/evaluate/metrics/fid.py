"""The Frechet inception distance (Heusel et al. 2017, arXiv:1706.08500) of sets of images.

Resizing and features are those of clean-fid (Parmar et al. 2022, arXiv:2104.11222, mode "clean");
torchmetrics computes the distance between the Gaussians of the features in float64.
"""

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor

import torch
from torch import Tensor, nn

from data.images.quality import extra
from scripts.common.process_pool import available_cores
from scripts.evaluate.metrics.weights import load_inception

RELIABLE = 2048  # images: with fewer images than features, the covariance is rank-deficient
NUM_FEATURES = 2048
PICTURES_AT_ONCE = 50


class Features(nn.Module):
    """Inception features [n, 2048] of 8-bit images [n, h, w, 3].

    The constructor raises ValueError if clean-fid or its weights are missing.
    """

    def __init__(self, device: torch.device, network: Callable[[Tensor], Tensor] | None = None):
        super().__init__()
        self.num_features = NUM_FEATURES
        self._resize = extra("cleanfid.resize").build_resizer("clean")
        self._network = network or load_inception(device)
        self._device = device

    @torch.no_grad()
    def forward(self, pictures: Tensor) -> Tensor:
        """Compute features; duplicate images are evaluated once."""
        distinct, place = pictures.cpu().unique(dim=0, return_inverse=True)
        with ThreadPoolExecutor(available_cores()) as pool:
            parts = [
                self._network(torch.stack(list(pool.map(self._resized, part))).to(self._device))
                for part in distinct.split(PICTURES_AT_ONCE)
            ]
        return torch.cat(parts)[place.to(self._device)]

    def _resized(self, picture: Tensor) -> Tensor:
        return torch.from_numpy(self._resize(picture.numpy())).movedim(-1, 0)


class FrechetDistance:
    """The distance of a set of images to a fixed set `truth`; both are 8-bit batches [n, h, w, 3].

    The constructor raises ValueError if torchmetrics is missing.
    """

    def __init__(self, features: Features, truth: Iterable[Tensor], device: torch.device):
        package = extra("torchmetrics.image.fid")
        self._metric = package.FrechetInceptionDistance(features, reset_real_features=False).to(device)
        for part in truth:
            self._metric.update(part, real=True)

    def __call__(self, pictures: Iterable[Tensor]) -> float:
        """The distance of a set of at least two images."""
        self._metric.reset()
        for part in pictures:
            self._metric.update(part, real=False)
        return self._metric.compute().item()
