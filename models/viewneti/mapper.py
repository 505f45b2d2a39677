"""Mappers from time, layer and camera to a word and a bypass (Burgess et al. 2023, arXiv:2309.07986).

The word replaces a token's embedding, and the bypass moves the text encoder's output at that token (section
3; the object's mapper is that of NeTI, Alaluf et al. 2023, arXiv:2305.15391). Axes: n samples, d inputs, h
hidden features, w width of the text encoder.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

FREQUENCIES = 32
SEED = 0  # of the frequencies in published weights
TIME_STEPS = 1000


def frequencies(sigmas: Sequence[float]) -> Float[Tensor, "k d"]:
    """Random Fourier frequencies: column j is normal with standard deviation sigmas[j].

    They are the same in every model, and neither depend on torch's global generator nor change it.
    """
    generator = torch.Generator().manual_seed(SEED)
    drawn = torch.randn(FREQUENCIES, len(sigmas), generator=generator, device="cpu")
    return drawn * torch.tensor(list(sigmas), device="cpu")


def mapper_inputs(
    time: Float[Tensor, "n"],
    layer: Int[Tensor, "n"],
    camera: Float[Tensor, "n c"] | None,
    *,
    num_layers: int,
) -> Float[Tensor, "n d"]:
    """Times from 0 to 999 and layers from 0 to `num_layers` - 1, both scaled to [-1, 1), and the camera."""
    times = time.float() / TIME_STEPS * 2 - 1
    layers = layer.float() / num_layers * 2 - 1
    scaled = torch.stack([times, layers], dim=1)
    return scaled if camera is None else torch.cat([scaled, camera], dim=1)


class Mapper(nn.Module):
    """Fourier features, two hidden layers, and a word and a bypass of a width each.

    `sigmas` are those of the inputs' frequencies. A word has the length `norm`, or any if that is None.
    """

    def __init__(self, sigmas: Sequence[float], *, hidden: int, width: int, norm: float | None):
        super().__init__()
        self.hidden, self.normalised = hidden, norm is not None
        self.register_buffer("frequencies", frequencies(sigmas))
        self.register_buffer("norm", torch.tensor(1.0 if norm is None else norm))
        self.net = nn.Sequential(
            nn.Linear(2 * FREQUENCIES, hidden),
            nn.LayerNorm(hidden),
            nn.LeakyReLU(),
            nn.Linear(hidden, hidden),
            nn.LayerNorm(hidden),
            nn.LeakyReLU(),
        )
        self.output_layer = nn.Sequential(nn.Linear(hidden, 2 * width))

    def encode(self, inputs: Float[Tensor, "n d"]) -> Float[Tensor, "n f"]:
        """Sines, then cosines."""
        angles = inputs @ self.frequencies.to(inputs).T
        return torch.cat([angles.sin(), angles.cos()], dim=1)

    def forward(
        self, inputs: Float[Tensor, "n d"], kept: Int[Tensor, "n"] | None = None
    ) -> tuple[Float[Tensor, "n w"], Float[Tensor, "n w"]]:
        """Words and bypasses. Of sample i only the first kept[i] hidden features are used (nested dropout,
        Rippel et al. 2014, arXiv:1402.0915)."""
        hidden = self.net(self.encode(inputs))
        if kept is not None:
            places = torch.arange(self.hidden, device=hidden.device)
            hidden = hidden * (places < kept[:, None]).to(hidden)
        word, bypass = self.output_layer(hidden).chunk(2, dim=1)
        if self.normalised:
            word = F.normalize(word, dim=1) * self.norm
        return word, bypass
