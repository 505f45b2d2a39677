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
INPUT = "conv_in.weight"
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


def widen_condition(weights: dict[str, Tensor], channels: int, key: str = FIRST_LAYER) -> dict[str, Tensor]:
    """The weights of a ControlNet on fewer channels, for `channels`: those that are new are not looked at.

    `key` names the layer. Raises ValueError if it is on more channels.
    """
    narrow = weights[key]
    if narrow.shape[1] > channels:
        raise ValueError(f"{key} is for {narrow.shape[1]} channels, more than the {channels} of this model")
    wide = narrow.new_zeros(narrow.shape[0], channels, *narrow.shape[2:])
    wide[:, : narrow.shape[1]] = narrow
    return weights | {key: wide}


def widen_to(weights: dict[str, Tensor], control: nn.Module) -> tuple[dict[str, Tensor], list[str]]:
    """The weights of a ControlNet that may see fewer channels than `control`, and notes for the user."""
    own, notes = control.state_dict(), []
    for key, name in ((FIRST_LAYER, "of the condition"), (INPUT, "beside the noisy latents")):
        if key in own and key in weights and weights[key].shape[1] < own[key].shape[1]:
            seen, channels = weights[key].shape[1], own[key].shape[1]
            weights = widen_condition(weights, channels, key)
            notes.append(
                f"its ControlNet sees {seen} channels, and here ignores the other {channels - seen} {name} "
                "at first"
            )
    return weights, notes


def see_beside(control: nn.Module, channels: int) -> None:
    """Let a ControlNet take `channels` more after those of the noisy latents, without effect at first."""
    narrow = control.conv_in
    wide = nn.Conv2d(
        narrow.in_channels + channels, narrow.out_channels, narrow.kernel_size, padding=narrow.padding
    )
    weights = widen_condition(control.state_dict(), wide.in_channels, INPUT)
    wide.load_state_dict({"weight": weights[INPUT], "bias": narrow.bias})
    control.conv_in = wide


def condition_widths(
    widths: Sequence[int] | None, unet: nn.Module, vae: nn.Module, path: str
) -> tuple[int, ...]:
    """Widths of the condition's encoder, which must halve a picture as often as the VAE of the base `path`.

    Those of the U-Net's levels, if `widths` is None. Raises ValueError if there are too few or many.
    """
    needed, levels = len(vae.config.block_out_channels), tuple(unet.config.block_out_channels)
    if widths is None:
        return tuple(levels[min(number, len(levels) - 1)] for number in range(needed))
    if len(widths) != needed:
        raise ValueError(
            f"model.control.widths: has {len(widths)} numbers, but the VAE of {path} halves pictures "
            f"{needed - 1} times; give {needed}, or null"
        )
    return tuple(widths)


def ignore_condition_beyond(control: nn.Module, channels: int) -> None:
    """Give channels of the condition after the first ones no effect, until they are trained."""
    with torch.no_grad():
        if isinstance(control, Adapter):
            pixels = control.adapter.adapter.unshuffle.downscale_factor**2  # each is a channel there
            control.adapter.adapter.conv_in.weight[:, channels * pixels :] = 0
        else:
            control.controlnet_cond_embedding.conv_in.weight[:, channels:] = 0
