"""Photo to feature volume: a DeepLabV3+ (Chen et al. 2018) whose output channels form depth planes.

Chan et al. 2023 lift an image into a frustum-aligned volume with such a network. Axes: b scene,
s source view, k photo (the valid views of all scenes), c feature, d depth plane, h, w.
"""

import math
from collections.abc import Callable
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from pydantic import BaseModel, Field, model_validator
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from data.scenes.batch import Views, valid_indices
from models.device import to_device_of
from models.volumes import packaged_weights, upsampling
from models.volumes.backbone import STRIDE, WeightSource, make_backbone
from nerf.volume import FrustumVolume

STATISTICS = {  # mean and standard deviation of red, green and blue in [0, 1]
    "imagenet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "symmetric": ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
}
SHALLOW_CHANNELS = 48  # width to which DeepLabV3+ reduces the quarter-resolution features


class EncoderConfig(BaseModel, frozen=True, extra="forbid"):
    """The image encoder and the size of its volumes."""

    backbone: str = Field("resnet34", description="name of a segmentation-models-pytorch encoder")
    weights: WeightSource | None = Field(
        "imagenet-if-available",
        description="initial weights; null = random; imagenet-package: from an installed Python package, "
        f"offline, for {packaged_weights.BACKBONE}",
    )
    normalisation: Literal["imagenet", "symmetric"] = Field(
        "imagenet", description="input normalisation: by ImageNet's statistics, or to -1 to 1"
    )
    channels: int = Field(16, ge=1, le=1024, description="features per grid point of the volume")
    planes: int = Field(64, ge=2, le=1024, description="depth planes of the volume")
    dilations: tuple[int, int, int] = Field((12, 24, 36), description="rates of the atrous pyramid")
    upside_down: bool = Field(
        False, description="feed photos with their bottom row first, as in the published code"
    )
    first_plane: Literal["near", "far"] = Field(
        "near", description="depth plane of the first output channels; published: far"
    )
    align_corners: bool = Field(
        False,
        description="centres of the outermost texels are on the image border, half a texel off (published)",
    )
    checkpointing: bool = Field(
        False,
        description="activation checkpointing: less memory in training, but the decoder is computed twice",
    )

    @model_validator(mode="after")
    def _packaged_weights_fit(self) -> "EncoderConfig":
        if self.weights == "imagenet-package" and (
            self.backbone != packaged_weights.BACKBONE or self.normalisation != "symmetric"
        ):
            raise ValueError(
                f"weights: imagenet-package is for {packaged_weights.BACKBONE} with normalisation symmetric; "
                "set backbone and normalisation accordingly, or weights=null"
            )
        return self


class Encoder(nn.Module):
    """Encode every valid source photo as a feature volume over its frustum.

    Without `init_weights`, initial weights are not fetched, since all will be loaded. `notice` is a message
    about the initial weights, if any.
    """

    def __init__(self, config: EncoderConfig, *, init_weights: bool = True):
        super().__init__()
        self.config = config
        self.backbone, self.notice = make_backbone(config.backbone, config.weights, init_weights=init_weights)
        self.decoder = Decoder(
            self.backbone.out_channels,
            planes=config.planes,
            channels=config.channels,
            dilations=config.dilations,
            checkpointing=config.checkpointing,
        )

    def forward(self, views: Views, places: Int[Tensor, "k"] | None = None) -> FrustumVolume:
        """Return the volumes of the source views at the photos' resolution. Padding views are not computed.

        `places` are the valid views (`valid_indices`), if known on the CPU: otherwise counting them
        synchronises with the GPU.
        """
        photos = views.images.flatten(0, 1)
        places = valid_indices(views.valid) if places is None else to_device_of(photos, places)
        if len(places) == len(photos):
            volumes = self._volumes(photos)
        else:
            found = self._volumes(photos[places])
            _, c, d, h, w = found.shape
            # Not a view: writing into a part of one would cost a full copy in the backward pass.
            room = found.new_empty_strided(
                (len(photos), *found.shape[1:]), (h * w * d * c, 1, c, w * d * c, d * c)
            )
            volumes = room.zero_().index_copy_(0, places, found)
        volumes = volumes.unflatten(0, views.valid.shape)
        # For any variant of the network, the volume's first row is the top and its first plane the nearest.
        turned = [3] * (self.config.first_plane == "far") + [4] * self.config.upside_down
        volumes = volumes.flip(turned) if turned else volumes
        return FrustumVolume(volumes, views.cameras, views.valid, align_corners=self.config.align_corners)

    def _volumes(self, photos: Float[Tensor, "k 3 h w"]) -> Float[Tensor, "k c d h w"]:
        h, w = photos.shape[-2:]
        # Per channel: a tensor of statistics would first have to be copied to the device.
        colours = ((photos + 1) / 2).unbind(1)
        statistics = zip(colours, *STATISTICS[self.config.normalisation], strict=True)
        normalised = torch.stack([(colour - mean) / std for colour, mean, std in statistics], dim=1)
        entering = normalised.flip(-2) if self.config.upside_down else normalised
        padded = F.pad(entering, (0, -w % STRIDE, 0, -h % STRIDE), mode="replicate")
        return self.decoder(self.backbone(padded))[..., :h, :w]


class Decoder(nn.Module):
    """The DeepLabV3+ decoder, extended to full resolution by learned upsampling with skip connections.

    Without normalisation and without dropout. `skips` are the channels of the backbone's features at strides
    1, 2, 4, 8, 16 and 16 again. With `checkpointing`, training stores only the inputs of each stage.
    """

    def __init__(
        self,
        skips: list[int],
        *,
        planes: int,
        channels: int,
        dilations: tuple[int, int, int],
        checkpointing: bool = False,
    ):
        super().__init__()
        width = planes * channels
        self.checkpointing = checkpointing
        self.pyramid = AtrousPyramid(skips[5], width, dilations)
        self.refine = _separable(width, width)
        self.up_to_8 = UpBlock(width, skips[3])
        self.shallow = nn.Conv2d(skips[2], SHALLOW_CHANNELS, 1, bias=False)
        self.merge = _separable(width + SHALLOW_CHANNELS, width)
        self.up_to_2 = UpBlock(width, skips[1])
        self.up_to_1 = VolumeUpBlock(width, skips[0], channels)
        self.apply(_keep_variance)

    def forward(self, features: list[Tensor]) -> Float[Tensor, "k c d h w"]:
        """Decode backbone features, finest first, to volumes at full resolution, channels last."""
        full, half, quarter, eighth, _, deepest = features
        x = F.relu(self.refine(self.pyramid(deepest)))
        x = F.relu(self._stage(self.up_to_8, x, eighth))
        x = F.relu(self._stage(self._to_4, x, quarter))
        x = F.relu(self._stage(self.up_to_2, x, half))
        return self._stage(self.up_to_1, x, full)

    def _to_4(self, x: Tensor, quarter: Tensor) -> Tensor:
        x = F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=True)
        return self.merge(torch.cat([x, F.relu(self.shallow(quarter))], dim=1))

    def _stage(self, compute: Callable[[Tensor, Tensor], Tensor], x: Tensor, skip: Tensor) -> Tensor:
        if self.checkpointing and torch.is_grad_enabled():
            return checkpoint(compute, x, skip, use_reentrant=False)
        return compute(x, skip)


class AtrousPyramid(nn.Module):
    """Atrous spatial pyramid pooling with five branches."""

    def __init__(self, channels: int, width: int, dilations: tuple[int, int, int]):
        super().__init__()
        self.point = nn.Conv2d(channels, width, 1, bias=False)
        self.atrous = nn.ModuleList([_separable(channels, width, dilation=rate) for rate in dilations])
        self.pooled = nn.Conv2d(channels, width, 1, bias=False)
        self.project = nn.Conv2d((2 + len(dilations)) * width, width, 1, bias=False)

    def forward(self, x: Float[Tensor, "k e h w"]) -> Float[Tensor, "k o h w"]:
        """Concatenate the five branches and project them."""
        everywhere = F.relu(self.pooled(x.mean(dim=(2, 3), keepdim=True))).expand(-1, -1, *x.shape[2:])
        branches = [F.relu(branch(x)) for branch in (self.point, *self.atrous)]
        return F.relu(self.project(torch.cat([*branches, everywhere], dim=1)))


class UpBlock(nn.Module):
    """Double the resolution by a transposed convolution, then fuse a skip connection."""

    def __init__(self, width: int, skip: int):
        super().__init__()
        self.up = nn.ConvTranspose2d(width, width, 2, stride=2)
        self.conv = nn.Conv2d(width + skip, width, 3, padding=1)

    def forward(
        self, x: Float[Tensor, "k c h w"], skip: Float[Tensor, "k e h2 w2"]
    ) -> Float[Tensor, "k c h2 w2"]:
        """`skip` has twice the resolution of `x`."""
        weight, bias = self._convolution()
        if not upsampling.worthwhile(x):
            return F.conv2d(torch.cat([self.up(x), skip], dim=1), weight, bias, padding=1)
        of_x, of_skip = weight.split([self.up.out_channels, skip.shape[1]], dim=1)
        grown = upsampling.double(x, self.up.weight, self.up.bias, of_x)
        return grown + F.conv2d(skip, of_skip, bias, padding=1)

    def _convolution(self) -> tuple[Float[Tensor, "o i 3 3"], Float[Tensor, "o"]]:
        return self.conv.weight, self.conv.bias


class VolumeUpBlock(UpBlock):
    """An up block that returns a volume in the memory layout of the renderers: pixel, plane, feature."""

    def __init__(self, width: int, skip: int, channels: int):
        super().__init__(width, skip)
        self.channels = channels

    def forward(
        self, x: Float[Tensor, "k cd h w"], skip: Float[Tensor, "k e h2 w2"]
    ) -> Float[Tensor, "k c d h2 w2"]:
        """`skip` has twice the resolution of `x`."""
        entering = (part.contiguous(memory_format=torch.channels_last) for part in (x, skip))
        return super().forward(*entering).unflatten(1, (-1, self.channels)).transpose(1, 2)

    def _convolution(self) -> tuple[Float[Tensor, "dc i 3 3"], Float[Tensor, "dc"]]:
        parts = (part.unflatten(0, (self.channels, -1)) for part in super()._convolution())
        return tuple(part.transpose(0, 1).flatten(0, 1) for part in parts)


def _keep_variance(module: nn.Module) -> None:
    """Initialise convolutions so that activations keep their variance (He et al. 2015, equation 10).

    torch's default would shrink them with every layer, so that shallow features would dominate deep ones.
    """
    if isinstance(module, nn.ConvTranspose2d):
        num_inputs, gain = (
            module.in_channels,
            1.0,
        )  # stride = kernel: every output sees one input pixel, no ReLU
    elif isinstance(module, nn.Conv2d):
        # A depthwise convolution is directly followed by a pointwise one; the others, except the last, by a
        # ReLU.
        num_inputs, gain = module.weight[0].numel(), 1.0 if module.groups > 1 else 2.0
    else:
        return
    nn.init.normal_(module.weight, std=math.sqrt(gain / num_inputs))
    if module.bias is not None:
        nn.init.zeros_(module.bias)


def _separable(channels: int, width: int, dilation: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(channels, channels, 3, padding=dilation, dilation=dilation, groups=channels, bias=False),
        nn.Conv2d(channels, width, 1, bias=False),
    )
