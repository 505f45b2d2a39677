"""A ControlNet on rendered features, for bases with and without a mid block, or a T2I-Adapter.

Zhang et al. 2023, arXiv:2302.05543: a copy of the U-Net's way down sees the condition; what it adds to the
U-Net's skip features passes convolutions that begin at zero, so that an untrained one changes nothing.
A T2I-Adapter (Mou et al. 2023, arXiv:2302.08453) is smaller: it sees neither noisy latents, time nor text.
Here n is views, c channels of the condition.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

COPIED = ("conv_in", "time_embedding", "down_blocks")  # from the U-Net
SHARED_SETTINGS = (
    "in_channels",
    "flip_sin_to_cos",
    "freq_shift",
    "down_block_types",
    "only_cross_attention",
    "block_out_channels",
    "layers_per_block",
    "downsample_padding",
    "act_fn",
    "norm_num_groups",
    "norm_eps",
    "cross_attention_dim",
    "transformer_layers_per_block",
    "attention_head_dim",
    "num_attention_heads",
    "use_linear_projection",
    "upcast_attention",
    "resnet_time_scale_shift",
)
FIRST_LAYER = "controlnet_cond_embedding.conv_in.weight"  # of the condition's encoder
NUM_CLASSES = 2  # conditioned, unconditional


class NoResidual(nn.Module):
    """In place of the convolution to the mid residual."""

    def forward(self, features: Tensor) -> Tensor:
        """Zero, of no shape."""
        return features.new_zeros(())


class Adapter(nn.Module):
    """A T2I-Adapter for that U-Net: features of `channels`, `factor` times as large as latents, are added to
    the deepest features of each level on the way down, except for views without condition."""

    def __init__(self, unet: nn.Module, *, channels: int, factor: int):
        super().__init__()
        from diffusers import T2IAdapter

        levels = list(unet.config.block_out_channels)
        self.adapter = T2IAdapter(in_channels=channels, channels=levels, downscale_factor=factor)

    def forward(
        self, features: Float[Tensor, "n c h w"], conditioned: Bool[Tensor, "n"], scale: float = 1.0
    ) -> list[Tensor]:
        """What is added at each level."""
        kept = scale * conditioned[:, None, None, None].to(features.dtype)
        return [kept * residual for residual in self.adapter(features)]


def control_network(
    unet: nn.Module, *, channels: int, widths: Sequence[int], mid_residual: bool = False, copy: bool = True
) -> nn.Module:
    """A ControlNet for that U-Net, which begins as a copy of its way down (unless its weights are to come).

    `channels` of the condition; `widths` of its encoder, which halves the picture between any two of them.
    There is no mid block (diffusers can neither build nor load a ControlNet without one, so it is removed),
    and unless asked for no mid residual, as in the published models.
    """
    from diffusers import ControlNetModel

    settings = {key: unet.config[key] for key in SHARED_SETTINGS}
    control = ControlNetModel(
        **settings,
        conditioning_channels=channels,
        conditioning_embedding_out_channels=tuple(widths),
        mid_block_type="UNetMidBlock2D",
        num_class_embeds=NUM_CLASSES,
    )
    control.mid_block = None
    if not mid_residual:
        control.controlnet_mid_block = NoResidual()
    if copy:
        copy_way_down(control, unet)
    return control


def copy_way_down(control: nn.Module, unet: nn.Module) -> None:
    """Give a new ControlNet the weights of the U-Net, and the conditioned class no effect."""
    for name in COPIED:
        getattr(control, name).load_state_dict(getattr(unet, name).state_dict())
    with torch.no_grad():
        control.class_embedding.weight[0] = 0


def widen_condition(weights: dict[str, Tensor], channels: int) -> dict[str, Tensor]:
    """The weights of a ControlNet on fewer channels, for `channels`: those that are new are not looked at."""
    narrow = weights[FIRST_LAYER]
    if narrow.shape[1] > channels:
        raise ValueError(
            f"{FIRST_LAYER} is for {narrow.shape[1]} channels, more than the {channels} of this model"
        )
    wide = narrow.new_zeros(narrow.shape[0], channels, *narrow.shape[2:])
    wide[:, : narrow.shape[1]] = narrow
    return weights | {FIRST_LAYER: wide}


def ignore_condition_beyond(control: nn.Module, channels: int) -> None:
    """Give channels of the condition after the first ones no effect, until they are trained."""
    with torch.no_grad():
        if isinstance(control, Adapter):
            pixels = control.adapter.adapter.unshuffle.downscale_factor**2  # each is a channel there
            control.adapter.adapter.conv_in.weight[:, channels * pixels :] = 0
        else:
            control.controlnet_cond_embedding.conv_in.weight[:, channels:] = 0
