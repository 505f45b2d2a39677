"""Replacements for k-diffusion's layers: same results and state-dict keys, but less compute or memory.

They add no weights; `replace_layers` swaps them into a U-Net built by k-diffusion.
"""

import math

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from diffusion.k_diffusion import k_diffusion


class Downsample(nn.Module):
    """Downsample by 2 with a fixed depthwise 4x4 kernel.

    k-diffusion uses a dense [c, c, 4, 4] weight that is zero off its diagonal: c times the work.
    """

    def __init__(self, kernel: Float[Tensor, "4 4"]) -> None:
        super().__init__()
        self.register_buffer("kernel", kernel)

    def forward(self, images: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c h//2 w//2"]:
        """Filter and keep every second pixel."""
        padded = F.pad(images, (1, 1, 1, 1), mode="reflect")
        return F.conv2d(padded, _per_channel(self.kernel, padded), stride=2, groups=images.shape[1])


class Upsample(nn.Module):
    """Upsample by 2 with a fixed depthwise 4x4 kernel: the counterpart of `Downsample`."""

    def __init__(self, kernel: Float[Tensor, "4 4"]) -> None:
        super().__init__()
        self.register_buffer("kernel", kernel)

    def forward(self, images: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c 2*h 2*w"]:
        """Insert zeros between the pixels and filter."""
        padded = F.pad(images, (1, 1, 1, 1), mode="reflect")
        weight = _per_channel(self.kernel, padded)
        return F.conv_transpose2d(padded, weight, stride=2, padding=3, groups=images.shape[1])


class FourierFeatures(nn.Module):
    """Random Fourier features of the noise level.

    Elementwise instead of a matrix product, which autocast would round to 8 bits, merging neighbouring noise
    levels.
    """

    def __init__(self, weight: Float[Tensor, "m 1"]) -> None:
        super().__init__()
        self.register_buffer("weight", weight)

    def forward(self, level: Float[Tensor, "n 1"]) -> Float[Tensor, "n k"]:
        """Return cosines, then sines, of 2 pi weight * level: k = 2 m numbers."""
        angle = 2 * math.pi * level * self.weight[:, 0]
        return torch.cat([angle.cos(), angle.sin()], dim=-1)


class AttentionDropout(nn.Module):
    """Dropout rate for k-diffusion's attention, which would otherwise also drop in evaluation mode."""

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    @property
    def p(self) -> float:
        """The probability of dropping an attention weight."""
        return self.rate if self.training else 0.0


class CheckpointedUNet(nn.Module):
    """k-diffusion's U-Net with activation checkpointing: training stores only the inputs of each block.

    The random state is restored, so that results and gradients are the same.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.d_blocks, self.u_blocks = network.d_blocks, network.u_blocks

    def forward(
        self, images: Float[Tensor, "n c h w"], condition: dict[str, Float[Tensor, "n m"]]
    ) -> Float[Tensor, "n o h w"]:
        """Run encoder and decoder, with a skip connection per level."""
        skips = []
        for level in self.d_blocks:
            images = _through(level, images, condition)
            skips.append(images)
        skips.pop()  # the coarsest level's output is the decoder's input, not a skip
        images = _through(self.u_blocks[0], images, condition)
        for level in self.u_blocks[1:]:
            images = _through(level, torch.cat([images, skips.pop()], dim=1), condition)
        return images


def replace_layers(network: nn.Module) -> None:
    """Swap these layers into k-diffusion's `network`, in place. State-dict keys and results are unchanged."""
    theirs = k_diffusion().layers
    replacements = {
        theirs.Downsample2d: lambda layer: Downsample(layer.kernel),
        theirs.Upsample2d: lambda layer: Upsample(layer.kernel),
        theirs.FourierFeatures: lambda layer: FourierFeatures(layer.weight),
        # Plain dropout occurs only in attention, which reads its rate instead of calling it.
        nn.Dropout: lambda layer: AttentionDropout(layer.p),
    }
    for name, layer in list(network.named_modules()):
        if type(layer) in replacements:
            network.set_submodule(name, replacements[type(layer)](layer))


def _through(level: nn.Module, images: Tensor, condition: dict[str, Tensor]) -> Tensor:
    for block in level:
        if isinstance(block, Downsample | Upsample | nn.Identity):
            images = block(images)
        elif torch.is_grad_enabled():
            images = checkpoint(block, images, condition, use_reentrant=False)
        else:
            images = block(images, condition)
    return images


def _per_channel(kernel: Tensor, images: Tensor) -> Tensor:
    return kernel.to(images).expand(images.shape[1], 1, *kernel.shape)
