"""The kernel distance of sets of images (Binkowski et al. 2018, arXiv:1801.01401), which suits small sets.

It is unbiased for any number of images, unlike the Frechet distance. The features are not Inception's, whose
weights are in no package, but the pooled features of EfficientNet-lite0 (`models.volumes.packaged_weights`):
figures are comparable with each other, but not with those of papers.
"""

from collections.abc import Iterable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from data.images.pixels import from_uint8
from data.images.quality import extra
from models.volumes.packaged_weights import packaged_weights

SIDE = 224  # pixels that the network was trained on
PICTURES_AT_ONCE = 32
SCALE = 1000  # of the figures


class Lite0Features(nn.Module):
    """Pooled EfficientNet-lite0 features [n, 1280] of 8-bit images [n, h, w, 3].

    The constructor raises ValueError if the package with its weights is missing.
    """

    def __init__(self, device: torch.device):
        super().__init__()
        from timm import create_model

        network = create_model("tf_efficientnet_lite0")
        network.load_state_dict(packaged_weights(network))
        network.reset_classifier(0)
        self._network = network.to(device).eval()
        self._device = device

    @torch.no_grad()
    def forward(self, pictures: Tensor) -> Tensor:
        """Compute features of the images, resized bilinearly with antialiasing."""
        parts = []
        for part in pictures.split(PICTURES_AT_ONCE):
            images = from_uint8(part).to(self._device)
            large = F.interpolate(images, size=(SIDE, SIDE), mode="bilinear", antialias=True)
            parts.append(self._network(large))
        return torch.cat(parts)


class KernelDistance:
    """The distance of a set of images to a fixed set `truth`; both are 8-bit batches [n, h, w, 3].

    Unbiased squared maximum mean discrepancy of the kernel (x y / d + 1)^3, times 1000. The constructor
    raises ValueError if torchmetrics is missing.
    """

    def __init__(self, features: Lite0Features, truth: Iterable[Tensor]):
        self._distance = extra("torchmetrics.image.kid").poly_mmd
        self._features = features
        self._truth = self._features_of(truth)

    def __call__(self, pictures: Iterable[Tensor]) -> float:
        """The distance of a set that has as many images as the truth, at least two."""
        return SCALE * self._distance(self._truth, self._features_of(pictures)).item()

    def _features_of(self, parts: Iterable[Tensor]) -> Tensor:
        return torch.cat([self._features(part) for part in parts]).double()
